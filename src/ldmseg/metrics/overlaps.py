"""How many pixels each predicted segment shares with each true one."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.panoptic import VOID, PanopticMap

ON_VOID, UNLISTED = -1, -2
"""Instead of a segment's index: the pixel is void, or its id is not listed."""

# Above this many pairs of segments, those that occur are sorted out instead of counted in a matrix.
_DENSE_CELLS = 2**20


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """The segments of one map, in the order in which they are listed.

    Attributes:
        ids: (S,) distinct ids other than `VOID`.
        category: (S,) category of each.
        crowd: (S,) whether it is a crowd.
    """

    ids: NDArray[np.int64]
    category: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Every pair of segments that shares pixels.

    Attributes:
        prediction, target: the P and T segments that the indices refer to.
        prediction_index, target_index: (K,) index into the tables; `ON_VOID` or `UNLISTED` for pixels of no listed segment.
        count: (K,) shared pixels, each pair once.
        prediction_area, target_area: (P,) and (T,) pixels of each segment.
    """

    prediction: SegmentTable
    target: SegmentTable
    prediction_index: NDArray[np.intp]
    target_index: NDArray[np.intp]
    count: NDArray[np.int64]
    prediction_area: NDArray[np.int64]
    target_area: NDArray[np.int64]


def map_overlaps(prediction: PanopticMap, target: PanopticMap, tables: tuple[SegmentTable, SegmentTable]) -> Overlaps:
    """Count the pixels of every pair of segments in two maps of one size, whose segments `tables` (prediction, target) list.

    Only the runs of the maps are used: merged by their ends, they divide the image into runs of one pair each.
    """
    ends = np.concatenate([prediction.run_ends, target.run_ends])
    order = ends.argsort(kind="stable")  # two sorted halves: a merge
    last = ends.take(order)
    of_prediction = order < prediction.run_ends.size
    # Runs that ended before this end; where both end at once, the second time has length 0 and counts nothing.
    run_p: NDArray[np.intp] = np.cumsum(of_prediction) - of_prediction
    run_t = np.arange(order.size) - run_p
    index_p: NDArray[np.intp] = prediction.run_index.take(run_p, mode="clip")
    index_t: NDArray[np.intp] = target.run_index.take(run_t, mode="clip")
    return _overlaps(index_p + 2, index_t + 2, np.diff(last, prepend=-1), *tables)


def count_overlaps(
    prediction_codes: NDArray[np.uint32],
    target_codes: NDArray[np.uint32],
    prediction: SegmentTable,
    target: SegmentTable,
    id_mask: int,
) -> Overlaps:
    """Count the pixels of every pair of segments in two (H, W) pictures of codes.

    Along the rows a pair of ids repeats over long runs. Only the ends of runs are looked for in the pixels (two comparisons each); ids are
    looked up and counted once per run, some 3 % of the pixels in a photo.

    Args:
        id_mask: the bits of a code that are its id, at most 24; the others are ignored.
    """
    p, t = np.ravel(prediction_codes), np.ravel(target_codes)
    bounds = _run_bounds(p, t)
    last = bounds[1:]
    mask = np.uint32(id_mask)
    rank_p, rank_t = _rank(p.take(last) & mask, prediction.ids), _rank(t.take(last) & mask, target.ids)
    return _overlaps(rank_p, rank_t, last - bounds[:-1], prediction, target)


def _overlaps(
    run_p: NDArray[np.intp], run_t: NDArray[np.intp], length: NDArray[np.intp], prediction: SegmentTable, target: SegmentTable
) -> Overlaps:
    """Sum runs of one pair each; 0 stands for an id that is not listed, 1 for void, 2 and up for the listed ones."""
    height, width = len(target) + 2, len(prediction) + 2
    cells, count = _sum_per_cell(run_t * width + run_p, length, height * width)
    rank_t, rank_p = np.divmod(cells, width)
    area_p, area_t = (np.bincount(rank, count, size)[2:].astype(np.int64) for rank, size in ((rank_p, width), (rank_t, height)))
    return Overlaps(prediction, target, rank_p - 2, rank_t - 2, count, area_p, area_t)


def _run_bounds(p: NDArray[np.integer], t: NDArray[np.integer]) -> NDArray[np.intp]:
    """(R + 1,) -1 and the last pixel of each of the R runs over which neither of two (n,) arrays changes."""
    changes = np.zeros(-(-p.size // 8) * 8, dtype=bool)
    np.not_equal(p[1:], p[:-1], out=changes[: p.size - 1])
    changes[: p.size - 1] |= t[1:] != t[:-1]
    changes[p.size - 1] = True
    # Looking for eight at once takes half the time where changes are rare.
    words = changes.view(np.uint64).astype(bool).nonzero()[0]
    inside = changes.reshape(-1, 8).take(words, axis=0).ravel().nonzero()[0]
    bounds = np.empty(inside.size + 1, dtype=np.intp)
    bounds[0] = -1
    np.add(words.take(inside >> 3) << 3, inside & 7, out=bounds[1:])
    return bounds


def _rank(ids: NDArray[np.integer], listed: NDArray[np.int64]) -> NDArray[np.intp]:
    """(K,) 0 for an id that is not listed, 1 for void, 2 and up for the listed ids in their order."""
    if len(listed) < _LOOKUP.limit and (len(listed) == 0 or int(listed.max()) < len(_LOOKUP.table)) and int(ids.max()) < len(_LOOKUP.table):
        return _LOOKUP.rank(ids, listed)
    known = np.concatenate([[VOID], listed])
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], ids), len(known) - 1)
    rank = order[place]
    return np.where(known[rank] == ids, rank + 1, 0)


class _Lookup(threading.local):
    """A table over all three-byte ids, zero between uses; a thread's own, and made of memory pages only where ids were seen."""

    limit = np.iinfo(np.uint16).max - 1

    def __init__(self) -> None:
        self.table = np.zeros(2**24, dtype=np.uint16)

    def rank(self, ids: NDArray[np.integer], listed: NDArray[np.int64]) -> NDArray[np.intp]:
        self.table[VOID] = 1
        self.table[listed] = np.arange(2, len(listed) + 2)
        try:
            return self.table.take(ids).astype(np.intp)
        finally:
            self.table[listed] = 0


_LOOKUP = _Lookup()


def _sum_per_cell(cell: NDArray[np.intp], weight: NDArray[np.intp], size: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The cells that occur, and the sum of the weights in each (exact below 2**53)."""
    if size <= _DENSE_CELLS:
        total = np.bincount(cell, weight, size)
        cells = total.nonzero()[0]
        return cells, total[cells].astype(np.int64)
    cells, place = np.unique(cell[weight > 0], return_inverse=True)
    return cells, np.bincount(place, weight[weight > 0], len(cells)).astype(np.int64)
