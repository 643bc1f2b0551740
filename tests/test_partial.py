from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg import VOID, PanopticMap
from ldmseg.data.partial import PartialKind, drop_blocks, make_partial, random_partial
from ldmseg.data.scenes import generate_ids
from ldmseg.errors import InputError
from ldmseg.models.known_cells import shrink_partial

KINDS = get_args(PartialKind)
FULL = PanopticMap(generate_ids(3, 64, segments=(5, 8)))


@given(st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
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
    elif kind != "boxes":
        assert everything == FULL


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


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
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
    with pytest.raises(InputError, match="drop_rate"):
        drop_blocks(FULL, -0.1, 16, rng)
