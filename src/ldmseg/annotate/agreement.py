"""How sure a map is: the share of other samples that have, at a pixel, the same segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ldmseg.panoptic import VOID


def agreement(ids: NDArray[np.integer], samples: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """(H, W) in 0..1: of the samples, those whose segment at the pixel is the map's segment there (IoU above 1/2); 0 where void."""
    found = np.zeros(ids.shape, dtype=np.float32)
    own, mine = np.unique(ids, return_inverse=True)
    mine = mine.reshape(ids.shape)
    for sample in samples:
        others, theirs = np.unique(sample, return_inverse=True)
        joint = mine * len(others) + theirs.reshape(ids.shape)  # (H, W) a pair of segments a pixel
        shared = np.bincount(joint.ravel(), minlength=len(own) * len(others)).reshape(len(own), len(others))
        union = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - shared
        same = (2 * shared > union) & (own[:, None] != VOID) & (others != VOID)
        found += same.ravel()[joint]
    return found / np.float32(max(1, len(samples)))
