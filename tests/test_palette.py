"""The palette: neighbours differ for everybody, and the same map always gets the same colours."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from ldmseg.palette import (
    LEAST_DISTANCE,
    NO_CATEGORY,
    PALETTE,
    VISIONS,
    VOID_COLOR,
    category_colors,
    distance,
    painted_colors,
    segment_colors,
)
from ldmseg.panoptic import PanopticMap, Segment


def seen(color: tuple[int, int, int], vision: str) -> np.ndarray:
    """CIELAB of a colour as a person of that vision sees it, with scikit-image's conversions."""
    encoded = np.array(color) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISIONS[vision]) @ linear, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_differ_for_everybody(vision: str) -> None:
    for one, other in combinations(PALETTE, 2):
        assert np.linalg.norm(seen(one, vision) - seen(other, vision)) >= LEAST_DISTANCE, (one, other)
    assert min(np.linalg.norm(seen(color, vision) - seen(VOID_COLOR, vision)) for color in PALETTE) >= 15


@pytest.mark.parametrize("vision", VISIONS)
def test_a_simulation_leaves_grey_alone(vision: str) -> None:
    np.testing.assert_allclose(np.array(VISIONS[vision]).sum(axis=1), 1, atol=2e-6)


def test_the_distance_is_that_of_who_sees_the_least() -> None:
    expected = min(np.linalg.norm(seen((255, 0, 0), v) - seen((0, 128, 0), v)) for v in VISIONS)
    assert distance((255, 0, 0), (0, 128, 0)) == pytest.approx(expected, abs=0.1)
    assert distance((255, 0, 0), (0, 128, 0)) < np.linalg.norm(seen((255, 0, 0), "usual") - seen((0, 128, 0), "usual"))


def test_few_segments_all_differ_whatever_their_ids() -> None:
    ids = np.zeros((4, 64), dtype=np.int32)
    for number in range(16):
        ids[:, 4 * number : 4 * number + 3] = 1 + 16 * number  # of the same remainder; void between them
    assert len(set(segment_colors(PanopticMap(ids)).values())) == 16


def test_of_many_segments_neighbours_differ() -> None:
    rng = np.random.default_rng(0)
    centers, ids = rng.uniform(0, 80, (120, 2)), rng.choice(10**6, 120, replace=False) + 1
    pixels = np.stack(np.mgrid[:80, :80], axis=-1)
    pmap = PanopticMap(ids[((pixels[..., None, :] - centers) ** 2).sum(-1).argmin(-1)])
    colors = segment_colors(pmap)
    assert set(colors) == {s.id for s in pmap.segments}
    assert set(colors.values()) == set(PALETTE)
    for one, other in ((pmap.ids[1:], pmap.ids[:-1]), (pmap.ids[:, 1:], pmap.ids[:, :-1]), (pmap.ids[1:, 1:], pmap.ids[:-1, :-1])):
        border = one != other
        assert all(colors[int(a)] != colors[int(b)] for a, b in zip(one[border], other[border], strict=True))


def test_a_background_around_many_differs_from_all_of_them() -> None:
    ids = np.full((90, 90), 1, dtype=np.int32)
    for number in range(2, 83):
        row, column = divmod(number - 2, 9)
        ids[10 * row + 2 : 10 * row + 8, 10 * column + 2 : 10 * column + 8] = number
    colors = segment_colors(PanopticMap(ids))
    assert colors[1] not in [color for number, color in colors.items() if number != 1]


def test_colours_are_the_same_in_every_process() -> None:
    code = "import numpy as np; from ldmseg.palette import *; from ldmseg.panoptic import PanopticMap; "
    code += "print(segment_colors(PanopticMap(np.arange(1, 401).reshape(20, 20))))"
    other = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert other.stdout.strip() == str(segment_colors(PanopticMap(np.arange(1, 401).reshape(20, 20))))


def test_kept_colours_stay_and_others_keep_away_from_them() -> None:
    pmap = PanopticMap(np.array([[1, 2, 3]]))
    wish = (205, 16, 2)  # nearly the colour that id 2 has otherwise
    colors = segment_colors(pmap, keep={1: wish, 9: (1, 2, 3)})
    assert colors[1] == wish
    assert set(colors) == {1, 2, 3}
    assert min(distance(wish, colors[2]), distance(wish, colors[3])) >= LEAST_DISTANCE
    assert segment_colors(pmap)[2] == PALETTE[1]


def test_painted_colours_are_those_of_the_ids_where_they_can_be_told_apart() -> None:
    red, green, blue = 255, 255 << 8, 255 << 16
    yellow, dark_green = 0x00FFFF, 200 << 8
    assert set(painted_colors([red, yellow, dark_green, blue])) == {red, yellow, dark_green, blue}
    assert painted_colors([red, green, blue]) == {red: (255, 0, 0), green: (0, 255, 0), blue: (0, 0, 255)}
    assert painted_colors([1, 2, 3]) == {}
    assert painted_colors([red, red - 1, 2**24 + red]) == {red: (255, 0, 0)}


def test_a_category_has_one_colour_and_none_is_light_grey() -> None:
    segments = (Segment(1, category_id=5), Segment(2, category_id=8), Segment(3, category_id=5), Segment(4))
    colors = category_colors(PanopticMap(np.array([[1, 2, 3, 4]]), segments))
    assert colors[1] == colors[3]
    assert colors[2] not in (NO_CATEGORY, colors[1])
    assert colors[4] == NO_CATEGORY


def test_a_map_without_segments_has_no_colours() -> None:
    assert segment_colors(PanopticMap(np.zeros((3, 3), dtype=np.int32))) == {}
