"""From the drawn maps of a photo's samples to the result: the vote, then borders and components, once for each photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.dense import DepthMap
from ldmseg.images import as_photo
from ldmseg.inference.boundaries import BoundarySettings, refine_boundaries
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.known import KnownMap, mirror
from ldmseg.inference.naming import Classes, named
from ldmseg.inference.postprocess import split_components
from ldmseg.inference.samples import Sample
from ldmseg.inference.tiles import tile_pixels
from ldmseg.options import InferenceOptions
from ldmseg.panoptic import PanopticMap

DEPTH_AGREES = 1.25
"""The factor of delta1 (`ldmseg.metrics.depth`): depths within it count as the same."""


M = TypeVar("M", PanopticMap, DepthMap)


@dataclass(frozen=True, eq=False)
class Answer(Generic[M]):
    """The result of a call for one photo.

    Attributes:
        map: (H, W) of segments or categories, or a depth map.
        confidence: with an ensemble, (H, W) the share of the samples that agree with the map.
        samples: with an ensemble, the K maps as drawn.
    """

    map: M
    confidence: NDArray[np.float32] | None = None
    samples: tuple[M, ...] | None = None


def finish(
    drawn: Sequence[PanopticMap], samples: Sequence[Sample], image: Tensor, known: KnownMap | None, options: InferenceOptions
) -> Answer[PanopticMap]:
    """The maps of one photo's samples, as drawn -> the map that they agree on, after the border step and the division into components.

    Args:
        drawn: the map of each sample, mirrored as the sample was.
        image: (3, H, W) the photo as it is, uint8 or floats in 0..1.
    """
    maps = [mirror(pmap, sample.axes) for pmap, sample in zip(drawn, samples, strict=True)]
    if len(maps) == 1:
        return Answer(with_borders(maps[0], image, known, options))
    fixed = maps if samples[0].task == "semantic" else [] if known is None else [known.map]  # a category has one id in all samples
    agreed = consensus(maps, fixed_ids={s.id for pmap in fixed for s in pmap.segments})
    pmap = _bordered(agreed.map, image, known, options)
    agrees = np.stack([sample.ids == pmap.ids for sample in agreed.samples])  # (K, H, W); matched segments have the ids of the map
    confidence = agrees.mean(0, dtype=np.float32)
    return Answer(_apart(pmap, known, options), confidence, agreed.samples)


def finish_depth(drawn: Sequence[DepthMap], samples: Sequence[Sample]) -> Answer[DepthMap]:
    """One photo's depth maps, as drawn -> their median, and the share of them that is within a factor of `DEPTH_AGREES` of it.

    Depth has neither borders nor components.
    """
    depths = [depth.mirrored(sample.axes) for depth, sample in zip(drawn, samples, strict=True)]
    if len(depths) == 1:
        return Answer(depths[0])
    values = np.stack([depth.values for depth in depths])  # (K, H, W)
    median = np.median(values, axis=0)
    agrees = np.maximum(values / median, median / values) < DEPTH_AGREES
    return Answer(DepthMap(median, depths[0].unit), agrees.mean(0, dtype=np.float32), tuple(depths))


def with_names(answer: Answer[PanopticMap], classes: Classes, image: Tensor, known: KnownMap | None) -> Answer[PanopticMap]:
    """The answer with a category for each segment of its map; confidence and samples stay those of the segments as drawn."""
    given = () if known is None else {s.id for s in known.map.segments}
    return replace(answer, map=named(answer.map, classes.probabilities(image, answer.map), classes.categories, given))


def with_borders(pmap: PanopticMap, image: Tensor, known: KnownMap | None, options: InferenceOptions) -> PanopticMap:
    """A map as drawn -> after the border step and the division into components, so far as they are asked for.

    Args:
        image: (3, H, W) the photo as it is, uint8 or floats in 0..1.
    """
    return _apart(_bordered(pmap, image, known, options), known, options)


def _bordered(pmap: PanopticMap, image: Tensor, known: KnownMap | None, options: InferenceOptions) -> PanopticMap:
    """The map with its borders moved to the photo's edges, if asked for."""
    if options.boundaries == "drawn":
        return pmap
    given = np.zeros(pmap.shape, dtype=np.int32) if known is None else known.certain_ids  # void
    side = tile_pixels(options.tile_size, pmap.shape) if options.tile_size else None
    return refine_boundaries(pmap, as_photo(image), given, side, BoundarySettings(trust=options.boundary_trust))


def _apart(pmap: PanopticMap, known: KnownMap | None, options: InferenceOptions) -> PanopticMap:
    """The map with connected components apart, if asked for."""
    if options.min_component_area is None:
        return pmap
    return split_components(pmap, options.min_component_area, None if known is None else known.certain_ids)
