"""One palette for every picture of segments: overlays, panels, sheets and the annotator.

Neighbours differ, also for colour-blind people, and the same map always gets the same colours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.panoptic import PanopticMap

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

VOID_COLOR: Color = (64, 64, 64)
"""Dark grey: belongs to no segment."""

NO_CATEGORY: Color = (200, 200, 200)
"""Light grey: a segment without a category, in pictures that colour by category."""

PALETTE: tuple[Color, ...] = (
    (136, 0, 255),
    (204, 17, 0),
    (85, 255, 255),
    (136, 17, 119),
    (255, 204, 0),
    (153, 170, 102),
    (187, 255, 136),
    (68, 119, 85),
    (187, 85, 255),
    (68, 51, 170),
    (136, 187, 255),
    (221, 136, 153),
    (238, 119, 0),
    (255, 34, 187),
    (153, 17, 34),
    (238, 238, 187),
)
"""Found by a search for the largest smallest `distance`; in an order that puts the most different first."""

LEAST_DISTANCE = 20.0
"""Any two colours of `PALETTE` are at least so far apart (`distance`)."""

_LIKE = 10.0
"""Two colours that are nearer than this cannot be told apart in a tinted photo."""

# Machado, Oliveira and Fernandes (2009), table 1, severity 1.0; they act on linear RGB.
VISIONS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "usual": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""How people see: a matrix each from linear RGB to the linear RGB that looks the same to them."""

_SRGB_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def segment_colors(pmap: PanopticMap, *, keep: Mapping[int, Color] | None = None) -> dict[int, Color]:
    """A colour for each segment of a map: neighbours differ, and as few segments as possible share a colour.

    Without conflicts a segment's colour depends on its id alone, so that pictures of one scene agree.

    Args:
        pmap: the segments.
        keep: colours that segments have already (in the frame before, or as the user painted them); ids that do not occur are ignored.

    Returns:
        The colour of each id of `pmap.segments`. VOID has none; it is drawn in `VOID_COLOR`.
    """
    kept = keep or {}
    neighbors = _neighbors(pmap)
    ids = [segment.id for segment in pmap.segments]
    colors = {number: kept[number] for number in ids if number in kept}
    used = sum((_like(color) for color in colors.values()), np.zeros(len(PALETTE), dtype=np.int64))
    for index in sorted(range(len(ids)), key=lambda i: (-len(neighbors[i]), ids[i])):  # what touches many is the hardest to colour
        if ids[index] in colors:
            continue
        around = (colors[ids[other]] for other in neighbors[index] if ids[other] in colors)
        touching = sum((_like(color) for color in around), np.zeros(len(PALETTE), dtype=np.int64))
        turn = (np.arange(len(PALETTE)) - (ids[index] - 1)) % len(PALETTE)  # 0 where the id's own colour is
        choice = int(np.lexsort((turn, used, touching))[0])
        colors[ids[index]] = PALETTE[choice]
        used = used + _like(PALETTE[choice])
    return colors


def category_colors(pmap: PanopticMap) -> dict[int, Color]:
    """A colour for each segment by its category, so that things of a kind look alike; `NO_CATEGORY` without one."""
    categories = np.array([0 if s.category_id is None else s.category_id + 1 for s in pmap.segments] + [0], dtype=np.int64)
    colors = segment_colors(PanopticMap(categories[pmap.dense]))
    return {s.id: NO_CATEGORY if s.category_id is None else colors[s.category_id + 1] for s in pmap.segments}


def painted_colors(ids: Sequence[int]) -> dict[int, Color]:
    """The colours that a user painted, of ids that are R + 256 G + 65536 B.

    A colour that cannot be told from black, from `VOID_COLOR` or from one before it is left out: ids that were counted up, as 1, 2, 3, are
    no colours.
    """
    taken: list[Color] = [(0, 0, 0), VOID_COLOR]
    found: dict[int, Color] = {}
    for number in ids:
        color = (number & 255, number >> 8 & 255, number >> 16 & 255)
        if number < 2**24 and distance(color, np.array(taken), ["usual"]).min() >= _LIKE:  # the user could tell them apart
            taken.append(color)
            found[number] = color
    return found


def distance(first: ArrayLike, second: ArrayLike, visions: Collection[str] = VISIONS) -> NDArray[np.float64]:
    """(..) how different (.., 3) colours look: the Euclidean distance in CIELAB, for those of `visions` who see the least of it."""
    return np.min([np.linalg.norm(_lab(first, vision) - _lab(second, vision), axis=-1) for vision in visions], axis=0)


@cache
def _like(color: Color) -> NDArray[np.int64]:
    """(len(PALETTE),) 1 where a colour of the palette may be taken for this one."""
    return (distance(color, np.array(PALETTE)) < LEAST_DISTANCE).astype(np.int64)


def _lab(colors: ArrayLike, vision: str) -> NDArray[np.float64]:
    """(.., 3) CIELAB (D65) of sRGB bytes as a person of that vision sees them."""
    encoded = np.asarray(colors, dtype=np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISIONS[vision]).T, 0, 1)
    relative = seen @ _SRGB_TO_XYZ.T / _WHITE
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def _neighbors(pmap: PanopticMap) -> list[set[int]]:
    """Of each segment, the indices of the segments that it touches, by a pixel's side or corner."""
    dense, found = pmap.dense, [set[int]() for _ in pmap.segments]
    below, right = (dense[:-1], dense[1:]), (dense[:, :-1], dense[:, 1:])
    corners = (dense[:-1, :-1], dense[1:, 1:]), (dense[1:, :-1], dense[:-1, 1:])
    for one, other in (below, right, *corners):
        border = (one != other) & (one >= 0) & (other >= 0)
        for code in np.unique(one[border] * len(found) + other[border]).tolist():
            first, second = divmod(code, len(found))
            found[first].add(second)
            found[second].add(first)
    return found
