"""Where everything in a scene is: geometry without pixels, decided on a coarse grid so that it holds at every resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.data.scenes.backdrop import Backdrop, Region, draw_backdrop
from ldmseg.data.scenes.raster import Canvas, Patch, Rings, fill
from ldmseg.data.scenes.things import KINDS, Part

_COARSE = 64
_MIN_VISIBLE = 0.0035
"""Fraction of the image below which a thing is not placed (coarse grid; leaves a margin above 0.25 % at full size)."""
_MAX_VISIBLE = 0.3
_MIN_STUFF = 0.012
_NAMES = tuple(KINDS)


@dataclass(frozen=True, slots=True)
class Thing:
    """A placed object: parts in image coordinates, painted in order; distance in metres; where it stands."""

    name: str
    parts: tuple[Part, ...]
    depth: float
    angle: float
    centre: tuple[float, float]
    radii: tuple[float, float]
    base: float
    standing: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole scene: stuff from back to front (the first fills the image), then things from far to near.

    `ids[i]` is the id of the i-th of `regions + things`; the look is drawn from `rng` afterwards.
    """

    backdrop: Backdrop
    things: tuple[Thing, ...]
    ids: tuple[int, ...]
    rng: np.random.Generator

    @property
    def regions(self) -> tuple[Region, ...]:
        """Stuff from back to front."""
        return self.backdrop.regions


def plan(seed: int, canvas: Canvas, segments: tuple[int, int]) -> Layout:
    """Draw the geometry of scene `seed`: same plane, same scene, whatever the resolution."""
    rng = np.random.default_rng(seed)
    low, high = segments
    target = int(rng.integers(low, high + 1))
    most_stuff = max(1, min(4, target - 2 if target > 3 else target - 1))
    backdrop = draw_backdrop(rng, canvas, most_stuff)
    grid = canvas.coarse(_COARSE)
    board = _Board(backdrop, grid)
    board.place([_draw_thing(rng, backdrop, canvas) for _ in range(max(0, target - len(backdrop.regions)) + 2)], target)
    regions = board.surviving_regions()
    missing = low - len(regions) - len(board.things)
    attempt = 0
    while missing > 0 and attempt < 60:
        shrink = 0.9 ** min(attempt, 12)
        extra = [_draw_thing(rng, backdrop, canvas, (0.004, max(0.006, 0.05 * shrink))) for _ in range(4 + missing)]
        board.place(extra, target, spare_things=True)
        regions = board.surviving_regions()
        missing = low - len(regions) - len(board.things)
        attempt += 1
    things = _far_to_near(board.things)
    count = len(regions) + len(things)
    ids = tuple(int(i) + 1 for i in rng.permutation(count))
    return Layout(replace(backdrop, regions=regions), things, ids, rng)


class _Board:
    """The coarse grid that things are accepted on, nearest first: what an accepted thing shows is never covered later."""

    def __init__(self, backdrop: Backdrop, grid: Canvas) -> None:
        self.grid = grid
        self.things: list[Thing] = []
        self.covered = np.zeros((grid.height, grid.width), dtype=np.bool_)
        self.regions = backdrop.regions
        self.stuff = np.zeros((grid.height, grid.width), dtype=np.uint8)
        for index, patch in enumerate(fill([region.rings for region in self.regions], grid)):
            self.stuff[patch.box][patch.mask] = index

    def place(self, candidates: list[Thing], target: int, spare_things: bool = False) -> None:
        """Accept candidates, nearest first, until regions and things number `target`."""
        candidates = sorted(candidates, key=lambda thing: thing.depth)
        patches = fill([part.rings for thing in candidates for part in thing.parts], self.grid)
        start = 0
        total = self.covered.size
        for thing in candidates:
            own = patches[start : start + len(thing.parts)]
            start += len(thing.parts)
            if len(self.things) + len(self.regions) >= target:
                return
            y0, x0, mask = _union(own)
            box = slice(y0, y0 + mask.shape[0]), slice(x0, x0 + mask.shape[1])
            area = int(np.count_nonzero(mask))
            visible = mask & ~self.covered[box]
            seen = int(np.count_nonzero(visible))
            if not _MIN_VISIBLE * total <= seen <= _MAX_VISIBLE * total or seen < (0.95 if spare_things else 0.3) * area:
                continue
            if seen < 0.8 * area and not _is_whole(visible, seen):
                continue
            if np.count_nonzero(self.covered) + seen > 0.85 * total:
                continue
            if spare_things and not self._leaves_stuff(box, visible):
                continue
            self.covered[box] |= mask
            self.things.append(thing)

    def _leaves_stuff(self, box: tuple[slice, slice], visible: NDArray[np.bool_]) -> bool:
        """Whether every region that shows enough now still does once `visible` is covered."""
        before = np.bincount(self.stuff[~self.covered], minlength=len(self.regions))
        after = before - np.bincount(self.stuff[box][visible], minlength=len(self.regions))
        least = _MIN_STUFF * self.covered.size
        return bool(np.all((after >= least) | (before < least)))

    def surviving_regions(self) -> tuple[Region, ...]:
        """The regions that still show; a dropped one is taken over by those behind it."""
        shown = np.bincount(self.stuff[~self.covered], minlength=len(self.regions))
        kept = [region for region, pixels in zip(self.regions, shown.tolist(), strict=True) if pixels >= _MIN_STUFF * self.covered.size]
        return tuple(kept) or (self.regions[int(np.argmax(shown))],)


def _union(patches: list[Patch]) -> tuple[int, int, NDArray[np.bool_]]:
    """Top, left and mask of what several patches cover together."""
    y0, x0 = min(p.y0 for p in patches), min(p.x0 for p in patches)
    y1, x1 = max(p.y0 + p.mask.shape[0] for p in patches), max(p.x0 + p.mask.shape[1] for p in patches)
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    for p in patches:
        mask[p.y0 - y0 : p.y0 - y0 + p.mask.shape[0], p.x0 - x0 : p.x0 - x0 + p.mask.shape[1]] |= p.mask
    return y0, x0, mask


def _is_whole(visible: NDArray[np.bool_], seen: int) -> bool:
    """Whether one connected piece holds most of what is visible."""
    labels, count = ndimage.label(visible)
    return count <= 1 or int(np.bincount(labels.ravel())[1:].max()) >= 0.7 * seen


def _far_to_near(things: list[Thing]) -> tuple[Thing, ...]:
    """Sorted for painting, each at least 3 % nearer than the one before."""
    ordered: list[Thing] = []
    limit = math.inf
    for thing in sorted(things, key=lambda thing: -thing.depth):
        depth = min(thing.depth, limit)
        ordered.append(replace(thing, depth=depth))
        limit = depth * 0.97
    return tuple(ordered)


def _draw_thing(rng: np.random.Generator, backdrop: Backdrop, canvas: Canvas, areas: tuple[float, float] = (0.006, 0.25)) -> Thing:
    """A random thing of about the given share of the image, posed and put at a distance that fits where it stands."""
    name = _NAMES[int(rng.integers(len(_NAMES)))]
    kind = KINDS[name]
    parts = kind.build(rng)
    size, turn, flip, stretch, shear, x, y, near, bias = rng.random(9).tolist()
    points = np.concatenate([ring for part in parts for ring in part.rings])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = (low + high) / 2, high - low
    area = areas[0] * (areas[1] / areas[0]) ** size
    zoom = math.sqrt(area / (0.62 * extent[0] * extent[1]))
    free = backdrop.from_above or (kind.pose == "lie" and bias < 0.5)
    if free:
        angle = 2 * math.pi * turn
    elif bias > 0.93:
        angle = 2.4 * (turn - 0.5)
    else:
        angle = 0.24 * (turn - 0.5)
    wide = math.exp(2 * kind.stretch * (stretch - 0.5))
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = matrix @ np.array([[wide * (-1 if flip < 0.5 else 1), 0.4 * (shear - 0.5) * kind.stretch], [0.0, 1 / wide]]) * zoom
    local = (points - middle) @ matrix.T
    bottom, reach = float(local[:, 1].max()), np.abs(local).max(axis=0)
    standing = not backdrop.from_above and kind.pose != "float" and (kind.pose == "stand" or bias < 0.8)
    cx = -0.05 + x * (canvas.x + 0.1)
    if standing:
        floor = backdrop.border + 0.02
        share = min(1.0, 0.65 * y + 0.5 * size * near)  # larger ones tend to stand nearer
        base = floor + share * max(0.05, canvas.y * 1.06 - floor)
        cy = base - bottom
        depth = backdrop.ground_depth(base) * 0.97
    else:
        cy = -0.03 + y * (canvas.y * (0.75 if kind.pose == "float" and not backdrop.from_above else 1.06))
        base = cy + bottom
        depth = backdrop.ground_depth(base) * (0.95 - 0.3 * near * near)
    centre = np.array([cx, cy])
    moved = tuple(Part(tuple((ring - middle) @ matrix.T + centre for ring in part.rings), part.slot, part.relief) for part in parts)
    return Thing(name, moved, depth, angle, (cx, cy), (float(reach[0]), float(reach[1])), base, standing)


def paint_ids(layout: Layout, canvas: Canvas, region_patches: list[Patch], thing_patches: list[Patch]) -> NDArray[np.int32]:
    """(H, W) ids: regions, then things over them, in order."""
    ids = np.full((canvas.height, canvas.width), layout.ids[0], dtype=np.int32)
    for index, patch in enumerate(region_patches[1:], start=1):
        ids[patch.box][patch.mask] = layout.ids[index]
    owners = [i for i, thing in enumerate(layout.things, start=len(layout.regions)) for _ in thing.parts]
    for index, patch in zip(owners, thing_patches, strict=True):
        ids[patch.box][patch.mask] = layout.ids[index]
    return ids


def rasterise(layout: Layout, canvas: Canvas, extra: tuple[Rings, ...] = ()) -> tuple[list[Patch], list[Patch], list[Patch]]:
    """Patches of the regions, of all parts of all things, and of `extra` shapes, in one scan."""
    regions = [region.rings for region in layout.regions]
    parts = [part.rings for thing in layout.things for part in thing.parts]
    patches = fill([*regions, *parts, *extra], canvas)
    return patches[: len(regions)], patches[len(regions) : len(regions) + len(parts)], patches[len(regions) + len(parts) :]
