"""A task of a CVAT server: pulled, completed, and pushed with its shapes kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldmseg.connect.cvat import complete
from ldmseg.errors import InputError, quoted
from ldmseg.formats.image import read_image
from ldmseg.segmenters.base import Segmenter


@dataclass(frozen=True)
class TaskReport:
    """How many frames were completed, and how many masks were added."""

    frames: int
    masks: int


def complete_task(
    client: Any, task_id: int, segmenter: Segmenter, label: str | None = None, on_progress: Callable[[int, int], None] | None = None
) -> TaskReport:
    """Complete the labels of every frame of a task (not of its tracks), frame by frame; what is there is not changed.

    Args:
        client: `cvat_sdk.Client`, logged in.
        label: of segments that have no shape; the task's first label if left out.

    Raises:
        InputError: the task has no such label, or a shape cannot be read.
    """
    from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction
    from cvat_sdk.models import LabeledShapeRequest, PatchedLabeledDataRequest

    task = client.tasks.retrieve(task_id)
    labels = {one.name: one.id for one in task.get_labels()}
    if label is not None and label not in labels:
        raise InputError(f"--label: expected one of {', '.join(labels)}, got {quoted(label)}")
    rest = labels[label] if label is not None else next(iter(labels.values()))
    shapes = list(task.get_annotations().shapes)
    frames, masks = task.get_frames_info(), 0
    for number, info in enumerate(frames):
        photo = np.asarray(read_image(task.get_frame(number, quality="original").read()))
        found = complete(segmenter, photo, info.name, [s for s in shapes if s.frame == number], rest)
        new = [LabeledShapeRequest(type="mask", frame=number, label_id=m.label_id, points=list(m.points), source="auto") for m in found]
        if new:
            task.update_annotations(PatchedLabeledDataRequest(shapes=new), action=AnnotationUpdateAction.CREATE)
        masks += len(new)
        if on_progress is not None:
            on_progress(number + 1, len(frames))
    return TaskReport(len(frames), masks)
