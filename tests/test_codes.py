from __future__ import annotations

import logging
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldmseg.choices import Code, IdPolicy
from ldmseg.codes import assign_ids, cell_centres, code_channels, codebook, decode_ids, encode_ids, limit_segments
from ldmseg.errors import InputError
from ldmseg.panoptic import PanopticMap

CODES = get_args(Code)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("num_ids", [2, 4, 16, 128, 512])
def test_round_trip(code: Code, num_ids: int) -> None:
    ids = torch.arange(num_ids).reshape(1, 1, -1)
    codes = encode_ids(ids, num_ids, code)
    assert codes.shape == (1, code_channels(num_ids, code), 1, num_ids)
    assert codes.abs().max() <= 1
    assert (codes[..., 0] == 0).all()  # void is half way
    if not (num_ids == 2 and code == "positional"):
        assert torch.equal(decode_ids(codes, num_ids, code), ids)


def test_bits_least_significant_first() -> None:
    assert encode_ids(torch.tensor([[[6]]]), 8).flatten().tolist() == [-1, 1, 1]


@pytest.mark.parametrize("code", CODES)
def test_decoding_survives_noise(code: Code) -> None:
    ids = torch.randint(1, 16, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    codes = encode_ids(ids, 16, code)
    nearest = torch.cdist(codebook(16, code), codebook(16, code)).fill_diagonal_(9).min()
    noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(1))
    noise *= 0.49 * nearest / noise.norm(dim=1, keepdim=True)
    assert torch.equal(decode_ids(codes + noise, 16, code), ids)


@given(st.integers(0, 2**32 - 1), st.sampled_from(get_args(IdPolicy)), st.integers(1, 15))
@settings(max_examples=60)
def test_every_segment_gets_its_own_id(seed: int, policy: IdPolicy, count: int) -> None:
    rng = np.random.default_rng(seed)
    pmap = PanopticMap(rng.integers(0, count + 1, (9, 7)) * 1000)
    assigned = assign_ids(pmap, 16, policy, rng)
    assert set(assigned) == {s.id for s in pmap.segments}
    assert len(set(assigned.values())) == len(pmap)
    assert all(1 <= i <= 15 for i in assigned.values())
    assert pmap.relabel(assigned).relabel({v: k for k, v in assigned.items()}) == pmap


def test_spatial_id_says_where() -> None:
    ids = np.full((64, 64), 1)
    ids[48:60, 4:12] = 2
    assigned = assign_ids(PanopticMap(ids), 64, "spatial")
    x, y = cell_centres(64)[assigned[2]]
    assert abs(x - 8 / 64) <= 0.5 / 8
    assert abs(y - 54 / 64) <= 0.5 / 8


def test_neighbouring_cells_differ_in_one_bit() -> None:
    grid = {(round(x * 16 - 0.5), round(y * 8 - 0.5)): i for i, (x, y) in enumerate(cell_centres(128).tolist())}
    assert len(grid) == 128
    for (x, y), i in grid.items():
        for other in ((x + 1, y), (x, y + 1)):
            if other in grid:
                assert (i ^ grid[other]).bit_count() == 1


def test_a_flip_moves_the_cell() -> None:
    ids = np.zeros((32, 32), dtype=int)
    ids[5:9, 2:6] = 1
    x, y = cell_centres(64)[assign_ids(PanopticMap(ids), 64, "spatial")[1]]
    flipped = cell_centres(64)[assign_ids(PanopticMap(ids).flip(), 64, "spatial")[1]]
    assert np.allclose(flipped, [1 - x, y])


def test_too_many_segments(caplog: pytest.LogCaptureFixture) -> None:
    pmap = PanopticMap(np.arange(1, 21).reshape(4, 5).repeat(2, 0))
    with pytest.raises(InputError, match=r"at most 15.*got 20"):
        assign_ids(pmap, 16, "spatial")
    with caplog.at_level(logging.WARNING):
        kept = limit_segments(pmap, 16)
        limit_segments(pmap, 16)
    assert len(kept) == 15
    assert len(caplog.records) == 1


def test_bad_arguments_are_named() -> None:
    pmap = PanopticMap(np.ones((2, 2), dtype=int))
    with pytest.raises(InputError, match="num_ids: expected a power of two"):
        code_channels(100)
    with pytest.raises(InputError, match="code: expected one of"):
        code_channels(8, "morse")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="policy: expected one of"):
        assign_ids(pmap, 8, "alphabetical")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rng"):
        assign_ids(pmap, 8, "random")
    with pytest.raises(InputError, match="codes: expected"):
        decode_ids(torch.zeros(1, 2, 4, 4), 128)
