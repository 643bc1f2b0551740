"""CVAT through its SDK: pre-labels for `cvat-cli task auto-annotate`, and tasks whose labels are completed and whose shapes are kept."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.formats.patches import Patch, ellipse, points_of, polygon, stroke, turned, union
from ldmseg.formats.regions import Cutout, Region, checked_size, cutouts, paint
from ldmseg.formats.run_lengths import cvat_mask, cvat_runs
from ldmseg.formats.tools.cvat import LINE_WIDTH
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters.base import Segmenter


@dataclass(frozen=True)
class NewMask:
    """A mask for CVAT: `points` as its SDK wants them, run lengths and the box's left, top, right and bottom (the last ones in it)."""

    label_id: int
    points: tuple[float, ...]


class Shape(Protocol):
    """What is used of `cvat_sdk.models.LabeledShape`."""

    frame: int
    label_id: int
    type: Any
    points: Sequence[float]
    z_order: int
    rotation: float
    group: int | None


def mask_points(cutout: Cutout) -> tuple[float, ...]:
    """Pixels as `cvat_sdk.masks.encode_mask` writes them."""
    x, y, w, h = cutout.box
    return (*map(float, cvat_runs(cutout.patch.mask)), float(x), float(y), float(x + w - 1), float(y + h - 1))


def shape_patch(kind: str, points: Sequence[float], rotation: float, height: int, width: int, where: str) -> Patch:
    """The pixels of a shape of CVAT's API.

    Raises:
        InputError: it is of another kind, or damaged.
    """
    if kind == "mask":
        *runs, left, top, right, bottom = [round(p) for p in points] if len(points) > 4 else [0] * 5
        h, w = checked_size(bottom - top + 1, right - left + 1, where)
        return Patch(top, left, cvat_mask(runs, h, w, where))
    pairs = points_of(list(points), {"polygon": 3, "rectangle": 2, "ellipse": 2}.get(kind, 1), where)
    if kind == "polygon":
        return polygon(pairs, height, width)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = pairs[0], pairs[1]
        return polygon(turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], ((x0 + x1) / 2, (y0 + y1) / 2), rotation), height, width)
    if kind == "ellipse":  # its centre, and the right end and the top of its axes
        (cx, cy), (right, top) = pairs[0], pairs[1]
        return ellipse((cx, cy), (right - cx, cy - top), height, width, rotation)
    if kind == "polyline":
        return stroke(pairs, LINE_WIDTH, height, width)
    if kind == "points":
        return union([stroke(pair[None], LINE_WIDTH, height, width) for pair in pairs])
    raise InputError(f"{where}: expected a mask, polygon, rectangle, ellipse, polyline or points, got {quoted(kind)}")


def partial_of(shapes: Sequence[Shape], height: int, width: int) -> PanopticMap:
    """The shapes of one frame as a partial map, whose categories are label ids; of equal layers the later shape lies on top."""
    regions = []
    for number, shape in enumerate(shapes):
        kind = str(getattr(shape.type, "value", shape.type))
        patch = shape_patch(kind, shape.points, shape.rotation or 0.0, height, width, f"shapes[{number}]")
        group = (shape.label_id, shape.group) if shape.group else None
        regions.append(Region(patch, shape.label_id, float(shape.z_order or 0), group))
    return paint(regions, height, width, [Category(shape.label_id, "") for shape in shapes])


def prelabel(segmenter: Segmenter, photo: NDArray[np.uint8], name: str, label_id: int) -> list[NewMask]:
    """Masks for a photo without labels, all of one label: the model names nothing."""
    (pmap,) = segmenter([photo], None, [zlib.crc32(name.encode())])
    return [NewMask(label_id, mask_points(cutout)) for cutout in cutouts(pmap)]


def complete(segmenter: Segmenter, photo: NDArray[np.uint8], name: str, shapes: Sequence[Shape], label_id: int) -> list[NewMask]:
    """The masks to add to a photo's shapes so that no pixel is without a label; the shapes themselves stay as they are.

    A segment that has a shape gets a mask of its further pixels, with the shape's label; a segment without one gets `label_id`. New masks
    never cover pixels of shapes that were there.
    """
    height, width = photo.shape[:2]
    partial = partial_of(shapes, height, width)
    (pmap,) = segmenter([photo], [partial], [zlib.crc32(name.encode())])
    added = pmap.with_ids(np.where(partial.ids > 0, 0, pmap.ids))
    labels = {s.id: s.category_id for s in partial.segments}
    return [NewMask(labels.get(c.segment.id) or label_id, mask_points(c)) for c in cutouts(added)]
