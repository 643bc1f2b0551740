"""Masks as run lengths, as COCO and CVAT write them: counts of pixels that alternate between background and foreground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError, quoted

LONGEST_COUNT = 13
"""Characters of a compressed count: five bits each, 64 bits in all."""


def runs_of(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) -> the lengths of its runs, that of the background first: 0 where the first pixel is foreground."""
    if not flat.size:
        return np.zeros(0, dtype=np.int64)
    ends = np.append((flat[1:] != flat[:-1]).nonzero()[0] + 1, flat.size)
    lengths = np.diff(ends, prepend=0)
    return np.append(0, lengths) if flat[0] else lengths


def from_runs(counts: ArrayLike, size: int, what: str = "counts") -> NDArray[np.bool_]:
    """Lengths of runs -> (size,), the inverse of `runs_of`.

    Raises:
        InputError: the counts are no whole numbers from 0 up whose sum is `size`.
    """
    try:
        lengths = np.asarray(counts)
        valid = lengths.ndim == 1 and (lengths.dtype.kind in "iu" or not lengths.size)
    except ValueError:  # lists of different lengths
        valid = False
    if not valid or (lengths.size and (lengths.min() < 0 or lengths.max() > size)):
        raise InputError(f"{what}: expected run lengths from 0 to {size}, got {quoted(counts)}")
    total = int(lengths.sum())
    if total != size:
        raise InputError(f"{what}: expected run lengths of {size} pixels in all, got {total}")
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths.astype(np.int64))


# ------------------------------------------------------------------------------------------------------------------------ COCO
def coco_counts(mask: NDArray[np.bool_]) -> str:
    """(H, W) -> COCO's compressed counts, down the columns."""
    return compressed(runs_of(mask.T.ravel()))


def coco_mask(counts: str | Sequence[int], height: int, width: int, what: str = "counts") -> NDArray[np.bool_]:
    """COCO's counts, compressed (text) or not (a list) -> (H, W).

    Raises:
        InputError: they are not those of a mask of this size.
    """
    lengths = decompressed(counts, what) if isinstance(counts, str) else counts
    return np.ascontiguousarray(from_runs(lengths, height * width, what).reshape(width, height).T)


def compressed(counts: ArrayLike) -> str:
    """Run lengths as COCO's text: from the fourth on the difference to the one before the last; five bits a character, low ones first."""
    lengths = np.asarray(counts, dtype=np.int64)
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    text = bytearray()
    for value in values.tolist():
        more = True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text.append(48 + (digit | 32 if more else digit))
    return text.decode("ascii")


def decompressed(text: str, what: str = "counts") -> NDArray[np.int64]:
    """The inverse of `compressed`.

    Raises:
        InputError: the text is not COCO's.
    """
    digits = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    ends = ((digits & 32) == 0).nonzero()[0]
    sizes = np.diff(ends, prepend=-1)
    complete = ends.size and ends[-1] == digits.size - 1
    if digits.size and (digits.min() < 0 or digits.max() > 63 or not complete or sizes.max() > LONGEST_COUNT):
        raise InputError(f"{what}: expected COCO's compressed run lengths, got {quoted(text)}")
    starts = ends - sizes + 1
    shifts = 5 * (np.arange(digits.size) - np.repeat(starts, sizes))
    values = np.add.reduceat((digits & 31) << shifts, starts) if ends.size else np.zeros(0, dtype=np.int64)
    negative = (digits[ends] & 16) != 0
    values[negative] -= np.left_shift(1, np.minimum(5 * sizes[negative], 62))
    for odd in (slice(1, None, 2), slice(2, None, 2)):  # each of a kind is the sum of the differences up to it
        values[odd] = values[odd].cumsum()
    return values


# ------------------------------------------------------------------------------------------------------------------------ CVAT
def cvat_runs(mask: NDArray[np.bool_]) -> list[int]:
    """(h, w) of a mask's box -> CVAT's run lengths, along the rows."""
    return runs_of(mask.ravel()).tolist()


def cvat_mask(counts: Sequence[int], height: int, width: int, what: str = "rle") -> NDArray[np.bool_]:
    """The inverse of `cvat_runs`.

    Raises:
        InputError: the counts are not those of a mask of this size.
    """
    return from_runs(counts, height * width, what).reshape(height, width)
