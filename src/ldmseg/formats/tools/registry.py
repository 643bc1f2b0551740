"""The tools' formats by the names that data sets have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ldmseg.formats.tools.base import ToolFiles
from ldmseg.formats.tools.coco_instances import open_coco_instances
from ldmseg.formats.tools.cvat import open_cvat
from ldmseg.formats.tools.isat import open_isat
from ldmseg.formats.tools.label_studio import open_label_studio
from ldmseg.formats.tools.labelme import open_labelme
from ldmseg.formats.tools.segments_ai import open_segments
from ldmseg.formats.tools.yolo_seg import open_yolo_seg

TOOLS: dict[str, Callable[[Path, str | None], ToolFiles]] = {
    "coco-instances": open_coco_instances,
    "yolo-seg": open_yolo_seg,
    "labelme": open_labelme,
    "cvat": open_cvat,
    "label-studio": open_label_studio,
    "segments": open_segments,
    "isat": open_isat,
}
"""Format -> opens a data set by its root and split."""
