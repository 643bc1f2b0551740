from __future__ import annotations

import numpy as np
import pytest

from ldmseg.dense import DepthMap, semantic_map
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(7, "sky", isthing=False), Category(0, "grass", isthing=False), Category(3, "cat"))


def test_all_pixels_of_a_category_become_one_segment() -> None:
    ids = np.array([[5, 5, 9, 0], [2, 2, 9, 4]])
    pmap = PanopticMap(ids, (Segment(2, 3), Segment(4, 99), Segment(5, 3), Segment(9, 0)))
    found = semantic_map(pmap, CATEGORIES)
    assert found.ids.tolist() == [[3, 3, 2, 0], [3, 3, 2, 0]]  # an unknown category is void, and one may have the number 0
    assert [(s.id, s.category_id, s.isthing) for s in found.segments] == [(2, 0, False), (3, 3, True)]
    assert semantic_map(found, CATEGORIES) == found


def test_segments_without_a_category_are_void() -> None:
    assert not semantic_map(PanopticMap(np.array([[1, 2]])), CATEGORIES).segments


def test_a_depth_map_knows_where_it_is_known() -> None:
    depth = DepthMap(np.array([[1.0, np.nan], [4.0, 2.0]]), "miles")
    assert depth.shape == (2, 2) and depth.known.tolist() == [[True, False], [True, True]]
    assert repr(depth) == "DepthMap(2x2, 1 to 4 miles)"
    assert depth.mirrored((-1,)).values[1].tolist() == [2.0, 4.0] and depth.mirrored((-1,)).mirrored((-1,)) == depth
    assert depth != DepthMap(depth.values, "metres") and depth != depth.mirrored((0,)) and depth != 3
    with pytest.raises(ValueError, match="read-only"):
        depth.values[0, 0] = 3
    assert repr(DepthMap(np.full((1, 1), np.nan))) == "DepthMap(1x1, unknown everywhere)"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2)), "values: expected finite numbers above 0, or NaN where unknown, got 0.0"),
        (np.full((2, 2), np.inf), "values: expected finite numbers above 0, or NaN where unknown, got inf"),
        (np.ones(3), r"values: expected a non-empty \(H, W\) array, got shape \(3,\)"),
        (np.array([["a"]]), "values: expected numbers, got <U1"),
    ],
)
def test_what_is_no_depth(values: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        DepthMap(values)
