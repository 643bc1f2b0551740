"""A pipeline as a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from ldmseg.inference.naming import ClassesInput
from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters.base import Photo, Segmenter


class PipelineSegmenter:
    """A pipeline with the options of its calls (`InferenceOptions`). Other options are the pipeline's own.

    Args:
        classes: what names the segments, as in the pipeline's calls; nothing by default, because most measures compare segments alone.

    Raises:
        InputError: an option is unknown or out of range.
    """

    def __init__(self, pipe: LDMSegPipeline, classes: ClassesInput = "none", **options: Unpack[InferenceKwargs]) -> None:
        self.pipe, self.classes, self.asked = pipe, classes, options
        self._options = pipe.options.updated(options)

    @property
    def settings(self) -> dict[str, Any]:
        """The options in plain values, for reports."""
        return self._options.to_dict()

    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        asked: Any = {"generator": [torch.Generator().manual_seed(seed) for seed in seeds], "prompt": captions, "classes": self.classes}
        if partials is not None:
            return self.pipe.inpaint(images, partials, **asked, **self.asked).maps
        return self.pipe(images, task="panoptic", **asked, **self.asked).maps


def as_segmenter(model: LDMSegPipeline | Segmenter, classes: ClassesInput = "none", **options: Unpack[InferenceKwargs]) -> Segmenter:
    """A pipeline with these options as a segmenter. A segmenter is returned as it is."""
    return PipelineSegmenter(model, classes, **options) if isinstance(model, LDMSegPipeline) else model
