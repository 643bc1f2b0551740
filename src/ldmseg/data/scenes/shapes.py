"""Outlines in a unit frame (x right, y down): the vocabulary that things and regions are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ldmseg.data.scenes.raster import Points

_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
_HARMONICS = np.arange(2, 7)
_COS_K, _SIN_K = np.cos(_ANGLES * _HARMONICS[:, None]), np.sin(_ANGLES * _HARMONICS[:, None])


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Centre and radii."""
    return np.stack([x + rx * _COS, y + ry * _SIN], axis=1)


def superellipse(x: float, y: float, rx: float, ry: float, power: float) -> Points:
    """|x/rx|**power + |y/ry|**power = 1: a diamond at 1, an ellipse at 2, towards a box above."""
    ring = (np.abs(_COS) ** power + np.abs(_SIN) ** power) ** (-1 / power)
    return np.stack([x + rx * ring * _COS, y + ry * ring * _SIN], axis=1)


def box(x: float, y: float, width: float, height: float) -> Points:
    """Centre and full sides."""
    return tapered(x, y - height / 2, width, y + height / 2, width)


def tapered(x: float, top: float, top_width: float, bottom: float, bottom_width: float, lean: float = 0.0) -> Points:
    """An upright trapezoid whose top is shifted by `lean`."""
    a, b = top_width / 2, bottom_width / 2
    return np.array([(x - a + lean, top), (x + a + lean, top), (x + b, bottom), (x - b, bottom)])


def polygon(points: Sequence[tuple[float, float]]) -> Points:
    """Corners as given."""
    return np.array(points, dtype=np.float64)


def limb(x0: float, y0: float, x1: float, y1: float, w0: float, w1: float) -> Points:
    """A rounded stroke from one point to another, `w0` and `w1` wide at its ends."""
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    along = np.array([-0.35, -0.5, -0.35, 0.35, 0.5, 0.35])
    across = np.array([0.36, 0.0, -0.36, -0.36, 0.0, 0.36])
    start = along < 0
    width = np.where(start, w0, w1)
    cx, cy = np.where(start, x0, x1), np.where(start, y0, y1)
    side = np.sign(across) * 0.5
    a, b = np.where(side == 0, np.sign(along) * 0.5, 0.0) * width, side * width
    return np.stack([cx + a * dx - b * dy, cy + a * dy + b * dx], axis=1)


def star(x: float, y: float, outer: float, inner: float, tips: int) -> Points:
    """`tips` points at radius `outer`, the corners between at `inner`."""
    angles = np.arange(2 * tips) * (np.pi / tips) - np.pi / 2
    radius = np.where(np.arange(2 * tips) % 2 == 0, outer, inner)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def blob(x: float, y: float, rx: float, ry: float, roughness: float, rng: np.random.Generator) -> Points:
    """A closed outline whose radius is a random Fourier series of five harmonics."""
    weights = rng.uniform(-1, 1, (2, 5)) * (roughness / (_HARMONICS - 1))
    ring = np.clip(1 + weights[0] @ _COS_K + weights[1] @ _SIN_K, 0.35, 1.8)
    return np.stack([x + rx * ring * _COS, y + ry * ring * _SIN], axis=1)


def jagged(x: float, y: float, rx: float, ry: float, corners: int, rng: np.random.Generator) -> Points:
    """A convex-ish polygon with uneven corners."""
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    radius = rng.uniform(0.72, 1.1, corners)
    return np.stack([x + rx * radius * np.cos(angles), y + ry * radius * np.sin(angles)], axis=1)


def half_plane(x: float, y: float, angle: float, waviness: float, rng: np.random.Generator, peaks: bool = False) -> Points:
    """Everything on the lower side of a line through (x, y), which undulates by about `waviness`; `peaks` makes it rugged."""
    along = np.linspace(-2.2, 2.2, 67)
    frequency = np.array([1.7, 3.6, 7.3, 15.1])
    draw = rng.uniform(0, 1, (2, 4))
    wave = np.sin(along[:, None] * frequency * (0.7 + 0.6 * draw[0]) + 2 * np.pi * draw[1])
    if peaks:
        wave = 1 - 2 * np.abs(wave)
    across = waviness * (wave @ np.array([0.55, 0.3, 0.15, 0.08]))
    c, s = math.cos(angle), math.sin(angle)
    border = np.stack([x + along * c - across * s, y + along * s + across * c], axis=1)
    far = np.array([(x + 2.2 * c - 3 * s, y + 2.2 * s + 3 * c), (x - 2.2 * c - 3 * s, y - 2.2 * s + 3 * c)])
    return np.concatenate([border, far])
