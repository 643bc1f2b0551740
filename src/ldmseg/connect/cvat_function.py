"""A function for CVAT: `cvat-cli task auto-annotate ID --function-file cvat_function.py -p steps=int:8`.

It needs the package `cvat-sdk`. All masks get one label (`label`), because the model does not name what it finds.
"""

from __future__ import annotations

from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image
from cvat_sdk.models import LabeledShapeRequest

from ldmseg.connect.cvat import prelabel
from ldmseg.formats.image import read_image
from ldmseg.segmenters.base import Segmenter


class Function:
    """What `cvat_sdk.auto_annotation` calls a detection function."""

    def __init__(self, segmenter: Segmenter, label: str) -> None:
        self.segmenter = segmenter
        self.spec = cvataa.DetectionFunctionSpec(labels=[cvataa.label_spec(label, 0, type="mask")])

    def detect(self, context: Any, image: PIL.Image.Image) -> list[LabeledShapeRequest]:
        photo = np.asarray(read_image(image))
        return [cvataa.mask(mask.label_id, list(mask.points)) for mask in prelabel(self.segmenter, photo, context.frame_name, 0)]


def create(model: str = "default", label: str = "segment", device: str = "auto", steps: int = 0) -> Function:
    """Parameters of `-p NAME=TYPE:VALUE`; `steps` 0 is the model's own number."""
    from ldmseg.devices import resolve_device
    from ldmseg.pipeline import LDMSegPipeline
    from ldmseg.segmenters.diffusion import PipelineSegmenter

    pipe = LDMSegPipeline.from_pretrained(model).to(resolve_device(device))
    pipe.set_progress_bar_config(disable=True)
    return Function(PipelineSegmenter(pipe, num_inference_steps=steps or None), label)
