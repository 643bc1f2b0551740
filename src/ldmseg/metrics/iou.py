"""The IoU of every two segments of two maps that share a pixel; classes play no part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.metrics.overlaps import SegmentTable, map_overlaps
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class PairIoU:
    """Every pair of segments that shares pixels.

    Attributes:
        prediction, target: (K,) indices into the maps' segments.
        iou: (K,) above 0.
    """

    prediction: NDArray[np.intp]
    target: NDArray[np.intp]
    iou: NDArray[np.float64]


def pair_iou(prediction: PanopticMap, target: PanopticMap) -> PairIoU:
    """IoU as in PQ: predicted pixels on the target's void do not count.

    Raises:
        InputError: the maps differ in size.
    """
    if prediction.shape != target.shape:
        raise InputError(f"prediction: expected the target's size {target.shape} (height, width), got {prediction.shape}")
    found = map_overlaps(prediction, target, (_table(prediction), _table(target)))
    known = (found.prediction_index >= 0) & (found.target_index >= 0)
    p, t, shared = found.prediction_index[known], found.target_index[known], found.count[known]
    on_target = np.bincount(p, shared, len(prediction))
    return PairIoU(p, t, shared / (on_target[p] + found.target_area[t] - shared))


def _table(pmap: PanopticMap) -> SegmentTable:
    ids = np.array([s.id for s in pmap.segments], dtype=np.int64)
    return SegmentTable(ids, np.ones(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=bool))
