"""Harder maps for stage 1: the mask autoencoder must draw any boundary, speck or gap, not those of one domain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.config import MaskAugmentConfig
from ldmseg.data.partial import displaced
from ldmseg.panoptic import VOID

Ids = NDArray[np.integer]


def augment_mask(ids: Ids, config: MaskAugmentConfig, rng: np.random.Generator) -> Ids:
    """Crop, displace boundaries, strew specks and open void gaps; (H, W) ids -> (H', W') ids, new segments get new ids."""
    if config.crop is not None:
        ids = random_crop(ids, config.crop, rng)
    if config.ragged:
        ids = displaced(ids, rng.uniform(0, config.ragged), rng)
    if rng.random() < config.speckle:
        ids = speckle(ids, rng)
    if rng.random() < config.void:
        ids = open_void(ids, rng)
    return ids


def random_crop(ids: Ids, size: int, rng: np.random.Generator) -> Ids:
    """A square of `size` pixels from anywhere; a smaller map is repeated to fill it."""
    if min(ids.shape) < size:
        ids = np.tile(ids, (-(-size // ids.shape[0]), -(-size // ids.shape[1])))
    top = rng.integers(0, ids.shape[0] - size + 1)
    left = rng.integers(0, ids.shape[1] - size + 1)
    return ids[top : top + size, left : left + size]


def speckle(ids: Ids, rng: np.random.Generator) -> Ids:
    """Small ellipses and bars, up to a dozen for each 64 x 64 pixels, each a new segment."""
    ids = np.array(ids)
    rows, columns = np.ogrid[: ids.shape[0], : ids.shape[1]]
    next_id = int(ids.max()) + 1
    most = max(1, round(12 * ids.size / 64**2))
    for _ in range(rng.integers(1, most + 1)):
        long, short = sorted(rng.uniform(1.0, 6.0, 2), reverse=True)
        if rng.random() < 0.3:
            long, short = long * 3, max(short / 2, 0.8)
        angle = rng.uniform(0, np.pi)
        y, x = rows - rng.uniform(0, ids.shape[0]), columns - rng.uniform(0, ids.shape[1])
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        ids[(u / long) ** 2 + (v / short) ** 2 <= 1] = next_id
        next_id += 1
    return ids


def open_void(ids: Ids, rng: np.random.Generator) -> Ids:
    """Void as labels have it: gaps along boundaries, unlabelled rectangles, or all but a few strokes."""
    ids = np.array(ids)
    kind = rng.integers(3)
    if kind == 0:
        edge = ndimage.maximum_filter(ids, 3) != ndimage.minimum_filter(ids, 3)
        ids[edge & (ndimage.uniform_filter(rng.random(ids.shape), 7) > 0.5)] = VOID
    elif kind == 1:
        for _ in range(rng.integers(1, 9)):
            height, width = (rng.uniform(0.05, 0.6, 2) * ids.shape).astype(int) + 1
            top, left = rng.integers(0, ids.shape[0]), rng.integers(0, ids.shape[1])
            ids[top : top + height, left : left + width] = VOID
    else:
        kept = np.zeros(ids.shape, dtype=bool)
        for _ in range(rng.integers(1, 9)):
            start, end = rng.uniform(0, 1, (2, 2)) * ids.shape
            t = np.linspace(0, rng.uniform(0.1, 1), 4 * max(ids.shape))[:, None]
            line = (start + t * (end - start)).astype(int)
            kept[line[:, 0], line[:, 1]] = True
        ids[~ndimage.binary_dilation(kept, iterations=int(rng.integers(1, 4)))] = VOID
    return ids
