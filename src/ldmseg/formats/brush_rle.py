"""Label Studio's run-length code of brush masks: runs of whole bytes, packed bit by bit (the format of thi.ng/rle-pack).

The code holds W x H x 4 bytes, an RGBA picture along the rows; the mask is its alpha channel. A header has the number of bytes (32 bits),
the bits of a word less one (5) and four sizes of counts less one (4 bits each). Blocks follow: one bit says whether a value is repeated,
two bits choose the size of the count, the count less one follows, then the value once, or as many values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError, quoted
from ldmseg.formats.image import MAX_MAP_PIXELS

WORD = 8
SIZES = (3, 4, 8, 16)
"""Bits of a count, as Label Studio itself chooses them."""

CHANNELS = 4
HEADER = 32 + 5 + 4 * len(SIZES)
LONGEST = 2 ** SIZES[-1]
"""Of a run in one block."""


def encode_brush(mask: ArrayLike) -> list[int]:
    """(H, W) bool or uint8 alpha -> the bytes of the code. Runs of pixels are repeats, each in as few bits as its length needs."""
    alpha = np.asarray(mask)
    alpha = np.where(alpha, np.uint8(255), np.uint8(0)) if alpha.dtype == bool else alpha.astype(np.uint8)
    flat = alpha.ravel()
    header = [(flat.size * CHANNELS, 32), (WORD - 1, 5), *((size - 1, 4) for size in SIZES)]
    values, widths = (np.array(column, dtype=np.int64) for column in zip(*header, strict=True))
    if flat.size:
        ends = np.append((flat[1:] != flat[:-1]).nonzero()[0] + 1, flat.size)
        lengths = np.diff(ends, prepend=0) * CHANNELS
        blocks = -(-lengths // LONGEST)
        counts = np.full(int(blocks.sum()), LONGEST)
        counts[blocks.cumsum() - 1] = lengths - (blocks - 1) * LONGEST
        repeated = np.repeat(flat[ends - 1], blocks).astype(np.int64)
        kind = np.searchsorted(2 ** np.array(SIZES), counts)
        size = np.array(SIZES)[kind]
        block = np.stack([4 + kind, counts - 1, repeated], axis=1)  # (B, 3): "repeat" and the size's number, the count, the value
        width = np.stack([np.full_like(size, 3), size, np.full_like(size, WORD)], axis=1)
        values, widths = np.append(values, block.ravel()), np.append(widths, width.ravel())
    return _packed(values, widths).tolist()


def _packed(values: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Numbers of so many bits, highest bit first, one after another."""
    ends = widths.cumsum()
    owner = np.repeat(np.arange(widths.size), widths)
    shift = ends[owner] - 1 - np.arange(int(ends[-1]))
    return np.packbits((values[owner] >> shift & 1).astype(np.uint8))


def decode_brush(rle: Sequence[int], height: int, width: int, what: str = "rle") -> NDArray[np.uint8]:
    """The code's bytes -> (H, W) alpha, 0 to 255.

    Raises:
        InputError: they are not the code of a picture of this size.
    """
    size = height * width * CHANNELS
    if not 0 < height * width <= MAX_MAP_PIXELS:
        raise InputError(f"{what}: expected a mask of 1 to {MAX_MAP_PIXELS:,} pixels, got {width} x {height}")
    try:
        data = np.asarray(rle)
        valid = data.ndim == 1 and data.dtype.kind in "iu" and data.size * 8 >= HEADER and data.min() >= 0 and data.max() <= 255
    except (ValueError, OverflowError):
        valid = False
    if not valid:
        raise InputError(f"{what}: expected the bytes of Label Studio's run lengths, got {quoted(rle)}")
    reader = _Bits(data.astype(np.uint8).tobytes())
    length, word = reader.take(32), reader.take(5) + 1
    sizes = [reader.take(4) + 1 for _ in range(4)]
    if length != size or word != WORD:
        raise InputError(f"{what}: expected {size} bytes ({width} x {height} pixels of four), got {length} words of {word} bits")
    picture = np.empty(size, dtype=np.uint8)
    done = 0
    while done < size:
        repeat = reader.take(1)
        count = reader.take(sizes[reader.take(2)]) + 1
        if done + count > size or reader.at + (WORD if repeat else WORD * count) > reader.end:
            raise InputError(f"{what}: expected {size} bytes ({width} x {height} pixels of four), but the code ends or goes on at {done}")
        picture[done : done + count] = reader.take(WORD) if repeat else reader.take_bytes(count)
        done += count
    return picture.reshape(height, width, CHANNELS)[..., 3]


class _Bits:
    """Reads numbers off a string of bits; behind its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at, self.end = data + bytes(8), 0, 8 * len(data)
        self._array = np.frombuffer(self._data, dtype=np.uint8)

    def take(self, bits: int) -> int:
        """At most 32 bits."""
        start = min(self.at >> 3, len(self._data) - 8)
        window = int.from_bytes(self._data[start : start + 5])
        found = window >> (40 - (self.at & 7) - bits) & ((1 << bits) - 1)
        self.at += bits
        return found

    def take_bytes(self, count: int) -> NDArray[np.uint8]:
        start, shift = self.at >> 3, self.at & 7
        window = self._array[start : start + count + 1].astype(np.uint16)
        self.at += 8 * count
        return ((window[:-1] << shift) | (window[1:] >> (8 - shift))).astype(np.uint8)
