"""The stuff of a scene: sky and hills and fields, a room, or a surface seen from above."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ldmseg.data.scenes.raster import Canvas, Rings
from ldmseg.data.scenes.shapes import ellipse, half_plane, polygon

_GROUNDS = ("grass", "sand", "snow", "water", "road", "foliage")


@dataclass(frozen=True, slots=True)
class Region:
    """One stuff segment: its outline in image coordinates, and what its depth follows.

    `far` is a distance in metres for what stands upright, or a factor on the ground's depth for what lies on it.
    """

    name: str
    rings: Rings
    surface: Literal["upright", "ground"]
    far: float


@dataclass(frozen=True, slots=True)
class Backdrop:
    """Regions from back to front and the ground plane that they and the things share.

    The ground lies at `slope` / (y - `horizon`) metres, at most `furthest`; it begins below `border` (image y).
    """

    kind: Literal["outdoor", "indoor", "above"]
    regions: tuple[Region, ...]
    border: float
    horizon: float
    slope: float
    furthest: float

    @property
    def from_above(self) -> bool:
        """Whether the camera looks straight down, so that nothing stands."""
        return self.kind == "above"

    def ground_depth(self, y: float) -> float:
        """Metres to the ground at image height y; above the border, to the furthest upright thing."""
        if y <= self.horizon:
            return self.furthest
        return min(self.furthest, self.slope / (y - self.horizon))


def draw_backdrop(rng: np.random.Generator, canvas: Canvas, most: int) -> Backdrop:
    """A random arrangement of 1 to `most` stuff regions."""
    pick = rng.random()
    if pick < 0.45:
        return _outdoor(rng, canvas, most)
    if pick < 0.75:
        return _indoor(rng, canvas, most)
    return _above(rng, canvas, most)


def _whole(canvas: Canvas) -> Rings:
    x, y = canvas.x, canvas.y
    return (polygon([(-0.1, -0.1), (x + 0.1, -0.1), (x + 0.1, y + 0.1), (-0.1, y + 0.1)]),)


def _plane(border: float, horizon: float, nearest: float, canvas: Canvas) -> tuple[float, float]:
    """Slope of the ground, so that the lower image edge is `nearest` metres away, and its distance at the border."""
    slope = nearest * (canvas.y - horizon)
    return slope, slope / (border - horizon)


def _outdoor(rng: np.random.Generator, canvas: Canvas, most: int) -> Backdrop:
    height, tilt, wave, nearest, gap, second, path, hill, hedge = rng.random(9).tolist()
    border = canvas.y * (0.25 + 0.45 * height)
    tilt = 0.12 * (tilt - 0.5)
    middle = canvas.x / 2
    horizon = border - 0.03 - 0.08 * gap
    slope, furthest = _plane(border, horizon, 1.5 + 4 * nearest, canvas)
    first, other = rng.permutation(len(_GROUNDS) - 1)[:2].tolist()
    ground = Region(_GROUNDS[first], (half_plane(middle, border, tilt, 0.05 * wave**2, rng),), "ground", 1.0)
    behind = [Region("sky", _whole(canvas), "upright", 20 * furthest)]
    front = [ground]
    budget = most - 2
    if budget < 0:
        return Backdrop("outdoor", (Region(ground.name, _whole(canvas), "ground", 1.0),), 0.1, horizon, slope, furthest)
    if second < 0.6 and budget > 0:
        budget -= 1
        front.append(Region(_GROUNDS[other], _ground_patch(rng, canvas, border, path), "ground", 0.999))
    if hill < 0.45 and budget > 0:
        budget -= 1
        top = border - 0.04 - 0.2 * hill
        behind.append(Region("mountain", (half_plane(middle, top, tilt, 0.18, rng, peaks=hill < 0.3),), "upright", 8 * furthest))
    if hedge < 0.45 and budget > 0:
        top = border - 0.03 - 0.3 * hedge
        behind.append(Region("foliage", (half_plane(middle, top, tilt, 0.06, rng),), "upright", 1.2 * furthest))
    return Backdrop("outdoor", (*behind, *front), border, horizon, slope, furthest)


def _ground_patch(rng: np.random.Generator, canvas: Canvas, border: float, kind: float) -> Rings:
    """A path to the horizon, a nearer field, or a pond."""
    a, b, c, d = rng.random(4).tolist()
    if kind < 0.4:  # a path that narrows towards the border
        vanish, left = canvas.x * (0.1 + 0.8 * a), canvas.x * (-0.3 + 1.0 * b)
        right, bend = left + canvas.x * (0.25 + 0.5 * c), 0.25 * (d - 0.5)
        t = np.linspace(0, 1, 12)
        y = border + 0.015 + (canvas.y + 0.1 - border) * t**1.5
        sway = bend * np.sin(np.pi * t)
        sides = [np.stack([vanish + (edge - vanish) * t**1.5 + w + sway, y], axis=1) for edge, w in ((left, -0.012), (right, 0.012))]
        return (np.concatenate([sides[0], sides[1][::-1]]),)
    if kind < 0.75:  # a nearer field
        top = border + (canvas.y - border) * (0.2 + 0.5 * a)
        return (half_plane(canvas.x / 2, top, 0.5 * (b - 0.5), 0.06 * c, rng),)
    y = border + (canvas.y - border) * (0.25 + 0.55 * a)
    rx, ry = 0.2 + 0.35 * b, (canvas.y - border) * (0.1 + 0.16 * c)
    return (ellipse(canvas.x * d, max(y, border + ry + 0.03), rx, ry),)


def _indoor(rng: np.random.Generator, canvas: Canvas, most: int) -> Backdrop:
    height, tilt, nearest, gap, rug, drape, a, b, c = rng.random(9).tolist()
    border = canvas.y * (0.35 + 0.45 * height)
    horizon = border - canvas.y * (0.1 + 0.4 * gap)
    slope, furthest = _plane(border, horizon, 0.8 + 1.5 * nearest, canvas)
    if most < 2:
        return Backdrop("indoor", (Region("wall", _whole(canvas), "upright", furthest),), border, horizon, slope, furthest)
    tilt = 0.3 * (tilt - 0.5) * abs(tilt - 0.5)
    if a < 0.3:  # the corner of a room
        corner, drop = canvas.x * (0.15 + 0.7 * b), 0.35 * c
        far_y = canvas.y + 0.3
        floor: Rings = (
            polygon(
                [(-0.3, border + drop), (corner, border), (canvas.x + 0.3, border + drop * 0.6), (canvas.x + 0.3, far_y), (-0.3, far_y)]
            ),
        )
    else:
        floor = (half_plane(canvas.x / 2, border, tilt, 0.0, rng),)
    regions = [Region("wall", _whole(canvas), "upright", furthest * 1.06), Region("floor", floor, "ground", 1.0)]
    budget = most - 2
    if rug < 0.45 and budget > 0:
        budget -= 1
        y = border + (canvas.y - border) * 0.62
        ry, rx = (canvas.y - border) * (0.18 + 0.2 * a), 0.22 + 0.3 * b
        cx = canvas.x * (0.2 + 0.6 * c)
        shape = (
            ellipse(cx, y, rx, ry)
            if rug < 0.2
            else polygon([(cx - 0.75 * rx, y - ry), (cx + 0.75 * rx, y - ry), (cx + rx, y + ry), (cx - rx, y + ry)])
        )
        regions.append(Region("carpet", (shape,), "ground", 0.999))
    if drape < 0.4 and budget > 0:
        left, width = (-0.1 if a < 0.5 else canvas.x * (0.55 + 0.3 * b)), 0.2 + 0.25 * c
        hem = canvas.y if drape < 0.25 else border * 0.75
        outline = polygon([(left, -0.1), (left + width, -0.1), (left + width * 1.1, hem), (left, hem)])
        regions.insert(1, Region("curtain", (outline,), "upright", furthest * 1.03))  # the floor hides its end
    return Backdrop("indoor", tuple(regions), border, horizon, slope, furthest)


def _above(rng: np.random.Generator, canvas: Canvas, most: int) -> Backdrop:
    """A surface from above, cut by straight or winding borders into up to `most` materials."""
    names = [_ABOVE[i] for i in rng.permutation(len(_ABOVE))[:most].tolist()]
    count = 1 + int(rng.integers(0, max(1, min(3, most))))
    regions = [Region(names[0], _whole(canvas), "ground", 1.0)]
    for index, name in enumerate(names[1:count], start=1):
        a, b, c, d, e = rng.random(5).tolist()
        x, y = canvas.x * (0.2 + 0.6 * a), canvas.y * (0.2 + 0.6 * b)
        if e < 0.75:
            shape = half_plane(x, y, 2 * math.pi * c, 0.12 * d * d if e < 0.5 else 0.0, rng)
        else:
            shape = ellipse(x, y, 0.2 + 0.25 * c, 0.2 + 0.25 * d)
        regions.append(Region(name, (shape,), "ground", 1.0 - 0.002 * index))
    horizon = -6 * canvas.y
    return Backdrop("above", tuple(regions), 0.0, horizon, 2.5 * (canvas.y - horizon), 1e3)


_ABOVE = ("grass", "sand", "snow", "water", "road", "foliage", "floor", "carpet", "wall")
