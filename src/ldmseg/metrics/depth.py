"""The usual figures of depth maps (Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", 2014)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ldmseg.dense import DepthMap
from ldmseg.errors import InputError, quoted

DELTA = 1.25


@dataclass(frozen=True, slots=True)
class DepthQuality:
    """Over all pixels with a known true depth, every image with the same weight.

    Attributes:
        abs_rel: AbsRel, the mean of |d - d*| / d* for the depth d and the true one d*; 0 is perfect.
        delta1: share of the pixels with max(d / d*, d* / d) below 1.25; 1 is perfect.
        aligned_abs_rel: AbsRel after each image's depth was multiplied by median(d*) / median(d), so that relative depth counts alone (Zhou
            et al. 2017).
        aligned_delta1: the same for delta1.
        images: that count, for at least one of their pixels has a true depth.
    """

    abs_rel: float
    delta1: float
    aligned_abs_rel: float
    aligned_delta1: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class DepthError:
    """AbsRel and delta1 over a stream of images.

    Args:
        near, far: true depths are cut to this range, as a model's are; none leaves them as they are.

    Raises:
        InputError: the range is none.
    """

    def __init__(self, near: float | None = None, far: float | None = None) -> None:
        low, high = 0.0 if near is None else near, np.inf if far is None else far
        if not 0 <= low < high:
            raise InputError(f"near, far: expected 0 <= near < far, got {quoted(near)} and {quoted(far)}")
        self.near, self.far = low, high
        self._sums = np.zeros(4)
        self._images = 0

    def update(self, prediction: DepthMap, target: DepthMap) -> None:
        """Add one image; where the target is unknown, the prediction does not count.

        Raises:
            InputError: the maps differ in size or unit, or the prediction is unknown where the target is known.
        """
        if prediction.shape != target.shape or prediction.unit != target.unit:
            raise InputError(f"prediction: expected the target's size and unit {target!r}, got {quoted(prediction)}")
        known = target.known
        if not known.any():
            return
        if not prediction.known[known].all():
            raise InputError("prediction: expected a depth wherever the target has one, got unknown pixels there")
        true = np.clip(target.values[known].astype(np.float64), self.near, self.far)
        drawn = prediction.values[known].astype(np.float64)
        aligned = drawn * (np.median(true) / np.median(drawn))
        self._sums += [*_figures(drawn, true), *_figures(aligned, true)]
        self._images += 1

    def merge(self, other: DepthError) -> DepthError:
        """Add what `other` has counted to this one, which is returned.

        Raises:
            InputError: the two have other ranges.
        """
        if (self.near, self.far) != (other.near, other.far):
            raise InputError("other: expected a DepthError with the same range")
        self._sums += other._sums
        self._images += other._images
        return self

    def compute(self) -> DepthQuality:
        """The figures so far; without an image they are 0."""
        abs_rel, delta1, aligned_abs_rel, aligned_delta1 = (self._sums / max(self._images, 1)).tolist()
        return DepthQuality(abs_rel, delta1, aligned_abs_rel, aligned_delta1, self._images)


def _figures(drawn: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """AbsRel and delta1."""
    ratio = drawn / true
    return float(np.abs(ratio - 1).mean()), float((np.maximum(ratio, 1 / ratio) < DELTA).mean())
