"""What the tools of other people draw, as regions that lie over one another, and the one way in which these become a map."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.formats.image import MAX_MAP_PIXELS
from ldmseg.formats.patches import Patch, one_ring, outlines
from ldmseg.panoptic import PanopticMap, Segment


@dataclass(frozen=True, eq=False)
class Region:
    """One object as a tool has it, or a part of one.

    Attributes:
        order: regions with a higher one lie on top; of equal ones the later does.
        group: regions of one group are parts of one segment; None is a segment of its own.
        erases: its pixels become void instead of a segment.
    """

    patch: Patch
    category_id: int | None = None
    order: float = 0.0
    group: Hashable | None = None
    iscrowd: bool = False
    score: float | None = None
    erases: bool = False


def paint(regions: Sequence[Region], height: int, width: int, categories: Iterable[Category] = ()) -> PanopticMap:
    """Draw regions over one another; pixels that none covers stay void.

    Segments are numbered from 1 in the order in which regions are listed, whatever lies on top, so that a map written by a tool that keeps
    the order comes back under the same ids. A segment that others cover in full is left out, and its number is not used.
    """
    isthing = {category.id: category.isthing for category in categories}
    numbers: dict[Hashable, int] = {}
    segments: dict[int, Segment] = {}
    values = []
    for position, region in enumerate(regions):
        if region.erases:
            values.append(0)
            continue
        key = ("alone", position) if region.group is None else ("group", region.group)
        number = numbers.setdefault(key, len(numbers) + 1)
        values.append(number)
        segments.setdefault(number, Segment(number, region.category_id, isthing.get(region.category_id or 0), region.iscrowd, region.score))
    ids = np.zeros((height, width), dtype=np.int32)
    for position in sorted(range(len(regions)), key=lambda p: regions[p].order):
        patch = regions[position].patch.clipped(height, width)
        patch.within(ids)[patch.mask] = values[position]
    bare = PanopticMap(ids)
    return PanopticMap(bare.ids, tuple(segments[s.id] for s in bare.segments))


@dataclass(frozen=True, eq=False)
class Cutout:
    """A segment of a map on its way into a tool's format: its pixels in their box."""

    segment: Segment
    area: int
    patch: Patch

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels."""
        height, width = self.patch.mask.shape
        return self.patch.left, self.patch.top, width, height

    def ring(self) -> NDArray[np.int64]:
        """(P, 2) x and y of one ring that encloses exactly these pixels, parts and holes among them."""
        return one_ring(outlines(self.patch.mask)) + np.array([self.patch.left, self.patch.top])


def cutouts(pmap: PanopticMap) -> Iterator[Cutout]:
    """Every segment of a map, by id."""
    for segment, area, (x, y, w, h) in zip(pmap.segments, pmap.areas.tolist(), pmap.boxes.tolist(), strict=True):
        yield Cutout(segment, area, Patch(y, x, pmap.ids[y : y + h, x : x + w] == segment.id))


def checked_size(height: object, width: object, where: str) -> tuple[int, int]:
    """(height, width) of a picture as a file says it, before anything of that size is made.

    Raises:
        InputError: they are no whole numbers from 1 up, or too large.
    """
    whole = all(isinstance(v, int) and not isinstance(v, bool) and 0 < v <= MAX_MAP_PIXELS for v in (height, width))
    if not whole or height * width > MAX_MAP_PIXELS:  # type: ignore[operator]
        got = f"{quoted(width)} x {quoted(height)}"
        raise InputError(f"{where}: expected a width and a height of 1 to {MAX_MAP_PIXELS:,} pixels in all, got {got}")
    return height, width  # type: ignore[return-value]
