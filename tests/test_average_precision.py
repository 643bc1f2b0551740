from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg.errors import InputError
from ldmseg.metrics.average_precision import THRESHOLDS, AveragePrecision, AveragePrecisionResult
from ldmseg.panoptic import PanopticMap, Segment

ids = arrays(np.int32, (4, 6), elements=st.sampled_from([0, 1, 2, 3, 9]))
IMAGES = st.lists(st.tuples(ids, ids, st.permutations(range(1, 10))), min_size=1, max_size=4)


def _map(array: object, scores: dict[int, float] | None = None, stuff: tuple[int, ...] = (), crowd: tuple[int, ...] = ()) -> PanopticMap:
    found = PanopticMap(np.array(array, dtype=np.int32))
    segments = (
        Segment(s.id, isthing=False if s.id in stuff else None, iscrowd=s.id in crowd, score=(scores or {}).get(s.id))
        for s in found.segments
    )
    return PanopticMap(found.ids, tuple(segments))


def _measure(*images: tuple[PanopticMap, PanopticMap], thresholds: tuple[float, ...] = THRESHOLDS) -> AveragePrecisionResult:
    metric = AveragePrecision(thresholds)
    for prediction, target in images:
        metric.update(prediction, target)
    return metric.compute()


def _by_masks(images: list[tuple[PanopticMap, PanopticMap]], threshold: float) -> tuple[float, float, float]:
    """The three senses with one mask at a time: greedy matches, and precision at each recall by its definition."""
    shares, ranked, count, totals = [], [], 0, np.zeros(3)
    for number, (prediction, target) in enumerate(images):
        free = [s.id for s in target.segments]
        count += len(free)
        tp = fp = 0
        known = target.ids != 0
        for segment in sorted(prediction.segments, key=lambda s: -s.score):
            mask = prediction.ids == segment.id
            values = {
                t: ((target.ids == t) & mask).sum() / ((target.ids == t) | (mask & known)).sum() for t in free if (target.ids == t).any()
            }
            best = max(values, key=values.__getitem__, default=None)
            if best is not None and values[best] >= threshold:
                free.remove(best)
                tp += 1
                ranked.append((-segment.score, number, True))
            elif 2 * (mask & ~known).sum() <= mask.sum():
                fp += 1
                ranked.append((-segment.score, number, False))
        totals += tp, fp, len(free)
        shares.append(tp / (tp + fp + len(free)) if tp + fp + len(free) else 1.0)
    curve, hits = [], 0
    for position, (_, _, right) in enumerate(sorted(ranked), start=1):
        hits += right
        curve.append((hits / max(count, 1), hits / position))
    area = [max((p for r, p in curve if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]
    return float(np.mean(shares)), totals[0] / totals.sum() if totals.any() else 1.0, float(np.mean(area)) if count else 0.0


@pytest.mark.slow
@settings(max_examples=120)
@given(IMAGES, st.sampled_from([0.5, 0.55, 0.7, 1.0]))
def test_agrees_with_masks_looked_at_one_by_one(drawn: list[tuple[np.ndarray, np.ndarray, list[int]]], threshold: float) -> None:
    # no two scores are equal, so that the order is the definition's
    images = [
        (_map(p, {i: (order[i - 1] + number / 10) / 20 for i in range(1, 10)}), _map(t)) for number, (p, t, order) in enumerate(drawn)
    ]
    found = _measure(*images, thresholds=(threshold,))
    assert found.coco is not None
    assert (found.dsb[0], found.pooled[0], found.coco[0]) == pytest.approx(_by_masks(images, threshold))


def test_a_known_answer() -> None:
    # IoU 1 with the first nucleus, 3/5 with the second, and one where nothing is; the third is missed
    target = _map([[2, 2, 1, 3, 3, 3, 1, 4], [1] * 8], stuff=(1,))
    prediction = _map([[2, 2, 1, 1, 3, 3, 3, 1], [5, 5, 1, 1, 1, 1, 1, 1]], {2: 0.9, 3: 0.8, 5: 0.85}, stuff=(1,))
    found = _measure((prediction, target))
    assert found.thresholds == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert (found.tp[0], found.fp[0], found.fn[0]) == (2, 1, 1)
    assert (found.tp[2], found.fp[2], found.fn[2]) == (1, 2, 2)
    assert found.dsb[[0, 9]] == pytest.approx([1 / 2, 1 / 5])
    assert found.coco is not None
    # recall 1/3 at precision 1 (34 of the 101 recalls), 2/3 at 2/3 (33 more), the rest is never reached
    assert found.coco[0] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert found.to_dict()["dsb"]["mean"] == pytest.approx(found.dsb.mean())


def test_background_is_no_instance() -> None:
    target = _map([[1, 1, 1, 2]], stuff=(1,))
    for background in (_map([[7, 7, 7, 2]]), _map([[7, 7, 7, 2]], stuff=(7,))):  # found out, or told
        assert _measure((background, target)).dsb.tolist() == [1] * 10
    split = _map([[7, 7, 8, 2]])  # its larger part is the background, the smaller one a mistake
    assert _measure((split, target)).fp[0] == 1


def test_void_and_crowd_forgive() -> None:
    target = _map([[0, 0, 5, 5, 2, 2]], crowd=(5,))
    assert _measure((_map([[3, 3, 4, 4, 2, 2]]), target)).dsb[0] == 1
    assert _measure((_map([[3, 3, 4, 2, 2, 2]]), target)).dsb[9] == 1  # what lies on the crowd is not held against the pair


def test_a_tie_goes_to_the_higher_score() -> None:
    # the prediction has an IoU of 1/2 with either nucleus, and is one match, not two
    assert _measure((_map([[1, 1]]), _map([[2, 3]]))).tp.tolist() == [1] + [0] * 9
    assert _measure((_map([[2, 3]], {2: 0.1, 3: 0.9}), _map([[1, 1]]))).fp[0] == 1


def test_the_mean_over_images_and_the_pooled_share_differ() -> None:
    easy, hard = (_map([[1, 2]]), _map([[1, 2]])), (_map([[0, 0, 0, 0]]), _map([[1, 2, 3, 4]]))
    found = _measure(easy, hard)
    assert (found.dsb[0], found.pooled[0], found.images) == (0.5, pytest.approx(2 / 6), 2)
    assert found.coco is None  # no scores


def test_nothing_to_find() -> None:
    nothing = _map([[0, 0]])
    assert _measure((nothing, nothing)).dsb[0] == 1
    assert _measure((_map([[1, 0]]), _map([[1, 1]], stuff=(1,)))).dsb[0] == 0
    assert AveragePrecision().compute().images == 0


def test_merging_is_as_if_one_had_seen_all() -> None:
    images = [(_map([[1, 1, 2]], {1: 0.5, 2: 0.6}), _map([[1, 2, 2]])), (_map([[3, 3, 3]], {3: 0.55}), _map([[3, 3, 0]]))]
    first, second = AveragePrecision(), AveragePrecision()
    first.update(*images[0])
    second.update(*images[1])
    assert first.merge(second).compute().to_dict() == _measure(*images).to_dict()
    with pytest.raises(InputError, match="other: expected the thresholds"):
        first.merge(AveragePrecision([0.5]))


def test_bad_arguments() -> None:
    for wrong in ([], [0.3], [1.2]):
        with pytest.raises(InputError, match=r"thresholds: expected at least one, each in 0.5..1, got"):
            AveragePrecision(wrong)
    with pytest.raises(InputError, match="prediction: expected the target's size"):
        AveragePrecision().update(_map([[1, 1]]), _map([[1]]))
