"""A seed in, a photo-like picture with its segments and depth out."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.scenes.categories import BY_NAME, LOOKS, Hue
from ldmseg.data.scenes.layout import Layout, Thing, paint_ids, plan, rasterise
from ldmseg.data.scenes.lighting import Picture, cast_shadow, contact_shadow, develop, draw_light, drop_shadow, haze, shade
from ldmseg.data.scenes.raster import Canvas, Patch
from ldmseg.data.scenes.textures import Field, pattern
from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import PanopticMap, Segment

VALIDATION_SEED = 10_000_000
"""Seeds from here up are validation scenes, never trained on."""

Colour = tuple[float, float, float]
"""Red, green, blue in 0..1."""

MIN_SIZE = 32
MAX_SEGMENTS = 32
_CAMOUFLAGED = 0.12


@dataclass(frozen=True)
class Scene:
    """A generated photo with everything that is true about it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        map: the segments, gap free: ids 1..K in no particular order, each with its category and whether it is a thing.
        depth: (H, W) float32, metres from the camera; a segment is nearer than whatever it hides.
        foreground: metres to the ground under the photo's lower edge. A photo shows depth in this unit: the same scene, larger and further
            away, would look the same.
    """

    image: NDArray[np.uint8]
    map: PanopticMap
    depth: NDArray[np.float32]
    foreground: float


def generate_scene(seed: int, size: int | tuple[int, int] = 128, *, segments: tuple[int, int] = (4, 12)) -> Scene:
    """The scene of a seed: the same bytes for the same arguments, and the same scene, finer, at a larger size.

    Args:
        seed: 0 or more; from `VALIDATION_SEED` up for validation.
        size: pixels of a side, or (height, width); at least 32.
        segments: fewest and most segments.

    Raises:
        InputError: an argument is out of range.
    """
    canvas, segments = _checked(seed, size, segments)
    layout = plan(seed, canvas, segments)
    return _Studio(layout, canvas).scene()


def generate_ids(seed: int, size: int | tuple[int, int] = 128, *, segments: tuple[int, int] = (4, 12)) -> NDArray[np.int32]:
    """(H, W) ids of `generate_scene` with the same arguments, without painting the picture.

    Raises:
        InputError: an argument is out of range.
    """
    canvas, segments = _checked(seed, size, segments)
    layout = plan(seed, canvas, segments)
    regions, parts, _ = rasterise(layout, canvas)
    return paint_ids(layout, canvas, regions, parts)


def _checked(seed: int, size: int | tuple[int, int], segments: tuple[int, int]) -> tuple[Canvas, tuple[int, int]]:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed: expected an integer of 0 or more, got {quoted(seed)}")
    sides = (size, size) if isinstance(size, int | np.integer) else size
    if not _is_pair(sides) or min(sides) < MIN_SIZE:
        raise InputError(f"size: expected an integer or (height, width) of at least {MIN_SIZE}, got {quoted(size)}")
    if max(sides) > 4 * min(sides):
        raise InputError(f"size: expected sides within a ratio of 4, got {quoted(size)}")
    if not _is_pair(segments) or not 1 <= segments[0] <= segments[1] <= MAX_SEGMENTS:
        raise InputError(f"segments: expected (fewest, most) with 1 <= fewest <= most <= {MAX_SEGMENTS}, got {quoted(segments)}")
    return Canvas(int(sides[0]), int(sides[1])), (int(segments[0]), int(segments[1]))


def _is_pair(values: object) -> bool:
    return isinstance(values, tuple | list) and len(values) == 2 and all(isinstance(v, int | np.integer) for v in values)


class _Studio:
    """Paints one layout, far to near."""

    def __init__(self, layout: Layout, canvas: Canvas) -> None:
        self.layout, self.canvas, self.rng = layout, canvas, layout.rng
        self.light = draw_light(self.rng)
        self.picture: Picture = np.zeros((3, canvas.height, canvas.width), dtype=np.float32)
        self.depth: Field = np.zeros((canvas.height, canvas.width), dtype=np.float32)
        self.xs = ((np.arange(canvas.width, dtype=np.float32) + np.float32(0.5)) / np.float32(canvas.scale))[None, :]
        self.ys = ((np.arange(canvas.height, dtype=np.float32) + np.float32(0.5)) / np.float32(canvas.scale))[:, None]
        back = layout.backdrop
        below = np.maximum(self.ys - np.float32(back.horizon), np.float32(1e-4))
        self.ground = np.minimum(np.float32(back.slope) / below, np.float32(back.furthest))  # (H, 1) metres

    def scene(self) -> Scene:
        """Paint everything and develop the photo."""
        layout, canvas = self.layout, self.canvas
        shadows = tuple(
            cast_shadow(part.rings, thing.base, 1.0, self.light, thing.standing) for thing in layout.things for part in thing.parts
        )
        regions, parts, dark = rasterise(layout, canvas, shadows)
        for index, patch in enumerate(regions):
            self._paint_region(index, patch)
        if layout.backdrop.kind == "outdoor":
            amount, tone = self.rng.random(2).tolist()
            colour = np.array([0.72, 0.78, 0.86], dtype=np.float32) * np.float32(0.8 + 0.25 * tone)
            haze(self.picture, self.depth, 0.55 * amount * amount, colour, layout.backdrop.furthest * 1.5)
        start = 0
        for thing in layout.things:
            stop = start + len(thing.parts)
            self._paint_thing(thing, parts[start:stop], dark[start:stop])
            start = stop
        ids = paint_ids(layout, canvas, regions, parts)
        names = [region.name for region in layout.regions] + [thing.name for thing in layout.things]
        categories = {segment_id: BY_NAME[name] for segment_id, name in zip(layout.ids, names, strict=True)}
        segments = tuple(Segment(i, categories[i].id, categories[i].isthing) for i in np.unique(ids).tolist())
        image = develop(self.picture, self.depth, self.rng)
        return Scene(image, PanopticMap(ids, segments), self.depth, layout.backdrop.ground_depth(canvas.y))

    def _paint_region(self, index: int, patch: Patch) -> None:
        region = self.layout.regions[index]
        box = patch.box if index else (slice(None), slice(None))
        xs, ys = self.xs[:, box[1]], self.ys[box[0]]
        look = LOOKS[region.name]
        palette = look.palettes[int(self.rng.integers(len(look.palettes)))]
        texture = look.textures[int(self.rng.integers(len(look.textures)))]
        tint, scale, phase, angle, strength, fade, uneven = self.rng.random(7).tolist()
        first = self._colour(palette[0])
        second = _second(first, look.contrast * (0.35 + 0.65 * strength), tint)
        if region.surface == "ground" and not self.layout.backdrop.from_above:
            depth = self.ground[box[0]] * np.float32(region.far)
            near = np.float32(1 / self.ground[-1, 0])
            x = (xs - np.float32(self.canvas.x / 2)) * depth * near  # texture shrinks with distance
            y = depth * near * np.float32(0.6)
        else:
            depth = self.ground[box[0]] * np.float32(region.far) if region.surface == "ground" else np.full_like(ys, region.far)
            x, y = xs, ys
            if region.surface == "ground":
                c, s = np.float32(math.cos(3.1 * angle)), np.float32(math.sin(3.1 * angle))
                x, y = x * c - y * s, x * s + y * c
        mix = pattern(texture, x, y, 0.5 + 1.2 * scale, phase)
        light = 1 + np.float32(0.6 * (fade - 0.5)) * (ys - np.float32(0.5)) + np.float32(0.3 * (phase - 0.5)) * (xs - np.float32(0.5))
        if uneven < 0.6:  # broad patches of lighter and darker
            light = light + np.float32(0.6 * uneven) * (pattern("clouds", x, y, 0.35, phase) - np.float32(0.5))
        rgb = _mixed(first, second, mix) * light
        if index == 0:
            self.picture[:], self.depth[:] = rgb, depth
            return
        np.copyto(self.picture[:, box[0], box[1]], rgb, where=patch.mask)
        np.copyto(self.depth[box], depth, where=patch.mask)

    def _paint_thing(self, thing: Thing, patches: list[Patch], shadows: list[Patch]) -> None:
        look = LOOKS[thing.name]
        palette = look.palettes[int(self.rng.integers(len(look.palettes)))]
        texture = look.textures[int(self.rng.integers(len(look.textures)))]
        hide, scale, phase, plain, strength, wild, tint, edge = self.rng.random(8).tolist()
        colours = [self._colour(hue if wild > 0.15 else Hue(0.0, 0.5, (0.0, 1.0), (0.1, 0.95))) for hue in palette]
        if hide < _CAMOUFLAGED:
            colours[0] = self._beneath(thing, colours[0])
        self._shadow(thing, shadows)
        rx, ry = max(thing.radii[0], 1e-3), max(thing.radii[1], 1e-3)
        c, s = np.float32(math.cos(thing.angle)), np.float32(math.sin(thing.angle))
        size = math.sqrt(rx * ry)
        for number, (part, patch) in enumerate(zip(thing.parts, patches, strict=True)):
            if not patch.mask.size:
                continue
            rows, columns = patch.box
            first = colours[part.slot % len(colours)]
            second = _second(first, look.contrast * (0.3 + 0.7 * strength), tint)
            dx, dy = self.xs[:, columns] - np.float32(thing.centre[0]), self.ys[rows] - np.float32(thing.centre[1])
            ring = part.rings[0]
            low, high = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
            u = (self.xs[:, columns] - np.float32((low[0] + high[0]) / 2)) * np.float32(2 / max(high[0] - low[0], 1e-3))
            v = (self.ys[rows] - np.float32((low[1] + high[1]) / 2)) * np.float32(2 / max(high[1] - low[1], 1e-3))
            lit = shade(part.relief, self.light, u, v)
            if texture == "flat" or (number > 0 and plain < 0.5 and part.slot != thing.parts[0].slot):
                rgb = np.array(first, dtype=np.float32)[:, None, None] * lit
            else:
                mix = pattern(texture, dx * c + dy * s, dy * c - dx * s, (0.7 + 1.1 * scale) * (0.35 / (size + 0.15)), phase)
                rgb = _mixed(first, second, mix) * lit
            if part.relief == "round" and edge < 0.35:  # a highlight
                a, b = u - np.float32(0.5 * self.light.x), v - np.float32(0.5 * self.light.y)
                rgb = rgb + np.float32(0.5) * np.maximum(1 - (a * a + b * b) * np.float32(9), 0)
            np.copyto(self.picture[:, rows, columns], rgb, where=patch.mask)
            self.depth[rows, columns][patch.mask] = thing.depth

    def _shadow(self, thing: Thing, shadows: list[Patch]) -> None:
        """What the thing keeps the light from, before it is painted itself."""
        from_above = self.layout.backdrop.from_above
        if thing.standing or from_above:
            softness = max(1, round(self.canvas.scale * (0.008 if from_above else 0.012)))
            for patch in _joined(shadows):
                drop_shadow(self.picture, patch, self.light.shadow, softness)
        if thing.standing:
            contact_shadow(self.picture, self.canvas, thing.centre[0], thing.base, thing.radii[0] * 1.05, 0.5 * self.light.shadow + 0.15)

    def _colour(self, hue: Hue) -> Colour:
        h, s, v = self.rng.random(3).tolist()
        turn = (hue.h + hue.spread * (2 * h - 1)) % 1.0
        return colorsys.hsv_to_rgb(turn, hue.s[0] + s * (hue.s[1] - hue.s[0]), hue.v[0] + v * (hue.v[1] - hue.v[0]))

    def _beneath(self, thing: Thing, colour: Colour) -> Colour:
        """Nearly the colour that lies behind the thing's centre, a little brighter or darker."""
        row = min(max(int(thing.centre[1] * self.canvas.scale), 0), self.canvas.height - 1)
        column = min(max(int(thing.centre[0] * self.canvas.scale), 0), self.canvas.width - 1)
        behind = self.picture[:, row, column].tolist()
        factor = 0.78 if sum(behind) > 1.2 else 1.35
        r, g, b = (min(1.0, 0.85 * old * factor + 0.15 * own) for old, own in zip(behind, colour, strict=True))
        return r, g, b


def _second(first: Colour, contrast: float, tint: float) -> Colour:
    """The colour a texture mixes in: darker or lighter than the first, a little off in hue."""
    darker = sum(first) / 3 > 0.25 + 0.5 * tint
    factor, lift, shift = (1 - 0.75 * contrast, 0.0, 0.08 * (tint - 0.5)) if darker else (1 + contrast, 0.08, 0.08 * (tint - 0.5))
    r, g, b = (min(1.0, max(0.0, value * factor + lift + bend)) for value, bend in zip(first, (shift, 0.0, -shift), strict=True))
    return r, g, b


def _mixed(first: Colour, second: Colour, mix: Field) -> Picture:
    """(3, h, w): the first colour where `mix` is 0, the second where it is 1."""
    start = np.array(first, dtype=np.float32)
    change = np.array(second, dtype=np.float32) - start
    return start[:, None, None] + change[:, None, None] * mix


def _joined(patches: list[Patch]) -> list[Patch]:
    """The patches as one, so that shadows of parts do not darken twice."""
    seen = [p for p in patches if p.mask.size]
    if len(seen) < 2:
        return seen
    y0, x0 = min(p.y0 for p in seen), min(p.x0 for p in seen)
    y1, x1 = max(p.y0 + p.mask.shape[0] for p in seen), max(p.x0 + p.mask.shape[1] for p in seen)
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.bool_)
    for p in seen:
        mask[p.y0 - y0 : p.y0 - y0 + p.mask.shape[0], p.x0 - x0 : p.x0 - x0 + p.mask.shape[1]] |= p.mask
    return [Patch(y0, x0, mask)]
