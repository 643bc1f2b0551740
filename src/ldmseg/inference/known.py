"""A partial map in the model's terms, and what the model drew in the user's (section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ldmseg.choices import IdPolicy
from ldmseg.codes import assign_given
from ldmseg.errors import InputError
from ldmseg.inference.cells import shrink_partial
from ldmseg.panoptic import VOID, PanopticMap, Segment


@dataclass(frozen=True)
class GivenMap:
    """A partial map, ready for a model.

    Attributes:
        map: as it was given, at the photo's size.
        certain: (H, W) the pixels that are to come back as they are.
        coded: (S, S) int64 the model's ids on its own square, VOID where nothing is given.
        certain_coded: (S, S) int64 the same, VOID where not certain.
        own_ids: the given id of each of the model's.
    """

    map: PanopticMap
    certain: NDArray[np.bool_]
    coded: NDArray[np.int64]
    certain_coded: NDArray[np.int64]
    own_ids: dict[int, int]


def in_model_terms(partial: PanopticMap, size: int, num_ids: int, policy: IdPolicy, certain: NDArray[np.bool_] | None = None) -> GivenMap:
    """Codes of the given segments by the id policy, on the model's square; a segment keeps at least one of its pixels there.

    Args:
        certain: (H, W) which given pixels are sure; all by default.

    Raises:
        InputError: more segments than the model has ids.
    """
    if len(partial) > num_ids - 1:
        raise InputError(f"partial: expected at most {num_ids - 1} segments (the model's ids), got {len(partial)}")
    square = PanopticMap(shrink_partial(partial, size))
    codes = assign_given(square.dense, len(square), square.dense >= 0, num_ids, policy, np.random.default_rng(0))
    own_ids = {int(code): s.id for s, code in zip(square.segments, codes, strict=True)}
    coded = np.append(codes, VOID)[square.dense]
    known = partial.ids != VOID
    if certain is None:
        return GivenMap(partial, known, coded, coded, own_ids)
    certain = certain & known
    code_of = {own: code for code, own in own_ids.items()}
    sure = PanopticMap(shrink_partial(PanopticMap(np.where(certain, partial.ids, VOID)), size))
    sure = sure.relabel({s.id: code_of.get(s.id, VOID) for s in sure.segments})  # where many share a pixel, another one may have it here
    return GivenMap(partial, certain, coded, sure.ids.astype(np.int64), own_ids)


def complete(drawn: PanopticMap, given: GivenMap) -> PanopticMap:
    """The completed map: drawn codes under the given ids, new segments under unused ids, and every certain pixel as it was given.

    A given segment that was not drawn takes over what was drawn on its marks: the whole of a new segment where it has most of the marks
    there, else the part of a segment that lies nearest to its marks.
    """
    used = {s.id for s in given.map.segments}
    fresh = iter(i for i in range(1, len(used) + len(drawn) + 1) if i not in used)
    drawn = drawn.relabel({s.id: given.own_ids[s.id] if s.id in given.own_ids else next(fresh) for s in drawn.segments})
    ids = np.where(given.certain, given.map.ids, _with_missing(drawn, given, used))
    attributes = {s.id: s for s in given.map.segments}
    scores = {s.id: s.score for s in drawn.segments}
    present = (int(i) for i in np.unique(ids) if i != VOID)
    return PanopticMap(ids, tuple(attributes.get(i, Segment(i, score=scores.get(i))) for i in present))


def _with_missing(drawn: PanopticMap, given: GivenMap, used: set[int]) -> NDArray[np.int32]:
    """(H, W) ids of `drawn` with a place for each certain given segment that it lacks."""
    marks = np.where(given.certain, given.map.ids, VOID)
    missing = sorted({int(i) for i in np.unique(marks)} - {VOID} - {s.id for s in drawn.segments})
    ids = np.array(drawn.ids)
    for host in sorted({int(i) for i in np.unique(ids[np.isin(marks, missing)])} - {VOID}) if missing else []:
        inside = ids == host
        on_host, counts = np.unique(marks[inside & (marks != VOID)], return_counts=True)
        if host not in used and on_host[counts.argmax()] in missing and counts.max() > 0.5 * counts.sum():
            ids[inside] = on_host[counts.argmax()]
            continue
        nearest = distance_transform_edt(~(inside & (marks != VOID)), return_distances=False, return_indices=True)
        closest = marks[tuple(nearest)]
        taken = inside & np.isin(closest, missing)
        ids[taken] = closest[taken]
    return ids
