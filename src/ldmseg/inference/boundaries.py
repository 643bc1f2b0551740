"""Borders of a completed map put where the photo has edges."""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import random_walker, watershed

from ldmseg.panoptic import VOID, PanopticMap, nearest_indices

CORE = 1 / 32
"""Pixels at least this far inside a drawn segment are sure to be its own; in shares of the image's shorter side, as the others."""
CORE_BESIDE_LABELS = 1 / 16
"""The same where a part of the map is given: what is given lessens the need of drawn cores."""
NEAR = 1 / 32
"""Within this distance of a given pixel, what is given decides and not what was drawn."""
HIDDEN = 1 / 3
"""A new segment all of whose pixels are nearer to given ones than this would have been given a label."""
SMALL = 1 / 64
"""A new segment beside given ones that covers less than this share of the square of the shorter side is a speck."""
CONTRAST = 25
"""How much a step in colour hinders the walker (`beta` of scikit-image, of CIELAB values)."""
WALKER_PIXELS = 2**16
"""A larger photo is walked over at this many pixels, since the walker's linear system grows, and flooded near borders at its own size."""
WORKING_SIZE = 768
"""Pixels of the longer side, above which the flood runs on a smaller picture."""


def follow_edges(pmap: PanopticMap, photo: NDArray[np.uint8], given: NDArray[np.integer], side: int | None = None) -> PanopticMap:
    """Divide a drawn map anew by the photo's edges, from the pixels that are sure.

    Sure are the given pixels, and the cores of drawn segments away from them. Latent cells are coarse: near a given label, and along
    borders, the photo knows better. A segment without a core keeps its innermost pixels. Every other pixel goes to whose sure pixels a
    random walker most probably meets first, who shuns steps between colours that look different (Grady 2006, in CIELAB). On a large photo
    the walker decides on a smaller picture, and along the borders that he finds the rest is flooded over the gradient (the watershed of
    Beucher and Meyer). The constants were chosen on generated scenes of neither the training nor the validation set.

    Args:
        pmap: (H, W) the drawn map, given pixels included.
        photo: (H, W, 3) uint8.
        given: (H, W) ids that stay as they are, VOID elsewhere.
        side: pixels of the square that the model saw at once, where that is less than the photo's shorter side.

    Returns:
        (H, W) the map with the same ids at the given pixels; void stays void, and drawn segments without support of their own are gone.
    """
    height, width = pmap.shape
    side = min(height, width) if side is None else min(side, height, width)
    scale = min(1.0, WORKING_SIZE * min(height, width) / (max(height, width) * side))
    if scale < 1:
        rows, columns = (nearest_indices(n, max(1, round(n * scale))) for n in (height, width))
        small = np.ix_(rows, columns)
        ids = _divided(np.array(pmap.ids[small]), photo[small], given[small], side * scale)
        ids = ids[nearest_indices(len(rows), height)[:, None], nearest_indices(len(columns), width)]
    else:
        ids = _divided(np.array(pmap.ids), photo, given, side)
    return pmap.with_ids(np.where(given != VOID, given, np.where(pmap.ids != VOID, ids, VOID)))


def _divided(ids: NDArray[np.integer], photo: NDArray[np.uint8], given: NDArray[np.integer], unit: float) -> NDArray[np.integer]:
    known = given != VOID
    if known.all():
        return given
    away = ndimage.distance_transform_edt(~known) if known.any() else np.full(ids.shape, np.inf)  # (H, W) pixels from a given one
    seeds = _seeds(ids, given, away, unit)
    sure = seeds != VOID
    if sure.all() or not sure.any():
        return seeds if sure.all() else ids
    return _filled(photo, seeds)


def _seeds(ids: NDArray[np.integer], given: NDArray[np.integer], away: NDArray[np.float64], unit: float) -> NDArray[np.integer]:
    """(H, W) ids of the sure pixels, VOID elsewhere."""
    labelled = bool((given != VOID).any())
    depth = distance_inside(ids)
    alive = ids != VOID
    if labelled:
        for new in np.setdiff1d(ids[alive], given):
            inside = ids == new
            if away[inside].max() < HIDDEN * unit or inside.sum() < SMALL * unit**2:
                alive &= ~inside
    free = alive & (away > NEAR * unit)
    seeds = np.where(free & (depth >= (CORE_BESIDE_LABELS if labelled else CORE) * unit), ids, given)
    for thin in np.setdiff1d(ids[free], seeds):
        inside = free & (ids == thin)
        seeds[inside & (depth >= depth[inside].max())] = thin
    return seeds


def _filled(photo: NDArray[np.uint8], seeds: NDArray[np.integer]) -> NDArray[np.integer]:
    """(H, W) an id for every pixel; the seeds, of which there are some, keep theirs."""
    shrink = math.sqrt(seeds.size / WALKER_PIXELS)
    if photo.std() == 0:  # a photo of one colour has no edges, and its contrast would be divided by
        return watershed(_gradient(photo), seeds)
    if shrink <= 1:
        return _walked(photo, seeds)
    coarse = _walked_smaller(photo, seeds, shrink)
    settled = (seeds == VOID) & (distance_inside(coarse) > 2 * shrink)
    return watershed(_gradient(photo), np.where(settled, coarse, seeds))


def _walked_smaller(photo: NDArray[np.uint8], seeds: NDArray[np.integer], shrink: float) -> NDArray[np.integer]:
    """(H, W) what the walker makes of a picture whose sides are `shrink` times shorter."""
    height, width = (max(1, round(n / shrink)) for n in seeds.shape)
    rows, columns = (np.arange(n) * small // n for n, small in zip(seeds.shape, (height, width), strict=True))
    small_seeds = np.full((height, width), VOID, dtype=seeds.dtype)
    sure = np.nonzero(seeds != VOID)
    small_seeds[rows[sure[0]], columns[sure[1]]] = seeds[sure]  # so that no single pixel is lost between those that a grid would take
    small_photo = np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BOX))
    return _walked(small_photo, small_seeds)[rows[:, None], columns[None, :]]


def _walked(photo: NDArray[np.uint8], seeds: NDArray[np.integer]) -> NDArray[np.integer]:
    values, labels = np.unique(seeds, return_inverse=True)  # VOID is 0, the walker's own "unknown"
    if values[0] != VOID:
        return seeds
    if len(values) == 2:
        return np.full_like(seeds, values[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of probabilities that miss 0..1 by rounding
        return values[random_walker(rgb2lab(photo), labels.reshape(seeds.shape), beta=CONTRAST, mode="bf", channel_axis=-1)]


def distance_inside(ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """(H, W) pixels to the nearest pixel at a border between two ids; infinite where there is no border."""
    edge = np.zeros(ids.shape, dtype=bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return ndimage.distance_transform_edt(~edge) if edge.any() else np.full(ids.shape, np.inf)


def _gradient(photo: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W) length of the gradient of the colours, in CIELAB."""
    channels = [ndimage.gaussian_filter(c, 0.7) for c in np.moveaxis(rgb2lab(photo), -1, 0)]
    return np.sqrt(sum(ndimage.sobel(c, 0) ** 2 + ndimage.sobel(c, 1) ** 2 for c in channels))
