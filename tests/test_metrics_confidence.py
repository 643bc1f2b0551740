from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg.errors import InputError
from ldmseg.metrics.confidence import ConfidenceQuality, right_pixels, right_segments
from ldmseg.panoptic import PanopticMap

quick = settings(max_examples=80)
observations = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.625, 0.999, 1.0]), st.booleans()), min_size=1, max_size=30)


def measure(pixels: list[tuple[float, bool]], bins: int = 10) -> ConfidenceQuality:
    quality = ConfidenceQuality(bins)
    quality.update([c for c, _ in pixels], [r for _, r in pixels])
    return quality


@pytest.mark.slow
@quick
@given(observations)
def test_auroc_is_the_share_of_pairs_in_order(pixels: list[tuple[float, bool]]) -> None:
    right, wrong = [c for c, r in pixels if r], [c for c, r in pixels if not r]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(right, wrong)]
    found = measure(pixels).compute().auroc
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


@pytest.mark.slow
@quick
@given(observations, st.integers(1, 12))
def test_bins_hold_every_pixel_once_and_give_the_error(pixels: list[tuple[float, bool]], bins: int) -> None:
    result = measure(pixels, bins).compute()
    assert len(result.bins) == bins
    assert result.count == sum(b.count for b in result.bins) == len(pixels)
    expected = 0.0
    for number, found in enumerate(result.bins):
        inside = [(c, r) for c, r in pixels if found.low <= c < found.high or (number == bins - 1 and c == 1)]
        assert found.count == len(inside)
        if inside:
            assert found.confidence == pytest.approx(np.mean([c for c, _ in inside]))
            assert found.accuracy == pytest.approx(np.mean([r for _, r in inside]))
            expected += len(inside) / len(pixels) * abs(found.accuracy - found.confidence)
    assert result.ece == pytest.approx(expected)
    assert result.accuracy == pytest.approx(np.mean([r for _, r in pixels]))
    assert result.confidence == pytest.approx(np.mean([c for c, _ in pixels]))


@pytest.mark.slow
@quick
@given(observations, observations)
def test_a_stream_is_its_parts(first: list[tuple[float, bool]], second: list[tuple[float, bool]]) -> None:
    whole = measure(first + second).compute()
    stream = measure(first)
    stream.update(*([list(column) for column in zip(*second, strict=True)]))
    assert stream.compute() == whole
    assert measure(second).merge(measure(first)).compute() == whole


def test_known_answers() -> None:
    perfect = measure([(1.0, True)] * 3 + [(0.0, False)] * 2).compute()
    assert (perfect.auroc, perfect.ece, perfect.accuracy) == (1.0, 0.0, 0.6)
    blind = measure([(0.7, True), (0.7, False)]).compute()
    assert blind.auroc == 0.5
    assert blind.ece == pytest.approx(0.2)
    assert measure([(0.2, True), (0.9, False)]).compute().auroc == 0.0
    assert measure([(0.5, True)]).compute().auroc is None
    empty = ConfidenceQuality().compute()
    assert (empty.count, empty.auroc, empty.ece) == (0, None, 0.0)


def test_pixels_that_do_not_count_are_left_out() -> None:
    quality = ConfidenceQuality()
    quality.update(np.array([[0.9, 0.4]]), np.array([[True, False]]), np.array([[True, False]]))
    assert quality.compute().count == 1


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="bins: expected at least 1"):
        ConfidenceQuality(0)
    with pytest.raises(InputError, match="expected one shape"):
        ConfidenceQuality().update([0.5, 0.5], [True])
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(InputError, match=r"confidence: expected 0\.\.1"):
            ConfidenceQuality().update([value], [True])
    with pytest.raises(InputError, match="10 bins, got 5"):
        ConfidenceQuality(10).merge(ConfidenceQuality(5))


def test_right_pixels_lie_in_their_true_segment() -> None:
    target = PanopticMap(np.array([[1, 1, 1, 2, 2, 2, 0]]))
    prediction = PanopticMap(np.array([[7, 7, 9, 9, 9, 9, 7]]))
    # 7 has IoU 2/3 with 1 (its pixel on void does not count), 9 has 3/4 with 2; the third pixel is in 9 but truly in 1.
    assert right_pixels(prediction, target).tolist() == [[True, True, False, True, True, True, False]]
    assert right_segments(prediction, target).tolist() == [True, True]


def test_right_pixels_without_a_match_or_a_segment() -> None:
    halves = PanopticMap(np.array([[1, 1, 2, 2]]))
    assert not right_pixels(PanopticMap(np.full((1, 4), 5)), halves).any()  # an IoU of exactly 1/2 is no match
    nothing = PanopticMap(np.zeros((1, 4), dtype=np.int32))
    assert right_segments(PanopticMap(np.array([[1, 1, 2, 9]])), halves).tolist() == [True, False, False]
    assert right_segments(nothing, halves).shape == (0,)
    assert not right_pixels(nothing, halves).any()
    assert not right_pixels(halves, nothing).any()
    assert right_pixels(halves, halves).all()
