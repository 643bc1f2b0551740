from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ldmseg.data.datasets import AnnotatedDataset, load_dataset
from ldmseg.errors import InputError
from ldmseg.evaluate.ambiguity import (
    COVERED,
    ImageAnswers,
    agreement_of_spreads,
    compare_answers,
    compare_people,
    expected_best,
    felzenszwalb_answers,
    slic_answers,
    summarize,
)
from ldmseg.panoptic import PanopticMap

SHARED = Path(__file__).resolve().parents[2] / "shared"
HALVES = PanopticMap(np.array([[1, 1, 2, 2]]))
WHOLE = PanopticMap(np.array([[5, 5, 5, 5]]))
QUARTERS = PanopticMap(np.array([[1, 2, 3, 4]]))
scores = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3)), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@pytest.mark.slow
@settings(max_examples=60)
@given(scores, st.data())
def test_expected_best_is_the_mean_over_all_choices(matrix: NDArray[np.float64], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(matrix)))
    choices = [matrix[list(chosen)].max(0) for chosen in itertools.combinations(range(len(matrix)), count)]
    assert expected_best(matrix, count) == pytest.approx(np.mean(choices, axis=0))


def test_answers_that_are_the_people_cover_all_of_them() -> None:
    people = [HALVES, WHOLE]
    found = summarize([compare_answers([WHOLE, HALVES, QUARTERS], people)])
    assert (found.covering_best, found.pq_best, found.people_spread) == (1, 1, 0)
    assert found.covered == (1,) * len(COVERED)
    assert (found.images, found.people, found.answers) == (1, 2, 3)
    assert found.covering_one == pytest.approx(np.mean([[0.5, 1], [1, 0.5], [0.5, 0.25]]))
    assert found.pq_one == pytest.approx(2 / 6)
    assert found.by_count[-1] == found.covering_best
    assert list(found.by_count) == sorted(found.by_count)


def test_one_answer_neglects_the_others() -> None:
    found = summarize([compare_answers([HALVES], [HALVES, WHOLE])])
    assert found.covering_best == found.covering_one == 0.75
    assert found.people_spread == 0.25
    assert found.covered == (1, 1, 0.5, 0.5, 0.5)
    assert found.spread == 0


def test_a_fixed_answer_is_the_same_number_in_every_image() -> None:
    images = [compare_answers([HALVES, WHOLE], [HALVES]), compare_answers([HALVES, WHOLE], [WHOLE])]
    found = summarize(images)
    assert found.covering_fixed == 0.75
    assert found.covering_best == 1
    assert summarize([*images, compare_answers([HALVES], [WHOLE])]).covering_fixed is None


def test_people_are_compared_with_the_others_only() -> None:
    found = compare_people([HALVES, HALVES, WHOLE])
    summary = summarize([found])
    assert summary.covering_best == pytest.approx((1 + 1 + 0.5) / 3)
    assert summary.covering_one == pytest.approx((1 + 0.5 + 1 + 0.5 + 0.5 + 0.5) / 6)
    assert summary.covering_fixed is None
    assert len(summary.by_count) == 2
    assert found.spread == pytest.approx((0 + 0.5 + 0 + 0.5 + 0.5 + 0.5) / 6)


def test_spreads_agree_when_answers_differ_where_people_do() -> None:
    people = [compare_people(p) for p in ([HALVES, HALVES], [HALVES, WHOLE], [WHOLE, QUARTERS])]
    assert agreement_of_spreads(people, people) == pytest.approx(1)
    assert agreement_of_spreads(people[::-1], people) == pytest.approx(-1)
    assert agreement_of_spreads([people[0]] * 3, people) is None
    assert agreement_of_spreads(people[:2], people[:2]) is None


def test_summary_is_one_json_object() -> None:
    found = summarize([compare_answers([HALVES], [HALVES])]).to_dict()
    assert found["covered"] == {"0.4": 1.0, "0.5": 1.0, "0.6": 1.0, "0.7": 1.0, "0.8": 1.0}
    assert found["covering_best"] == 1


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="expected at least one of each, got 0 and 1"):
        compare_answers([], [HALVES])
    with pytest.raises(InputError, match="people: expected at least two"):
        compare_people([HALVES])
    with pytest.raises(InputError, match="images: expected at least one"):
        summarize([])
    for count in (0, 3):
        with pytest.raises(InputError, match=rf"count: expected 1\.\.2 answers, got {count}"):
            expected_best(np.zeros((2, 1)), count)


# -------------------------------------------------------------------------------------------------------------------- baselines
def test_baselines_find_flat_regions_at_every_scale() -> None:
    pytest.importorskip("skimage", reason="scikit-image (extra: baselines) is not installed")
    photo = np.zeros((60, 80, 3), dtype=np.uint8)
    photo[:, :40], photo[:, 40:] = (200, 30, 30), (30, 30, 200)
    true = PanopticMap(np.where(np.arange(80) < 40, 1, 2)[None].repeat(60, 0))
    found = felzenszwalb_answers(photo)
    assert len(found) == len(slic_answers(photo)) == 8
    assert compare_answers(found, [true]).covering.min() > 0.9
    counts = [len(p) for p in slic_answers(photo, (4, 40))]
    assert 2 <= counts[0] < counts[1] <= 60
    assert all(m.shape == (60, 80) and (m.ids > 0).all() for m in (*found, *slic_answers(photo)))


@pytest.mark.slow
def test_people_of_bsds_agree_in_part() -> None:
    if not (SHARED / "data/bsds500").is_dir():
        pytest.skip("no shared/data/bsds500 beside the checkout")
    dataset = load_dataset(f"bsds500:{SHARED / 'data/bsds500'}:val")
    assert isinstance(dataset, AnnotatedDataset)
    people = [compare_people(dataset.annotators(i)) for i in range(3)]
    found = summarize(people)
    assert 0.4 < found.covering_one < found.covering_best < 1
    assert all(isinstance(p, ImageAnswers) and 0 < p.spread < 1 for p in people)
