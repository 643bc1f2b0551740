from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import Category, CocoPanoptic
from ldmseg.metrics import overlaps
from ldmseg.metrics.overlaps import SegmentTable
from ldmseg.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult, Stat
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(1, "a", True), Category(2, "b", True), Category(3, "c", False))
quick = settings(max_examples=60)


@st.composite
def maps(draw: st.DrawFn, size: tuple[int, int] = (4, 5), crowd: bool = True) -> PanopticMap:
    ids = draw(arrays(np.int32, size, elements=st.sampled_from([0, 1, 2, 300, 2**24 - 1, 2**31 - 1])))
    return PanopticMap(ids, tuple(draw(segments(int(i), crowd)) for i in np.unique(ids) if i))


@st.composite
def segments(draw: st.DrawFn, identity: int, crowd: bool) -> Segment:
    category = draw(st.sampled_from(CATEGORIES))
    return Segment(identity, category.id, category.isthing, crowd and draw(st.booleans()))


pairs = st.tuples(maps(crowd=False), maps())


def score(*given_pairs: tuple[PanopticMap, PanopticMap], **settings_: object) -> PanopticQualityResult:
    quality = PanopticQuality(**({"categories": CATEGORIES} | settings_))  # type: ignore[arg-type]
    for prediction, target in given_pairs:
        quality.update(prediction, target)
    return quality.compute()


def by_definition(prediction: PanopticMap, target: PanopticMap) -> dict[int, Stat]:
    """The rules one at a time, on masks; slow and plain."""
    found: dict[int, Stat] = {}
    void = target.ids == 0
    for category in (c.id for c in CATEGORIES):
        truth = [s for s in target.segments if s.category_id == category]
        guesses = [s for s in prediction.segments if s.category_id == category]
        crowds = [s for s in truth if s.iscrowd][-1:]
        ious, matched_truth, matched_guess = [], set(), set()
        for t, p in itertools.product((s for s in truth if not s.iscrowd), guesses):
            true, guess = target.ids == t.id, prediction.ids == p.id
            iou = (true & guess).sum() / (true | (guess & ~void)).sum()
            if iou > 0.5:
                ious.append(float(iou))
                matched_truth.add(t.id)
                matched_guess.add(p.id)
        fn = sum(not s.iscrowd and s.id not in matched_truth for s in truth)
        excuse = void | np.isin(target.ids, [s.id for s in crowds])
        fp = sum(p.id not in matched_guess and not excuse[prediction.ids == p.id].mean() > 0.5 for p in guesses)
        tp, weight = len(ious), len(ious) + fp / 2 + fn / 2
        if weight:
            found[category] = Stat(sum(ious) / weight, sum(ious) / max(tp, 1), tp / weight, tp, int(fp), int(fn), 1)
    return found


@pytest.mark.slow
def test_the_reference_program_s_figures(shared: Path) -> None:
    reference = shared / "reference"
    expected = json.loads((reference / "pq_case_expected.json").read_text())
    truth = CocoPanoptic.open(reference / "pq_case_gt.json", shared / "data/coco100/annotations/panoptic_train2017")
    predictions = CocoPanoptic.open(reference / "pq_case_pred.json", reference / "pq_case")
    aware, agnostic = PanopticQuality(truth.categories), PanopticQuality(class_agnostic=True)
    collected = PanopticQuality()
    for predicted, true in zip(predictions, truth, strict=True):
        assert predicted.image_id == true.image_id
        both = predicted.read_map(), true.read_map()
        for quality in (aware, agnostic, collected):
            quality.update(*both)
    result = aware.compute()
    assert collected.compute().all == result.all and collected.compute().things == result.things
    for group, name in ((result.all, "All"), (result.things, "Things"), (result.stuff, "Stuff")):
        for figure, value in expected["class_aware"][name].items():
            assert getattr(group, figure) == pytest.approx(value, abs=1e-12)
    assert {str(c) for c in result.per_category} == set(expected["per_class"])
    for category, figures in expected["per_class"].items():
        for figure, value in figures.items():
            assert getattr(result.per_category[int(category)], figure) == pytest.approx(value, abs=1e-12)
    for figure, value in expected["class_agnostic"].items():
        assert getattr(agnostic.compute().all, figure) == pytest.approx(value, abs=1e-12)
    assert agnostic.compute().things == agnostic.compute().stuff == Stat()


@pytest.mark.slow
@quick
@given(pairs)
def test_the_rules_one_at_a_time(pair: tuple[PanopticMap, PanopticMap]) -> None:
    found = {c: s for c, s in score(pair).per_category.items() if s.n}
    expected = by_definition(*pair)
    assert found.keys() == expected.keys()
    for category, stat in expected.items():
        for figure in Stat.__dataclass_fields__:
            assert getattr(found[category], figure) == pytest.approx(getattr(stat, figure), abs=1e-12)


@pytest.mark.slow
@quick
@given(st.lists(pairs, min_size=1, max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_merging_in_any_order_is_exactly_all_at_once(given_pairs: list, order: object, class_agnostic: bool) -> None:
    workers = []
    for pair in given_pairs:
        workers.append(PanopticQuality(class_agnostic=class_agnostic))
        workers[-1].update(*pair)
    order.shuffle(workers)  # type: ignore[attr-defined]
    while len(workers) > 1:
        workers.append(workers.pop().merge(workers.pop(0)))
    assert workers[0].compute() == score(*given_pairs, categories=None, class_agnostic=class_agnostic)


@quick
@given(maps(crowd=False))
def test_a_map_matches_itself_whatever_its_ids(pmap: PanopticMap) -> None:
    renumbered = pmap.relabel({s.id: 1000 - k for k, s in enumerate(pmap.segments)})
    for prediction in (pmap, renumbered):
        result = score((prediction, pmap)).all
        assert (result.tp, result.fp, result.fn) == (len(pmap), 0, 0)
        assert result.pq == result.sq == result.rq == (1.0 if len(pmap) else 0.0)


@quick
@given(maps(crowd=False), st.permutations([11, 12, 13, 14, 15]))
def test_figures_do_not_depend_on_ids(pmap: PanopticMap, ids: list[int]) -> None:
    prediction = PanopticMap(np.roll(pmap.ids, 1, axis=1), pmap.segments)
    moved = prediction.relabel({s.id: i for s, i in zip(prediction.segments, ids, strict=False)})
    assert score((prediction, pmap)) == score((moved, pmap))


@pytest.mark.slow
@quick
@given(pairs)
def test_pixels_and_runs_and_sorting_count_the_same(pair: tuple[PanopticMap, PanopticMap]) -> None:
    prediction, target = pair
    columns = ("id", "category_id", "iscrowd")
    tables = tuple(SegmentTable(*(np.array([getattr(s, c) for s in m.segments], dtype=int) for c in columns)) for m in pair)
    codes = [m.ids.astype(np.uint32) | np.uint32(1 << 31) for m in pair]
    ways = [overlaps.map_overlaps(prediction, target, tables), overlaps.count_overlaps(*codes, *tables, id_mask=2**31 - 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "_DENSE_CELLS", 0)
        patch.setattr(overlaps._Lookup, "limit", 0)
        ways += [overlaps.map_overlaps(prediction, target, tables), overlaps.count_overlaps(*codes, *tables, id_mask=2**31 - 1)]
    for way in ways:
        counted = sorted(zip(way.target_index.tolist(), way.prediction_index.tolist(), way.count.tolist(), strict=True))
        pixels = np.unique(np.stack([target.dense.ravel(), prediction.dense.ravel()]), axis=1, return_counts=True)
        assert counted == [(*indices, n) for indices, n in zip(pixels[0].T.tolist(), pixels[1].tolist(), strict=True)]
        assert way.prediction_area.tolist() == prediction.areas.tolist() and way.target_area.tolist() == target.areas.tolist()


VOID_MAP = PanopticMap(np.zeros((2, 4), np.int32))
HALF = PanopticMap([[1, 1, 0, 0], [1, 1, 0, 0]], (Segment(1, 1, True),))


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        (VOID_MAP, VOID_MAP, (0, 0, 0, 0)),
        (VOID_MAP, HALF, (0, 0, 1, 1)),
        (HALF, VOID_MAP, (0, 0, 0, 0)),  # all of it lies on void
        (HALF, PanopticMap([[2, 0, 0, 0], [2, 0, 0, 0]], (Segment(2, 1),)), (1, 0, 0, 1)),  # void does not count in the union
        (HALF, PanopticMap([[2, 0, 0, 0], [2, 0, 0, 0]], (Segment(2, 2),)), (0, 1, 1, 2)),  # half on void is not more than half
        (HALF, PanopticMap([[2, 0, 0, 0], [0, 0, 0, 0]], (Segment(2, 2),)), (0, 0, 1, 1)),
        (HALF, PanopticMap([[2, 2, 2, 2], [2, 2, 2, 2]], (Segment(2, 1, True, iscrowd=True),)), (0, 0, 0, 0)),
        (HALF, PanopticMap([[2, 2, 2, 2], [2, 2, 2, 2]], (Segment(2, 2, True, iscrowd=True),)), (0, 1, 0, 1)),  # of another category
        (HALF, PanopticMap([[2, 2, 2, 2], [2, 2, 2, 2]], (Segment(2, 1),)), (0, 1, 1, 1)),  # an IoU of exactly 0.5 is no match
    ],
)
def test_known_answers(prediction: PanopticMap, target: PanopticMap, expected: tuple[int, ...]) -> None:
    result = score((prediction, target)).all
    assert (result.tp, result.fp, result.fn, result.n) == expected


def test_means_weigh_categories_alike() -> None:
    target = PanopticMap([[1, 2, 3, 4]], tuple(Segment(i, c, t) for i, c, t in ((1, 1, True), (2, 1, True), (3, 1, True), (4, 3, False))))
    result = score((target.keep([4]), target))
    assert (result.all.pq, result.things.pq, result.stuff.pq) == (0.5, 0.0, 1.0)
    assert (result.all.n, result.things.n, result.stuff.n) == (2, 1, 1)
    assert result.per_category[2] == Stat()
    agnostic = score((target.keep([4]), target), class_agnostic=True)
    assert agnostic.all == agnostic.per_category[1] == Stat(1 / 2.5, 1.0, 1 / 2.5, 1, 0, 3, 1)


def test_the_result_as_a_dictionary() -> None:
    found = score((HALF, HALF)).to_dict()
    figures = {"pq": 1.0, "sq": 1.0, "rq": 1.0, "tp": 1, "fp": 0, "fn": 0, "n": 1}
    nothing = dict.fromkeys(figures, 0)
    assert found == {"all": figures, "things": figures, "stuff": nothing, "per_category": {1: figures, 2: nothing, 3: nothing}}
    json.dumps(found)


def test_categories_are_collected_when_none_are_given() -> None:
    bare = PanopticMap(HALF.ids)
    assert score((bare, bare), categories=None).things.tp == 1
    stuff = PanopticMap(HALF.ids, (Segment(1, 9, False),))
    unknown = PanopticMap(HALF.ids, (Segment(1, 9),))
    for order in ((unknown, stuff), (stuff, unknown)):
        assert score(order, categories=None).stuff.tp == 1


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"prediction: expected the target's size \(2, 4\).* got \(1, 1\)"):
        score((PanopticMap([[1]]), VOID_MAP))
    with pytest.raises(InputError, match="target: segment 1 has category 5"):
        score((VOID_MAP, PanopticMap(HALF.ids, (Segment(1, 5),))))
    with pytest.raises(InputError, match="other: expected"):
        PanopticQuality().merge(PanopticQuality(class_agnostic=True))


@pytest.mark.slow
def test_many_segments_in_noise() -> None:
    ids = np.random.default_rng(0).permutation(70_000).reshape(280, 250) + 1
    result = score((PanopticMap(ids + 5), PanopticMap(ids)), categories=None).all
    assert (result.tp, result.fp, result.fn, result.pq) == (70_000, 0, 0, 1.0)
