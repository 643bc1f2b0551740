"""Where a map teaches: what void means differs from one data set to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ldmseg.config import Labelling
from ldmseg.panoptic import VOID, PanopticMap


def without_ground(pmap: PanopticMap, known: NDArray[np.bool_]) -> PanopticMap:
    """A figure-and-ground map without its ground (every stuff segment), unless a partial map shows some of it.

    Everything but the figure is one segment only where a partial map says so. Otherwise it is many segments without labels.

    Args:
        known: (H, W) what the partial map shows.
    """
    ground = [s.id for s in pmap.segments if not s.isthing and not known[pmap.ids == s.id].any()]
    return pmap.with_ids(np.where(np.isin(pmap.ids, ground), VOID, pmap.ids)) if ground else pmap


def taught_cells(ids: NDArray[np.integer], labelling: Labelling, downscale: int) -> NDArray[np.float32]:
    """(H, W) ids -> (h, w) 1 for each latent cell that takes part in the loss, else 0; sizes are rounded up.

    In a dense map these are the cells with a labelled pixel. Where void may be anything, these are the cells without a void pixel, so that
    the border of a segment towards unlabelled pixels is left out.
    """
    height, width = (-(-length // downscale) for length in ids.shape)
    padding = [(0, cells * downscale - length) for cells, length in zip((height, width), ids.shape, strict=True)]
    labelled = np.pad(ids != VOID, padding, mode="edge").reshape(height, downscale, width, downscale)
    taught: NDArray[np.bool_] = np.any(labelled, axis=(1, 3)) if labelling == "dense" else np.all(labelled, axis=(1, 3))
    return taught.astype(np.float32)


def area_weights(ids: NDArray[np.integer], cells: NDArray[np.float32], downscale: int, power: float) -> NDArray[np.float32]:
    """(h, w) the taught cells, each times its segments' area to the power of -`power`, so that small segments count for more.

    With 1/2 a segment's weight in the loss is the square root of its area in place of the area. The mean over the taught cells stays.

    Args:
        ids: (H, W), VOID where nothing is labelled.
        cells: (h, w) of `taught_cells`.
    """
    found, inverse, areas = np.unique(ids, return_inverse=True, return_counts=True)
    weights = np.where(found == VOID, 0.0, areas**-power)[inverse].reshape(ids.shape)
    padding = [(0, count * downscale - length) for count, length in zip(cells.shape, ids.shape, strict=True)]
    shape = (cells.shape[0], downscale, cells.shape[1], downscale)
    totals, labelled = (
        np.pad(x, padding, mode="edge").reshape(shape).sum(axis=(1, 3)) for x in (weights, (ids != VOID).astype(np.float64))
    )
    weighted = cells * totals / np.maximum(labelled, 1)
    return (weighted * (cells.sum() / weighted.sum())).astype(np.float32) if weighted.any() else cells
