"""Partial maps: what is left of a full map when only some of it was labelled. `VOID` is unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.choices import PartialKind
from ldmseg.errors import InputError, quoted
from ldmseg.inference.boundaries import distance_inside
from ldmseg.panoptic import VOID, PanopticMap

NoisyKind = Literal["shifted", "eroded", "ragged", "merged"]
"""Labels that are everywhere and not quite right, as a label propagated by optical flow is."""

Mask = NDArray[np.bool_]


def make_partial(pmap: PanopticMap, kind: PartialKind, share: float, rng: np.random.Generator, block_size: int = 16) -> PanopticMap:
    """Keep a part of a map.

    Args:
        pmap: the full map.
        kind: `blocks` keeps squares of `block_size` pixels (figure 9), `pixels` single pixels, `boxes` a few rectangles, `scanlines`
            rows of points as a LiDAR projects them; `points` keeps one pixel and `strokes` one short stroke in some of the segments.
        share: of the blocks, pixels or rows that is kept, of the image that boxes cover, of the segments with a point or a stroke.
        rng: where, drawn anew at each call.
        block_size: pixels of a block's side.

    Raises:
        InputError: an unknown kind, or a share or block size out of range.
    """
    if kind not in get_args(PartialKind):
        raise InputError(f"kind: expected one of {', '.join(get_args(PartialKind))}, got {quoted(kind)}")
    if not 0 <= share <= 1:
        raise InputError(f"share: expected 0..1, got {share}")
    if block_size < 1:
        raise InputError(f"block_size: expected at least 1 pixel, got {block_size}")
    makers: dict[str, Callable[[], Mask]] = {
        "blocks": lambda: _blocks(pmap.shape, share, block_size, rng),
        "pixels": lambda: rng.random(pmap.shape) < share,
        "points": lambda: _points(pmap, share, rng),
        "strokes": lambda: _strokes(pmap, share, rng),
        "scanlines": lambda: _scanlines(pmap.shape, share, rng),
        "boxes": lambda: _boxes(pmap.shape, share, rng),
    }
    return pmap.with_ids(np.where(makers[kind](), pmap.ids, VOID))


def drop_blocks(pmap: PanopticMap, drop_rate: float, block_size: int, rng: np.random.Generator) -> PanopticMap:
    """Figure 9's protocol: squares of `block_size` pixels become unknown, each with probability `drop_rate`."""
    if not 0 <= drop_rate <= 1:
        raise InputError(f"drop_rate: expected 0..1, got {drop_rate}")
    return make_partial(pmap, "blocks", 1 - drop_rate, rng, block_size)


def random_partial(pmap: PanopticMap, kinds: tuple[PartialKind, ...], rng: np.random.Generator) -> PanopticMap:
    """A partial map for training: a random kind at a random density, from next to nothing to next to everything."""
    kind = kinds[rng.integers(len(kinds))]
    if kind in ("points", "strokes"):
        share = min(1.0, rng.uniform(0.3, 1.3))  # often in every segment, as a person who labels a photo puts them
    elif kind in ("pixels", "scanlines"):
        share = 10 ** rng.uniform(-2.5, -0.3)
    else:
        share = rng.choice([rng.uniform(0.02, 0.3), rng.uniform(0.3, 0.95)])
    block = int(rng.choice([1, 2, 4, 8, 16])) * max(1, min(pmap.shape) // 32)
    return make_partial(pmap, kind, float(share), rng, block)


def make_noisy(pmap: PanopticMap, kind: NoisyKind, amount: float, rng: np.random.Generator) -> PanopticMap:
    """A label to be refined: every segment of it is about right and none exactly.

    Args:
        kind: `shifted` moves each segment by itself, `eroded` shrinks each (what it leaves is void), `ragged` displaces the borders,
            `merged` joins some segments with a neighbour.
        amount: how far, as a share of the image's shorter side (0.03 is 4 pixels of 128); for `merged` the share of segments.

    Raises:
        InputError: an unknown kind, or an amount that is not in 0..1.
    """
    if kind not in get_args(NoisyKind):
        raise InputError(f"kind: expected one of {', '.join(get_args(NoisyKind))}, got {quoted(kind)}")
    if not 0 <= amount <= 1:
        raise InputError(f"amount: expected 0..1, got {amount}")
    reach = amount * min(pmap.shape)
    if kind == "shifted":
        return pmap.with_ids(_shifted(pmap, reach, rng))
    if kind == "eroded":
        return pmap.with_ids(np.where(distance_inside(pmap.ids) >= reach, pmap.ids, VOID))
    if kind == "ragged":
        return pmap.with_ids(displaced(pmap.ids, reach, rng))
    return pmap.with_ids(_merged(pmap, amount, rng))


def displaced(ids: NDArray[np.integer], amplitude: float, rng: np.random.Generator) -> NDArray[np.integer]:
    """Every pixel reads a neighbour up to about `amplitude` pixels away, along a noise field of random coarseness."""
    height, width = ids.shape
    cell = int(rng.choice([1, 2, 4, 8]))
    field = rng.uniform(-amplitude, amplitude, (2, -(-height // cell) + 1, -(-width // cell) + 1))
    field = field.repeat(cell, axis=1).repeat(cell, axis=2)
    if cell > 1:
        field = ndimage.uniform_filter(field, (0, cell, cell))
    rows = np.arange(height)[:, None] + np.rint(field[0, :height, :width]).astype(int)
    columns = np.arange(width)[None, :] + np.rint(field[1, :height, :width]).astype(int)
    return ids[rows.clip(0, height - 1), columns.clip(0, width - 1)]


# ------------------------------------------------------------------------------------------------------------------ what is kept
def _blocks(shape: tuple[int, int], share: float, size: int, rng: np.random.Generator) -> Mask:
    height, width = shape
    kept = rng.random((-(-height // size), -(-width // size))) < share
    return kept.repeat(size, 0).repeat(size, 1)[:height, :width]


def _boxes(shape: tuple[int, int], share: float, rng: np.random.Generator) -> Mask:
    kept = np.zeros(shape, dtype=bool)
    for _ in range(64):
        if kept.mean() >= share:
            break
        height, width = (rng.uniform(0.1, 0.5, 2) * shape).astype(int) + 1
        top, left = rng.integers(0, shape[0] - height + 1), rng.integers(0, shape[1] - width + 1)
        kept[top : top + height, left : left + width] = True
    return kept


def _scanlines(shape: tuple[int, int], share: float, rng: np.random.Generator) -> Mask:
    """Rows at even distances; along each, points at a distance of their own, some of which did not return."""
    height, width = shape
    gap = 1 / max(share, 1e-6)
    rows = np.arange(rng.uniform(0, min(gap, height)), height, gap).astype(int)
    kept = np.zeros(shape, dtype=bool)
    if share == 0:
        return kept
    step = max(1, round(0.01 * width))
    for row in rows:
        columns = np.arange(rng.integers(step), width, step)
        kept[row, columns[rng.random(len(columns)) < 0.9]] = True
    return kept


def _points(pmap: PanopticMap, share: float, rng: np.random.Generator) -> Mask:
    kept = np.zeros(pmap.shape, dtype=bool)
    for index in range(len(pmap)):
        if rng.random() < share:
            ys, xs = np.nonzero(pmap.dense == index)
            pick = rng.integers(len(ys))
            kept[ys[pick], xs[pick]] = True
    return kept


def _strokes(pmap: PanopticMap, share: float, rng: np.random.Generator) -> Mask:
    """In each chosen segment a line between two of its points; where the line leaves the segment, the brush is lifted."""
    kept = np.zeros(pmap.shape, dtype=bool)
    radius = max(1, round(0.008 * max(pmap.shape)))
    for index in range(len(pmap)):
        if rng.random() >= share:
            continue
        inside = pmap.dense == index
        ys, xs = np.nonzero(inside)
        start, end = rng.integers(0, len(ys), 2)
        longest = 0.3 * max(pmap.shape)
        vector = np.array([ys[end] - ys[start], xs[end] - xs[start]], dtype=float)
        vector *= min(1.0, longest / max(1e-6, float(np.hypot(*vector))))
        t = np.linspace(0, 1, 2 * max(pmap.shape))[:, None]
        line = np.unique(np.rint((ys[start], xs[start]) + t * vector).astype(int), axis=0)
        painted = np.zeros_like(inside)
        for y, x in line:
            painted[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = True
        kept |= painted & inside
    return kept


# --------------------------------------------------------------------------------------------------------------------- what is wrong
def _shifted(pmap: PanopticMap, reach: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """The largest segment is laid down first, and stands wherever a segment left a hole."""
    order = np.argsort(-pmap.areas, kind="stable")
    ids = np.where(pmap.ids != VOID, pmap.segments[order[0]].id, VOID) if len(pmap) else pmap.ids.copy()
    for index in order:
        angle = rng.uniform(0, 2 * np.pi)
        ys, xs = np.nonzero(pmap.dense == index)
        ys, xs = ys + round(reach * np.sin(angle)), xs + round(reach * np.cos(angle))
        inside = (ys >= 0) & (ys < pmap.shape[0]) & (xs >= 0) & (xs < pmap.shape[1])
        ids[ys[inside], xs[inside]] = pmap.segments[index].id
    return ids.astype(np.int32)


def _merged(pmap: PanopticMap, share: float, rng: np.random.Generator) -> NDArray[np.int32]:
    ids = np.array(pmap.ids)
    for segment in pmap.segments:
        if rng.random() < share:
            own = ids == segment.id
            border = ndimage.binary_dilation(own) & ~own & (ids != VOID)
            if border.any():
                ids[own] = np.bincount(ids[border]).argmax()
    return ids
