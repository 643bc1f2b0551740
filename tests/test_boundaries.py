from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ldmseg import VOID, PanopticMap
from ldmseg.data.datasets import SceneDataset
from ldmseg.inference.boundaries import WALKER_PIXELS, BoundarySettings, distance_inside, refine_boundaries, spread

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
        done = refine_boundaries(PanopticMap(halves(drawn_at)), photo(30), NOTHING)
        assert (np.abs(done.ids - halves(30)) > 0).mean() <= 1 / SIZE  # at most one column off


def test_near_a_given_label_the_label_decides() -> None:
    """The drawn border is far off; given pixels on both sides of the edge put it right."""
    given = NOTHING.copy()
    given[::2, 34:46:2] = 9
    given[::2, 2:28:2] = 7
    done = refine_boundaries(PanopticMap(np.where(given != VOID, given, halves(48))), photo(30), given)
    assert (done.ids[:, 34:46] == 9).mean() > 0.95


def test_a_new_segment_between_dense_labels_is_gone_and_a_hidden_one_stays() -> None:
    drawn, picture = halves(30), photo()
    drawn[20:30, 8:18], picture[20:30, 8:18] = 3, 90
    dense = NOTHING.copy()
    dense[::3, ::3] = halves(30)[::3, ::3]
    dense[20:30, 8:18] = VOID
    shown = np.where(dense != VOID, dense, drawn)
    assert 3 not in refine_boundaries(PanopticMap(shown), picture, dense).ids
    sparse = NOTHING.copy()
    sparse[:, 50] = 9
    done = refine_boundaries(PanopticMap(np.where(sparse != VOID, sparse, drawn)), picture, sparse)
    assert np.array_equal(done.ids, drawn)
    speck, picture = halves(30), photo()
    speck[20:27, 8:15], picture[20:27, 8:15] = 3, 90
    assert 3 not in refine_boundaries(PanopticMap(np.where(sparse != VOID, sparse, speck)), picture, sparse).ids
    assert 3 in refine_boundaries(PanopticMap(speck), picture, NOTHING).ids  # where nothing is given, nobody would have marked it


def test_scattered_labels_are_divided_where_the_photo_has_its_edge() -> None:
    given = np.where(np.random.default_rng(0).random((SIZE, SIZE)) < 0.3, halves(30), VOID)
    drawn = PanopticMap(np.where(given != VOID, given, halves(50)))
    assert (refine_boundaries(drawn, photo(30), given).ids == halves(30)).all()


def test_an_edge_is_where_one_sees_it() -> None:
    """In RGB the first step, 28, is twice the second, 14; one sees the second, and so does CIELAB (4 and 11)."""
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    picture[:, :20], picture[:, 20:40], picture[:, 40:] = (31, 97, 104), (3, 92, 103), (2, 78, 101)
    seeds = NOTHING.copy()
    seeds[:, 0], seeds[:, -1] = 7, 9
    assert np.array_equal(spread(PanopticMap(seeds), picture).ids, halves(40))


def test_a_large_photo_is_smoothed_where_nothing_is_given() -> None:
    """Two noisy halves at twice the model's size, drawn a cell off: without smoothing, noise holds the border where it is."""
    rng = np.random.default_rng(0)
    side, split = 256, 150
    picture = np.where(np.arange(side)[None, :, None] < split, 100, 150) + rng.normal(0, 30, (side, side, 3))
    noisy = picture.clip(0, 255).astype(np.uint8)
    truth, drawn = (np.where(np.arange(side) < at, 7, 9) + np.zeros((side, 1), dtype=int) for at in (split, split + 8))
    nothing = np.full_like(truth, VOID)
    plain, smoothed = BoundarySettings(smoothing=0.0, size=side), BoundarySettings()
    wrong = [(refine_boundaries(PanopticMap(drawn), noisy, nothing, settings=s).ids != truth).mean() for s in (plain, smoothed)]
    assert wrong[1] < 0.01 < 0.03 < wrong[0]


@pytest.mark.parametrize(("side", "given"), [(64, False), (160, True)])
def test_small_photos_and_labels_are_not_smoothed(side: int, given: bool) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    drawn = PanopticMap(np.where(np.arange(side) < side // 2, 7, 9) + np.zeros((side, 1), dtype=int))
    known = np.where(rng.random((side, side)) < 0.01 * given, drawn.ids, VOID)
    both = (BoundarySettings(), BoundarySettings(smoothing=0.0, size=1000))
    done = [refine_boundaries(drawn, picture, known, settings=settings).ids for settings in both]
    assert np.array_equal(*done)


@pytest.mark.parametrize("step", [3, SIZE // 5])
def test_among_dense_labels_the_walker_alone_decides(step: int) -> None:
    """However wrong the drawing is, completing is then never worse than the walker; where one pixel lies farther, the drawing counts."""
    scenes = SceneDataset(3, 210_000, size=SIZE)
    for index in range(3):
        truth = scenes.map(index)
        given = NOTHING.copy()
        given[::step, ::step] = truth.ids[::step, ::step]
        given[::step, -1], given[-1, ::step] = truth.ids[::step, -1], truth.ids[-1, ::step]
        assert ndimage.distance_transform_edt(given == VOID).max() < BoundarySettings().dense * SIZE
        wrong = np.where(given != VOID, given, np.roll(truth.ids, 20, axis=1) + 100)
        done = refine_boundaries(PanopticMap(wrong), scenes.image(index), given)
        assert np.array_equal(done.ids, spread(PanopticMap(given), scenes.image(index)).ids)


def test_without_trust_only_what_is_given_counts() -> None:
    given = NOTHING.copy()
    given[30, 5], given[30, 60] = 7, 9
    drawn = np.where(given != VOID, given, halves(50))
    drawn[:20, :20] = 3
    done = refine_boundaries(PanopticMap(drawn), photo(30), given, settings=BoundarySettings(trust=0))
    assert np.array_equal(done.ids, spread(PanopticMap(given), photo(30)).ids)
    assert np.array_equal(done.ids, halves(30))


@pytest.mark.parametrize("picture", [photo(), np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)])
def test_edge_cases_of_what_is_given_and_drawn(picture: np.ndarray) -> None:
    everything, single, void = PanopticMap(halves(30)), PanopticMap(np.full((SIZE, SIZE), 5)), PanopticMap(NOTHING)
    assert refine_boundaries(everything, picture, halves(30)) == everything
    assert refine_boundaries(single, picture, NOTHING) == single
    assert refine_boundaries(void, picture, NOTHING) == void
    assert spread(everything, picture) == everything
    assert spread(void, picture) == void
    flat = (picture == picture[0, 0]).all()
    done = refine_boundaries(PanopticMap(halves(32)), picture, NOTHING).ids
    assert np.array_equal(done, halves(32 if flat else 30))


def test_one_pixel() -> None:
    picture = np.zeros((1, 1, 3), dtype=np.uint8)
    one = PanopticMap(np.array([[4]]))
    assert refine_boundaries(one, picture, np.zeros((1, 1), dtype=int)) == one
    assert refine_boundaries(one, picture, one.ids) == one
    assert spread(one, picture) == one


@pytest.mark.slow
@pytest.mark.parametrize("height, width", [(300, 300), (200, 500)])
def test_above_the_walkers_size_points_count_and_borders_are_sharp(height: int, width: int) -> None:
    assert height * width > WALKER_PIXELS
    columns = np.arange(width)
    bands = np.broadcast_to(1 + (columns >= 101) + (columns >= 180), (height, width))
    drawn = np.broadcast_to(1 + (columns >= 105) + (columns >= 174), (height, width))
    given = np.zeros((height, width), dtype=int)
    for row, column in ((11, 41), (151, 141), (57, 241)):
        given[row, column] = bands[row, column]
    picture = np.array([[200, 40, 40], [40, 160, 40], [40, 40, 220]], dtype=np.uint8)[bands - 1]
    done = refine_boundaries(PanopticMap(drawn), picture, given)
    assert (done.ids != bands).mean() < 2 / width


def test_a_thin_segment_without_a_core_stays() -> None:
    drawn = halves(30)
    drawn[:, 44] = 4
    picture = photo(30)
    picture[:, 44] = 0
    assert (refine_boundaries(PanopticMap(drawn), picture, NOTHING).ids[:, 44] == 4).mean() > 0.9


@pytest.mark.slow
def test_a_large_photo_is_worked_on_smaller() -> None:
    big = np.kron(photo(30), np.ones((25, 25, 1), dtype=np.uint8))  # 1600 px
    given = np.zeros((1600, 1600), dtype=int)
    given[3, 1500] = 9
    drawn = np.kron(halves(31), np.ones((25, 25), dtype=int))
    done = refine_boundaries(PanopticMap(drawn), big, given)
    assert done.shape == (1600, 1600)
    assert done.ids[3, 1500] == 9
    assert (done.ids != np.kron(halves(30), np.ones((25, 25), dtype=int))).mean() < 0.01


BORDER_CASES = (st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.booleans(), st.integers(0, 2**32 - 1))


@pytest.mark.slow
@given(*BORDER_CASES)
@settings(max_examples=60)
def test_given_pixels_stay_and_no_id_is_invented(height: int, width: int, share: float, void: bool, seed: int) -> None:
    given_stays(height, width, share, void, seed)


@pytest.mark.slow
@given(*BORDER_CASES)
@settings(max_examples=300)
def test_given_pixels_stay_in_many_more_cases(height: int, width: int, share: float, void: bool, seed: int) -> None:
    given_stays(height, width, share, void, seed)


def given_stays(height: int, width: int, share: float, void: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0 if void else 1, 6, (height, width))
    given_ids = np.where(rng.random((height, width)) < share, truth, VOID)
    drawn = np.where(given_ids != VOID, given_ids, rng.integers(0 if void else 1, 9, (height, width)))
    done = refine_boundaries(PanopticMap(drawn), rng.integers(0, 256, (height, width, 3), dtype=np.uint8), given_ids)
    assert np.array_equal(done.ids[given_ids != VOID], given_ids[given_ids != VOID])
    assert set(np.unique(done.ids)) <= set(np.unique(drawn))
    assert np.array_equal(done.ids == VOID, drawn == VOID)


def test_distance_inside() -> None:
    assert distance_inside(halves(30))[0].tolist() == [*range(29, 0, -1), 0, 0, *range(1, 34)]
    assert np.isinf(distance_inside(np.ones((3, 4), dtype=int))).all()
