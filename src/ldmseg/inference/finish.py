"""From drawn maps to the answer for a photo: borders once a sample, then the vote, then components once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.images import as_photo
from ldmseg.inference.boundaries import BoundarySettings, refine_boundaries
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.known import KnownMap, mirror
from ldmseg.inference.postprocess import split_components
from ldmseg.inference.samples import Sample
from ldmseg.inference.tiles import tile_pixels
from ldmseg.options import InferenceOptions
from ldmseg.panoptic import VOID, PanopticMap


@dataclass(frozen=True, eq=False)
class Answer:
    """What a call says of one photo.

    Attributes:
        map: (H, W).
        confidence: with an ensemble, (H, W) the share of the samples that agree with the map.
        samples: with an ensemble, the K maps.
    """

    map: PanopticMap
    confidence: NDArray[np.float32] | None = None
    samples: tuple[PanopticMap, ...] | None = None


def finish(drawn: PanopticMap, sample: Sample, options: InferenceOptions) -> PanopticMap:
    """A sample's map as drawn -> with its borders where the photo has them, if asked for, and as the photo was before it was mirrored."""
    if options.boundaries == "photo":
        given = np.full(drawn.shape, VOID, dtype=np.int32) if sample.known is None else sample.known.certain_ids
        side = tile_pixels(options.tile_size, drawn.shape) if options.tile_size else None
        drawn = refine_boundaries(drawn, as_photo(sample.image), given, side, BoundarySettings(trust=options.boundary_trust))
    return mirror(drawn, sample.axes)


def answer(maps: Sequence[PanopticMap], known: KnownMap | None, options: InferenceOptions) -> Answer:
    """The finished maps of one photo's samples -> the map that they agree on, its components apart if asked for."""
    if len(maps) == 1:
        return Answer(_apart(maps[0], known, options))
    fixed = () if known is None else {s.id for s in known.map.segments}
    agreed = consensus(maps, fixed_ids=fixed)
    return Answer(_apart(agreed.map, known, options), agreed.confidence, agreed.samples)


def _apart(pmap: PanopticMap, known: KnownMap | None, options: InferenceOptions) -> PanopticMap:
    if options.min_component_area is None:
        return pmap
    return split_components(pmap, options.min_component_area, None if known is None else known.certain_ids)
