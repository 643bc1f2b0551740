from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg import VOID, PanopticMap
from ldmseg.choices import PartialKind
from ldmseg.data.partial import NoisyKind, drop_blocks, make_noisy, make_partial, random_partial
from ldmseg.data.scenes import generate_ids
from ldmseg.errors import InputError
from ldmseg.inference.cells import fill_cells, shrink_partial

KINDS = get_args(PartialKind)
FULL = PanopticMap(generate_ids(3, 64, segments=(5, 8)))


@given(st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_partial_map_only_leaves_out(kind: PartialKind, share: float, seed: int) -> None:
    partial = make_partial(FULL, kind, share, np.random.default_rng(seed))
    known = partial.ids != VOID
    assert np.array_equal(partial.ids[known], FULL.ids[known])
    assert {s.id for s in partial.segments} <= {s.id for s in FULL.segments}


@pytest.mark.parametrize("kind", KINDS)
def test_ends_of_the_range(kind: PartialKind) -> None:
    rng = np.random.default_rng(0)
    assert len(make_partial(FULL, kind, 0.0, rng)) == 0
    everything = make_partial(FULL, kind, 1.0, rng)
    if kind in ("points", "strokes"):
        assert len(everything) == len(FULL)
        assert 0 < (everything.ids != VOID).mean() < 0.7
    elif kind == "scanlines":  # a tenth of the points does not return
        assert 0.85 < (everything.ids != VOID).mean() < 0.95
    elif kind != "boxes":
        assert everything == FULL


def test_a_point_is_one_pixel_and_a_stroke_stays_in_its_segment() -> None:
    rng = np.random.default_rng(0)
    assert make_partial(FULL, "points", 1.0, rng).areas.tolist() == [1] * len(FULL)
    strokes = make_partial(FULL, "strokes", 1.0, rng)
    assert all(area > 1 for area in strokes.areas)


def test_scanlines_lie_in_few_rows() -> None:
    known = make_partial(FULL, "scanlines", 0.1, np.random.default_rng(0)).ids != VOID
    assert 5 <= known.any(axis=1).sum() <= 7  # of 64
    assert known[known.any(axis=1)].mean() > 0.7


@pytest.mark.parametrize("kind", get_args(NoisyKind))
def test_a_noisy_label_is_nearly_right(kind: NoisyKind) -> None:
    rng = np.random.default_rng(0)
    noisy = make_noisy(FULL, kind, 0.25 if kind == "merged" else 0.04, rng)
    assert {s.id for s in noisy.segments} <= {s.id for s in FULL.segments}
    assert 0.01 < (noisy.ids != FULL.ids).mean() < 0.5
    assert (len(noisy) < len(FULL)) == (kind == "merged")
    assert (noisy.ids == VOID).any() == (kind == "eroded")
    assert make_noisy(FULL, kind, 0.0, rng) == FULL


@pytest.mark.parametrize("kind", get_args(NoisyKind))
def test_noise_on_the_emptiest_maps(kind: NoisyKind) -> None:
    rng = np.random.default_rng(0)
    for ids in (np.zeros((5, 3), int), np.ones((1, 1), int), np.full((4, 7), 9)):
        assert make_noisy(PanopticMap(ids), kind, 0.5, rng).shape == ids.shape


@pytest.mark.parametrize("block", [1, 7, 16, 100])
def test_blocks_are_dropped_whole(block: int) -> None:
    partial = drop_blocks(FULL, 0.5, block, np.random.default_rng(1))
    for top in range(0, 64, block):
        for left in range(0, 64, block):
            known = partial.ids[top : top + block, left : left + block] != VOID
            assert known.all() or not known.any()


def test_drop_rate_is_met() -> None:
    assert (drop_blocks(FULL, 0.9, 2, np.random.default_rng(0)).ids == VOID).mean() == pytest.approx(0.9, abs=0.03)


def test_training_sees_every_kind_and_density() -> None:
    shares = [(random_partial(FULL, KINDS, np.random.default_rng(i)).ids != VOID).mean() for i in range(60)]
    assert min(shares) < 0.05
    assert max(shares) > 0.7


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from([2, 4, 8]))
@settings(max_examples=40)
def test_a_cell_is_filled_with_its_own_nearest_ids(seed: int, share: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 5, (16, 24)) * (rng.random((16, 24)) < share)
    filled = fill_cells(torch.from_numpy(ids)[None], size)[0].numpy()
    assert np.array_equal(filled[ids != VOID], ids[ids != VOID])
    for top in range(0, 16, size):
        for left in range(0, 24, size):
            cell, made = ids[top : top + size, left : left + size], filled[top : top + size, left : left + size]
            ys, xs = np.nonzero(cell)
            if len(ys) == 0:
                assert not made.any()
                continue
            for y, x in np.ndindex(size, size):
                distance = (ys - y) ** 2 + (xs - x) ** 2
                assert made[y, x] in cell[ys, xs][distance == distance.min()]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_shrinking_loses_no_segment(height: int, width: int, count: int, seed: int) -> None:
    """Even single pixels survive on the model's square, unless two of them fall on the same one."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height, width), dtype=int)
    places = rng.permutation(height * width)[:count]
    ids.ravel()[places] = np.arange(1, len(places) + 1) * 1000
    small = shrink_partial(PanopticMap(ids), 32)
    assert small.shape == (32, 32)
    assert set(np.unique(small)) <= set(np.unique(ids)) | {VOID}
    cells = {(y * 32 // height, x * 32 // width) for y, x in zip(*np.nonzero(ids), strict=True)}
    assert len(set(np.unique(small)) - {VOID}) >= len(cells) - (max(height, width) < 32) * count
    assert len(set(np.unique(small)) - {VOID}) >= 1


def test_bad_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"share: expected 0\.\.1, got 1\.5"):
        make_partial(FULL, "pixels", 1.5, rng)
    with pytest.raises(InputError, match="kind: expected one of"):
        make_partial(FULL, "lassos", 0.5, rng)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="block_size"):
        make_partial(FULL, "blocks", 0.5, rng, 0)
    with pytest.raises(InputError, match=r"amount: expected 0\.\.1, got 2"):
        make_noisy(FULL, "eroded", 2, rng)
    with pytest.raises(InputError, match="kind: expected one of shifted"):
        make_noisy(FULL, "wobbly", 0.1, rng)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="drop_rate"):
        drop_blocks(FULL, -0.1, 16, rng)
