"""The formats that a data set can be written in, by their names."""

from __future__ import annotations

from ldmseg.data.convert.targets import AdeTarget, CityscapesTarget, CocoTarget, LabelTarget, Target
from ldmseg.data.convert.tool_targets import CocoInstancesTarget, CvatTarget, IsatTarget, LabelmeTarget, SegmentsTarget, YoloSegTarget

TARGETS: dict[str, type[Target]] = {
    "coco-panoptic": CocoTarget,
    "labels": LabelTarget,
    "cityscapes": CityscapesTarget,
    "ade20k": AdeTarget,
    "coco-instances": CocoInstancesTarget,
    "yolo-seg": YoloSegTarget,
    "labelme": LabelmeTarget,
    "cvat": CvatTarget,
    "segments": SegmentsTarget,
    "isat": IsatTarget,
}
