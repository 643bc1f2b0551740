"""Light in a scene: shading by relief, shadows, haze, and what a camera adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.data.scenes.raster import Canvas, Patch, Rings
from ldmseg.data.scenes.textures import Field, noise_tiles

Picture = NDArray[np.float32]
"""(3, H, W) linear-ish colour in 0..1."""


@dataclass(frozen=True, slots=True)
class Light:
    """One directional light: towards the lamp in the image plane and out of it, how strong, and how dark shadows are."""

    x: float
    y: float
    z: float
    ambient: float
    shadow: float
    reach: float


def draw_light(rng: np.random.Generator) -> Light:
    """A random lamp above the scene."""
    turn, height, ambient, shadow, reach = rng.random(5).tolist()
    angle = math.pi * (0.1 + 0.8 * turn)
    z = 0.35 + 0.5 * height
    flat = math.sqrt(1 - z * z)
    return Light(-flat * math.cos(angle), -flat * math.sin(angle), z, 0.45 + 0.35 * ambient, 0.2 + 0.45 * shadow, 0.15 + 0.9 * reach)


def shade(relief: str, light: Light, u: Field, v: Field) -> Field:
    """Brightness of a surface point at u, v in -1..1 across a part: (h, w) float32 around 1."""
    gain = np.float32(1.25 * (1 - light.ambient))
    base = np.float32(light.ambient)
    if relief == "flat":
        return base + gain * (np.float32(light.z) + np.float32(0.25 * light.x) * u + np.float32(0.25 * light.y) * v)
    if relief == "tube":
        across = np.clip(u, -1, 1)
        lit = np.float32(light.x) * across + np.float32(light.z) * np.sqrt(np.float32(1.02) - across * across)
        return base + gain * np.maximum(lit + np.float32(0.3 * light.y) * v, 0)
    square = u * u + v * v
    out = np.sqrt(np.maximum(np.float32(1.05) - square, np.float32(0.05)))
    lit = np.maximum(np.float32(light.x) * u + np.float32(light.y) * v + np.float32(light.z) * out, 0)
    return base + np.float32(1.35) * gain * lit


def cast_shadow(rings: Rings, base: float, depth_ratio: float, light: Light, standing: bool) -> Rings:
    """The outline of a thing's shadow: laid along the ground when it stands, shifted when it hovers over a surface."""
    if standing:
        long = light.reach * depth_ratio
        lean = -light.x * light.reach * 1.4
        flatten = np.array([[1.0, 0.0], [-lean, 0.35 * long]])
        foot = np.array([lean * base, base * (1 - 0.35 * long)])
        return tuple(ring @ flatten + foot for ring in rings)
    offset = np.array([-light.x, -light.y]) * 0.05 * light.reach
    return tuple(ring + offset for ring in rings)


def drop_shadow(picture: Picture, patch: Patch, strength: float, softness: int) -> None:
    """Darken the picture in place under a shadow with soft borders."""
    height, width = patch.mask.shape
    if height == 0 or width == 0:
        return
    pad = softness
    rows, columns = picture.shape[1:]
    top, left = min(pad, patch.y0), min(pad, patch.x0)
    below, right = min(pad, rows - patch.y0 - height), min(pad, columns - patch.x0 - width)
    soft = np.zeros((top + height + below, left + width + right), dtype=np.float32)
    soft[top : top + height, left : left + width] = patch.mask
    soft = ndimage.uniform_filter(soft, 2 * softness + 1, mode="nearest")
    picture[:, patch.y0 - top : patch.y0 + height + below, patch.x0 - left : patch.x0 + width + right] *= 1 - np.float32(strength) * soft


def contact_shadow(picture: Picture, canvas: Canvas, x: float, y: float, radius: float, strength: float) -> None:
    """A soft dark ellipse where a thing touches the ground."""
    rx, ry = radius * canvas.scale, 0.22 * radius * canvas.scale + 1
    cx, cy = x * canvas.scale, y * canvas.scale
    x0, x1 = max(0, int(cx - 2 * rx)), min(canvas.width, int(cx + 2 * rx) + 1)
    y0, y1 = max(0, int(cy - 2 * ry)), min(canvas.height, int(cy + 2 * ry) + 1)
    if x1 <= x0 or y1 <= y0:
        return
    across = np.exp(-(((np.arange(x0, x1, dtype=np.float32) - np.float32(cx)) / np.float32(rx)) ** 2) * 2)
    down = np.exp(-(((np.arange(y0, y1, dtype=np.float32) - np.float32(cy)) / np.float32(ry)) ** 2) * 2)
    picture[:, y0:y1, x0:x1] *= 1 - np.float32(strength) * down[:, None] * across[None, :]


def haze(picture: Picture, depth: Field, amount: float, colour: NDArray[np.float32], reach: float) -> None:
    """Distance fades towards `colour`, in place."""
    fog = np.float32(amount) * (1 - np.exp(depth * np.float32(-1 / reach)))
    picture += fog * (colour[:, None, None] - picture)


def develop(picture: Picture, depth: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: uneven light, vignetting, colour cast, exposure, softness, sensor noise."""
    _, height, width = picture.shape
    draw = rng.random(17).tolist()
    x, y = np.linspace(-1, 1, width, dtype=np.float32)[None, :], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    gain = 1 + np.float32(0.3 * (draw[0] - 0.5)) * x + np.float32(0.3 * (draw[1] - 0.5)) * y
    gain = gain - np.float32(0.22 * draw[2] ** 2) * (x * x + y * y)
    if draw[3] < 0.3:  # dappled light
        tile = noise_tiles()["clouds"]
        rows = (np.arange(height) * (200 / height) + 256 * draw[4]).astype(np.intp) & 255
        columns = (np.arange(width) * (200 / height) + 256 * draw[5]).astype(np.intp) & 255
        gain = gain * (1 + np.float32(0.5 * draw[6]) * (tile[rows[:, None], columns[None, :]] - np.float32(0.5)))
    cast = 1 + 0.16 * (np.array(draw[7:10], dtype=np.float32) - np.float32(0.5))
    exposure = np.float32(0.85 + 0.35 * draw[10])
    picture *= (cast * exposure)[:, None, None]
    picture *= gain
    if draw[16] < 0.02:  # black and white
        picture[:] = picture.mean(axis=0)
    else:
        picture += np.float32(0.4 * draw[16] ** 2) * (picture.mean(axis=0) - picture)
    picture = _soften(picture, 0.07 + 0.13 * draw[11])
    if draw[12] < 0.2:  # a long lens: what is far is out of focus
        far = np.clip((depth / np.float32(np.median(depth)) - 1) * np.float32(1.5), 0, 1)
        size = max(3, round(width / 40) | 1)
        blurred = np.stack([ndimage.uniform_filter(channel, size, mode="nearest") for channel in picture])
        picture += far * (blurred - picture)
    noise = np.float32(0.003 + 0.03 * draw[13] ** 3)
    grain = rng.standard_normal((height, width), dtype=np.float32) * noise
    for channel, shift in zip(picture, (7, 19, 31), strict=True):  # mostly grey, a little of each colour
        channel += grain
        channel += np.float32(0.5) * np.roll(grain, shift * width + shift)
    contrast = 0.9 + 0.35 * draw[14]
    picture *= np.float32(255 * contrast)
    picture += np.float32(255 * (0.45 * (1 - contrast) + 0.08 * (draw[15] - 0.4)) + 0.5)
    np.clip(picture, 0, 255, out=picture)
    return np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 2, 0))


def _soften(picture: Picture, side: float) -> Picture:
    """A separable three-tap blur: takes the stairs off the borders."""
    side32, middle = np.float32(side), np.float32(1 - 2 * side)
    rows = picture * middle
    rows[:, 1:] += side32 * picture[:, :-1]
    rows[:, :-1] += side32 * picture[:, 1:]
    rows[:, 0] += side32 * picture[:, 0]
    rows[:, -1] += side32 * picture[:, -1]
    out = rows * middle
    out[:, :, 1:] += side32 * rows[:, :, :-1]
    out[:, :, :-1] += side32 * rows[:, :, 1:]
    out[:, :, 0] += side32 * rows[:, :, 0]
    out[:, :, -1] += side32 * rows[:, :, -1]
    return out
