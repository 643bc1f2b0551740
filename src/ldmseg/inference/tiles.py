"""A large photo in overlapping windows. Each window is completed from what its neighbours have drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
import torch

from ldmseg.errors import InputError
from ldmseg.inference.known import KnownMap
from ldmseg.inference.samples import Sample, drawn_seed
from ldmseg.panoptic import VOID, PanopticMap, Segment


@dataclass(frozen=True)
class Tile:
    """A window of a photo, in pixels.

    Attributes:
        number: its place in reading order.
        seen: rows and columns that the model draws.
        kept: rows and columns of the drawing that are kept. Those of all tiles cover the photo once.
    """

    number: int
    seen: tuple[slice, slice]
    kept: tuple[slice, slice]


def tile_pixels(tile_size: float, shape: tuple[int, int]) -> int:
    """Side of the square windows: `tile_size` pixels or, up to 1, that share of the photo's shorter side.

    Raises:
        InputError: not above 0.
    """
    if not tile_size > 0:
        raise InputError(f"tile_size: expected pixels, or a share of the photo's shorter side up to 1, got {tile_size}")
    return max(1, round(tile_size * min(shape) if tile_size <= 1 else tile_size))


def waves(shape: tuple[int, int], size: int, overlap: float) -> list[list[Tile]]:
    """Windows of `size` pixels in groups. Windows of one group do not touch. A group comes after all groups whose drawing it continues.

    Args:
        shape: (H, W) of the photo; a window is no larger.
        overlap: the least share of a window that it has in common with the next one, 0 up to below 1.

    Raises:
        InputError: an overlap outside 0..1.
    """
    if not 0 <= overlap < 1:
        raise InputError(f"tile_overlap: expected 0 up to below 1, got {overlap}")
    rows, columns = (_divided(length, min(size, length), overlap) for length in shape)
    groups: dict[int, list[Tile]] = defaultdict(list)
    starts, stops = ([getattr(seen, end) for seen, _ in columns] for end in ("start", "stop"))
    reach = max(sum(start < stop for start in starts[c:]) for c, stop in enumerate(stops))  # a window and those on its right that touch it
    for r, (seen_rows, kept_rows) in enumerate(rows):
        for c, (seen_columns, kept_columns) in enumerate(columns):
            tile = Tile(r * len(columns) + c, (seen_rows, seen_columns), (kept_rows, kept_columns))
            groups[c + reach * r].append(tile)
    return [groups[wave] for wave in sorted(groups)]


def _divided(length: int, size: int, overlap: float) -> list[tuple[slice, slice]]:
    """What is seen and what is kept by each window along one side: two that overlap meet in the middle."""
    count = ceil((length - size) / max(1.0, size * (1 - overlap))) + 1
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    limits = [0, *((start + size + after) // 2 for start, after in pairwise(starts)), length]
    return [(slice(start, start + size), slice(*limits[i : i + 2])) for i, start in enumerate(starts)]


def draw_in_tiles(
    samples: Sequence[Sample],
    tile_size: float,
    overlap: float,
    most: int,
    draw: Callable[[list[Sample]], list[PanopticMap]],
) -> list[PanopticMap]:
    """Draw each sample's map window by window.

    The outer rim of a window, where segments are cut off, is drawn anew by the next window. The rest is that window's known map
    (section 3.3). A segment keeps its id from window to window, and nothing is stitched.

    Args:
        samples: their known pixels come back exactly.
        tile_size: see `tile_pixels`.
        most: segments that the model can be given. If a window's known map has more, it gets the largest.
        draw: completes windows, which are samples too; at most one of each photo's neighbourhood at once.
    """
    seeds = [drawn_seed(sample.generator) for sample in samples]
    canvases = [_Canvas(sample) for sample in samples]
    plans = [waves(sample.shape, tile_pixels(tile_size, sample.shape), overlap) for sample in samples]
    for wave in range(max(len(plan) for plan in plans)):
        tiles = [(of, tile) for of, plan in enumerate(plans) if wave < len(plan) for tile in plan[wave]]
        windows = [
            replace(
                samples[of],
                image=samples[of].image[(slice(None), *tile.seen)],
                known=KnownMap.of(canvases[of].window(tile).largest(most)),
                generator=torch.Generator().manual_seed(seeds[of] + tile.number),
            )
            for of, tile in tiles
        ]
        for (of, tile), drawn in zip(tiles, draw(windows), strict=True):
            canvases[of].paste(tile, drawn)
    return [canvas.drawn() for canvas in canvases]


class _Canvas:
    """The map of one photo as it grows."""

    def __init__(self, sample: Sample) -> None:
        self._given = () if sample.known is None else sample.known.map.segments
        self._ids = np.full(sample.shape, VOID, dtype=np.int32) if sample.known is None else np.array(sample.known.map.ids)
        self._fresh = _unused({s.id for s in self._given})
        self._scores: dict[int, list[tuple[int, float]]] = defaultdict(list)  # id -> pixels and score of each part

    def window(self, tile: Tile) -> PanopticMap:
        return PanopticMap(self._ids[tile.seen].copy())

    def paste(self, tile: Tile, drawn: PanopticMap) -> None:
        """Keep the tile's own part; segments that were not in its partial map get ids that the photo does not have yet."""
        known = {int(i) for i in np.unique(self._ids[tile.seen])}
        inner = tuple(slice(k.start - s.start, k.stop - s.start) for k, s in zip(tile.kept, tile.seen, strict=True))
        ids = np.array(drawn.ids[inner])
        for segment in drawn.keep(np.unique(ids).tolist()).segments:
            own = segment.id if segment.id in known else next(self._fresh)
            inside = drawn.ids[inner] == segment.id
            ids[inside] = own
            if segment.score is not None:
                self._scores[own].append((int(inside.sum()), segment.score))
        before = self._ids[tile.kept]
        self._ids[tile.kept] = np.where(before != VOID, before, ids)

    def drawn(self) -> PanopticMap:
        attributes = {s.id: s for s in self._given}
        present = np.unique(self._ids[self._ids != VOID]).tolist()
        segments = tuple(attributes.get(i, Segment(i, score=self._score(i))) for i in present)
        return PanopticMap(self._ids, segments)

    def _score(self, segment_id: int) -> float | None:
        """Mean over the parts, by their pixels."""
        parts = self._scores[segment_id]
        area = sum(pixels for pixels, _ in parts)
        return round(sum(pixels * score for pixels, score in parts) / area, 4) if area else None


def _unused(taken: set[int]) -> Iterator[int]:
    highest = 0
    while True:
        highest += 1
        if highest not in taken:
            yield highest
