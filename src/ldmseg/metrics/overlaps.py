"""How many pixels each predicted segment shares with each true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.panoptic import VOID


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
        prediction_index, target_index: (K,) index into the tables; -1 is void, -2 an id that the table does not list.
        prediction_ids, target_ids: (K,) ids of each pair.
        count: (K,) shared pixels, each pair once.
    """

    prediction: SegmentTable
    target: SegmentTable
    prediction_index: NDArray[np.intp]
    target_index: NDArray[np.intp]
    prediction_ids: NDArray[np.int64]
    target_ids: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def prediction_area(self) -> NDArray[np.int64]:
        """(P,) pixels of each predicted segment."""
        return _areas(self.prediction_index, self.count, len(self.prediction))

    @property
    def target_area(self) -> NDArray[np.int64]:
        """(T,) pixels of each true segment."""
        return _areas(self.target_index, self.count, len(self.target))


def count_overlaps(
    prediction_ids: NDArray[np.integer],
    target_ids: NDArray[np.integer],
    prediction: SegmentTable,
    target: SegmentTable,
    id_mask: int = 0xFFFFFFFF,
) -> Overlaps:
    """Count the pixels of every pair of ids in two (H, W) maps of 32-bit integers.

    Segments are connected or nearly so: along the rows a pair of ids repeats over long runs. Only the ends of runs are looked for in
    the pixels (two comparisons each); what is sorted are the runs, some 2 % of the pixels in a photo.

    Args:
        id_mask: the bits of a pixel that are its id; the others are ignored.
    """
    p, t = np.ravel(prediction_ids), np.ravel(target_ids)
    ends = p[1:] != p[:-1]
    ends |= t[1:] != t[:-1]
    bounds = np.concatenate([[-1], np.flatnonzero(ends), [p.size - 1]])
    last = bounds[1:]
    pairs = (t[last].astype(np.uint64) & np.uint64(id_mask)) << np.uint64(32) | (p[last].astype(np.uint64) & np.uint64(id_mask))
    distinct, run_pair = np.unique(pairs, return_inverse=True)
    count = np.bincount(run_pair, weights=np.diff(bounds), minlength=len(distinct)).astype(np.int64)  # exact below 2**53
    ids_p, ids_t = (distinct & np.uint64(0xFFFFFFFF)).astype(np.int64), (distinct >> np.uint64(32)).astype(np.int64)
    return Overlaps(prediction, target, _index(ids_p, prediction.ids), _index(ids_t, target.ids), ids_p, ids_t, count)


def _index(ids: NDArray[np.int64], listed: NDArray[np.int64]) -> NDArray[np.intp]:
    """(K,) where each id is listed, -1 for void, -2 for an id that is not listed."""
    order = np.argsort(listed, kind="stable")
    ranked = np.append(listed[order], np.iinfo(np.int64).max)
    place = np.searchsorted(ranked, ids)
    found = np.append(order, -2)[np.where(ranked[place] == ids, place, len(order))]
    return np.where(ids == VOID, -1, found)


def _areas(index: NDArray[np.intp], count: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    listed = index >= 0
    return np.bincount(index[listed], weights=count[listed], minlength=size).astype(np.int64)
