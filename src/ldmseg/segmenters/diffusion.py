"""A pipeline as a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch

from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters.base import Photo, Segmenter


class PipelineSegmenter:
    """A pipeline with the options of its calls (`InferenceOptions`). Other options are the pipeline's own.

    Raises:
        InputError: an option is unknown or out of range.
    """

    def __init__(self, pipe: LDMSegPipeline, **options: Unpack[InferenceKwargs]) -> None:
        self.pipe, self.asked = pipe, options
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
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        if partials is not None:
            return self.pipe.inpaint(images, partials, generator=generators, prompt=captions, **self.asked).maps
        return self.pipe(images, generator=generators, prompt=captions, **self.asked).maps


def as_segmenter(model: LDMSegPipeline | Segmenter, **options: Unpack[InferenceKwargs]) -> Segmenter:
    """A pipeline with these options as a segmenter. A segmenter is returned as it is."""
    return PipelineSegmenter(model, **options) if isinstance(model, LDMSegPipeline) else model
