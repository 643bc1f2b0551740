"""Surface patterns: fields in 0..1 that mix two colours, cut from noise tiles made once per process or computed on the spot."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_TILE = 256
_MASK = _TILE - 1
_DENSITY = 160.0
"""Tile cells per unit of image length at scale 1."""


@cache
def noise_tiles() -> dict[str, Field]:
    """Tileable (256, 256) fields in 0..1, by name; the same in every process."""
    rng = np.random.default_rng(20_240_117)
    fy, fx = np.fft.fftfreq(_TILE)[:, None] * _TILE, np.fft.rfftfreq(_TILE)[None, :] * _TILE

    def fractal(slope: float, lowest: float, stretch: float = 1.0) -> NDArray[np.float64]:
        radius = np.hypot(fy * stretch, fx)
        spectrum = np.where(radius >= lowest, np.maximum(radius, 1.0) ** -slope, 0.0)
        return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) * spectrum, s=(_TILE, _TILE))

    fields = {
        "clouds": fractal(2.4, 1.0),
        "fractal": fractal(1.7, 3.0),
        "grain": fractal(0.6, 12.0),
        "leafy": np.abs(fractal(1.3, 10.0)) * (1.5 + np.tanh(fractal(1.5, 4.0) * 40)),
        "ridged": -np.abs(fractal(1.8, 4.0)),
        "waves": fractal(1.6, 6.0, 5.0),
        "streaks": fractal(1.4, 4.0, 14.0),
        "cells": _cells(rng),
    }
    return {name: _levelled(field) for name, field in fields.items()}


def _cells(rng: np.random.Generator) -> NDArray[np.float64]:
    """Distance to the nearest of scattered points, on the torus."""
    points = (np.stack(np.divmod(np.arange(400), 20), axis=1) + rng.uniform(0.1, 0.9, (400, 2))) * (_TILE / 20)
    axis = np.arange(_TILE)
    best = np.full((_TILE, _TILE), np.inf)
    for y, x in points.tolist():
        dy = np.minimum(np.abs(axis - y), _TILE - np.abs(axis - y))
        dx = np.minimum(np.abs(axis - x), _TILE - np.abs(axis - x))
        np.minimum(best, dy[:, None] ** 2 + dx[None, :] ** 2, out=best)
    return np.sqrt(best)


def _levelled(field: NDArray[np.float64]) -> Field:
    """Stretched so that the 2nd and 98th percentiles become 0 and 1, in steps of 1/255 (immune to the last bits of an FFT)."""
    low, high = np.percentile(field, [2, 98])
    return (np.round(np.clip((field - low) / (high - low), 0, 1) * 255) / 255).astype(np.float32)


def pattern(name: str, x: Field, y: Field, scale: float, phase: float) -> Field:
    """Texture `name` over surface coordinates, (h, w) float32 in 0..1.

    Args:
        x: (1, w) or (h, w) surface coordinates in units of image length; y likewise, (h, 1) or (h, w).
        scale: pattern repeats per unit relative to the usual.
        phase: 0..1, where in the pattern the surface lies.
    """
    tile = noise_tiles().get(name)
    if tile is not None:
        step = np.float32(_DENSITY * scale)
        column = (x * step + np.float32(phase * 977)).astype(np.int32) & _MASK
        row = (y * step + np.float32(phase * 613)).astype(np.int32) & _MASK
        return tile.ravel()[(row << 8) | column]
    return _REGULAR[name](x * np.float32(scale) + np.float32(phase), y * np.float32(scale) + np.float32(phase))


def _fraction(values: Field) -> Field:
    return values - np.floor(values)


def _stripes(x: Field, y: Field) -> Field:
    return np.where(_fraction(y * np.float32(9)) < 0.45, np.float32(1), np.float32(0)) + 0 * x


def _checker(x: Field, y: Field) -> Field:
    return ((np.floor(x * np.float32(8)) + np.floor(y * np.float32(8))) % 2).astype(np.float32)


def _spots(x: Field, y: Field) -> Field:
    row = np.floor(y * np.float32(9))
    a, b = _fraction(x * np.float32(9) + np.float32(0.5) * row) - np.float32(0.5), _fraction(y * np.float32(9)) - np.float32(0.5)
    return np.clip((np.float32(0.12) - a * a - b * b) * np.float32(16), 0, 1)


def _tiles(x: Field, y: Field) -> Field:
    a, b = _fraction(x * np.float32(6)), _fraction(y * np.float32(6))
    shade = _fraction(np.floor(x * np.float32(6)) * np.float32(0.618) + np.floor(y * np.float32(6)) * np.float32(0.377))
    return np.where((a < 0.08) | (b < 0.08), np.float32(1), np.float32(0.35) * shade)


def _bricks(x: Field, y: Field) -> Field:
    row = np.floor(y * np.float32(14))
    across = x * np.float32(6) + np.float32(0.5) * row
    a, b = _fraction(across), _fraction(y * np.float32(14))
    shade = _fraction(np.floor(across) * np.float32(0.618) + row * np.float32(0.377))
    return np.where((a < 0.07) | (b < 0.16), np.float32(1), np.float32(0.4) * shade)


def _planks(x: Field, y: Field) -> Field:
    column = np.floor(x * np.float32(8))
    a = _fraction(x * np.float32(8))
    joint = _fraction(y * np.float32(1.3) + column * np.float32(0.381))
    shade = _fraction(column * np.float32(0.618) + np.floor(y * np.float32(1.3) + column * np.float32(0.381)) * np.float32(0.29))
    return np.where((a < 0.07) | (joint < 0.03), np.float32(1), np.float32(0.55) * shade)


def _folds(x: Field, y: Field) -> Field:
    return np.float32(0.5) + np.float32(0.5) * np.sin(x * np.float32(52) + np.float32(1.5) * np.sin(y * np.float32(3) + x * np.float32(7)))


def _flat(x: Field, y: Field) -> Field:
    return np.zeros((1, 1), dtype=np.float32)


_REGULAR = {
    "flat": _flat,
    "stripes": _stripes,
    "checker": _checker,
    "spots": _spots,
    "tiles": _tiles,
    "bricks": _bricks,
    "planks": _planks,
    "folds": _folds,
}
