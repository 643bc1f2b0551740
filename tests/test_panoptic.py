from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg import VOID, PanopticMap, Segment
from ldmseg.errors import InputError

ids_arrays = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 7, 70000, 2**31 - 1]))


@given(ids_arrays)
@settings(max_examples=80)
def test_derived_facts_agree_with_the_pixels(ids: np.ndarray) -> None:
    pmap = PanopticMap(ids)
    assert [s.id for s in pmap.segments] == sorted({int(i) for i in ids.ravel()} - {VOID})
    for index, (segment, area, (x, y, w, h)) in enumerate(zip(pmap.segments, pmap.areas, pmap.boxes, strict=True)):
        mask = ids == segment.id
        assert area == mask.sum()
        assert np.array_equal(pmap.dense == index, mask)
        assert mask[y : y + h, x : x + w].sum() == area
        assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()
    assert (pmap.dense == -1).sum() == (ids == VOID).sum()
    assert pmap.flip().flip() == pmap
    assert pmap.resize(*ids.shape) == pmap
    assert pmap.resize(ids.shape[0] * 3, ids.shape[1] * 2).resize(*ids.shape) == pmap


def test_segments_keep_what_is_known_of_them() -> None:
    sky, cat = Segment(3, category_id=10, isthing=False), Segment(5, category_id=17, isthing=True, score=0.5)
    pmap = PanopticMap(np.array([[3, 3, 0], [5, 3, 0]]), (cat, sky))
    assert pmap.segments == (sky, cat)
    assert pmap[5] is cat
    assert pmap.keep([5]).segments == (cat,)
    assert pmap.largest(1).segments == (sky,)
    assert pmap.relabel({3: 9})[9] == Segment(9, category_id=10, isthing=False)
    assert pmap.relabel({3: 5, 5: 3}).ids.tolist() == [[5, 5, 0], [3, 5, 0]]
    assert pmap.with_ids([[5, 8, 0]]).segments == (cat, Segment(8))


def test_is_read_only_and_independent_of_its_source() -> None:
    source = np.ones((2, 2), dtype=np.int32)
    pmap = PanopticMap(source)
    source[:] = 2
    assert (pmap.ids == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        pmap.ids[0, 0] = 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2)), "expected integers, got float64"),
        (np.zeros((2, 2, 3), int), r"expected a non-empty \(H, W\) array"),
        (np.zeros((0, 4), int), "expected a non-empty"),
        (np.array([[-1]]), "expected 0"),
        (np.array([[2**31]]), "expected at most 2147483647"),
        (np.array([[2**63]], dtype=np.uint64), "expected at most 2147483647"),
    ],
)
def test_bad_ids(ids: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PanopticMap(ids)


def test_segments_must_be_those_of_the_pixels() -> None:
    ids = np.array([[1, 2]])
    with pytest.raises(InputError, match=r"\[2\] have no segment and \[4\] have no pixel"):
        PanopticMap(ids, (Segment(1), Segment(4)))
    with pytest.raises(InputError, match="got 1 twice"):
        PanopticMap(ids, (Segment(1), Segment(1)))
    with pytest.raises(InputError, match="two segments would become 2"):
        PanopticMap(ids).relabel({1: 2})
