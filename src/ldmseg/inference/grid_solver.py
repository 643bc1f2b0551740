"""Linear systems on the pixels of an image, solved exactly by nested dissection (George 1973) in batches of dense blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

LEAF_SIDES = (2, 3, 4)
"""Pixels of a leaf block's side. More than 4 cost more in dense arithmetic than they spare in levels."""

ABOVE, BELOW, LEFT, RIGHT = range(4)


@dataclass(frozen=True)
class _Tiling:
    """The image as rows x columns blocks of h x w pixels, with lines one pixel wide between them.

    A block's rim is the lines around it: w pixels above and below, h on the left and right, in this order. Sides that lie outside the
    image for all blocks are left out.
    """

    rows: int
    columns: int
    h: int
    w: int

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """Pixels of each side of the rim."""
        across, down = self.w * (self.rows > 1), self.h * (self.columns > 1)
        return across, across, down, down

    def starts(self, first: int) -> list[int]:
        """Where each side of the rim begins, if the rim begins at `first`."""
        return list(accumulate(self.sides[:-1], initial=first))

    @property
    def by_rows(self) -> bool:
        """Whether the next level joins blocks that stand above each other, or beside each other."""
        return self.columns == 1 or (self.rows > 1 and self.h <= self.w)

    @property
    def parts(self) -> int:
        """How many blocks make one of the next level."""
        return 3 if (self.rows if self.by_rows else self.columns) % 3 == 0 else 2

    def joined(self) -> _Tiling:
        """The next level."""
        if self.by_rows:
            return _Tiling(self.rows // self.parts, self.columns, self.parts * (self.h + 1) - 1, self.w)
        return _Tiling(self.rows, self.columns // self.parts, self.h, self.parts * (self.w + 1) - 1)

    def numbers(self, grid: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        """(n, height width) pixel numbers of the rectangle that begins at (top, left) of each block; `grid` has a margin of one pixel."""
        rows = torch.arange(self.rows)[:, None] * (self.h + 1) + 1 + top + torch.arange(height)
        columns = torch.arange(self.columns)[:, None] * (self.w + 1) + 1 + left + torch.arange(width)
        return grid[rows[:, None, :, None], columns[None, :, None, :]].reshape(self.rows * self.columns, -1)

    def rim(self, grid: Tensor) -> Tensor:
        """(n, t) pixel numbers of each block's rim."""
        above, below, left, right = self.sides
        across = [self.numbers(grid, top, 0, 1, width) for top, width in ((-1, above), (self.h, below))]
        return torch.cat(across + [self.numbers(grid, 0, start, height, 1) for start, height in ((-1, left), (self.w, right))], 1)


@dataclass(frozen=True)
class _Entries:
    """The matrix, by the number of a pixel of the padded image; one number more stands for all that lies outside.

    Attributes:
        grid: (H' + 2, W' + 2) the pixels' numbers with a margin of the number outside.
        diagonal, right, down: (H' W' + 1,).
    """

    grid: Tensor
    diagonal: Tensor
    right: Tensor
    down: Tensor


@dataclass(frozen=True)
class _Fronts:
    """The entries of n blocks, before their own pixels are eliminated.

    Attributes:
        own: (n, s) numbers of the pixels that go next.
        rim: (n, t) numbers of those that are left to later levels.
        inner: (n, s, s) entries between own pixels.
        between: (n, s, t) entries between own pixels and rim.
        outer: (n, t, t) what has been added to the entries of the rim.
    """

    own: Tensor
    rim: Tensor
    inner: Tensor
    between: Tensor
    outer: Tensor

    def add(self, entries: Tensor, places: list[tuple[int, int, int]]) -> None:
        """Add (n, u, u) `entries`; `places` says which of them belong where: from, to, length, where the rim follows the own pixels."""
        s = self.own.shape[1]
        for row, to_row, height in places:
            for column, to_column, width in places:
                if to_row < s:
                    target = self.inner if to_column < s else self.between
                elif to_column < s:
                    continue  # the same as of own pixels and rim
                else:
                    target = self.outer
                top, left = to_row - s * (to_row >= s), to_column - s * (to_column >= s)
                target[:, top : top + height, left : left + width] += entries[:, row : row + height, column : column + width]

    def couple_own(self, some: Tensor, others: Tensor, coupling: Tensor) -> None:
        self.inner[:, some, others] -= coupling
        self.inner[:, others, some] -= coupling


@dataclass(frozen=True)
class _Level:
    """The factors of n blocks, each with s pixels of its own and a rim of t pixels.

    Attributes:
        own: (n, s) numbers of the pixels that this level eliminates.
        rim: (n, t) numbers of those that it leaves to later levels.
        lower: (n, s, s) Cholesky factor of the own pixels.
        across: (n, s, t) `lower`^-1 times the entries between own pixels and rim.
    """

    own: Tensor
    rim: Tensor
    lower: Tensor
    across: Tensor


class GridSystem:
    """A symmetric positive definite system A x = b whose unknowns are the pixels of an image, coupled to their four neighbours.

    Lines one pixel wide divide the image into blocks, these into smaller ones, and so on. All blocks of a level have one size (the image is
    padded with pixels that are coupled to nothing), so that a level is a few dense operations on a batch. No entry off the diagonal is
    positive, so that nothing cancels in the substitutions and single precision is enough for them. Time grows with the pixels to the 3/2.

    Args:
        diagonal: (H, W) float64.
        right: (H, W - 1) float64, 0 or more: minus the entry of each pixel and its right neighbour.
        down: (H - 1, W) the same of each pixel and the one below it.
    """

    def __init__(self, diagonal: Tensor, right: Tensor, down: Tensor) -> None:
        (height, rows), (width, columns) = (_padded(n) for n in diagonal.shape)
        bottom, side = height - diagonal.shape[0], width - diagonal.shape[1]
        grid = F.pad(torch.arange(height * width).view(height, width), (1, 1, 1, 1), value=height * width)
        padded = (
            F.pad(diagonal, (0, side, 0, bottom), value=1.0),
            F.pad(right, (0, side + 1, 0, bottom)),
            F.pad(down, (0, side, 0, bottom + 1)),
        )
        entries = _Entries(grid, *(F.pad(p.flatten(), (0, 1)) for p in padded))
        self._size = (height, width)
        self._levels = list(_factorised(_Tiling(rows, columns, (height + 1) // rows - 1, (width + 1) // columns - 1), entries))

    @torch.autocast("cpu", enabled=False)
    def solve(self, b: Tensor) -> Tensor:
        """(H, W, K) right-hand sides, 0 or more -> (H, W, K) float32 solutions, also where the networks run in less."""
        height, width = self._size
        x = torch.zeros(height * width + 1, b.shape[-1])  # the last row lies outside
        whole = x[:-1].view(height, width, -1)
        whole[: b.shape[0], : b.shape[1]] = b
        for level in self._levels:
            y = torch.linalg.solve_triangular(level.lower, x[level.own], upper=False)  # (n, s, K)
            x[level.own] = y
            x.index_add_(0, level.rim.flatten(), (level.across.mT @ y).flatten(0, 1), alpha=-1)
        x[-1] = 0
        for level in reversed(self._levels):
            y = torch.baddbmm(x[level.own], level.across, x[level.rim], alpha=-1)
            x[level.own] = torch.linalg.solve_triangular(level.lower.mT, y, upper=True)
        return whole[: b.shape[0], : b.shape[1]]


def _padded(length: int) -> tuple[int, int]:
    """The least length of the form blocks * (side + 1) - 1 that is not below this one, and its blocks, a product of threes and twos."""
    options = []
    for side in LEAF_SIDES:
        for threes in (1, 3, 9, 27):
            blocks = threes * 2 ** max(0, math.ceil(math.log2((length + 1) / (threes * (side + 1)))))
            options.append((blocks * (side + 1) - 1, blocks))
    return min(options)


def _factorised(tiling: _Tiling, entries: _Entries) -> Iterator[_Level]:
    """The levels from the leaves to the whole image."""
    level, schur = _eliminated(_leaves(tiling, entries))
    yield level
    while tiling.rows * tiling.columns > 1:
        level, schur = _eliminated(_joined(tiling, schur, entries))
        tiling = tiling.joined()
        yield level


def _eliminated(fronts: _Fronts) -> tuple[_Level, Tensor]:
    """The factors, and (n, t, t) what is left of the rim's entries (the Schur complement)."""
    lower = torch.linalg.cholesky(fronts.inner)
    across = torch.linalg.solve_triangular(lower, fronts.between, upper=False)
    return _Level(fronts.own, fronts.rim, lower.float(), across.float()), torch.baddbmm(fronts.outer, across.mT, across, alpha=-1)


def _empty(own: Tensor, rim: Tensor) -> _Fronts:
    (n, s), t = own.shape, rim.shape[1]
    return _Fronts(own, rim, *(torch.zeros(n, rows, columns, dtype=torch.float64) for rows, columns in ((s, s), (s, t), (t, t))))


def _leaves(tiling: _Tiling, entries: _Entries) -> _Fronts:
    """The smallest blocks."""
    h, w = tiling.h, tiling.w
    fronts = _empty(tiling.numbers(entries.grid, 0, 0, h, w), tiling.rim(entries.grid))
    own, rim, place = fronts.own, fronts.rim, torch.arange(h * w).view(h, w)
    fronts.inner.diagonal(dim1=1, dim2=2)[:] = entries.diagonal[own]
    fronts.couple_own(place[:, :-1].flatten(), place[:, 1:].flatten(), entries.right[own[:, place[:, :-1].flatten()]])
    fronts.couple_own(place[:-1].flatten(), place[1:].flatten(), entries.down[own[:, place[:-1].flatten()]])
    edges = (place[0], place[-1], place[:, 0], place[:, -1])
    for side, (start, length) in enumerate(zip(tiling.starts(0), tiling.sides, strict=True)):
        if length:
            outside = torch.arange(start, start + length)
            coupling = entries.down if side in (ABOVE, BELOW) else entries.right
            nearer = rim[:, outside] if side in (ABOVE, LEFT) else own[:, edges[side]]  # whose right or lower neighbour the other one is
            fronts.between[:, edges[side], outside] -= coupling[nearer]
    return fronts


def _joined(tiling: _Tiling, schur: Tensor, entries: _Entries) -> _Fronts:
    """The next level, whose own pixels are the lines between the blocks that it joins."""
    joined, parts = tiling.joined(), tiling.parts
    step, length = (tiling.h + 1, tiling.w) if tiling.by_rows else (tiling.w + 1, tiling.h)
    ends, coupling = ((LEFT, RIGHT), entries.right) if tiling.by_rows else ((ABOVE, BELOW), entries.down)
    lines = []
    for at in range(step - 1, parts * step - 1, step):
        lines.append(joined.numbers(entries.grid, *((at, 0, 1, length) if tiling.by_rows else (0, at, length, 1))))
    fronts = _empty(torch.cat(lines, 1), joined.rim(entries.grid))
    grouped = (joined.rows, parts, joined.columns) if tiling.by_rows else (joined.rows, joined.columns, parts)
    for part, block in enumerate(schur.view(*grouped, *schur.shape[1:]).unbind(1 if tiling.by_rows else 2)):
        fronts.add(block.flatten(0, 1), _places(tiling, part))
    own, rim = fronts.own, fronts.rim
    fronts.inner.diagonal(dim1=1, dim2=2).add_(entries.diagonal[own])
    first, last = (joined.starts(0)[end] for end in ends)
    for i, line in enumerate(torch.arange(own.shape[1]).split(length)):
        fronts.couple_own(line[:-1], line[1:], coupling[own[:, line[:-1]]])
        if joined.sides[ends[0]]:
            at = (i + 1) * step - 1
            fronts.between[:, i * length, first + at] -= coupling[rim[:, first + at]]
            fronts.between[:, (i + 1) * length - 1, last + at] -= coupling[own[:, (i + 1) * length - 1]]
    return fronts


def _places(tiling: _Tiling, part: int) -> list[tuple[int, int, int]]:
    """Where the sides of a part's rim lie among the pixels of the block that it is joined into: from, to and length of each."""
    joined, last = tiling.joined(), tiling.parts - 1
    step, length = (tiling.h + 1, tiling.w) if tiling.by_rows else (tiling.w + 1, tiling.h)
    before, after = (ABOVE, BELOW) if tiling.by_rows else (LEFT, RIGHT)
    places = []
    for side, (start, to) in enumerate(zip(tiling.starts(0), joined.starts(last * length), strict=True)):
        outermost = (side == before and part == 0) or (side == after and part == last)
        if outermost and not joined.sides[side]:
            continue
        if side in (before, after):
            to = to if outermost else (part - (side == before)) * length
        else:
            to += part * step
        places.append((start, to, tiling.sides[side]))
    return [place for place in places if place[2]]
