"""Regions of a task of Label Studio -> pixels: run lengths, pictures, strokes of drafts, and shapes in percent of the photo's size."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.brush_rle import decode_brush
from ldmseg.formats.coco_json import Category
from ldmseg.formats.image import BROKEN_IMAGE, one_line, open_image
from ldmseg.formats.patches import Patch, ellipse, points_of, polygon, stroke, turned
from ldmseg.formats.regions import Region, checked_size

GEOMETRIES = ("brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint")
POINT_WIDTH = 5.0
"""Pixels across of a key point, if its own width is less."""


@dataclass(frozen=True)
class TaskRegions:
    """Regions of a task that have pixels, as they are in JSON, and the size of the photo on which they were drawn."""

    results: tuple[Mapping[str, Any], ...]
    height: int
    width: int


def region_label(region: Mapping[str, Any]) -> str | None:
    """The first label of a region, None where it has none."""
    value = region.get("value")
    if not isinstance(value, dict):
        return None
    for key in (str(region.get("type")), "labels"):
        names = value.get(key)
        if key.endswith("labels") and isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return None


def geometry_of(region: Mapping[str, Any]) -> str | None:
    """`brush`, `polygon` ..; None for what has no pixels (choices, texts, relations)."""
    kind = str(region.get("type")).removesuffix("labels")
    if kind in GEOMETRIES:
        return kind
    value = region.get("value")
    if kind or not isinstance(value, dict):  # of `<Labels>` beside a tool, the type says nothing of the geometry
        return None
    if "height" in value and "rotation" in value and "radiusX" not in value:
        return "rectangle"
    told = {"rle": "brush", "touches": "brush", "imageDataURL": "bitmask", "points": "polygon", "radiusX": "ellipse"}
    return next((geometry for key, geometry in told.items() if key in value), None)


def task_regions(results: Sequence[Mapping[str, Any]], where: str) -> TaskRegions | None:
    """Regions that have pixels; None if there are none.

    Raises:
        InputError: they were drawn on photos of different sizes, or on one that was turned.
    """
    found = [region for region in results if geometry_of(region) is not None]
    if not found:
        return None
    place = f"{where}: original_width, original_height"
    sizes = {checked_size(region.get("original_height"), region.get("original_width"), place) for region in found}
    if len(sizes) > 1 or any(region.get("image_rotation") for region in found):
        raise InputError(f"{where}: expected regions on one photo that was not turned, got sizes {quoted(sorted(sizes))}")
    return TaskRegions(tuple(found), *next(iter(sizes)))


def read_regions(task: TaskRegions, categories: Iterable[Category], where: str) -> list[Region]:
    """Regions as pixels; entries of the same `id` are one region.

    Raises:
        InputError: a region is damaged.
    """
    by_name = {category.name: category.id for category in categories}
    found: list[Region] = []
    positions: dict[str, int] = {}
    for number, region in enumerate(task.results):
        label = region_label(region)
        category = None if label is None else by_name.get(label)
        identity = str(region.get("id", number))
        if identity in positions:  # the geometry again, with the label in one of the two
            at = positions[identity]
            if found[at].category_id is None:
                found[at] = Region(found[at].patch, category, group=identity)
            continue
        positions[identity] = len(found)
        found.append(Region(region_patch(region, task.height, task.width, f"{where}: result[{number}]"), category, group=identity))
    return found


def region_patch(region: Mapping[str, Any], height: int, width: int, where: str) -> Patch:
    """The pixels of one region of a result, drafts among them (which have strokes in place of run lengths).

    Raises:
        InputError: its geometry is unknown or damaged.
    """
    kind, value = geometry_of(region), region.get("value")
    if kind is None or not isinstance(value, dict):
        raise InputError(f"{where}: expected one of {', '.join(GEOMETRIES)}, got {quoted(region.get('type'))}")
    if kind == "brush":
        if "rle" in value:
            return Patch.of(decode_brush(value["rle"], height, width, f"{where}: rle") >= 128)
        return _touched(value.get("touches"), height, width, where)
    if kind == "bitmask":
        return _bitmask(value.get("imageDataURL"), height, width, where)
    if kind == "polygon":
        points = points_of(value.get("points"), 3, f"{where}: points") * (width / 100, height / 100)
        return polygon(points, height, width)
    x, y = _percent(value, "x", where) * width, _percent(value, "y", where) * height
    if kind == "keypoint":
        return stroke([(x, y)], max(POINT_WIDTH, _percent(value, "width", where, 0.0) * width), height, width)
    angle = _percent(value, "rotation", where, 0.0) * 100
    if kind == "ellipse":
        radii = (_percent(value, "radiusX", where) * width, _percent(value, "radiusY", where) * height)
        return ellipse((x, y), radii, height, width, angle)
    right, bottom = x + _percent(value, "width", where) * width, y + _percent(value, "height", where) * height
    return polygon(turned([(x, y), (right, y), (right, bottom), (x, bottom)], (x, y), angle), height, width)  # about its first corner


def _percent(value: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """A share of 1; Label Studio has percent."""
    number = value.get(key, default)
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not abs(number) <= 1e6:
        raise InputError(f"{where}: {key}: expected a number, got {quoted(number)}")
    return number / 100


def _touched(touches: Any, height: int, width: int, where: str) -> Patch:
    """Strokes of a brush and an eraser, one after another; points and widths in percent (widths of the photo's width)."""
    if not isinstance(touches, list) or not touches:
        raise InputError(f"{where}: expected run lengths (rle) or strokes (touches), got {quoted(touches)}")
    mask = np.zeros((height, width), dtype=bool)
    for touch in touches:
        if not isinstance(touch, dict):
            raise InputError(f"{where}: touches: expected strokes, got {quoted(touch)}")
        points = points_of(touch.get("relativePoints"), 1, f"{where}: relativePoints") * (width / 100, height / 100)
        thickness = _percent(touch, "relativeStrokeWidth", where) * width
        drawn = stroke(points, max(1.5, thickness), height, width)
        drawn.within(mask)[drawn.mask] = touch.get("type") != "eraser"
    return Patch.of(mask)


def _bitmask(url: Any, height: int, width: int, where: str) -> Patch:
    head, _, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise InputError(f"{where}: imageDataURL: expected a picture as a data URL, got {quoted(url)}")
    try:
        with open_image(BytesIO(base64.b64decode(text, validate=True))) as image:
            alpha = np.asarray(image.convert("RGBA"))[..., 3] >= 128
    except (binascii.Error, *BROKEN_IMAGE) as error:
        raise InputError(f"{where}: imageDataURL: {shortened(one_line(error), 100)}") from error
    if alpha.shape != (height, width):
        raise InputError(f"{where}: imageDataURL: expected {width} x {height} pixels, got {alpha.shape[1]} x {alpha.shape[0]}")
    return Patch.of(alpha)
