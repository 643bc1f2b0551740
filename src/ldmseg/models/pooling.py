"""How much of each cell of a feature grid a segment covers, which is what pooling by its mask needs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ldmseg.panoptic import PanopticMap, nearest_indices


def coverage(pmap: PanopticMap, grid: tuple[int, int]) -> Tensor:
    """The share of each grid cell's pixels that each segment holds.

    A pixel belongs to the cell that its centre lies in. Where the map is smaller than the grid, each cell has the pixel under its centre.

    Args:
        pmap: (H, W).
        grid: (h, w).

    Returns:
        (len(pmap), h, w) float32 in 0..1; the sum over the segments is 1 where nothing is void.
    """
    height, width = grid
    dense = pmap.dense  # (H, W)
    if dense.shape[0] < height or dense.shape[1] < width:
        rows, columns = (nearest_indices(length, max(length, cells)) for length, cells in zip(dense.shape, grid, strict=True))
        dense = dense[rows[:, None], columns[None, :]]
    cells = nearest_indices(height, dense.shape[0])[:, None] * width + nearest_indices(width, dense.shape[1])[None, :]  # (H, W)
    known = dense >= 0
    counts = np.bincount(dense[known] * (height * width) + cells[known], minlength=len(pmap) * height * width)
    pixels = np.bincount(cells.ravel(), minlength=height * width)
    return torch.from_numpy((counts.reshape(len(pmap), height * width) / pixels).astype(np.float32)).unflatten(1, grid)
