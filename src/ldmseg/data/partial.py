"""Partial maps: what is left of a full map when only some of it was labelled. `VOID` is unknown."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.panoptic import VOID, PanopticMap

PartialKind = Literal["blocks", "pixels", "points", "strokes", "boxes"]


def make_partial(pmap: PanopticMap, kind: PartialKind, share: float, rng: np.random.Generator, block_size: int = 16) -> PanopticMap:
    """Keep a part of a map.

    `blocks` keeps squares of `block_size` pixels (figure 9), `pixels` single pixels, `boxes` a few rectangles; `points` keeps a small dot
    and `strokes` a short brush stroke in some of the segments.

    Args:
        share: for `blocks`, `pixels` and `boxes` the share of the image that is kept, for `points` and `strokes` the share of segments.

    Raises:
        InputError: an unknown kind, or a share or block size out of range.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share: expected 0..1, got {share}")
    if block_size < 1:
        raise InputError(f"block_size: expected at least 1 pixel, got {block_size}")
    height, width = pmap.shape
    if kind == "blocks":
        rows, columns = -(-height // block_size), -(-width // block_size)
        kept = (rng.random((rows, columns)) < share).repeat(block_size, 0).repeat(block_size, 1)[:height, :width]
    elif kind == "pixels":
        kept = rng.random(pmap.shape) < share
    elif kind == "boxes":
        kept = _boxes(pmap.shape, share, rng)
    elif kind in ("points", "strokes"):
        kept = _marks(pmap, share, kind == "strokes", rng)
    else:
        raise InputError(f"kind: expected one of {', '.join(get_args(PartialKind))}, got {kind!r}")
    return pmap.with_ids(np.where(kept, pmap.ids, VOID))


def drop_blocks(pmap: PanopticMap, drop_rate: float, block_size: int, rng: np.random.Generator) -> PanopticMap:
    """Figure 9's protocol: squares of `block_size` pixels become unknown, each with probability `drop_rate`."""
    if not 0 <= drop_rate <= 1:
        raise InputError(f"drop_rate: expected 0..1, got {drop_rate}")
    return make_partial(pmap, "blocks", 1 - drop_rate, rng, block_size)


def _boxes(shape: tuple[int, int], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    kept = np.zeros(shape, dtype=bool)
    for _ in range(64):
        if kept.mean() >= share:
            break
        height, width = (rng.uniform(0.1, 0.5, 2) * shape).astype(int) + 1
        top, left = rng.integers(0, shape[0] - height + 1), rng.integers(0, shape[1] - width + 1)
        kept[top : top + height, left : left + width] = True
    return kept


def _marks(pmap: PanopticMap, share: float, long: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A dot, or a stroke of a few straight pieces, inside each chosen segment."""
    kept = np.zeros(pmap.shape, dtype=bool)
    radius = max(1, round(0.012 * max(pmap.shape)))
    for index in range(len(pmap)):
        if rng.random() >= share:
            continue
        ys, xs = np.nonzero(pmap.dense == index)
        picks = rng.integers(0, len(ys), 3 if long else 1)
        path = np.stack([ys[picks], xs[picks]], axis=1).astype(float)
        if long:
            t = np.linspace(0, 1, 2 * max(pmap.shape))[:, None]
            path = np.concatenate([path[i] + t * (path[i + 1] - path[i]) for i in range(2)])
        for y, x in np.unique(np.rint(path).astype(int), axis=0):
            kept[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
    return kept


def random_partial(pmap: PanopticMap, kinds: tuple[PartialKind, ...], rng: np.random.Generator) -> PanopticMap:
    """A partial map as training sees it: a random kind at a random density, from next to nothing to next to everything."""
    kind = kinds[rng.integers(len(kinds))]
    share = rng.uniform(0.3, 1.0) if kind in ("points", "strokes") else rng.choice([rng.uniform(0.02, 0.3), rng.uniform(0.3, 0.95)])
    block = int(rng.choice([1, 2, 4, 8])) * max(1, min(pmap.shape) // 32)
    return make_partial(pmap, kind, float(share), rng, block)
