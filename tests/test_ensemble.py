from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.inference.ensemble import Consensus, consensus
from ldmseg.metrics.covering import covering
from ldmseg.panoptic import VOID, PanopticMap, Segment

quick = settings(max_examples=60)
SIZE = (4, 6)
ids_with_void = arrays(np.int32, SIZE, elements=st.sampled_from([0, 1, 2, 3, 2**31 - 1]))
gap_free_ids = arrays(np.int32, SIZE, elements=st.sampled_from([1, 2, 3, 400]))
several = st.lists(ids_with_void.map(PanopticMap), min_size=1, max_size=6)


def squares() -> NDArray[np.int32]:
    """(12, 12) four squares of 6 x 6, ids 1..4."""
    return np.kron(np.array([[1, 2], [3, 4]]), np.ones((6, 6))).astype(np.int32)


def with_square(ids: NDArray[np.int32], top: int, left: int, side: int, value: int) -> PanopticMap:
    changed = ids.copy()
    changed[top : top + side, left : left + side] = value
    return PanopticMap(changed)


def partition(pmap: PanopticMap) -> set[frozenset[int]]:
    """The segments as sets of pixels, whatever they are called."""
    return {frozenset(np.flatnonzero(pmap.ids == s.id).tolist()) for s in pmap.segments}


def shuffled(pmap: PanopticMap, rng: np.random.Generator) -> PanopticMap:
    """The same segments under other ids."""
    names = rng.choice(1000, len(pmap), replace=False) + 1
    return pmap.relabel({s.id: int(n) for s, n in zip(pmap.segments, names, strict=True)})


def same(a: Consensus, b: Consensus) -> bool:
    return a.map == b.map and a.samples == b.samples and np.array_equal(a.confidence, b.confidence)


# -------------------------------------------------------------------------------------------------------------------- certainty
@pytest.mark.slow
@quick
@given(ids_with_void, st.integers(1, 5))
def test_identical_samples_come_back_with_certainty(ids: NDArray[np.int32], count: int) -> None:
    found = consensus([PanopticMap(ids)] * count)
    assert np.array_equal(found.map.ids, ids)
    assert (found.confidence == 1).all()
    assert (found.agreement == 1).all()
    assert all(s.score == 1 for s in found.map.segments)


@pytest.mark.slow
@quick
@given(several, st.integers(0, 2**32 - 1))
def test_ids_mean_nothing(maps: list[PanopticMap], seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain, renamed = consensus(maps), consensus([shuffled(m, rng) for m in maps])
    assert partition(plain.map) == partition(renamed.map)
    assert np.array_equal(plain.confidence, renamed.confidence)
    assert np.array_equal(plain.agreement, renamed.agreement)


def test_one_sample_is_its_own_consensus_and_keeps_what_it_knows() -> None:
    sample = PanopticMap(squares(), tuple(Segment(i, category_id=i + 10, isthing=i > 2, score=0.3) for i in (1, 2, 3, 4)))
    found = consensus([sample])
    assert np.array_equal(found.map.ids, sample.ids)
    assert [(s.category_id, s.isthing, s.score) for s in found.map.segments] == [
        (11, False, 1.0),
        (12, False, 1.0),
        (13, True, 1.0),
        (14, True, 1.0),
    ]


# ----------------------------------------------------------------------------------------------------------------------- voting
def test_most_samples_decide_and_the_share_of_them_is_the_confidence() -> None:
    plain = squares()
    shifted = plain.copy()
    shifted[:, 6] = shifted[:, 5]  # the border one pixel to the right
    rng = np.random.default_rng(0)
    found = consensus([shuffled(PanopticMap(ids), rng) for ids in (shifted, plain, plain, plain)])
    assert partition(found.map) == partition(PanopticMap(plain))
    assert (found.confidence[:, 6] == 0.75).all()
    assert (np.delete(found.confidence, 6, axis=1) == 1).all()
    assert found.agreement.tolist() == pytest.approx([132 / 144, 1, 1, 1])
    assert [s.score for s in found.map.segments] == [1, 1, 1, 1]  # every sample has every segment, if with another border


def test_a_segment_of_few_samples_is_none_and_one_of_enough_is() -> None:
    plain = squares()
    with_extra = with_square(plain, 1, 1, 4, 9)
    one_of_six = consensus([with_extra] + [PanopticMap(plain)] * 5)
    assert partition(one_of_six.map) == partition(PanopticMap(plain))
    assert one_of_six.confidence[2, 2] == pytest.approx(5 / 6)
    four_of_six = consensus([with_extra] * 4 + [PanopticMap(plain)] * 2)
    assert partition(four_of_six.map) == partition(with_extra)
    extra = four_of_six.map[int(four_of_six.map.ids[2, 2])]
    assert extra.score == pytest.approx(4 / 6, abs=1e-4)
    assert (four_of_six.confidence[1:5, 1:5] == np.float32(4 / 6)).all()


def test_min_support_decides_what_is_enough() -> None:
    """Three samples with three different halves of a region that the others leave whole."""
    plain = squares()
    extra = [with_square(plain, 1, 1, 4, 9)] * 2 + [PanopticMap(plain)] * 1 + [with_square(plain, 0, 0, 3, 8)] * 1
    assert len(consensus(extra, min_support=0.4).map) == 5
    assert len(consensus(extra, min_support=0.6).map) == 4


def test_a_split_and_a_merged_sample_vote_for_what_they_overlap() -> None:
    plain = squares()
    split, merged = plain.copy(), plain.copy()
    split[:6, :2] = 7  # a third of the first square
    merged[merged == 2] = 1
    found = consensus([PanopticMap(ids) for ids in (split, merged, plain, plain)])
    assert partition(found.map) == partition(PanopticMap(plain))
    assert (found.confidence[:6, :2] == 0.5).all()  # neither the split-off part nor the merged segment is the consensus's
    assert (found.confidence[6:] == 1).all()


def test_samples_are_seen_under_the_consensus_ids() -> None:
    plain = squares()
    rng = np.random.default_rng(1)
    found = consensus([shuffled(with_square(plain, 1, 1, 3, 9), rng), *(shuffled(PanopticMap(plain), rng) for _ in range(4))])
    own = {s.id for s in found.map.segments}
    assert len(found.samples) == 5
    for sample, share in zip(found.samples, found.agreement, strict=True):
        assert (sample.ids == found.map.ids).mean() == pytest.approx(share)
    extra = {s.id for s in found.samples[0].segments} - own
    assert len(extra) == 1
    assert partition(found.samples[0].keep(extra)) == {frozenset(np.flatnonzero(with_square(plain, 1, 1, 3, 9).ids == 9).tolist())}
    assert np.array_equal(np.stack([s.ids == found.map.ids for s in found.samples]).mean(0, dtype=np.float32), found.confidence)


# ------------------------------------------------------------------------------------------------------------------------- void
@pytest.mark.slow
@quick
@given(several)
def test_void_only_where_a_sample_has_it(maps: list[PanopticMap]) -> None:
    void = np.stack([m.ids == VOID for m in maps])
    found = consensus(maps).map.ids == VOID
    assert not (found & ~void.any(0)).any()
    assert found[void.all(0)].all()


@pytest.mark.slow
@quick
@given(st.lists(gap_free_ids.map(PanopticMap), min_size=1, max_size=7), st.sampled_from([0.0, 1 / 3, 0.5, 1.0]))
def test_gap_free_samples_give_a_gap_free_map(maps: list[PanopticMap], min_support: float) -> None:
    found = consensus(maps, min_support=min_support)
    assert (found.map.ids != VOID).all()
    assert found.confidence.dtype == np.float32
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_void_wins_a_majority_and_loses_a_tie() -> None:
    full, empty = PanopticMap(np.full((2, 2), 5)), PanopticMap(np.zeros((2, 2), dtype=np.int32))
    assert (consensus([full, empty]).map.ids == 5).all()
    mostly = consensus([full, empty, empty])
    assert (mostly.map.ids == VOID).all()
    assert (mostly.confidence == np.float32(2 / 3)).all()
    assert len(mostly.map) == 0
    assert (consensus([empty, empty]).map.ids == VOID).all()


# ------------------------------------------------------------------------------------------------------------------------ fixed
@st.composite
def completions(draw: st.DrawFn) -> tuple[PanopticMap, list[PanopticMap]]:
    """A partial map, and samples that keep what it gives; given segments may grow and new ones appear."""
    partial = draw(arrays(np.int32, SIZE, elements=st.sampled_from([0, 0, 5, 6, 2**31 - 1])))
    count = draw(st.integers(1, 6))
    samples = []
    for _ in range(count):
        free = draw(arrays(np.int32, SIZE, elements=st.sampled_from([1, 2, 3, *(int(i) for i in np.unique(partial) if i)])))
        samples.append(PanopticMap(np.where(partial != VOID, partial, free)))
    return PanopticMap(partial), samples


@pytest.mark.slow
@quick
@given(completions())
def test_what_was_given_stays(case: tuple[PanopticMap, list[PanopticMap]]) -> None:
    partial, samples = case
    given_ids = {s.id for s in partial.segments}
    found = consensus(samples, fixed_ids=given_ids)
    known = partial.ids != VOID
    assert np.array_equal(found.map.ids[known], partial.ids[known])
    assert (found.confidence[known] == 1).all()
    assert (found.map.ids != VOID).all()
    assert all(found.map[i].score == 1 for i in given_ids)
    for sample, before in zip(found.samples, samples, strict=True):
        for i in given_ids:
            assert np.array_equal(sample.ids == i, before.ids == i)


def test_fixed_ids_are_one_segment_however_little_they_overlap() -> None:
    left, right = np.full((4, 8), 1), np.full((4, 8), 2)
    left[:, :3], right[:, 2:] = 50, 50  # share one column
    free, bound = consensus([PanopticMap(left), PanopticMap(right)]), consensus([PanopticMap(left), PanopticMap(right)], fixed_ids=[50])
    assert bound.map[50].score == 1
    assert (bound.confidence[bound.map.ids == 50] >= 0.5).all()
    assert (bound.confidence[:, 2] == 1).all()
    assert free.confidence[:, 2].max() < 1


def test_new_segments_never_take_a_fixed_id() -> None:
    first, second = np.ones((6, 6), dtype=np.int32), np.full((6, 6), 2, dtype=np.int32)
    first[:2], second[:2] = 4, 4
    found = consensus([PanopticMap(first), PanopticMap(second)], fixed_ids=[4, 3])
    assert {int(i) for i in np.unique(found.map.ids[2:])} == {1}
    assert (found.map.ids[:2] == 4).all()


# ------------------------------------------------------------------------------------------------------------------------- rest
@pytest.mark.slow
@quick
@given(several)
def test_the_same_samples_give_the_same_answer(maps: list[PanopticMap]) -> None:
    assert same(consensus(maps), consensus(list(maps)))


def test_ids_are_kept_where_they_are_free() -> None:
    found = consensus([PanopticMap(squares())] * 2 + [PanopticMap(squares() + 7)])
    assert [s.id for s in found.map.segments] == [1, 2, 3, 4]


def test_the_consensus_of_noisy_samples_is_better_than_they_are() -> None:
    rng = np.random.default_rng(3)
    truth = np.kron(rng.permutation(16).reshape(4, 4) + 1, np.ones((16, 16))).astype(np.int32)
    samples = [shuffled(PanopticMap(noisy(truth, rng)), rng) for _ in range(8)]
    found = consensus(samples)
    assert covering(found.map, PanopticMap(truth)) > max(covering(m, PanopticMap(truth)) for m in samples)
    assert len(found.map) == 16


def noisy(truth: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """Two segments merged, one split, and every border ragged."""
    ids = truth.copy()
    ids[ids == rng.integers(1, 17)] = rng.integers(1, 17)
    ids[(ids == rng.integers(1, 17)) & (np.arange(ids.shape[1]) % 16 < 7)] = 99
    rows, columns = np.indices(ids.shape)
    jitter = rng.integers(-2, 3, (2, *ids.shape))
    return ids[np.clip(rows + jitter[0], 0, 63), np.clip(columns + jitter[1], 0, 63)]


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ([], {}, "maps: expected at least one sample"),
        ([PanopticMap(np.ones((2, 2), dtype=int)), PanopticMap(np.ones((2, 3), dtype=int))], {}, r"\(2, 3\) for sample 1"),
        ([PanopticMap(np.ones((2, 2), dtype=int))], {"min_support": 1.5}, r"min_support: expected 0\.\.1, got 1.5"),
    ],
)
def test_mistakes_are_named(maps: Sequence[PanopticMap], options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        consensus(maps, **options)  # type: ignore[arg-type]
