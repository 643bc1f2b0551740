from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg import VOID, PanopticMap, Segment
from ldmseg.errors import InputError
from ldmseg.segmenters.baselines import Baseline, check_baselines, complete

NAMES = get_args(Baseline)
EDGES = NAMES[:-1]
"""Those that look at the photo."""


def two_halves(border: int, height: int = 9, width: int = 20) -> np.ndarray:
    """(H, W, 3) dark up to column `border`, bright from there."""
    photo = np.full((height, width, 3), 40, dtype=np.uint8)
    photo[:, border:] = (200, 180, 220)
    return photo


def two_dots(left: int, right: int) -> PanopticMap:
    ids = np.zeros((9, 20), dtype=int)
    ids[4, left], ids[4, right] = 700, 3
    return PanopticMap(ids, (Segment(3, category_id=9), Segment(700, category_id=1)))


def test_nearest_draws_the_border_half_way_and_never_looks() -> None:
    result = complete("nearest", two_halves(15), two_dots(2, 9))
    assert (result.ids[:, :5] == 700).all() and (result.ids[:, 6:] == 3).all()  # column 5 is nearer to 2 by row
    assert result[700].category_id == 1 and result[3].category_id == 9


@pytest.mark.parametrize("name", EDGES)
def test_edges_stop_the_others(name: Baseline) -> None:
    for border in (8, 15):
        result = complete(name, two_halves(border), two_dots(2, 18))
        assert (result.ids[:, : border - 1] == 700).all()
        assert (result.ids[:, border + 1 :] == 3).all()


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 6), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_known_pixels_stay_and_the_rest_gets_given_ids(
    name: Baseline, height: int, width: int, count: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = np.array([VOID, *rng.choice(2**24, count, replace=False)])
    ids = names[rng.integers(0, count + 1, (height, width))] * (rng.random((height, width)) < share)
    partial = PanopticMap(ids)
    result = complete(name, rng.integers(0, 256, (height, width, 3), dtype=np.uint8), partial)
    assert result.shape == (height, width)
    assert (result.ids != VOID).all()
    assert np.array_equal(result.ids[ids != VOID], ids[ids != VOID])
    assert {s.id for s in result.segments} == ({s.id for s in partial.segments} or {1})


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_of_one_colour(name: Baseline) -> None:
    photo = np.full((9, 20, 3), 128, dtype=np.uint8)
    result = complete(name, photo, two_dots(2, 17))
    assert (result.ids[:, :9] == 700).all() and (result.ids[:, 11:] == 3).all()


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="baselines: expected some of walker, watershed, nearest, got 'oracle'"):
        check_baselines(["nearest", "oracle"])
    with pytest.raises(InputError, match="image: expected"):
        complete("nearest", two_halves(8, width=21), two_dots(2, 18))
    with pytest.raises(InputError, match="image: expected"):
        complete("nearest", two_halves(8).astype(float), two_dots(2, 18))
