"""Drawn shapes -> pixels. One rule for all of them: a pixel belongs to a shape if its centre lies inside.

Coordinates are x to the right and y down, in pixels from the picture's upper left corner; the first pixel's centre is at (0.5, 0.5). What
lies outside of the picture is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import extent

AT_A_TIME = 2**22
"""Crossings of edges and rows that are held in memory at once."""

FURTHEST = 1e9
"""Pixels from the corner; coordinates beyond it are cut there, so that differences stay exact enough."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels of a picture: (h, w) `mask`, whose first pixel lies in row `top` and column `left`. It may be empty."""

    top: int
    left: int
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], top: int = 0, left: int = 0) -> Patch:
        """A mask without its empty margins."""
        box = extent(mask)
        if box is None:
            return cls(top, left, np.zeros((0, 0), dtype=bool))
        return cls(top + box[0].start, left + box[1].start, mask[box])

    def clipped(self, height: int, width: int) -> Patch:
        """The part that lies in a picture of this size."""
        h, w = self.mask.shape
        inside = self.mask[max(0, -self.top) : max(0, min(h, height - self.top)), max(0, -self.left) : max(0, min(w, width - self.left))]
        return Patch(max(0, self.top), max(0, self.left), inside)

    def full(self, height: int, width: int) -> NDArray[np.bool_]:
        """(height, width)."""
        mask = np.zeros((height, width), dtype=bool)
        self.within(mask)[...] = self.mask
        return mask

    def within(self, picture: NDArray) -> NDArray:
        """The part of an (H, W) array that the patch covers."""
        return picture[self.top : self.top + self.mask.shape[0], self.left : self.left + self.mask.shape[1]]


def union(patches: Sequence[Patch]) -> Patch:
    """All pixels of several patches."""
    found = [patch for patch in patches if patch.mask.size]
    if len(found) < 2:
        return found[0] if found else Patch(0, 0, np.zeros((0, 0), dtype=bool))
    top, left = min(p.top for p in found), min(p.left for p in found)
    bottom, right = max(p.top + p.mask.shape[0] for p in found), max(p.left + p.mask.shape[1] for p in found)
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for patch in found:
        Patch(patch.top - top, patch.left - left, patch.mask).within(mask)[...] |= patch.mask
    return Patch(top, left, mask)


def points_of(values: object, least: int, what: str) -> NDArray[np.float64]:
    """(P, 2) coordinates of a shape, given as pairs or as one list x, y, x, y ..

    Raises:
        InputError: they are none, or fewer than `least`.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 1 and array.size % 2 == 0:
            array = array.reshape(-1, 2)
        valid = array.ndim == 2 and array.shape[1] == 2 and len(array) >= least and bool(np.isfinite(array).all())
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(f"{what}: expected {least} or more points (x, y), got {quoted(values)}")
    return np.clip(array, -FURTHEST, FURTHEST)


# ---------------------------------------------------------------------------------------------------------------------- outlines
def polygon(ring: ArrayLike, height: int, width: int) -> Patch:
    """The inside of a closed ring of (P, 2) points, by the even-odd rule.

    Centres that lie on an edge belong to the side that is to its right (of level edges: below), so polygons that share an edge neither
    overlap nor leave a gap there.
    """
    a = np.asarray(ring, dtype=np.float64)
    b = np.roll(a, -1, axis=0)
    upper, lower = np.where((a[:, 1] <= b[:, 1])[:, None], a, b), np.where((a[:, 1] <= b[:, 1])[:, None], b, a)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)  # the rows whose centres an edge crosses: first up to end
    end = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    crossing = end > first
    if not crossing.any():
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    upper, lower, first, end = upper[crossing], lower[crossing], first[crossing], end[crossing]
    top, rows = int(first.min()), int(end.max() - first.min())
    left = int(np.clip(np.ceil(a[:, 0].min() - 0.5), 0, width))
    columns = int(np.clip(np.ceil(a[:, 0].max() - 0.5), 0, width)) - left
    if not columns:
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    flips = np.zeros(rows * (columns + 1), dtype=np.uint8)  # where inside and outside change; the last column takes what lies beyond
    bounds = np.append(0, (end - first).cumsum())
    start = 0
    while start < len(first):
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + AT_A_TIME, side="right")) - 1)
        part = slice(start, stop)
        flips ^= (_crossings(upper[part], lower[part], first[part], end[part], top, left, columns, rows) & 1).astype(np.uint8)
        start = stop
    return Patch(top, left, np.bitwise_xor.accumulate(flips.reshape(rows, columns + 1), axis=1)[:, :-1].astype(bool))


def _crossings(
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    top: int,
    left: int,
    columns: int,
    rows: int,
) -> NDArray[np.intp]:
    """(rows * (columns + 1),) how many edges have each pixel as the first to their right."""
    counts = end - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts) + first[edge]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    x = upper[edge, 0] + (row + 0.5 - upper[edge, 1]) * slope[edge]
    column = np.clip(np.ceil(x - 0.5) - left, 0, columns).astype(np.int64)
    return np.bincount((row - top) * (columns + 1) + column, minlength=rows * (columns + 1))


def rectangle(left: float, top: float, right: float, bottom: float, height: int, width: int) -> Patch:
    """An upright box."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)], height, width)


def turned(points: ArrayLike, centre: tuple[float, float], degrees: float) -> NDArray[np.float64]:
    """(P, 2) points turned clockwise (as it looks, y being down) about a centre."""
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (np.asarray(points, dtype=np.float64) - centre) @ matrix + centre


def ellipse(centre: tuple[float, float], radii: tuple[float, float], height: int, width: int, degrees: float = 0.0) -> Patch:
    """An ellipse with radii along x and y, turned clockwise."""
    reach = max(radii)
    y, x, top, left = _centres(centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach, height, width)
    angle = math.radians(degrees)
    along = (x - centre[0]) * math.cos(angle) + (y - centre[1]) * math.sin(angle)
    across = (y - centre[1]) * math.cos(angle) - (x - centre[0]) * math.sin(angle)
    small = 1e-9
    return Patch(top, left, (along / max(radii[0], small)) ** 2 + (across / max(radii[1], small)) ** 2 <= 1)


def stroke(points: ArrayLike, thickness: float, height: int, width: int) -> Patch:
    """What a round brush covers along (P, 2) points: centres that are at most half its thickness away. A single point is a disc."""
    line = np.asarray(points, dtype=np.float64)
    following = line[1:] if len(line) > 1 else line
    return union([_capsule(a, b, thickness / 2, height, width) for a, b in zip(line, following, strict=False)])


def _capsule(a: NDArray[np.float64], b: NDArray[np.float64], radius: float, height: int, width: int) -> Patch:
    low, high = np.minimum(a, b) - radius, np.maximum(a, b) + radius
    y, x, top, left = _centres(low[0], low[1], high[0], high[1], height, width)
    along = b - a
    length = float(along @ along)
    share = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / length, 0, 1) if length else 0.0
    return Patch(top, left, (x - a[0] - share * along[0]) ** 2 + (y - a[1] - share * along[1]) ** 2 <= radius**2)


def _centres(
    x0: float, y0: float, x1: float, y1: float, height: int, width: int
) -> tuple[NDArray[np.floating], NDArray[np.floating], int, int]:
    """(h, 1) y and (1, w) x of the pixel centres within limits, and the first row and column."""
    top, bottom = (int(np.clip(np.floor(v), 0, height)) for v in (y0, y1 + 1))
    left, right = (int(np.clip(np.floor(v), 0, width)) for v in (x0, x1 + 1))
    return np.arange(top, bottom)[:, None] + 0.5, np.arange(left, right)[None, :] + 0.5, top, left


# ------------------------------------------------------------------------------------------------------------------ pixels -> outlines
def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """(H, W) -> the borders of its pixels as rings of (P, 2) corners: clockwise around parts, the other way around holes.

    Pixels that touch at a corner alone are different parts. `polygon` of all rings of a part, or of `one_ring`, gives the same pixels back.
    """
    padded = np.pad(mask, 1)
    inside, above = padded[1:, 1:-1], padded[:-1, 1:-1]  # (H + 1, W): the pixels below and above each level border
    before, after = padded[1:-1, :-1], padded[1:-1, 1:]  # (H, W + 1): left and right of each upright one
    stride = mask.shape[1] + 1
    level = [*_sides(inside & ~above, stride, False), *_sides(above & ~inside, stride, True)]  # to the right, to the left
    upright = [*_sides((before & ~after).T, stride, False, True), *_sides((after & ~before).T, stride, True, True)]  # down, up
    start, stop = (np.concatenate(ends) for ends in (level[::2], level[1::2]))
    rightward = np.arange(len(start)) < len(level[0])
    next_start, next_stop = (np.concatenate(ends) for ends in (upright[::2], upright[1::2]))
    downward = np.arange(len(next_start)) < len(upright[0])
    # Where two parts touch at a corner, the border turns right, so that it stays with its part.
    turn = _matching(stop * 2 + rightward, next_start * 2 + downward)
    back = _matching(next_stop * 2 + ~downward, start * 2 + rightward)
    following = back[turn].tolist()
    corners = np.stack([start, next_start[turn]], axis=1) if len(start) else np.zeros((0, 2), dtype=np.int64)  # (S, 2) of level side
    seen = [False] * len(following)
    rings = []
    for first in range(len(following)):
        if seen[first]:
            continue
        sides, at = [], first
        while not seen[at]:
            seen[at] = True
            sides.append(at)
            at = following[at]
        found = corners[sides].ravel()
        rings.append(np.stack([found % stride, found // stride], axis=1))
    return rings


def _sides(border: NDArray[np.bool_], stride: int, reverse: bool, upright: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the lattice points (y * stride + x) where the straight runs of borders begin and end; a run per line of `border`."""
    edges = np.diff(np.pad(border, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    line, first = (edges == 1).nonzero()
    _, last = (edges == -1).nonzero()
    a, b = (first * stride + line, last * stride + line) if upright else (line * stride + first, line * stride + last)
    return (b, a) if reverse else (a, b)


def _matching(wanted: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """The position in `keys` (point * 2 + turn) of each wanted one, or of the other turn where there is none of it."""
    order = np.argsort(keys)
    ordered = keys[order]
    place = np.searchsorted(ordered, wanted).clip(max=max(0, len(keys) - 1))
    other = np.searchsorted(ordered, wanted ^ 1).clip(max=max(0, len(keys) - 1))
    return order[np.where(ordered[place] == wanted, place, other)]


def one_ring(rings: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Parts and holes as one ring, for formats that have no more: each is reached from the nearest corner and left the same way.

    The way there and back encloses nothing, so `polygon` gives the same pixels as for all rings.
    """
    longest, *others = sorted(rings, key=len, reverse=True) or [np.zeros((0, 2), dtype=np.int64)]
    detours: dict[int, list[NDArray[np.int64]]] = {}
    for ring in others:
        at = int(((longest - ring[0]) ** 2).sum(axis=1).argmin())
        nearest = int(((ring - longest[at]) ** 2).sum(axis=1).argmin())
        detours.setdefault(at, []).append(np.concatenate([ring[nearest:], ring[: nearest + 1], longest[at : at + 1]]))
    pieces, done = [], 0
    for at in sorted(detours):
        pieces += [longest[done : at + 1], *detours[at]]
        done = at + 1
    return np.concatenate([*pieces, longest[done:]])
