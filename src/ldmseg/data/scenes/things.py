"""The shapes of things: each category is drawn from parts, which may differ in colour yet are one segment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ldmseg.data.scenes.raster import Rings
from ldmseg.data.scenes.shapes import blob, box, ellipse, jagged, limb, polygon, star, superellipse, tapered

Relief = Literal["round", "tube", "flat"]


@dataclass(frozen=True, slots=True)
class Part:
    """One outline of a thing: its colour slot and how light falls on it."""

    rings: Rings
    slot: int = 0
    relief: Relief = "round"


Builder = Callable[[np.random.Generator], list[Part]]


def _between(rng: np.random.Generator, low: Sequence[float], high: Sequence[float]) -> list[float]:
    """One uniform draw from each range."""
    return [a + (b - a) * share for a, b, share in zip(low, high, rng.random(len(low)).tolist(), strict=True)]


def _ball(rng: np.random.Generator) -> list[Part]:
    squash, band, offset = _between(rng, (0.85, 0.08, -0.2), (1.0, 0.25, 0.2))
    parts = [Part((ellipse(0, 0, 0.5, 0.5 * squash),))]
    if rng.random() < 0.4:
        half = 0.47 * (1 - offset**2) ** 0.5
        parts.append(Part((superellipse(0, offset, half, band * 0.6, 3.0),), 1))
    return parts


def _box(rng: np.random.Generator) -> list[Part]:
    depth, lift, height, split = _between(rng, (0.12, 0.08, 0.4, 0.0), (0.4, 0.25, 1.0, 1.0))
    w, top = 0.4, -height / 2
    parts = [
        Part((box(0, 0, 2 * w, height),), 0, "flat"),
        Part((polygon([(-w, top), (w, top), (w + depth, top - lift), (-w + depth, top - lift)]),), 1, "flat"),
        Part((polygon([(w, top), (w + depth, top - lift), (w + depth, -top - lift), (w, -top)]),), 0, "tube"),
    ]
    if split < 0.4:
        parts.append(Part((box(0, top * (2 * split - 0.4), 2 * w, 0.12),), 2, "flat"))
    return parts


def _bottle(rng: np.random.Generator) -> list[Part]:
    width, shoulder, neck, label = _between(rng, (0.12, -0.25, 0.04, 0.0), (0.24, 0.0, 0.09, 1.0))
    body = polygon(
        [
            (-neck, -0.5),
            (neck, -0.5),
            (neck, shoulder - 0.1),
            (width, shoulder),
            (width, 0.47),
            (width * 0.85, 0.5),
            (-width * 0.85, 0.5),
            (-width, 0.47),
            (-width, shoulder),
            (-neck, shoulder - 0.1),
        ]
    )
    parts = [Part((body,), 0, "tube"), Part((box(0, -0.5, 2.6 * neck, 0.08),), 2, "tube")]
    if label < 0.65:
        parts.append(Part((box(0, 0.2, 1.96 * width, 0.14 + 0.3 * label),), 1, "tube"))
    return parts


def _animal(rng: np.random.Generator) -> list[Part]:
    leg, thick, neck, head, tail, girth = _between(rng, (0.12, 0.05, 0.05, 0.09, -0.2, 0.15), (0.4, 0.1, 0.35, 0.15, 0.2, 0.24))
    strides = rng.uniform(-0.07, 0.07, 4).tolist()
    hips = (-0.3, -0.2, 0.2, 0.3)
    parts = [Part((limb(x, 0.05, x + s, 0.1 + leg, thick * 1.3, thick * 0.8),), 0, "tube") for x, s in zip(hips, strides, strict=True)]
    parts.append(Part((limb(-0.38, -0.05, -0.55, tail, 0.06, 0.03),), 0, "tube"))
    parts.append(Part((blob(0, 0, 0.42, girth, 0.12, rng),)))
    parts.append(Part((limb(0.32, -0.05, 0.45, -neck, 0.2, 0.12),)))
    parts.append(Part((ellipse(0.5, -neck - 0.02, head * 1.25, head),), 1 if thick < 0.075 else 0))
    parts.append(Part((tapered(0.44, -neck - head - 0.1, 0.02, -neck - head * 0.5, 0.09),), 2, "flat"))
    return parts


def _person(rng: np.random.Generator) -> list[Part]:
    spread, arm_l, arm_r, width, head = _between(rng, (0.02, -0.3, -0.3, 0.1, 0.06), (0.16, 0.35, 0.35, 0.16, 0.085))
    parts = [Part((limb(side * 0.05, 0.05, side * (0.04 + spread), 0.48, 0.12, 0.07),), 1, "tube") for side in (-1, 1)]
    parts.append(Part((limb(-width, -0.2, -width - 0.13, 0.05 + 0.2 * arm_l - abs(arm_l) * 0.4, 0.07, 0.05),), 0, "tube"))
    parts.append(Part((limb(width, -0.2, width + 0.13, 0.05 + 0.2 * arm_r - abs(arm_r) * 0.4, 0.07, 0.05),), 0, "tube"))
    parts.append(Part((tapered(0, -0.27, 2 * width, 0.1, 1.6 * width),), 0, "tube"))
    parts.append(Part((ellipse(0, -0.36, head * 0.9, head * 1.15),), 2))
    if rng.random() < 0.6:
        parts.append(Part((superellipse(0, -0.42, head, head * 0.6, 2.4),), 1))
    return parts


def _car(rng: np.random.Generator) -> list[Part]:
    height, cabin, start, wheel, nose = _between(rng, (0.13, 0.12, -0.4, 0.07, 0.0), (0.22, 0.2, -0.15, 0.11, 0.08))
    body = polygon(
        [(-0.5, 0.15), (-0.5, 0.17 - height), (-0.42, 0.15 - height), (0.4, 0.15 - height + nose), (0.5, 0.19 - height + nose), (0.5, 0.15)]
    )
    roof = polygon(
        [(start, 0.16 - height), (start + 0.1, 0.15 - height - cabin), (start + 0.42, 0.15 - height - cabin), (start + 0.58, 0.17 - height)]
    )
    glass = polygon(
        [
            (start + 0.06, 0.14 - height),
            (start + 0.12, 0.18 - height - cabin),
            (start + 0.4, 0.18 - height - cabin),
            (start + 0.5, 0.14 - height),
        ]
    )
    wheels = [Part((ellipse(x, 0.15, wheel, wheel),), 2) for x in (-0.29, 0.29)]
    return [Part((roof,), 0, "flat"), Part((glass,), 1, "flat"), Part((body,), 0, "tube"), *wheels]


def _tree(rng: np.random.Generator) -> list[Part]:
    kind, width, trunk = _between(rng, (0.0, 0.18, 0.03), (1.0, 0.36, 0.08))
    parts = [Part((tapered(0, -0.1, trunk, 0.5, trunk * 1.7),), 0, "tube")]
    if kind < 0.35:  # conifer
        tiers = ((-0.5, -0.15, 0.65), (-0.32, 0.05, 0.85), (-0.12, 0.28, 1.0))
        return parts + [Part((tapered(0, top, 0.02, bottom, 2 * width * w),), 1, "tube") for top, bottom, w in reversed(tiers)]
    parts.append(Part((blob(0, -0.18, width, 0.3, 0.28, rng),), 1))
    if kind > 0.7:
        parts.append(Part((blob(0.6 * width, -0.05, width * 0.6, 0.17, 0.25, rng),), 1))
    return parts


def _house(rng: np.random.Generator) -> list[Part]:
    wall, roof, eave, door, lean = _between(rng, (0.3, 0.15, 0.02, -0.2, -0.1), (0.6, 0.35, 0.1, 0.2, 0.1))
    top = 0.4 - wall
    parts = [Part((box(0, 0.4 - wall / 2, 0.8, wall),), 0, "flat")]
    parts.append(Part((tapered(0, top - roof, 0.02 if lean < 0 else 0.5, top, 0.8 + 2 * eave),), 1, "flat"))
    parts.append(Part((box(door, 0.4 - wall * 0.3, 0.14, wall * 0.6),), 2, "flat"))
    for x in (-0.28, 0.28):
        if abs(x - door) > 0.17:
            parts.append(Part((box(x, top + wall * 0.4, 0.15, wall * 0.3),), 2, "flat"))
    return parts


def _sign(rng: np.random.Generator) -> list[Part]:
    kind, pole, size = _between(rng, (0.0, 0.03, 0.14), (1.0, 0.06, 0.24))
    if kind < 0.3:
        plate, inner = ellipse(0, -0.28, size, size), ellipse(0, -0.28, size * 0.65, size * 0.65)
    elif kind < 0.55:
        plate, inner = box(0, -0.3, 2.6 * size, 1.4 * size), box(0, -0.3, 2.1 * size, 0.9 * size)
    elif kind < 0.75:
        plate, inner = star(0, -0.28, size * 1.2, size * 0.62, 3), star(0, -0.28, size * 0.7, size * 0.36, 3)
    else:  # a lamp: a shade over a thin stand
        return [
            Part((box(0, 0.1, pole, 0.8),), 0, "tube"),
            Part((tapered(0, -0.5, size, -0.15, 2.2 * size),), 1, "tube"),
            Part((box(0, 0.48, 6 * pole, 0.05),), 0, "flat"),
        ]
    return [Part((box(0, 0.1, pole, 0.8),), 0, "tube"), Part((plate,), 1, "flat"), Part((inner,), 2, "flat")]


def _fruit(rng: np.random.Generator) -> list[Part]:
    kind, tall, leaf = _between(rng, (0.0, 0.8, 0.1), (1.0, 1.2, 0.3))
    if kind < 0.25:  # banana: a bent band
        angles = np.linspace(0.35, np.pi - 0.35, 13)
        outer = np.stack([0.5 * np.cos(angles), 0.5 * np.sin(angles)], axis=1)
        inner = np.stack([0.44 * np.cos(angles), 0.14 + 0.2 * np.sin(angles)], axis=1)[::-1]
        return [Part((np.concatenate([outer, inner]),), 0, "tube")]
    parts = [
        Part((blob(0, 0, 0.42, 0.42 * tall, 0.09, rng),)),
        Part((limb(0, -0.38 * tall, leaf - 0.2, -0.55 * tall, 0.05, 0.04),), 1, "flat"),
    ]
    if leaf > 0.17:
        parts.append(Part((ellipse(0.13, -0.47 * tall, 0.14, 0.05),), 2))
    return parts


def _flower(rng: np.random.Generator) -> list[Part]:
    stem, inner, heart = _between(rng, (0.2, 0.12, 0.06), (0.6, 0.22, 0.12))
    petals = int(rng.integers(4, 9))
    parts = [Part((limb(0, 0, 0.05, stem, 0.05, 0.05),), 2, "tube")]
    if stem > 0.35:
        parts.append(Part((ellipse(0.12, stem * 0.7, 0.12, 0.045),), 2))
    angles = np.linspace(0, 2 * np.pi, 6 * petals, endpoint=False)
    radius = inner + (0.32 - inner) * np.abs(np.cos(angles * petals / 2)) ** 0.6
    parts.append(Part((np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1),)))
    return [*parts, Part((ellipse(0, 0, heart, heart),), 1)]


def _ring(rng: np.random.Generator) -> list[Part]:
    squash, inner, power = _between(rng, (0.5, 0.45, 1.6), (1.0, 0.75, 5.0))
    if rng.random() < 0.6:
        power = 2.0
    parts = [Part((superellipse(0, 0, 0.5, 0.5 * squash, power), superellipse(0, 0, 0.5 * inner, 0.5 * inner * squash, power)))]
    if rng.random() < 0.35:
        parts.append(Part((box(0.5 * (1 + inner) / 2, 0, 0.55 * (1 - inner), 0.16),), 1))
    return parts


def _stone(rng: np.random.Generator) -> list[Part]:
    tall = float(rng.uniform(0.5, 1.0))
    corners = int(rng.integers(6, 11))
    parts = [Part((jagged(0, 0, 0.5, 0.45 * tall, corners, rng),), 0, "round")]
    if rng.random() < 0.3:
        parts.append(Part((jagged(-0.05, -0.1 * tall, 0.25, 0.2 * tall, 6, rng),), 1, "flat"))
    return parts


def _frame(rng: np.random.Generator) -> list[Part]:
    wide, border, bars = _between(rng, (0.6, 0.04, 0.0), (1.5, 0.1, 1.0))
    w, h = wide**0.5 * 0.8, wide**-0.5 * 0.8
    parts = [Part((box(0, 0, w, h),), 0, "flat"), Part((box(0, 0, w - 2 * border, h - 2 * border),), 1, "flat")]
    if bars < 0.35:
        parts += [Part((box(0, 0, 0.04, h - border),), 0, "flat"), Part((box(0, 0, w - border, 0.04),), 0, "flat")]
    elif bars < 0.7:
        parts.append(Part((blob(0, 0.05, w * 0.22, h * 0.22, 0.3, rng),), 2))
    return parts


def _bird(rng: np.random.Generator) -> list[Part]:
    lift, chord, girth = _between(rng, (-0.35, 0.1, 0.07), (0.2, 0.22, 0.12))
    wings = [
        Part(
            (
                polygon(
                    [
                        (side * 0.02, -0.05),
                        (side * 0.28, lift),
                        (side * 0.55, lift * 0.6),
                        (side * 0.25, lift * 0.4 + chord),
                        (side * 0.02, 0.1),
                    ]
                ),
            ),
            s,
            "flat",
        )
        for side, s in ((-1, 0), (1, 1))
    ]
    head = [
        Part((ellipse(0.2, -0.04, girth * 0.8, girth * 0.75),), 0),
        Part((polygon([(0.24, -0.07), (0.37, -0.02), (0.24, 0.01)]),), 2, "flat"),
    ]
    tail = Part((polygon([(-0.15, 0.02), (-0.38, -0.04), (-0.36, 0.1)]),), 1, "flat")
    return [wings[1], tail, Part((ellipse(0, 0.02, 0.24, girth),)), *head, wings[0]]


def _toy(rng: np.random.Generator) -> list[Part]:
    """Anything at all: two to four random shapes that touch, sometimes with a hole."""
    parts: list[Part] = []
    for index in range(int(rng.integers(1, 5))):
        kind, angle, reach, rx, ry, roughness = rng.random(6).tolist()
        away = (0.0 if index == 0 else 0.22 + 0.2 * reach) * np.array([np.cos(6.3 * angle), np.sin(6.3 * angle)])
        scale = 1.0 if index == 0 else 0.6
        x, y, rx, ry = float(away[0]), float(away[1]), scale * (0.14 + 0.24 * rx), scale * (0.14 + 0.24 * ry)
        if kind < 0.45:
            outline = blob(x, y, rx, ry, 0.5 * roughness, rng)
        elif kind < 0.65:
            outline = superellipse(x, y, rx, ry, 1 + 4 * roughness)
        elif kind < 0.8:
            outline = jagged(x, y, rx, ry, 3 + int(5 * roughness), rng)
        else:
            outline = star(x, y, 1.3 * rx, 0.7 * ry, 4 + int(4 * roughness))
        hole = (ellipse(x, y, rx * 0.4, ry * 0.4),) if index == 0 and rng.random() < 0.15 else ()
        parts.append(Part((outline, *hole), index % 3, "round" if roughness < 0.6 else "flat"))
    return parts


@dataclass(frozen=True, slots=True)
class Kind:
    """How a thing category is built and where it lives: standing on the ground, hung in the air, or lying in any pose."""

    build: Builder
    pose: Literal["stand", "float", "lie"]
    stretch: float = 0.15


KINDS: dict[str, Kind] = {
    "ball": Kind(_ball, "stand", 0.05),
    "box": Kind(_box, "stand", 0.3),
    "bottle": Kind(_bottle, "stand", 0.2),
    "animal": Kind(_animal, "stand"),
    "person": Kind(_person, "stand"),
    "car": Kind(_car, "stand", 0.25),
    "tree": Kind(_tree, "stand", 0.25),
    "house": Kind(_house, "stand", 0.3),
    "sign": Kind(_sign, "stand"),
    "fruit": Kind(_fruit, "lie", 0.1),
    "flower": Kind(_flower, "lie"),
    "ring": Kind(_ring, "lie", 0.25),
    "stone": Kind(_stone, "stand", 0.3),
    "frame": Kind(_frame, "float"),
    "bird": Kind(_bird, "float"),
    "toy": Kind(_toy, "lie", 0.3),
}
"""Thing category name -> its shape."""
