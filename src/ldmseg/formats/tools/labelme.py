"""labelme: a JSON beside each photo, with a list of shapes of seven kinds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category, JsonReader, open_document
from ldmseg.formats.image import BROKEN_IMAGE, one_line, open_image
from ldmseg.formats.patches import Patch, ellipse, points_of, polygon, rectangle, stroke, union
from ldmseg.formats.regions import Region, checked_size, cutouts, paint
from ldmseg.formats.tools.base import VOID_NAMES, ToolFiles, ToolRecord, broken_record, json_files, named_categories, photo_name, tool_files
from ldmseg.panoptic import PanopticMap

LINE_WIDTH = 5.0
"""Pixels across of a line, a line strip and a point, which are partial labels."""

OUTLINES = ("polygon", "oriented_rectangle")
LINES = ("line", "linestrip", "point", "points")
SHAPES = (*OUTLINES, "rectangle", "circle", *LINES, "mask")


def open_labelme(root: Path, split: str | None = None) -> ToolFiles:
    """`labelme:DIR[:SPLIT]`: the JSONs of a folder; photos are where `imagePath` says, below it.

    A category is a label. Shapes of the same label and `group_id` are parts of one segment; later shapes lie over earlier ones.

    Raises:
        InputError: there is no such folder, or no JSON in it.
    """
    folder, paths = json_files(root, split)
    names: set[str] = set()
    found: list[tuple[Path, str] | ToolRecord] = []
    for path in paths:
        try:
            reader, document = open_document(path)
            names.update(_label(reader, shape, f"shapes[{n}]") for n, shape in enumerate(reader.entries(document, "shapes")))
            name = photo_name(reader.value(document, "imagePath", str, "labelme"), f"json: '{path}': imagePath")
            found.append((path, name))
        except InputError as error:
            found.append(broken_record(path, error))
    return tool_files(folder, names, found, read_labelme)


def read_labelme(path: Path, categories: tuple[Category, ...] | None = None) -> PanopticMap:
    """The map of one JSON. Pixels that no shape covers are void.

    Args:
        categories: what labels mean, by name; left out, they are the file's own labels in order.

    Raises:
        InputError: the file is missing or damaged, or has a shape of an unknown kind.
    """
    reader, document = open_document(path)
    height, width = checked_size(document.get("imageHeight"), document.get("imageWidth"), f"json: '{path}': imageWidth, imageHeight")
    shapes = reader.entries(document, "shapes")
    labels = [_label(reader, shape, f"shapes[{number}]") for number, shape in enumerate(shapes)]
    known = named_categories(path.parent, labels) if categories is None else categories
    by_name = {category.name: category.id for category in known}
    regions = []
    for number, (shape, label) in enumerate(zip(shapes, labels, strict=True)):
        where = f"json: '{path}': shapes[{number}]"
        patch = _patch(reader, shape, where, height, width)
        group = shape.get("group_id")
        key = None if group is None else (label, str(group))
        regions.append(Region(patch, by_name.get(label), group=key, erases=label in VOID_NAMES))
    return paint(regions, height, width, known)


def _label(reader: JsonReader, shape: Mapping[str, Any], where: str) -> str:
    return reader.value(shape, "label", str, where)


def _patch(reader: JsonReader, shape: Mapping[str, Any], where: str, height: int, width: int) -> Patch:
    kind = shape.get("shape_type") or "polygon"
    if kind not in SHAPES:
        raise InputError(f"{where}: shape_type: expected one of {', '.join(SHAPES)}, got {quoted(kind)}")
    least = {"polygon": 3, "oriented_rectangle": 4, "line": 2, "linestrip": 2, "point": 1, "points": 1}.get(kind, 2)
    points = points_of(shape.get("points"), least, f"{where}: points")
    if kind in OUTLINES:
        return polygon(points, height, width)
    if kind == "circle":  # its centre, and a point of the rim
        radius = float(np.hypot(*(points[1] - points[0])))
        return ellipse((points[0, 0], points[0, 1]), (radius, radius), height, width)
    if kind == "points":
        return union([stroke(point[None], LINE_WIDTH, height, width) for point in points])
    if kind in LINES:
        return stroke(points, LINE_WIDTH, height, width)
    (left, top), (right, bottom) = points[:2].min(axis=0), points[:2].max(axis=0)
    if kind == "rectangle":
        return rectangle(left, top, right, bottom, height, width)
    mask = _decoded(shape.get("mask"), f"{where}: mask")
    expected = (round(bottom) - round(top) + 1, round(right) - round(left) + 1)  # its box has its last row and column in it
    if mask.shape != expected:
        size, wanted = (f"{s[1]} x {s[0]}" for s in (mask.shape, expected))
        raise InputError(f"{where}: mask: expected {wanted} pixels, the box of its points, got {size}")
    return Patch(round(top), round(left), mask)


def _decoded(text: Any, where: str) -> NDArray[np.bool_]:
    if not isinstance(text, str):
        raise InputError(f"{where}: expected a PNG in base64, got {quoted(text)}")
    try:
        with open_image(BytesIO(base64.b64decode(text, validate=True))) as image:
            return np.asarray(image.convert("L")) > 0 if image.mode != "1" else np.asarray(image)
    except (binascii.Error, *BROKEN_IMAGE) as error:
        raise InputError(f"{where}: expected a PNG in base64, but {shortened(one_line(error), 100)}") from error


def labelme_document(pmap: PanopticMap, categories: Mapping[int, str], image_path: str) -> dict[str, Any]:
    """A map as labelme's JSON: a shape of kind `mask` for each segment, which holds its pixels exactly.

    Args:
        categories: names by id; a segment without one is called "segment".
        image_path: the photo's name, below the folder in which the JSON will lie.
    """
    shapes: list[dict[str, Any]] = []
    for cutout in cutouts(pmap):
        x, y, w, h = cutout.box
        buffer = BytesIO()
        Image.fromarray(cutout.patch.mask).save(buffer, format="PNG")
        shapes.append(
            {
                "label": categories.get(cutout.segment.category_id or 0, "segment"),
                "points": [[float(x), float(y)], [float(x + w - 1), float(y + h - 1)]],
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": base64.b64encode(buffer.getvalue()).decode("ascii"),
            }
        )
    height, width = pmap.shape
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": str(PurePosixPath(image_path)),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
