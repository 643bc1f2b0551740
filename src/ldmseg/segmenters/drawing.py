"""A pipeline's work in two parts: what the networks draw, and the last steps, which need none and can be done elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ldmseg.images import load_images
from ldmseg.inference.finish import finish
from ldmseg.inference.known import KnownMap, known_maps
from ldmseg.inference.samples import Sample
from ldmseg.options import InferenceOptions
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters.base import Photo
from ldmseg.segmenters.diffusion import PipelineSegmenter


@dataclass(frozen=True, eq=False)
class Unfinished:
    """A map that lacks the border step and the division into components. It can be sent to another process.

    Attributes:
        map: (H, W) as drawn; of an ensemble, what the samples agree on.
        photo: (H, W, 3).
        known: what was given of the map.
        options: of the call.
    """

    map: PanopticMap
    photo: Photo
    known: KnownMap | None
    options: InferenceOptions

    def finished(self) -> PanopticMap:
        """The map that the pipeline's call would have given."""
        image = load_images(self.photo)[0]
        return finish([self.map], [Sample(0, image, torch.Generator(), known=self.known)], image, self.known, self.options).map


class DrawingSegmenter:
    """The networks' part of a `PipelineSegmenter`, so that a GPU draws the next photos while processors finish the last ones.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, whole: PipelineSegmenter) -> None:
        pipe = whole.pipe
        self._options = pipe.options.resolved(whole.asked)
        own = [
            name for name in inspect.signature(LDMSegPipeline.__init__).parameters if name in pipe.config and name not in pipe.components
        ]
        config: dict[str, Any] = {name: pipe.config[name] for name in own}
        config["inference"] = replace(pipe.options, boundaries="drawn", min_component_area=None)
        drawing = LDMSegPipeline(**pipe.components, **config)
        drawing.set_progress_bar_config(disable=True)
        asked: Any = {name: value for name, value in whole.asked.items() if name not in ("boundaries", "min_component_area")}
        self._drawing = PipelineSegmenter(drawing, **asked)

    def __call__(self, images: Sequence[Photo], partials: Sequence[PanopticMap] | None, seeds: Sequence[int]) -> list[Unfinished]:
        """The arguments and errors are those of a `Segmenter`."""
        maps = self._drawing(images, partials, seeds)
        known: Sequence[KnownMap | None] = [None] * len(maps)
        if partials is not None:
            known = known_maps(partials, load_images(list(images)), refine=self._options.method == "refine")
        return [Unfinished(*one, self._options) for one in zip(maps, images, known, strict=True)]
