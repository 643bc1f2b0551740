from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg.errors import InputError
from ldmseg.metrics.covering import covering, covering_matrix, mean_distance, quality_matrix
from ldmseg.panoptic import PanopticMap

maps = arrays(np.int32, (4, 5), elements=st.sampled_from([0, 1, 2, 9])).map(PanopticMap)
quick = settings(max_examples=80)


def by_definition(prediction: PanopticMap, target: PanopticMap) -> float:
    known, total = target.ids != 0, 0.0
    for true in (target.ids == s.id for s in target.segments):
        ious = [(g & true).sum() / ((g & known) | true).sum() for g in (prediction.ids == s.id for s in prediction.segments)]
        total += true.sum() * max(ious, default=0.0)
    return total / known.sum()


@pytest.mark.slow
@quick
@given(maps, maps.filter(len))
def test_agrees_with_the_definition(prediction: PanopticMap, target: PanopticMap) -> None:
    found = covering(prediction, target)
    assert found == pytest.approx(by_definition(prediction, target))
    assert 0 <= found <= 1
    assert covering(target, target) == 1
    assert covering(prediction.relabel({1: 77}), target) == found


def test_known_answers_and_sides() -> None:
    halves, whole = PanopticMap(np.array([[1, 1, 2, 2]])), PanopticMap(np.array([[5, 5, 5, 5]]))
    assert covering(whole, halves) == 0.5
    assert covering(halves, whole) == 0.5
    uneven = PanopticMap(np.array([[1, 1, 1, 2]]))
    assert covering(whole, uneven) == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
    assert covering(uneven, whole) == 0.75
    assert covering(PanopticMap(np.zeros((1, 4), dtype=np.int32)), halves) == 0


def test_an_empty_truth_has_no_covering() -> None:
    nothing = PanopticMap(np.zeros((1, 4), dtype=np.int32))
    with pytest.raises(InputError, match="target: expected at least one segment"):
        covering(nothing, nothing)


def test_matrices_are_predictions_by_targets() -> None:
    halves, whole = PanopticMap(np.array([[1, 1, 2, 2]])), PanopticMap(np.array([[5, 5, 5, 5]]))
    assert covering_matrix([halves, whole, whole], [halves, whole]).tolist() == [[1, 0.5], [0.5, 1], [0.5, 1]]
    assert quality_matrix([halves, whole, whole], [halves, whole]).tolist() == [[1, 0], [0, 1], [0, 1]]
    assert covering_matrix([], [halves]).shape == (0, 1)


def test_distance_leaves_out_a_map_and_itself() -> None:
    matrix = np.array([[1, 0.5], [0.25, 1]])
    assert mean_distance(matrix, same=True) == pytest.approx((0.5 + 0.75) / 2)
    assert mean_distance(matrix) == pytest.approx((0 + 0.5 + 0.75 + 0) / 4)
    assert mean_distance(np.ones((1, 1)), same=True) == 0
