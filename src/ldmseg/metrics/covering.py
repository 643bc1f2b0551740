"""How well one partition of an image covers another, and how well several answers cover several truths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.metrics.iou import pair_iou
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.panoptic import PanopticMap


def covering(prediction: PanopticMap, target: PanopticMap) -> float:
    """The covering of `target` by `prediction` (Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", 2011).

    The mean over the target's pixels of the best IoU that any predicted segment has with the pixel's true segment. Pixels that are void in
    the target count nowhere; pixels that are void in the prediction cover nothing.

    Returns:
        0..1; 1 when every true segment is predicted exactly. It is not symmetric.

    Raises:
        InputError: the maps differ in size, or the target is all void.
    """
    if len(target) == 0:
        raise InputError("target: expected at least one segment, got void everywhere")
    pairs = pair_iou(prediction, target)
    best = np.zeros(len(target))
    np.maximum.at(best, pairs.target, pairs.iou)
    return float(best @ target.areas / target.areas.sum())


def covering_matrix(predictions: Sequence[PanopticMap], targets: Sequence[PanopticMap]) -> NDArray[np.float64]:
    """(P, T) the covering of each target by each prediction."""
    return np.array([[covering(p, t) for t in targets] for p in predictions]).reshape(len(predictions), len(targets))


def quality_matrix(predictions: Sequence[PanopticMap], targets: Sequence[PanopticMap]) -> NDArray[np.float64]:
    """(P, T) the PQ of each prediction against each target, without classes."""
    return np.array([[_quality(p, t) for t in targets] for p in predictions]).reshape(len(predictions), len(targets))


def mean_distance(matrix: NDArray[np.float64], *, same: bool = False) -> float:
    """The mean of 1 - score over all pairs; with `same` both sides are the same maps, of which none is compared with itself."""
    distance = 1 - matrix
    if not same:
        return float(distance.mean())
    pairs = len(matrix) * (len(matrix) - 1)
    return float((distance.sum() - np.trace(distance)) / pairs) if pairs else 0.0


def _quality(prediction: PanopticMap, target: PanopticMap) -> float:
    quality = PanopticQuality(class_agnostic=True)
    quality.update(prediction, target)
    return quality.compute().all.pq
