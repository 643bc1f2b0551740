from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ldmseg import VOID, PanopticMap
from ldmseg.errors import InputError
from ldmseg.formats.id_png import ids_to_rgb
from ldmseg.formats.label_png import write_label_png
from ldmseg.inference.known import CodedMap, KnownMap, complete, in_model_ids, known_maps, load_partials

SIZE = 16


def terms(ids: np.ndarray, certain: np.ndarray | None = None) -> tuple[KnownMap, CodedMap]:
    known = KnownMap.of(PanopticMap(ids), certain)
    return known, in_model_ids(known, SIZE, 32, "spatial")


def square(*boxes: tuple[int, slice, slice]) -> np.ndarray:
    ids = np.zeros((SIZE, SIZE), dtype=int)
    for value, rows, columns in boxes:
        ids[rows, columns] = value
    return ids


def test_drawn_codes_become_the_given_ids() -> None:
    known, coded = terms(square((700, slice(2, 4), slice(2, 4))))
    code = next(c for c, own in coded.given.items() if own == 700)
    other = 1 if code != 1 else 2
    drawn = np.full((SIZE, SIZE), other)
    drawn[:8] = code
    done = complete(PanopticMap(drawn), known, coded.given)
    assert (done.ids[:8] == 700).all()
    assert len(done) == 2
    assert 700 not in np.unique(done.ids[8:])


def test_a_new_segment_drawn_on_marks_takes_their_id() -> None:
    """A single marked pixel whose id was not drawn: the whole of the new segment under it is meant."""
    known, coded = terms(square((9, slice(3, 4), slice(3, 4))))
    spare = [c for c in range(1, 32) if c not in coded.given]
    drawn = np.full((SIZE, SIZE), spare[0])
    drawn[:8, :8] = spare[1]
    done = complete(PanopticMap(drawn), known, coded.given)
    assert (done.ids[:8, :8] == 9).all()
    assert (done.ids[8:] != 9).all()


def test_a_segment_with_several_marks_is_divided_by_the_nearest() -> None:
    known, coded = terms(square((5, slice(8, 9), slice(2, 3)), (6, slice(8, 9), slice(13, 14))))
    five = next(c for c, own in coded.given.items() if own == 5)
    done = complete(PanopticMap(np.full((SIZE, SIZE), five)), known, coded.given)  # 6 was not drawn
    assert (done.ids[:, :7] == 5).all()
    assert (done.ids[:, 9:] == 6).all()


def test_a_given_segment_that_was_drawn_takes_nothing_more() -> None:
    """Known pixels that were drawn a little wrong are put right and nothing around them is."""
    known, coded = terms(square((5, slice(0, 8), slice(0, SIZE)), (6, slice(8, 12), slice(0, SIZE))))
    five, six = (next(c for c, own in coded.given.items() if own == i) for i in (5, 6))
    drawn = np.full((SIZE, SIZE), five)
    drawn[10:12] = six
    done = complete(PanopticMap(drawn), known, coded.given)
    assert (done.ids[8:12] == 6).all()
    assert (done.ids[12:] == 5).all()


CASES = (st.integers(1, 40), st.integers(1, 40), st.integers(0, 20), st.floats(0, 1), st.booleans(), st.integers(0, 2**32 - 1))


@pytest.mark.slow
@given(*CASES)
@example(height=1, width=33, count=19, unknown=0.0, doubted=True, seed=320)  # more segments than pixels of the model's square
@settings(max_examples=200)
def test_given_pixels_and_ids_survive_whatever_was_drawn(
    height: int, width: int, count: int, unknown: float, doubted: bool, seed: int
) -> None:
    given_survives(height, width, count, unknown, doubted, seed)


@pytest.mark.slow
@given(*CASES)
@settings(max_examples=2000)
def test_given_pixels_and_ids_survive_in_many_more_cases(
    height: int, width: int, count: int, unknown: float, doubted: bool, seed: int
) -> None:
    given_survives(height, width, count, unknown, doubted, seed)


def given_survives(height: int, width: int, count: int, unknown: float, doubted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.choice(np.array([5, 17, 900, 70_000, 2**31 - 1, *range(100, 120)]), count, replace=False) if count else np.zeros(1, int)
    partial = PanopticMap(np.where(rng.random((height, width)) < unknown, VOID, rng.choice(names, (height, width))))
    certain = rng.random((height, width)) < 0.5 if doubted else None
    known = KnownMap.of(partial, certain)
    coded = in_model_ids(known, SIZE, 32, "spatial" if seed % 2 else "random")
    drawn = PanopticMap(rng.integers(1, 32, (height, width)))
    done = complete(drawn, known, coded.given)
    kept = (partial.ids != VOID) & (True if certain is None else certain)
    assert np.array_equal(done.ids[kept], partial.ids[kept])
    assert (done.ids > 0).all()
    new = {s.id for s in done.segments} - {s.id for s in partial.segments}
    assert len(new) <= len(drawn)
    if certain is None:
        assert {s.id for s in partial.segments} <= {s.id for s in done.segments}


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_what_is_certain_is_a_part_of_what_is_given(seed: int) -> None:
    rng = np.random.default_rng(seed)
    _, coded = terms(rng.integers(0, 9, (20, 33)), rng.random((20, 33)) < 0.3)
    certain = coded.certain_ids != VOID
    assert set(np.unique(coded.certain_ids[certain])) <= set(coded.given)
    assert coded.ids.shape == coded.certain_ids.shape == (SIZE, SIZE)


def test_more_segments_than_ids() -> None:
    with pytest.raises(InputError, match=r"partial: expected at most 31 segments \(the model's ids\), got 40"):
        terms(np.arange(1, 41).reshape(5, 8))


def test_a_partial_map_is_given_in_any_way_that_an_image_is(tmp_path: Path) -> None:
    ids = np.array([[0, 7], [300, 0]])
    pmap, colors = PanopticMap(ids), ids_to_rgb(ids)
    write_label_png(tmp_path / "x.png", pmap)
    ways = [
        pmap,
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        Image.fromarray(colors),
        ids,
        ids.astype(np.uint16),
        colors,
        torch.from_numpy(ids),
        torch.from_numpy(colors).movedim(-1, 0),
    ]
    for way in ways:
        assert load_partials(way) == [pmap], type(way)
    assert load_partials(ways) == [pmap] * len(ways)
    assert load_partials(np.stack([ids, ids])) == load_partials(torch.from_numpy(np.stack([ids, ids]))) == [pmap, pmap]
    assert load_partials(np.stack([colors, colors])) == [pmap, pmap]
    assert load_partials(ids > 0) == [PanopticMap((ids > 0).astype(int))]


@pytest.mark.parametrize(
    ("partial", "told"),
    [
        ("nowhere.png", "no such file"),
        ([[[0, 1], [1, 0]]], "a path an image, got list"),
        (np.zeros((4, 4)), "whole numbers .* got float64 of shape"),
        (np.zeros((4, 4, 2), np.uint8)[None, None], "whole numbers"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_partial_map(partial: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_partials(partial)  # type: ignore[arg-type]


def test_maps_are_counted_and_not_characters_or_rows(tmp_path: Path) -> None:
    images = [torch.zeros(3, 48, 64)] * 2
    write_label_png(tmp_path / "photo_of_the_cat.png", PanopticMap(np.ones((48, 64), int)))
    for one in (str(tmp_path / "photo_of_the_cat.png"), np.ones((48, 64), int)):
        with pytest.raises(InputError, match=r"expected one map per image \(2\), got 1 map$"):
            known_maps(load_partials(one), images)
