"""Borders of a completed map put where the photo has edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from ldmseg.panoptic import VOID, PanopticMap, nearest_indices

CORE = 1 / 32
"""Pixels at least this far inside a drawn segment are sure to be its own; in shares of the image's shorter side, as the others."""
NEAR = 1 / 32
"""Within this distance of a given pixel, what is given decides and not what was drawn."""
HIDDEN = 3 / 32
"""A new segment all of whose pixels are nearer to given ones than this would have been given a label."""
WORKING_SIZE = 768
"""Pixels of the longer side, above which the flood runs on a smaller picture."""


def follow_edges(pmap: PanopticMap, photo: NDArray[np.uint8], given: NDArray[np.integer]) -> PanopticMap:
    """Flood a drawn map anew over the photo's gradient (the watershed of Beucher and Meyer), from the pixels that are sure.

    Sure are the given pixels, and the cores of drawn segments away from them. Latent cells are coarse: near a given label, and along
    borders, the photo knows better. A segment without a core keeps its innermost pixels.

    Args:
        pmap: (H, W) the drawn map, given pixels included.
        photo: (H, W, 3) uint8.
        given: (H, W) ids that stay as they are, VOID elsewhere.

    Returns:
        (H, W) the map with the same ids at the given pixels; void stays void, and drawn segments without support of their own are gone.
    """
    height, width = pmap.shape
    scale = min(1.0, WORKING_SIZE / max(height, width))
    if scale < 1:
        rows, columns = (nearest_indices(n, max(1, round(n * scale))) for n in (height, width))
        small = np.ix_(rows, columns)
        ids = _flooded(np.array(pmap.ids[small]), photo[small], given[small])
        ids = ids[nearest_indices(len(rows), height)[:, None], nearest_indices(len(columns), width)]
    else:
        ids = _flooded(np.array(pmap.ids), photo, given)
    return pmap.with_ids(np.where(given != VOID, given, np.where(pmap.ids != VOID, ids, VOID)))


def _flooded(ids: NDArray[np.integer], photo: NDArray[np.uint8], given: NDArray[np.integer]) -> NDArray[np.integer]:
    known = given != VOID
    if known.all():
        return given
    unit = min(ids.shape)
    away = ndimage.distance_transform_edt(~known) if known.any() else np.full(ids.shape, np.inf)  # (H, W) pixels from a given one
    depth = distance_inside(ids)
    alive = ids != VOID
    if known.any():
        for new in np.setdiff1d(ids[alive], given):
            inside = ids == new
            alive &= ~inside | (away[inside].max() >= HIDDEN * unit)
    free = alive & (away > NEAR * unit)
    seeds = np.where(free & (depth >= CORE * unit), ids, given)
    for thin in np.setdiff1d(ids[free], seeds):
        inside = free & (ids == thin)
        seeds[inside & (depth >= depth[inside].max())] = thin
    return watershed(_gradient(photo), seeds) if (seeds != VOID).any() else ids


def distance_inside(ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """(H, W) pixels to the nearest pixel at a border between two ids; infinite where there is no border."""
    edge = np.zeros(ids.shape, dtype=bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return ndimage.distance_transform_edt(~edge) if edge.any() else np.full(ids.shape, np.inf)


def _gradient(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) length of the gradient, the strongest of the three channels at each pixel."""
    channels = [ndimage.gaussian_filter(photo[..., c].astype(np.float32), 0.7) for c in range(3)]
    return np.max([np.hypot(ndimage.sobel(c, 0), ndimage.sobel(c, 1)) for c in channels], axis=0)
