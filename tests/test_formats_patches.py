from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masks import iou, masks, random_mask, seeds
from numpy.typing import NDArray
from oracle import ask
from skimage.measure import label

from ldmseg.errors import InputError
from ldmseg.formats.patches import Patch, ellipse, one_ring, outlines, points_of, polygon, rectangle, stroke, turned, union


def inside(patch: Patch, height: int, width: int) -> list[list[int]]:
    return patch.full(height, width).astype(int).tolist()


# ------------------------------------------------------------------------------------------------------------------------ the rule
def test_a_pixel_belongs_to_a_polygon_if_its_centre_does() -> None:
    assert inside(rectangle(1, 1, 3, 2, 3, 4), 3, 4) == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert inside(rectangle(0.6, 0, 1.4, 1, 1, 3), 1, 3) == [[0, 0, 0]]
    assert inside(rectangle(0.4, 0, 1.6, 1, 1, 3), 1, 3) == [[1, 1, 0]]
    triangle = polygon([(0, 0), (4, 0), (0, 4)], 4, 4)
    assert inside(triangle, 4, 4) == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]  # centres on the diagonal are right of it


def test_even_odd_and_both_directions() -> None:
    star = [(5 + 5 * math.cos(a), 5 + 5 * math.sin(a)) for a in (k * 4 * math.pi / 5 for k in range(5))]
    assert not polygon(star, 10, 10).full(10, 10)[5, 5]
    assert (polygon(star, 10, 10).full(10, 10) == polygon(star[::-1], 10, 10).full(10, 10)).all()


@given(seeds)
def test_neighbours_share_no_pixel_and_leave_none(seed: int) -> None:
    """A square cut into triangles around a point: each pixel belongs to exactly one."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 12, 2).round(rng.integers(0, 3))
    corners = [(0, 0), (12, 0), (12, 12), (0, 12)]
    parts = [polygon([centre, a, b], 12, 12).full(12, 12) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    assert (np.sum(parts, axis=0) == 1).all()


def test_what_lies_outside_is_cut() -> None:
    everything = polygon([(-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9)], 3, 2)
    assert everything.mask.all() and everything.mask.shape == (3, 2)
    for away in ([(5, 0), (9, 0), (9, 3)], [(-9, 0), (-5, 0), (-5, 3)], [(0, 5), (1, 9), (2, 5)], [(1, 1), (1, 1), (1, 1)]):
        assert not polygon(away, 3, 2).full(3, 2).any()


def test_more_crossings_than_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ring = rng.uniform(0, 30, (200, 2))
    whole = polygon(ring, 30, 30).full(30, 30)
    monkeypatch.setattr("ldmseg.formats.patches.AT_A_TIME", 50)
    assert (polygon(ring, 30, 30).full(30, 30) == whole).all()


def test_ellipses_strokes_and_turns() -> None:
    disc = ellipse((20, 20), (12, 12), 40, 40).full(40, 40)
    assert abs(disc.sum() - math.pi * 144) < 10
    lying, standing = ellipse((20, 20), (12, 4), 40, 40).full(40, 40), ellipse((20, 20), (12, 4), 40, 40, 90).full(40, 40)
    assert iou(lying.T, standing) > 0.99 and lying.sum() < disc.sum() / 2
    assert inside(stroke([(0.5, 1.5), (3.5, 1.5)], 1, 3, 5), 3, 5) == [[0] * 5, [1, 1, 1, 1, 0], [0] * 5]
    assert stroke([(5, 5)], 5, 10, 10).full(10, 10).sum() == stroke([(5, 5), (5, 5)], 5, 10, 10).full(10, 10).sum() > 12
    assert np.allclose(turned([(1, 0)], (0, 0), 90), [(0, 1)])  # clockwise, y being down
    slanted = ellipse((20, 20), (12, 2), 40, 40, 45).full(40, 40)
    assert slanted[27, 27] and not slanted[13, 27]


def test_patches_together() -> None:
    a, b = rectangle(0, 0, 2, 1, 4, 4), rectangle(3, 3, 4, 4, 4, 4)
    assert inside(union([a, b, Patch(0, 0, np.zeros((0, 0), bool))]), 4, 4) == [[1, 1, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 1]]
    assert union([]).mask.shape == (0, 0)
    moved = Patch(-1, -1, np.ones((3, 9), dtype=bool)).clipped(4, 4)
    assert (moved.top, moved.left, moved.mask.shape) == (0, 0, (2, 4))
    assert Patch(9, 9, np.ones((3, 3), dtype=bool)).clipped(4, 4).mask.size == 0


@pytest.mark.parametrize(
    "points", [None, "abc", [[1, 2], [3, 4]], [1, 2, 3], [[1, 2], [3], [4, 5]], [[1, math.nan]] * 3, [[1, 2, 3]] * 3, [{}]]
)
def test_what_is_no_list_of_points(points: object) -> None:
    with pytest.raises(InputError, match=r"points: expected 3 or more points \(x, y\)"):
        points_of(points, 3, "points")


def test_points_as_pairs_or_flat() -> None:
    assert points_of([1, 2, 3, 4], 2, "").tolist() == points_of([[1, 2], ["3", 4]], 2, "").tolist() == [[1, 2], [3, 4]]


# -------------------------------------------------------------------------------------------------------------------- outlines
@pytest.mark.slow
@given(masks)
def test_outlines_enclose_exactly_the_pixels(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    rings = outlines(mask)
    drawn = np.zeros(mask.shape, dtype=bool)
    for ring in rings:
        drawn ^= polygon(ring, height, width).full(height, width)
    assert (drawn == mask).all()
    if rings:
        assert (polygon(one_ring(rings), height, width).full(height, width) == mask).all()
    areas = [float((r[:, 0] * np.roll(r[:, 1], -1) - r[:, 1] * np.roll(r[:, 0], -1)).sum()) / 2 for r in rings]
    assert sum(areas) == mask.sum()
    assert sum(area > 0 for area in areas) == label(mask, connectivity=1).max()


def test_rings_have_corners_alone() -> None:
    assert outlines(np.ones((3, 5), dtype=bool))[0].tolist() == [[0, 0], [5, 0], [5, 3], [0, 3]]
    assert outlines(np.zeros((3, 5), dtype=bool)) == []
    corner = outlines(np.array([[1, 0], [0, 1]], dtype=bool))
    assert sorted(len(ring) for ring in corner) == [4, 4]
    assert one_ring([]).shape == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compact", "noisy"])
def test_pycocotools_draws_our_outlines_alike(kind: str) -> None:
    """Its rule for borders is another one (lines are rounded at five times the size), so outlines agree closely, run lengths exactly."""
    rng = np.random.default_rng(0)
    found = [random_mask(rng, 80) for _ in range(80)]
    if kind == "compact":
        y, x = np.mgrid[:90, :120]
        found = [np.hypot(x - cx, y - cy) < r for cx, cy, r in rng.uniform((20, 20, 5), (100, 70, 20), (40, 3))]
    found = [mask for mask in found if mask.any()]
    code = """
from pycocotools import mask as coco
answer = []
for rings, height, width in given:
    answer.append(coco.decode(coco.merge(coco.frPyObjects(rings, height, width))).tolist())
"""
    positive = [[r for r in outlines(mask) if _area(r) > 0] for mask in found]
    theirs = ask("pycocotools", code, [[[r.ravel().tolist() for r in rings], *m.shape] for rings, m in zip(positive, found, strict=True)])
    for rings, mask, drawn in zip(positive, found, theirs, strict=True):
        filled = union([polygon(ring, *mask.shape) for ring in rings]).full(*mask.shape)
        assert iou(filled, np.array(drawn, dtype=bool)) >= 0.99


def _area(ring: NDArray[np.int64]) -> float:
    return float((ring[:, 0] * np.roll(ring[:, 1], -1) - ring[:, 1] * np.roll(ring[:, 0], -1)).sum())


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_mask_without_its_margins(top: int, left: int) -> None:
    mask = np.zeros((40, 40), dtype=bool)
    mask[top : top + 3, left : left + 2] = True
    patch = Patch.of(mask)
    assert (patch.top, patch.left, patch.mask.shape) == (top, left, (3, 2)) and (patch.full(40, 40) == mask).all()
    assert Patch.of(np.zeros((4, 4), dtype=bool)).mask.size == 0
