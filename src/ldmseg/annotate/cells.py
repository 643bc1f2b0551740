"""A map while it is edited: 16 bits a pixel, the id and whether the pixel is pinned; the browser holds the same array."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.panoptic import VOID, extent, nearest_indices

Cells = NDArray[np.uint16]
Scalar = TypeVar("Scalar", bound=np.generic)

PINNED = np.uint16(1 << 15)
"""The bit of a pinned pixel; the other 15 are the id."""
MAX_ID = (1 << 15) - 1
"""The largest id that a map has while it is edited."""


def ids_of(cells: Cells) -> Cells:
    """(H, W) ids."""
    return cells & np.uint16(MAX_ID)


def pins_of(cells: Cells) -> NDArray[np.bool_]:
    """(H, W) whether each pixel is pinned."""
    return cells >= PINNED


def packed(ids: NDArray[np.integer], pins: NDArray[np.bool_]) -> Cells:
    """(H, W) ids and pins in one; a void pixel is never pinned."""
    cells = ids.astype(np.uint16)
    cells[pins & (cells != VOID)] |= PINNED
    return cells


def checksum(cells: Cells) -> int:
    """CRC-32 of the little-endian bytes, row by row: what the browser computes of its own array."""
    return zlib.crc32(np.ascontiguousarray(cells, dtype="<u2").tobytes())


def present_ids(cells: Cells) -> list[int]:
    """The ids that occur, without void, in order."""
    return np.flatnonzero(np.bincount(ids_of(cells).ravel()))[_has_void(cells) :].tolist()


def _has_void(cells: Cells) -> int:
    return int(bool((ids_of(cells) == VOID).any()))


def mask_of_runs(gaps: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) the pixels that runs cover.

    Args:
        gaps: gap, length, gap, length, ..: pixels counted along the rows, each gap from the end of the run before it.

    Raises:
        InputError: an odd count, a negative number, or runs that go beyond the map.
    """
    if len(gaps) % 2:
        raise InputError(f"runs: expected pairs of gap and length, got {len(gaps)} numbers")
    try:
        values = np.array(gaps, dtype=np.int64).reshape(-1, 2)
    except (OverflowError, ValueError, TypeError) as error:
        raise InputError("runs: expected whole numbers") from error
    height, width = shape
    if values.size and (int(values.min()) < 0 or int(values.max()) > height * width):
        raise InputError(f"runs: expected numbers from 0 to {height * width}, got {int(values.min())} to {int(values.max())}")
    ends = np.cumsum(values.ravel())
    if values.size and int(ends[-1]) > height * width:
        raise InputError(f"runs: expected at most the {height * width} pixels of the map, got {int(ends[-1])}")
    steps = np.zeros(height * width + 1, dtype=np.int32)
    np.add.at(steps, ends[0::2], 1)
    np.add.at(steps, ends[1::2], -1)
    return np.cumsum(steps[:-1]).astype(bool).reshape(shape)


def runs_of_mask(mask: NDArray[np.bool_]) -> list[int]:
    """The inverse of `mask_of_runs`."""
    edges = np.flatnonzero(np.diff(mask.ravel().astype(np.int8), prepend=0, append=0))
    return [after - before for before, after in pairwise([0, *edges.tolist()])]


# ----------------------------------------------------------------------------------------------------------------------- differences
def encode_difference(before: Cells, after: Cells) -> bytes:
    """What leads from one array to the other, and back again: the box that holds every change, and both XORed in it, compressed."""
    changed = before ^ after
    box = extent(changed)
    if box is None:
        return b""
    head = np.array([end for side in box for end in (side.start, side.stop)], dtype="<u4").tobytes()  # top, bottom, left, right
    return head + zlib.compress(np.ascontiguousarray(changed[box], dtype="<u2").tobytes(), level=1)


def apply_difference(cells: Cells, difference: bytes) -> Cells:
    """The array on the other side of a difference.

    Raises:
        ValueError: it is no difference of an array of this size.
    """
    if not difference:
        return cells
    top, bottom, left, right = np.frombuffer(difference[:16], dtype="<u4").astype(int).tolist()
    if not (0 <= top < bottom <= cells.shape[0] and 0 <= left < right <= cells.shape[1]):
        raise ValueError("a difference beyond the map")
    size = 2 * (bottom - top) * (right - left)
    data = zlib.decompressobj().decompress(difference[16:], size + 1)
    if len(data) != size:
        raise ValueError("a difference of another size than it says")
    found = cells.copy()
    found[top:bottom, left:right] ^= np.frombuffer(data, dtype="<u2").reshape(bottom - top, right - left)
    return found


# ------------------------------------------------------------------------------------------------------------------------------ size
def upscaled(ids: NDArray[np.integer], shape: tuple[int, int]) -> NDArray[np.integer]:
    """(H, W) ids of a larger map with smooth borders: the four nearest pixels vote with their bilinear weights.

    Only pixels of the map can win, so that no id appears that is not there. At its own size the map is returned as it is.
    """
    if ids.shape == tuple(shape):
        return ids
    places = [_between(small, large) for small, large in zip(ids.shape, shape, strict=True)]
    (top, bottom, down), (left, right, across) = places
    nearest = ids[np.where(down < 0.5, top, bottom)[:, None], np.where(across < 0.5, left, right)]
    corners = [ids[a[:, None], b] for a in (top, bottom) for b in (left, right)]
    rows, columns = np.nonzero((corners[0] != corners[1]) | (corners[0] != corners[2]) | (corners[0] != corners[3]))
    votes = np.stack([corner[rows, columns] for corner in corners])  # (4, P)
    y, x = down[rows], across[columns]
    weights = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x])  # (4, P)
    support = np.stack([(weights * (votes == vote)).sum(axis=0) for vote in votes])
    nearest[rows, columns] = np.take_along_axis(votes, support.argmax(axis=0)[None], axis=0)[0]
    return nearest


def _between(small: int, large: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each pixel of the large side, the two pixels of the small one that it lies between, and how far it is from the first."""
    centre = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    first = np.minimum(centre.astype(np.intp), small - 1)
    return first, np.minimum(first + 1, small - 1), centre - first


def resized(ids: NDArray[Scalar], shape: tuple[int, int]) -> NDArray[Scalar]:
    """(h, w) ids, or a mask, at another size, nearest neighbour."""
    if ids.shape == tuple(shape):
        return ids
    rows, columns = (nearest_indices(large, small) for large, small in zip(ids.shape, shape, strict=True))
    return ids[rows[:, None], columns[None, :]]
