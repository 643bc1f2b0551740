from __future__ import annotations

import numpy as np
import pytest

from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.metrics.depth import DepthError


def measured(drawn: list, true: list, **limits: float) -> DepthError:
    metric = DepthError(**limits)
    metric.update(DepthMap(np.array([drawn])), DepthMap(np.array([true])))
    return metric


def test_known_answer() -> None:
    found = measured([1.0, 2.2, 6.0], [1.0, 2.0, 4.0]).compute()
    assert found.abs_rel == pytest.approx((0 + 0.1 + 0.5) / 3) and found.delta1 == pytest.approx(2 / 3)
    assert found.images == 1


def test_relative_depth_is_all_that_counts_when_aligned() -> None:
    found = measured([3.0, 6.0, 12.0], [1.0, 2.0, 4.0]).compute()
    assert found.abs_rel == pytest.approx(2.0) and found.delta1 == 0
    assert found.aligned_abs_rel == pytest.approx(0) and found.aligned_delta1 == 1


def test_the_threshold_is_the_same_on_both_sides() -> None:
    assert measured([1.24, 1 / 1.24], [1.0, 1.0]).compute().delta1 == 1
    assert measured([1.26, 1 / 1.26], [1.0, 1.0]).compute().delta1 == 0


def test_true_depths_are_cut_and_unknown_ones_do_not_count() -> None:
    found = measured([1.0, 10.0, 7.0], [0.2, 99.0, np.nan], near=1.0, far=10.0).compute()
    assert found.abs_rel == 0 and found.delta1 == 1


def test_images_count_alike_and_merge() -> None:
    one, other = measured([1.1], [1.0]), measured([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    empty = DepthError()
    empty.update(DepthMap(np.ones((1, 1))), DepthMap(np.full((1, 1), np.nan)))
    found = one.merge(other).merge(empty).compute()
    assert found.abs_rel == pytest.approx(0.55, abs=1e-6) and found.images == 2
    assert DepthError().compute().images == 0 and DepthError().compute().abs_rel == 0


def test_mistakes() -> None:
    metric, depth = DepthError(), DepthMap(np.ones((1, 2)))
    with pytest.raises(InputError, match=r"prediction: expected the target's size and unit DepthMap\(1x2, 1 to 1 metres\), got .*feet"):
        metric.update(DepthMap(np.ones((1, 2)), "feet"), depth)
    with pytest.raises(InputError, match="prediction: expected the target's size"):
        metric.update(DepthMap(np.ones((1, 3))), depth)
    with pytest.raises(InputError, match="prediction: expected a depth wherever the target has one"):
        metric.update(DepthMap(np.array([[1, np.nan]])), depth)
    with pytest.raises(InputError, match="near, far: expected 0 <= near < far, got 3 and 2"):
        DepthError(3, 2)
    with pytest.raises(InputError, match="other: expected a DepthError with the same range"):
        metric.merge(DepthError(1, 2))
