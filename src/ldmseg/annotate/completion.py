"""What the model is asked after an edit, and what of its answer is taken over: only pixels that the edit is about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ldmseg.annotate.cells import ids_of, packed, pins_of
from ldmseg.annotate.operations import Delete, Erase, Label, Operation, Paint, State, fresh_ids
from ldmseg.palette import PALETTE, segment_colors
from ldmseg.panoptic import VOID, PanopticMap, extent

UNDER = 0.1
"""A segment that held at least this share of the painted pixels may give more of its own to the painted one."""
REACH = 1.0
"""A painted segment grows as far beyond its stroke as this many times the stroke is long. What lies farther keeps its segment."""
LEAST_REACH = 1 / 8
"""Share of the shorter side that a stroke reaches in any case."""
REMAINDER = 0.5
"""If painted segments take more than this share of an unpinned one, it was wrong, and what is left of it goes to its neighbours."""
SPECK = 1 / 16
"""Share of the shorter side, whose square a piece that was cut off from a segment must cover to stay a part of it."""
SAME = 0.1
"""A new segment that overlaps an old one by at least this IoU takes its id over, one to one."""


@dataclass(frozen=True, eq=False)
class Edits:
    """What was done since the model last answered.

    Attributes:
        area: (H, W) the pixels that were painted or erased.
        painted: the segments that were painted, which may grow.
        under: the segments that were painted over, which may shrink.
        whole: the whole map is to be proposed anew around the pins.
        limits: top, left, bottom, right of the box that a painted segment stays in while it grows.
    """

    area: NDArray[np.bool_]
    painted: frozenset[int] = frozenset()
    under: frozenset[int] = frozenset()
    whole: bool = False
    limits: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict)

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Edits:
        return cls(np.zeros(shape, dtype=bool))

    def __bool__(self) -> bool:
        return self.whole or bool(self.painted) or bool(self.area.any())

    def followed_by(self, operation: Operation, before: State, after: State) -> Edits:
        """These, and one more operation. What pins, names, joins or outlines segments asks nothing of the model."""
        if not isinstance(operation, Paint | Erase | Delete) or (isinstance(operation, Paint) and not operation.grow):
            return self
        painted = operation.id if isinstance(operation, Paint) else None
        changed = before.cells != after.cells
        old = ids_of(before.cells)[changed]
        counts = np.bincount(old) if old.size else np.zeros(1, dtype=np.intp)
        under = {int(i) for i in np.flatnonzero(counts >= max(1, UNDER * old.size)) if i not in (VOID, painted)} if painted else set()
        added = frozenset() if painted is None else frozenset({painted})
        present = set(after.labels)
        limits = {i: box for i, box in self.limits.items() if i != painted}
        if isinstance(operation, Paint) and operation.within is not None:
            limits[operation.id] = operation.within
        painted_ids, under_ids = (self.painted | added) & present, (self.under | under) & present
        return replace(self, area=self.area | changed, painted=painted_ids, under=under_ids, limits=limits)

    def may_grow(self, segment: int) -> NDArray[np.bool_]:
        """(H, W) where a painted segment may grow."""
        if segment not in self.limits:
            return np.ones(self.area.shape, dtype=bool)
        top, left, bottom, right = self.limits[segment]
        found = np.zeros(self.area.shape, dtype=bool)
        found[top:bottom, left:right] = True
        return found


@dataclass(frozen=True, eq=False)
class Question:
    """What the model is asked.

    Attributes:
        partial: (H, W) what it is to keep, VOID where it is asked; its ids are the map's.
        open: (H, W) where its answer is looked at.
    """

    partial: PanopticMap
    open: NDArray[np.bool_]


def question(state: State, edits: Edits, most: int) -> Question | None:
    """What to ask after these edits, None if nothing is open.

    Pins are kept, and where only some segments were touched, all others too; of those that were painted over, what no stroke reaches,
    unless a box says how far the painted segment grows. Of more than `most` segments those nearest to the edits are shown; the others stay
    as they are all the same.
    """
    ids, pins = ids_of(state.cells), pins_of(state.cells)
    free = ~pins if edits.whole else ~pins & ((ids == VOID) | np.isin(ids, sorted(edits.under)))
    if edits.painted and not edits.limits and not edits.whole and edits.area.any():
        free &= _near(edits.area) | (ids == VOID)
    if not free.any():
        return None
    shown = np.where(free, VOID, ids).astype(np.int32)
    present = np.flatnonzero(np.bincount(shown.ravel()))
    present = present[present != VOID]
    if len(present) > most:
        away = ndimage.distance_transform_edt(~edits.area) if edits.area.any() else np.zeros(ids.shape)
        nearest = ndimage.minimum(away, shown, present)
        kept = present[np.argsort(nearest, kind="stable")[:most]]
        shown = np.where(np.isin(shown, kept), shown, VOID)
    return Question(PanopticMap(shown), free)


def _near(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) pixels that a stroke reaches."""
    rows, columns = extent(area) or (slice(0, 0), slice(0, 0))
    length = math.hypot(rows.stop - rows.start, columns.stop - columns.start)
    return ndimage.distance_transform_edt(~area) <= max(REACH * length, LEAST_REACH * min(area.shape))


def taken_over(state: State, edits: Edits, asked: Question, answer: PanopticMap) -> State:
    """The state with what the answer says where it was asked.

    A proposal of the whole map replaces all that is not pinned. Otherwise a segment that was painted over loses pixels to painted ones
    alone, and only in pieces that hang together with what was painted; what is left of one that was wrong goes to its neighbours, unless
    a box says how far the painted segment grows. Void is filled by whatever the answer has there.
    """
    ids = ids_of(state.cells).astype(np.int32)
    known = {segment.id for segment in asked.partial.segments}
    drawn = _renamed(answer.ids, ids, known, asked.open, state)
    if edits.whole:
        found = np.where(asked.open, drawn, ids)
    else:
        grown = asked.open & (ids != VOID) & np.isin(drawn, sorted(edits.painted))
        found = np.where(grown & _touching(grown, drawn, edits, ids), drawn, ids)
        found = np.where(asked.open & (ids == VOID), drawn, found)
        if not edits.limits:
            found = _without_remainders(found, ids, pins_of(state.cells), edits)
    fresh = [i for i in _present(found.ravel()) if i not in state.labels]
    labels = {**state.labels, **_coloured(found, fresh, state)}
    return State(packed(found, pins_of(state.cells)), labels)


def _touching(grown: NDArray[np.bool_], drawn: NDArray[np.integer], edits: Edits, ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(H, W) the pixels of pieces of `grown` that hang together with the painted pixels of their own segment."""
    found = np.zeros(grown.shape, dtype=bool)
    for segment in edits.painted:
        seeds = ids == segment
        pieces, _ = ndimage.label((grown & (drawn == segment) & edits.may_grow(segment)) | seeds)
        kept = np.zeros(pieces.max() + 1, dtype=bool)
        kept[pieces[seeds]] = True
        kept[0] = False
        found |= kept[pieces]
    return found


def _without_remainders(found: NDArray[np.int32], ids: NDArray[np.int32], pins: NDArray[np.bool_], edits: Edits) -> NDArray[np.int32]:
    """(H, W) the map, in which remainders and specks of segments that were painted over have the id of the nearest other pixel."""
    loose = np.zeros(found.shape, dtype=bool)
    for segment in edits.under:
        left = found == segment
        before = np.count_nonzero((ids == segment) | edits.area)
        if not pins[left].any() and np.count_nonzero(left) < (1 - REMAINDER) * before:
            loose |= left
        else:
            loose |= _specks(left, pins)
    if not loose.any() or loose.all():
        return found
    rows, columns = ndimage.distance_transform_edt(loose, return_distances=False, return_indices=True)
    return found[rows, columns]


def _specks(segment: NDArray[np.bool_], pins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) the small unpinned pieces of a segment, but for its largest piece."""
    pieces, count = ndimage.label(segment)
    if count < 2:
        return np.zeros_like(segment)
    sizes = np.bincount(pieces.ravel())
    small = sizes < (SPECK * min(segment.shape)) ** 2
    small[pieces[pins & segment]] = False
    small[[0, 1 + int(sizes[1:].argmax())]] = False
    return small[pieces]


def _present(values: NDArray[np.integer]) -> list[int]:
    """The ids that occur in (N,) values, without void; counted, since sorting all pixels takes longer."""
    return [i for i in np.flatnonzero(np.bincount(values)).tolist() if i != VOID]


def _renamed(
    drawn: NDArray[np.integer], ids: NDArray[np.integer], known: set[int], where: NDArray[np.bool_], state: State
) -> NDArray[np.int32]:
    """(H, W) the answer, whose new segments have the ids of the old ones that they overlap best, one to one, else fresh ids."""
    new = [i for i in _present(drawn[where]) if i not in known]
    old = [i for i in _present(ids[where]) if i not in known]
    table = np.arange(max(int(drawn.max()), *new, *known, 0) + 1, dtype=np.int32)
    pairs = _matched(drawn, ids, new, old) if new and old else {}
    rest = [i for i in new if i not in pairs]
    for segment, name in {**pairs, **dict(zip(rest, fresh_ids(state, len(rest)), strict=True))}.items():
        table[segment] = name
    return table[drawn]


def _matched(drawn: NDArray[np.integer], ids: NDArray[np.integer], new: list[int], old: list[int]) -> dict[int, int]:
    """New id -> old id, for the pairs that share the most."""
    columns = np.full(int(max(ids.max(), *old)) + 1, len(old))
    columns[old] = np.arange(len(old))
    rows = np.full(int(max(drawn.max(), *new)) + 1, len(new))
    rows[new] = np.arange(len(new))
    joint = rows[drawn].astype(np.int64) * (len(old) + 1) + columns[ids]
    shared = np.bincount(joint.ravel(), minlength=(len(new) + 1) * (len(old) + 1)).reshape(len(new) + 1, len(old) + 1)
    areas_new, areas_old = shared.sum(axis=1)[:-1, None], shared.sum(axis=0)[None, :-1]
    iou = shared[:-1, :-1] / np.maximum(areas_new + areas_old - shared[:-1, :-1], 1)
    return {new[r]: old[c] for r, c in zip(*linear_sum_assignment(-iou), strict=True) if iou[r, c] >= SAME}


def _coloured(ids: NDArray[np.integer], fresh: Sequence[int], state: State) -> dict[int, Label]:
    """Labels of new segments, in colours that their neighbours do not have; old ones keep theirs."""
    if not fresh:
        return {}
    kept = {i: PALETTE[label.color % len(PALETTE)] for i, label in state.labels.items()}
    colors = segment_colors(PanopticMap(ids), keep=kept)
    return {i: Label(color=PALETTE.index(colors[i])) for i in fresh}
