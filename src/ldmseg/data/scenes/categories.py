"""What can be in a scene; a segment's shape, colours and texture all follow from its category."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """A class of segments: things are countable objects, stuff is not."""

    id: int
    name: str
    isthing: bool


@dataclass(frozen=True, slots=True)
class Hue:
    """A range of colours: hue `h` +- `spread` (turns; 0.5 is any), saturation and value ranges."""

    h: float
    spread: float
    s: tuple[float, float]
    v: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """How a category is painted: one of `palettes` (each a colour per slot), textures by name, texture contrast."""

    palettes: tuple[tuple[Hue, ...], ...]
    textures: tuple[str, ...]
    contrast: float


ANY = Hue(0.0, 0.5, (0.35, 0.95), (0.3, 0.95))
PALE = Hue(0.1, 0.5, (0.0, 0.2), (0.65, 0.95))
DARK = Hue(0.6, 0.5, (0.0, 0.4), (0.06, 0.25))
GREY = Hue(0.6, 0.5, (0.0, 0.12), (0.3, 0.75))
BROWN = Hue(0.07, 0.03, (0.35, 0.7), (0.2, 0.5))
TAN = Hue(0.09, 0.03, (0.25, 0.5), (0.5, 0.85))
GREEN = Hue(0.29, 0.07, (0.35, 0.75), (0.2, 0.6))
BLUE = Hue(0.58, 0.05, (0.3, 0.8), (0.4, 0.9))
RED = Hue(0.0, 0.04, (0.6, 0.95), (0.45, 0.9))
YELLOW = Hue(0.14, 0.03, (0.5, 0.9), (0.65, 0.95))
SKIN = Hue(0.07, 0.02, (0.2, 0.55), (0.35, 0.9))

_STUFF = {
    "sky": Look(
        ((Hue(0.57, 0.04, (0.1, 0.65), (0.65, 0.98)),), (Hue(0.08, 0.06, (0.1, 0.6), (0.6, 0.95)),), (PALE,)), ("clouds", "flat"), 0.5
    ),
    "mountain": Look(((Hue(0.6, 0.06, (0.08, 0.4), (0.3, 0.65)),), (BROWN,), (GREY,)), ("ridged", "fractal"), 0.55),
    "foliage": Look(((GREEN,), (Hue(0.1, 0.05, (0.5, 0.8), (0.3, 0.6)),)), ("leafy", "cells"), 0.8),
    "grass": Look(
        ((Hue(0.26, 0.05, (0.4, 0.75), (0.35, 0.7)),), (Hue(0.16, 0.03, (0.35, 0.6), (0.45, 0.7)),)), ("grain", "leafy", "fractal"), 0.5
    ),
    "sand": Look(((TAN,),), ("grain", "fractal", "flat"), 0.3),
    "snow": Look(((Hue(0.6, 0.05, (0.0, 0.12), (0.82, 0.98)),),), ("fractal", "flat"), 0.15),
    "water": Look(((Hue(0.55, 0.06, (0.3, 0.75), (0.3, 0.7)),), (Hue(0.45, 0.05, (0.2, 0.5), (0.25, 0.5)),)), ("waves", "streaks"), 0.5),
    "road": Look(((GREY,), (Hue(0.08, 0.03, (0.1, 0.3), (0.4, 0.65)),)), ("grain", "fractal", "tiles"), 0.3),
    "wall": Look(
        ((PALE,), (Hue(0.1, 0.5, (0.1, 0.45), (0.4, 0.85)),), (Hue(0.03, 0.03, (0.4, 0.65), (0.4, 0.65)),)),
        ("flat", "bricks", "stripes", "fractal"),
        0.35,
    ),
    "floor": Look(((BROWN,), (TAN,), (GREY,)), ("planks", "tiles", "checker", "streaks", "flat"), 0.4),
    "carpet": Look(((ANY,), (RED,), (BLUE,)), ("spots", "stripes", "grain", "checker"), 0.6),
    "curtain": Look(((ANY,), (PALE,)), ("folds",), 0.55),
}
_THING = {
    "ball": Look(((ANY, PALE, ANY), (Hue(0.07, 0.03, (0.7, 0.95), (0.6, 0.9)), DARK, ANY)), ("flat", "stripes", "spots", "checker"), 0.8),
    "box": Look(((TAN, BROWN, PALE), (ANY, ANY, PALE)), ("flat", "grain", "stripes", "planks"), 0.35),
    "bottle": Look(((GREEN, PALE, RED), (BLUE, PALE, ANY), (BROWN, YELLOW, DARK)), ("flat", "flat", "streaks"), 0.3),
    "animal": Look(
        ((BROWN, TAN, DARK), (DARK, PALE, DARK), (PALE, BROWN, DARK), (Hue(0.06, 0.02, (0.6, 0.85), (0.5, 0.8)), PALE, DARK)),
        ("fractal", "spots", "stripes", "grain"),
        0.55,
    ),
    "person": Look(
        ((ANY, BLUE, SKIN), (RED, DARK, SKIN), (PALE, GREY, SKIN), (DARK, BROWN, SKIN)), ("flat", "stripes", "checker", "fractal"), 0.45
    ),
    "car": Look(((RED, DARK, DARK), (BLUE, DARK, DARK), (PALE, DARK, DARK), (YELLOW, DARK, GREY), (GREY, DARK, DARK)), ("flat",), 0.2),
    "tree": Look(((BROWN, GREEN, GREEN), (BROWN, Hue(0.1, 0.05, (0.6, 0.85), (0.5, 0.85)), GREEN)), ("leafy", "cells"), 0.7),
    "house": Look(
        ((PALE, RED, BROWN), (TAN, DARK, BLUE), (Hue(0.03, 0.03, (0.4, 0.65), (0.4, 0.65)), GREY, PALE)), ("bricks", "planks", "flat"), 0.35
    ),
    "sign": Look(((GREY, RED, PALE), (GREY, BLUE, PALE), (BROWN, YELLOW, DARK)), ("flat", "stripes"), 0.6),
    "fruit": Look(
        ((RED, BROWN, GREEN), (YELLOW, BROWN, GREEN), (Hue(0.25, 0.03, (0.5, 0.8), (0.5, 0.85)), BROWN, GREEN)),
        ("flat", "grain", "fractal"),
        0.25,
    ),
    "flower": Look(((ANY, YELLOW, GREEN), (PALE, YELLOW, GREEN), (RED, DARK, GREEN)), ("flat", "streaks"), 0.35),
    "ring": Look(((YELLOW, PALE, ANY), (ANY, ANY, ANY), (DARK, GREY, ANY)), ("flat", "stripes"), 0.6),
    "stone": Look(((GREY, GREY, GREEN), (BROWN, GREY, TAN)), ("ridged", "fractal", "cells"), 0.5),
    "frame": Look(((BROWN, ANY, PALE), (DARK, BLUE, GREEN), (PALE, ANY, ANY)), ("fractal", "checker", "clouds", "flat"), 0.7),
    "bird": Look(((DARK, GREY, YELLOW), (BLUE, PALE, YELLOW), (PALE, GREY, RED)), ("flat", "grain"), 0.3),
    "toy": Look(((ANY, ANY, ANY),), ("flat", "spots", "stripes", "checker", "fractal", "cells"), 0.7),
}
LOOKS: dict[str, Look] = {**_STUFF, **_THING}
"""Category name -> how it is painted."""

CATEGORIES: tuple[Category, ...] = tuple(Category(i, name, name in _THING) for i, name in enumerate(LOOKS, start=1))
"""Every category, by id from 1; stuff first."""

BY_NAME: dict[str, Category] = {category.name: category for category in CATEGORIES}
