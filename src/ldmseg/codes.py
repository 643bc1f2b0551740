"""The input of the mask autoencoder: ids as small vectors (codes), and which id a segment gets (the policy).

Section 3.1 of the paper: N ids, written as log2 N bits in {-1, +1}; the alternatives it names are one-hot, colour and positional codes.
A void pixel is half way between the two values of a bit: 0 in every channel.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import Code, IdPolicy
from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import VOID, PanopticMap

logger = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------------------- ids <-> vectors
def code_channels(num_ids: int, code: Code = "bits") -> int:
    """Channels of a code: log2 N for bits, N for one-hot, 3 for colour, 2 log2 N for positional."""
    bits = _log2(num_ids)
    channels = {"bits": bits, "one-hot": num_ids, "color": 3, "positional": 2 * bits}
    if code not in channels:
        raise InputError(f"code: expected one of {', '.join(get_args(Code))}, got {quoted(code)}")
    return channels[code]


@lru_cache(maxsize=16)
def codebook(num_ids: int, code: Code = "bits") -> Tensor:
    """(N, C) float32, the vector of each id in -1..1; row 0 (void) is zero, half way between the values of every channel."""
    channels = code_channels(num_ids, code)
    ids = torch.arange(num_ids)
    if code == "bits":  # least significant first
        table = (ids[:, None] >> torch.arange(channels)[None, :] & 1).float() * 2 - 1
    elif code == "one-hot":
        table = torch.eye(num_ids) * 2 - 1
    elif code == "color":  # a lattice with an even number of levels a channel, so that no id lies on the grey of void
        levels = 2
        while levels**3 < num_ids:
            levels += 2
        table = torch.stack([ids % levels, ids // levels % levels, ids // levels**2], dim=1).float() / (levels - 1) * 2 - 1
    else:  # sine and cosine at frequencies that halve, as a transformer's position
        angle = ids[:, None].float() * (2 * torch.pi / (2.0 ** torch.arange(1, channels // 2 + 1)))[None, :]
        table = torch.cat([angle.sin(), angle.cos()], dim=1)
    table[VOID] = 0
    return table


def encode_ids(ids: Tensor, num_ids: int = 128, code: Code = "bits") -> Tensor:
    """Write ids as vectors (section 3.1).

    Args:
        ids: (B, H, W) integers in 0..N-1, 0 is void.

    Returns:
        (B, C, H, W) float32 in -1..1, 0 in every channel where void.

    Raises:
        InputError: an id is not below N.
    """
    if ids.numel() and (int(ids.max()) >= num_ids or int(ids.min()) < 0):
        raise InputError(f"ids: expected 0..{num_ids - 1} (num_ids is {num_ids}), got {int(ids.min())}..{int(ids.max())}")
    return codebook(num_ids, code).to(ids.device)[ids.long()].movedim(-1, 1)


def decode_ids(codes: Tensor, num_ids: int = 128, code: Code = "bits") -> Tensor:
    """The id whose vector is nearest: (B, C, H, W) -> (B, H, W) int64; the inverse of `encode_ids`."""
    table = codebook(num_ids, code).to(codes)
    if codes.ndim != 4 or codes.shape[1] != table.shape[1]:
        raise InputError(f"codes: expected (B, {table.shape[1]}, H, W), got {tuple(codes.shape)}")
    # |x - c|^2 is smallest where x.c - |c|^2 / 2 is largest
    score = torch.einsum("bchw,nc->bnhw", codes, table) - table.square().sum(1)[None, :, None, None] / 2
    return score.argmax(dim=1)


# ------------------------------------------------------------------------------------------------------------ which id a segment gets
def assign_ids(pmap: PanopticMap, num_ids: int, policy: IdPolicy, rng: np.random.Generator | None = None) -> dict[int, int]:
    """Give every segment of a map one of the ids 1..N-1.

    `random` (the paper) draws them without replacement and needs `rng`; `spatial` encodes the place of the segment's centre: the image is
    divided into N cells, and the largest segment chooses the nearest free cell first. Column and row are Gray-coded into the bits, so
    that neighbouring places have similar codes and the target becomes nearly a function of the image.

    Returns:
        segment id -> id in 1..N-1.

    Raises:
        InputError: more segments than N - 1 (`limit_segments` is the policy for training).
    """
    assigned = assign_dense(pmap.dense, len(pmap), num_ids, policy, rng)
    return {s.id: int(i) for s, i in zip(pmap.segments, assigned, strict=True)}


def assign_dense(
    dense: NDArray[np.integer], count: int, num_ids: int, policy: IdPolicy, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """`assign_ids` on bare arrays: (H, W) segment index (-1 is void) and the number of segments -> (count,) ids."""
    _check_count(count, num_ids)
    if policy == "random":
        if rng is None:
            raise InputError("rng: the random id policy needs a numpy Generator, got None")
        return rng.permutation(num_ids - 1)[:count] + 1
    if policy != "spatial":
        raise InputError(f"policy: expected one of {', '.join(get_args(IdPolicy))}, got {quoted(policy)}")
    return _nearest_free_cells(*_centres(dense, count), num_ids)


def assign_given(
    dense: NDArray[np.integer],
    count: int,
    given: NDArray[np.bool_],
    num_ids: int,
    policy: IdPolicy,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """`assign_dense` where a part of the map is known: a segment's place is that of its known pixels, and such segments choose first.

    Args:
        dense: (H, W) segment index, -1 is void.
        given: (H, W) the pixels that are known.
    """
    if policy == "random" or not given.any():
        return assign_dense(dense, count, num_ids, policy, rng)
    _check_count(count, num_ids)
    known_centres, known_areas = _centres(np.where(given, dense, -1), count)
    centres, areas = _centres(dense, count)
    known = known_areas > 0
    # known segments first, each group by area: an offset larger than any area keeps the groups apart
    return _nearest_free_cells(np.where(known[:, None], known_centres, centres), np.where(known, known_areas + dense.size, areas), num_ids)


def limit_segments(pmap: PanopticMap, num_ids: int) -> PanopticMap:
    """The policy for training images with more segments than N - 1: the largest are kept, the rest become void (logged once)."""
    if len(pmap) <= num_ids - 1:
        return pmap
    _warn_once(num_ids)
    return pmap.largest(num_ids - 1)


@lru_cache(maxsize=8)
def _warn_once(num_ids: int) -> None:
    logger.warning("an image has more than %d segments: its largest are kept, the rest are void in training (said once)", num_ids - 1)


def _centres(dense: NDArray[np.integer], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(count, 2) centre of gravity x, y in 0..1 and (count,) areas."""
    height, width = dense.shape
    flat = dense.ravel() + 1
    areas = np.bincount(flat, minlength=count + 1)[1:]
    rows = np.repeat(np.arange(height) + 0.5, width)
    columns = np.tile(np.arange(width) + 0.5, height)
    x = np.bincount(flat, weights=columns, minlength=count + 1)[1:] / np.maximum(areas, 1) / width
    y = np.bincount(flat, weights=rows, minlength=count + 1)[1:] / np.maximum(areas, 1) / height
    return np.stack([x, y], axis=1), areas


def _nearest_free_cells(centres: NDArray[np.float64], areas: NDArray[np.int64], num_ids: int) -> NDArray[np.int64]:
    places = cell_centres(num_ids)
    taken = np.zeros(num_ids, dtype=bool)
    taken[VOID] = True
    ids = np.zeros(len(areas), dtype=np.int64)
    for index in np.argsort(-areas, kind="stable"):
        distance = np.square(places - centres[index]).sum(axis=1)
        distance[taken] = np.inf
        ids[index] = distance.argmin()
        taken[ids[index]] = True
    return ids


@lru_cache(maxsize=8)
def cell_centres(num_ids: int) -> NDArray[np.float64]:
    """(N, 2) centre x, y in 0..1 of the cell that each id stands for; the low half of the bits is the column's Gray code."""
    bits = _log2(num_ids)
    column_bits = (bits + 1) // 2
    columns, rows = 1 << column_bits, 1 << (bits - column_bits)
    ids = np.arange(num_ids)
    column, row = _from_gray(ids & (columns - 1)), _from_gray(ids >> column_bits)
    return np.stack([(column + 0.5) / columns, (row + 0.5) / rows], axis=1)


def _from_gray(gray: NDArray[np.int64]) -> NDArray[np.int64]:
    value, shift = gray.copy(), gray >> 1
    while shift.any():
        value ^= shift
        shift >>= 1
    return value


def _check_count(count: int, num_ids: int) -> None:
    _log2(num_ids)
    if count > num_ids - 1:
        raise InputError(f"segments: expected at most {num_ids - 1} in one image (num_ids is {num_ids}), got {count}")


def _log2(num_ids: int) -> int:
    if num_ids < 2 or num_ids & (num_ids - 1):
        raise InputError(f"num_ids: expected a power of two, 2 or more, got {num_ids}")
    return num_ids.bit_length() - 1
