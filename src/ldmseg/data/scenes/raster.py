"""Fill many polygons at once: exact at pixel centres, even-odd, so that inner rings are holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(V, 2) x, y of a closed ring's corners; the image spans (0, 0) to (width_extent, height_extent), an area of 1."""

Rings = tuple[Points, ...]
"""One filled shape: an outline and the rings that are cut out of it."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A pixel grid over the unit-area image plane: H rows, W columns, extents `x` * `y` = 1."""

    height: int
    width: int

    @property
    def x(self) -> float:
        """Extent to the right: W / sqrt(H W)."""
        return (self.width / self.height) ** 0.5

    @property
    def y(self) -> float:
        """Extent downwards: H / sqrt(H W)."""
        return (self.height / self.width) ** 0.5

    @property
    def scale(self) -> float:
        """Pixels per unit of length."""
        return (self.width * self.height) ** 0.5

    def coarse(self, pixels: int) -> Canvas:
        """The same plane with about `pixels` ** 2 cells, whatever the resolution: decisions are made there."""
        return Canvas(max(8, round(pixels * self.y)), max(8, round(pixels * self.x)))


@dataclass(frozen=True, slots=True)
class Patch:
    """A shape's pixels: `mask` (h, w) bool at rows y0.., columns x0.. of the canvas; empty when out of view."""

    y0: int
    x0: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas."""
        height, width = self.mask.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)


def fill(shapes: Sequence[Rings], canvas: Canvas) -> list[Patch]:
    """Pixels of each shape, in its own bounding box clipped to the canvas.

    All shapes go through one scan conversion: every edge toggles the parity at each row it crosses, and a running sum over
    the boxes laid end to end gives the insides (each row of a box has an even number of crossings).
    """
    if not shapes:
        return []
    rings = [ring for shape in shapes for ring in shape]
    lengths = np.array([len(ring) for ring in rings])
    ring_starts = np.cumsum(lengths) - lengths
    per_shape = np.array([sum(len(ring) for ring in shape) for shape in shapes])
    shape_starts = np.cumsum(per_shape) - per_shape
    points = np.concatenate(rings) * canvas.scale - 0.5  # the centre of pixel i lies at i
    following = np.arange(1, len(points) + 1)
    following[ring_starts + lengths - 1] = ring_starts

    limit = np.array([canvas.width, canvas.height])
    low = np.minimum(np.maximum(np.ceil(np.minimum.reduceat(points, shape_starts)).astype(np.intp), 0), limit)
    high = np.minimum(np.maximum(np.floor(np.maximum.reduceat(points, shape_starts)).astype(np.intp) + 1, low), limit)
    sizes = high - low
    offsets = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])])

    owner = np.repeat(np.arange(len(shapes)), per_shape)
    x, y = points[:, 0], points[:, 1]
    x_end, y_end = x[following], y[following]
    top, bottom = low[owner, 1], high[owner, 1]
    row_start, row_end = np.ceil(y).astype(np.intp), np.ceil(y_end).astype(np.intp)
    first = np.minimum(np.maximum(np.minimum(row_start, row_end), top), bottom)
    counts = np.minimum(np.maximum(np.maximum(row_start, row_end), top), bottom) - first
    edge = np.repeat(np.arange(len(points)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    rise = np.where(y_end == y, 1.0, y_end - y)
    crossing = x[edge] + (row - y[edge]) * ((x_end - x) / rise)[edge]
    owner = owner[edge]
    left = low[owner, 0]
    column = np.minimum(np.maximum(np.ceil(crossing).astype(np.intp), left), high[owner, 0])
    cell = offsets[owner] + (row - low[owner, 1]) * sizes[owner, 0] + column - left
    inside = (np.cumsum(np.bincount(cell, minlength=int(offsets[-1]) + 1)) & 1).astype(np.bool_)

    patches = []
    for (x0, y0), (width, height), start in zip(low.tolist(), sizes.tolist(), offsets.tolist(), strict=False):
        patches.append(Patch(y0, x0, inside[start : start + width * height].reshape(height, width)))
    return patches
