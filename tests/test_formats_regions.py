from __future__ import annotations

import numpy as np
import pytest
from masks import CATEGORIES, random_map

from ldmseg.errors import InputError
from ldmseg.formats.patches import polygon, rectangle
from ldmseg.formats.regions import Region, checked_size, cutouts, paint
from ldmseg.panoptic import Segment


def box(x0: int, x1: int, **attributes: object) -> Region:
    return Region(rectangle(x0, 0, x1, 1, 1, 6), **attributes)  # type: ignore[arg-type]


def test_later_regions_lie_on_top_and_nothing_is_void() -> None:
    pmap = paint([box(0, 3, category_id=1), box(2, 5, category_id=7, score=0.5)], 1, 6, CATEGORIES)
    assert pmap.ids.tolist() == [[1, 1, 2, 2, 2, 0]]
    assert pmap.segments == (Segment(1, 1, True), Segment(2, 7, True, score=0.5))


def test_order_groups_and_erasing() -> None:
    assert paint([box(0, 3, order=1), box(2, 5)], 1, 6).ids.tolist() == [[1, 1, 1, 2, 2, 0]]
    assert paint([box(0, 2, group="a"), box(3, 4), box(4, 6, group="a")], 1, 6).ids.tolist() == [[1, 1, 0, 2, 1, 1]]
    assert paint([box(0, 5), box(1, 2, erases=True)], 1, 6).ids.tolist() == [[1, 0, 1, 1, 1, 0]]


def test_a_covered_segment_is_left_out_and_its_number_too() -> None:
    pmap = paint([box(1, 2), box(0, 3), box(9, 12)], 1, 6)
    assert pmap.ids.tolist() == [[2, 2, 2, 0, 0, 0]] and [s.id for s in pmap.segments] == [2]
    assert paint([], 2, 2).ids.tolist() == [[0, 0], [0, 0]]


def test_cutouts_hold_a_map_exactly() -> None:
    pmap = random_map(0)
    copy = np.zeros(pmap.shape, dtype=int)
    for cutout in cutouts(pmap):
        copy[polygon(cutout.ring(), *pmap.shape).full(*pmap.shape)] = cutout.segment.id
        x, y, w, h = cutout.box
        assert cutout.area == cutout.patch.mask.sum() and cutout.patch.mask.shape == (h, w)
        assert (cutout.patch.left, cutout.patch.top) == (x, y)
    assert (copy == pmap.ids).all()


@pytest.mark.parametrize("size", [(0, 4), (-1, 4), (2.5, 4), (True, 4), (None, 4), ("3", 4), (10**6, 10**6)])
def test_sizes_that_are_none(size: tuple[object, object]) -> None:
    with pytest.raises(InputError, match=r"here: expected a width and a height of 1 to 100,000,000 pixels in all, got 4 x|got 1000000 x"):
        checked_size(*size, "here")
