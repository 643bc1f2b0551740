"""Where everything in a scene is: geometry without pixels, decided on a coarse grid so that it holds at every resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.data.scenes.backdrop import Backdrop, Region, draw_backdrop
from ldmseg.data.scenes.raster import Canvas, Patch, Points, Rings, fill
from ldmseg.data.scenes.things import KINDS, Kind, Part

_COARSE = 64
_MIN_VISIBLE = 0.0035
"""Fraction of the image below which a thing is not placed (coarse grid; leaves a margin above 0.25 % at full size)."""
_MAX_VISIBLE = 0.3
_MIN_STUFF = 0.012
_NAMES = tuple(KINDS)
_COMPACT = ("ball", "stone", "fruit", "toy")
_THEMED = 0.35
"""Share of scenes in which most things are of one category, as in a crowd or a fruit bowl."""
_ATTEMPTS = 200


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
    themed, theme = rng.random(2).tolist()
    favourite = _NAMES[int(theme * len(_NAMES))] if themed < _THEMED else None
    board = _Board(backdrop, canvas.coarse(_COARSE))
    wanted = max(0, target - len(backdrop.regions)) + 2
    areas = (0.006, min(0.27, 2.6 / target))
    board.place([_draw_thing(rng, backdrop, canvas, favourite, areas) for _ in range(wanted)], target)
    for attempt in range(_ATTEMPTS):
        missing = low - len(board.surviving_regions()) - len(board.things)
        if missing <= 0:
            break
        board.place([_draw_filler(rng, backdrop, canvas, attempt) for _ in range(6 + 2 * missing)], target, beside=True)
    regions = board.surviving_regions()
    things = _far_to_near(board.things)
    ids = tuple(int(i) + 1 for i in rng.permutation(len(regions) + len(things)))
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

    def place(self, candidates: list[Thing], target: int, beside: bool = False) -> None:
        """Accept candidates, nearest first, until regions and things number `target`; `beside`: only where no thing is."""
        candidates = sorted(candidates, key=lambda thing: thing.depth)
        patches = fill([part.rings for thing in candidates for part in thing.parts], self.grid)
        start = 0
        covered = int(np.count_nonzero(self.covered))
        total, room = self.covered.size, target - len(self.surviving_regions())
        for thing in candidates:
            own = patches[start : start + len(thing.parts)]
            start += len(thing.parts)
            if len(self.things) >= room:
                return
            y0, x0, mask = _union(own)
            box = slice(y0, y0 + mask.shape[0]), slice(x0, x0 + mask.shape[1])
            area = int(np.count_nonzero(mask))
            visible = mask & ~self.covered[box]
            seen = int(np.count_nonzero(visible))
            if not _MIN_VISIBLE * total <= seen <= _MAX_VISIBLE * total or seen < (0.97 if beside else 0.3) * area:
                continue
            if seen < 0.8 * area and not _is_whole(visible, seen):
                continue
            if covered + seen > 0.88 * total:
                continue
            if beside and not self._leaves_stuff(box, visible):
                continue
            self.covered[box] |= mask
            covered += seen
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
        ordered.append(thing if thing.depth <= limit else replace(thing, depth=limit))
        limit = ordered[-1].depth * 0.97
    return tuple(ordered)


def _draw_filler(rng: np.random.Generator, backdrop: Backdrop, canvas: Canvas, attempt: int) -> Thing:
    """A small compact thing anywhere, smaller when many attempts have failed."""
    name = _COMPACT[int(rng.integers(len(_COMPACT)))]
    return _draw_thing(rng, backdrop, canvas, name, (0.004, max(0.005, 0.014 - 0.0005 * attempt)), anywhere=True)


def _draw_thing(
    rng: np.random.Generator,
    backdrop: Backdrop,
    canvas: Canvas,
    favourite: str | None = None,
    areas: tuple[float, float] = (0.006, 0.27),
    anywhere: bool = False,
) -> Thing:
    """A random thing of about the given share of the image, posed and put at a distance that fits where it stands."""
    size, turn, flip, stretch, shear, x, y, near, bias, choice, like = rng.random(11).tolist()
    name = favourite if favourite is not None and (anywhere or like < 0.7) else _NAMES[int(choice * len(_NAMES))]
    kind = KINDS[name]
    parts = kind.build(rng)
    points = np.concatenate([ring for part in parts for ring in part.rings])
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = (high - low).tolist()
    zoom = math.sqrt(areas[0] * (areas[1] / areas[0]) ** size / (0.62 * width * height))
    wide = math.exp(2 * kind.stretch * (stretch - 0.5))
    angle = _tilt(backdrop, kind, turn, bias)
    c, s = math.cos(angle) * zoom, math.sin(angle) * zoom
    a, b, d = -wide if flip < 0.5 else wide, 0.4 * (shear - 0.5) * kind.stretch, 1 / wide
    points = (points - (low + high) / 2) @ np.array([[a * c, a * s], [b * c - d * s, b * s + d * c]])
    bottom, reach = float(points[:, 1].max()), np.abs(points).max(axis=0).tolist()
    above = backdrop.from_above
    standing = not (above or anywhere) and kind.pose != "float" and (kind.pose == "stand" or bias < 0.8)
    cx = -0.05 + x * (canvas.x + 0.1)
    if standing:
        floor = backdrop.border + 0.02
        share = min(1.0, 0.65 * y + 0.5 * size * near)  # larger ones tend to stand nearer
        base = floor + share * max(0.05, canvas.y * 1.06 - floor)
        cy = base - bottom
        depth = backdrop.ground_depth(base) * 0.97
    else:
        cy = -0.03 + y * (canvas.y * (0.75 if kind.pose == "float" and not above else 1.06))
        base = cy + bottom
        depth = backdrop.ground_depth(base) * (0.95 - 0.3 * near * near)
    points += (cx, cy)
    return Thing(name, _cut(parts, points), depth, angle, (cx, cy), (reach[0], reach[1]), base, standing)


def _tilt(backdrop: Backdrop, kind: Kind, turn: float, bias: float) -> float:
    """Upright for what stands, now and then toppled; any angle for what lies."""
    if backdrop.from_above or (kind.pose == "lie" and bias < 0.5):
        return 2 * math.pi * turn
    return (2.4 if bias > 0.93 else 0.24) * (turn - 0.5)


def _cut(parts: list[Part], points: Points) -> tuple[Part, ...]:
    """The same parts with their corners taken from `points`, in order."""
    moved, start = [], 0
    for part in parts:
        rings = []
        for ring in part.rings:
            rings.append(points[start : start + len(ring)])
            start += len(ring)
        moved.append(Part(tuple(rings), part.slot, part.relief))
    return tuple(moved)


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
