from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg import VOID, PanopticMap
from ldmseg.inference import boundaries as edges
from ldmseg.inference.boundaries import distance_inside, follow_edges

SIZE = 64
NOTHING = np.zeros((SIZE, SIZE), dtype=int)


def photo(split: int = 30) -> np.ndarray:
    """Dark on the left of column `split`, bright on the right."""
    picture = np.full((SIZE, SIZE, 3), 40, dtype=np.uint8)
    picture[:, split:] = 210
    return picture


def halves(split: int) -> np.ndarray:
    ids = np.full((SIZE, SIZE), 7)
    ids[:, split:] = 9
    return ids


def test_a_border_moves_to_the_edge_of_the_photo() -> None:
    for drawn_at in (28, 30, 32):  # up to a core (2 px) away
        done = follow_edges(PanopticMap(halves(drawn_at)), photo(30), NOTHING)
        assert (np.abs(done.ids - halves(30)) > 0).mean() <= 1 / SIZE  # at most one column off


def test_near_a_given_label_the_label_decides() -> None:
    """The drawn border is far off; given pixels on both sides of the edge put it right."""
    given = NOTHING.copy()
    given[::2, 34:46:2] = 9
    given[::2, 2:28:2] = 7
    done = follow_edges(PanopticMap(np.where(given != VOID, given, halves(48))), photo(30), given)
    assert (done.ids[:, 34:46] == 9).mean() > 0.95


def test_a_new_segment_between_dense_labels_is_gone_and_a_hidden_one_stays() -> None:
    drawn = halves(30)
    drawn[20:30, 8:18] = 3
    dense = NOTHING.copy()
    dense[::3, ::3] = halves(30)[::3, ::3]
    dense[20:30, 8:18] = VOID
    shown = np.where(dense != VOID, dense, drawn)
    assert 3 not in follow_edges(PanopticMap(shown), photo(), dense).ids
    sparse = NOTHING.copy()
    sparse[:, 50] = 9
    assert 3 in follow_edges(PanopticMap(np.where(sparse != VOID, sparse, drawn)), photo(), sparse).ids
    speck = halves(30)
    speck[20:27, 8:15] = 3
    assert 3 not in follow_edges(PanopticMap(np.where(sparse != VOID, sparse, speck)), photo(), sparse).ids
    assert 3 in follow_edges(PanopticMap(speck), photo(), NOTHING).ids  # where nothing is given, nobody would have marked it


def test_scattered_labels_are_divided_where_the_photo_has_its_edge() -> None:
    given = np.where(np.random.default_rng(0).random((SIZE, SIZE)) < 0.3, halves(30), VOID)
    drawn = PanopticMap(np.where(given != VOID, given, halves(50)))
    assert (follow_edges(drawn, photo(30), given).ids == halves(30)).all()


def test_an_edge_is_where_one_sees_it() -> None:
    """In RGB the first step, 28, is twice the second, 14; one sees the second, and so does CIELAB (4 and 11)."""
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    picture[:, :20], picture[:, 20:40], picture[:, 40:] = (31, 97, 104), (3, 92, 103), (2, 78, 101)
    seeds = NOTHING.copy()
    seeds[:, 0], seeds[:, -1] = 7, 9
    assert np.array_equal(edges._filled(picture, seeds), halves(40))


@pytest.mark.parametrize("height, width", [(300, 300), (200, 500)])
def test_above_the_walkers_size_points_count_and_borders_are_sharp(height: int, width: int) -> None:
    assert height * width > edges.WALKER_PIXELS
    columns = np.arange(width)
    bands = np.broadcast_to(1 + (columns >= 101) + (columns >= 180), (height, width))
    drawn = np.broadcast_to(1 + (columns >= 105) + (columns >= 174), (height, width))
    given = np.zeros((height, width), dtype=int)
    for row, column in ((11, 41), (151, 141), (57, 241)):
        given[row, column] = bands[row, column]
    picture = np.array([[200, 40, 40], [40, 160, 40], [40, 40, 220]], dtype=np.uint8)[bands - 1]
    done = follow_edges(PanopticMap(drawn), picture, given)
    assert (done.ids != bands).mean() < 2 / width


def test_a_thin_segment_without_a_core_stays() -> None:
    drawn = halves(30)
    drawn[:, 44] = 4
    picture = photo(30)
    picture[:, 44] = 0
    assert (follow_edges(PanopticMap(drawn), picture, NOTHING).ids[:, 44] == 4).mean() > 0.9


def test_a_large_photo_is_worked_on_smaller() -> None:
    big = np.kron(photo(30), np.ones((25, 25, 1), dtype=np.uint8))  # 1600 px
    given = np.zeros((1600, 1600), dtype=int)
    given[3, 1500] = 9
    drawn = np.kron(halves(31), np.ones((25, 25), dtype=int))
    done = follow_edges(PanopticMap(drawn), big, given)
    assert done.shape == (1600, 1600)
    assert done.ids[3, 1500] == 9
    assert (done.ids != np.kron(halves(30), np.ones((25, 25), dtype=int))).mean() < 0.01


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=300)
def test_given_pixels_stay_and_no_id_is_invented(height: int, width: int, share: float, void: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0 if void else 1, 6, (height, width))
    given_ids = np.where(rng.random((height, width)) < share, truth, VOID)
    drawn = np.where(given_ids != VOID, given_ids, rng.integers(0 if void else 1, 9, (height, width)))
    done = follow_edges(PanopticMap(drawn), rng.integers(0, 256, (height, width, 3), dtype=np.uint8), given_ids)
    assert np.array_equal(done.ids[given_ids != VOID], given_ids[given_ids != VOID])
    assert set(np.unique(done.ids)) <= set(np.unique(drawn))
    assert np.array_equal(done.ids == VOID, drawn == VOID)


def test_distance_inside() -> None:
    assert distance_inside(halves(30))[0].tolist() == [*range(29, 0, -1), 0, 0, *range(1, 34)]
    assert np.isinf(distance_inside(np.ones((3, 4), dtype=int))).all()
