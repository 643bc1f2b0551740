"""Outlines in a unit frame (x right, y down): the vocabulary that things and regions are drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.scenes.raster import Points

_ANGLES = np.linspace(0, 2 * np.pi, 28, endpoint=False)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
_HARMONICS = np.arange(2, 7)
_COS_K, _SIN_K = np.cos(_ANGLES * _HARMONICS[:, None]), np.sin(_ANGLES * _HARMONICS[:, None])


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    points = np.empty((len(x), 2))
    points[:, 0], points[:, 1] = x, y
    return points


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Centre and radii."""
    return _points(x + rx * _COS, y + ry * _SIN)


def superellipse(x: float, y: float, rx: float, ry: float, power: float) -> Points:
    """|x/rx|**power + |y/ry|**power = 1: a diamond at 1, an ellipse at 2, towards a box above."""
    ring = (np.abs(_COS) ** power + np.abs(_SIN) ** power) ** (-1 / power)
    return _points(x + rx * ring * _COS, y + ry * ring * _SIN)


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
    corners = []
    for x, y, width, end in ((x0, y0, w0, -1), (x1, y1, w1, 1)):
        for along, across in ((0.0, -0.5 * end), (0.35, -0.35 * end), (0.5, 0.0), (0.35, 0.35 * end), (0.0, 0.5 * end)):
            a, b = along * end * width, across * width
            corners.append((x + a * dx - b * dy, y + a * dy + b * dx))
    return np.array(corners)


def star(x: float, y: float, outer: float, inner: float, tips: int) -> Points:
    """`tips` points at radius `outer`, the corners between at `inner`."""
    angles = np.arange(2 * tips) * (np.pi / tips) - np.pi / 2
    radius = np.where(np.arange(2 * tips) % 2 == 0, outer, inner)
    return _points(x + radius * np.cos(angles), y + radius * np.sin(angles))


def blob(x: float, y: float, rx: float, ry: float, roughness: float, rng: np.random.Generator) -> Points:
    """A closed outline whose radius is a random Fourier series of five harmonics."""
    weights = rng.uniform(-1, 1, (2, 5)) * (roughness / (_HARMONICS - 1))
    ring = np.clip(1 + weights[0] @ _COS_K + weights[1] @ _SIN_K, 0.35, 1.8)
    return _points(x + rx * ring * _COS, y + ry * ring * _SIN)


def jagged(x: float, y: float, rx: float, ry: float, corners: int, rng: np.random.Generator) -> Points:
    """A convex-ish polygon with uneven corners."""
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    radius = rng.uniform(0.72, 1.1, corners)
    return _points(x + rx * radius * np.cos(angles), y + ry * radius * np.sin(angles))


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
