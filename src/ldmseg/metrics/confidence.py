"""Measures of a confidence: how well it finds the wrong pixels of a map, and how well it is calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError
from ldmseg.metrics.iou import pair_iou
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Mean confidence and accuracy of the pixels with a confidence in [low, high); the last bin includes its upper end.

    Attributes:
        low, high: the bin's ends.
        count: pixels in it.
        confidence: their mean confidence, 0 where there are none.
        accuracy: share of them that are right, 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ConfidenceResult:
    """How good a confidence is.

    Attributes:
        count: pixels counted.
        accuracy: share of them that are right.
        confidence: their mean confidence.
        auroc: chance that a right pixel has a higher confidence than a wrong one, ties counting half; the area under the curve of finding
            wrong pixels by low confidence. None where all are right or all are wrong.
        ece: expected calibration error, the mean over pixels of |accuracy - confidence| of their bin (Guo et al., 2017, equation 5).
        bins: of equal width over 0..1.
    """

    count: int
    accuracy: float
    confidence: float
    auroc: float | None
    ece: float
    bins: tuple[ReliabilityBin, ...]


class ConfidenceQuality:
    """AUROC, calibration error and reliability bins over a stream of images, exact: every distinct confidence is counted.

    Args:
        bins: number of reliability bins.

    Raises:
        InputError: `bins` is below 1.
    """

    def __init__(self, bins: int = 10) -> None:
        if bins < 1:
            raise InputError(f"bins: expected at least 1, got {bins}")
        self.bins = bins
        self._values = np.empty(0)  # (D,) distinct confidences, rising
        self._counts = np.empty((2, 0), dtype=np.int64)  # right ones and wrong ones with each

    def update(self, confidence: ArrayLike, right: ArrayLike, counted: ArrayLike | None = None) -> None:
        """Add pixels (or segments, or anything else).

        Args:
            confidence: 0..1, of any shape.
            right: booleans of that shape.
            counted: booleans of that shape; False leaves out (all count by default).

        Raises:
            InputError: the shapes differ, or a confidence is not in 0..1.
        """
        values, truth = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
        wanted = np.ones(values.shape, dtype=bool) if counted is None else np.asarray(counted, dtype=bool)
        if not values.shape == truth.shape == wanted.shape:
            raise InputError(f"confidence, right, counted: expected one shape, got {values.shape}, {truth.shape} and {wanted.shape}")
        values, truth = values[wanted], truth[wanted]
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError("confidence: expected 0..1 everywhere")
        distinct, place = np.unique(values, return_inverse=True)
        counts = np.stack([np.bincount(place[side], minlength=len(distinct)) for side in (truth, ~truth)])
        self._add(distinct, counts)

    def merge(self, other: ConfidenceQuality) -> ConfidenceQuality:
        """Add what `other` has counted to this one, which is returned; the order never matters.

        Raises:
            InputError: the two have different numbers of bins.
        """
        if self.bins != other.bins:
            raise InputError(f"other: expected a ConfidenceQuality with {self.bins} bins, got {other.bins}")
        self._add(other._values, other._counts)
        return self

    def to_dict(self) -> dict[str, Any]:
        """What was counted, as JSON holds it: the distinct confidences, how many were right with each, and how many wrong."""
        right, wrong = self._counts
        return {"bins": self.bins, "confidence": self._values.tolist(), "right": right.tolist(), "wrong": wrong.tolist()}

    @classmethod
    def from_dict(cls, counted: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        quality = cls(counted["bins"])
        quality._add(np.array(counted["confidence"], dtype=np.float64), np.array([counted["right"], counted["wrong"]], dtype=np.int64))
        return quality

    def compute(self) -> ConfidenceResult:
        """The figures so far; zeros (and no AUROC) where nothing was counted."""
        right, wrong = self._counts
        both, total = self._counts.sum(0), int(self._counts.sum())
        edges = np.arange(self.bins + 1) / self.bins
        place = np.clip(np.searchsorted(edges, self._values, side="right") - 1, 0, self.bins - 1)
        count = np.bincount(place, both, self.bins)
        filled = np.maximum(count, 1)
        confidence = np.bincount(place, both * self._values, self.bins) / filled
        accuracy = np.bincount(place, right, self.bins) / filled
        ece = float(np.abs(accuracy - confidence) @ count / max(total, 1))
        bins = tuple(
            ReliabilityBin(float(edges[i]), float(edges[i + 1]), int(count[i]), float(confidence[i]), float(accuracy[i]))
            for i in range(self.bins)
        )
        mean = float(both @ self._values) / max(total, 1)
        return ConfidenceResult(total, int(right.sum()) / max(total, 1), mean, _auroc(right, wrong), ece, bins)

    def _add(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        merged, place = np.unique(np.concatenate([self._values, values]), return_inverse=True)
        joined = np.concatenate([self._counts, counts], axis=1)
        self._counts = np.stack([np.bincount(place, row, len(merged)) for row in joined]).astype(np.int64)
        self._values = merged


def right_pixels(prediction: PanopticMap, target: PanopticMap) -> NDArray[np.bool_]:
    """(H, W) whether a pixel's predicted segment is the true segment there: the two match as in PQ, without classes (IoU above 1/2).

    Predicted pixels on the truth's void do not count in the IoU. Pixels that are void in either map are not right; leave those void in the
    truth out of what is counted.

    Raises:
        InputError: the maps differ in size.
    """
    partner = np.append(_partners(prediction, target), -2)  # the last entry serves void, which dense calls -1
    return partner[prediction.dense] == target.dense


def right_segments(prediction: PanopticMap, target: PanopticMap) -> NDArray[np.bool_]:
    """(len(prediction),) whether each predicted segment matches a true one, as in `right_pixels`.

    Raises:
        InputError: the maps differ in size.
    """
    return _partners(prediction, target) >= 0


def _partners(prediction: PanopticMap, target: PanopticMap) -> NDArray[np.intp]:
    """(len(prediction),) the true segment that each predicted one matches, -2 for none."""
    pairs = pair_iou(prediction, target)
    matched = pairs.iou > 0.5
    partner = np.full(len(prediction), -2)
    partner[pairs.prediction[matched]] = pairs.target[matched]
    return partner


def _auroc(right: NDArray[np.int64], wrong: NDArray[np.int64]) -> float | None:
    """From the counts at each distinct confidence, rising: pairs in which the right one is above, ties half."""
    pairs = int(right.sum()) * int(wrong.sum())
    if pairs == 0:
        return None
    below = np.cumsum(wrong) - wrong
    return float(right.astype(np.float64) @ (below + 0.5 * wrong)) / pairs
