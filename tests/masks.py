"""Masks and maps for tests of formats: all shapes that trouble them, at random."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(1, "cell"), Category(2, "café au lait"), Category(7, "wall <&>"))

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def random_mask(rng: np.random.Generator, largest: int = 40) -> NDArray[np.bool_]:
    """Noise, blobs with holes, empty or full."""
    height, width = rng.integers(1, largest, 2)
    noise = rng.random((height // 3 + 1, width // 3 + 1) if rng.random() < 0.5 else (height, width))
    coarse = np.kron(noise, np.ones((3, 3)))[:height, :width] if noise.shape != (height, width) else noise
    return coarse < rng.choice([0.0, 0.1, 0.5, 0.9, 1.1])


def random_map(seed: int, height: int = 37, width: int = 53, segments: int = 6) -> PanopticMap:
    """Segments of several parts with holes and void between them, in ids 1, 2, 3 .. without a gap, each of a category."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, segments + 1, (height // 4 + 1, width // 4 + 1))
    ids = np.kron(coarse, np.ones((4, 4), dtype=int))[:height, :width]
    ids[rng.random(ids.shape) < 0.1] = 0
    present = np.unique(ids[ids > 0])
    ids = np.where(ids > 0, np.searchsorted(present, ids) + 1, 0)
    listed = tuple(Segment(i, CATEGORIES[i % 3].id, True) for i in range(1, len(present) + 1))
    return PanopticMap(ids, listed)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


seeds = st.integers(0, 2**32 - 1)
