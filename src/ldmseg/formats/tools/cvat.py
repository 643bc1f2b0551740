"""CVAT's own XML, "CVAT for images 1.1": shapes by photo, masks among them as run lengths."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_layout import choose_split, listed, root_folder
from ldmseg.formats.image import existing_file, one_line
from ldmseg.formats.patches import Patch, ellipse, points_of, polygon, stroke, turned, union
from ldmseg.formats.regions import Region, checked_size, cutouts, paint
from ldmseg.formats.run_lengths import cvat_mask, cvat_runs
from ldmseg.formats.tools.base import ToolFiles, ToolRecord, find_photo, photo_folders, photo_name
from ldmseg.panoptic import PanopticMap

FILE = "annotations.xml"
LINE_WIDTH = 5.0
"""Pixels across of a polyline and of a point, which are partial labels."""

SHAPES = ("mask", "polygon", "box", "ellipse", "polyline", "points")
WITHOUT_PIXELS = ("tag",)


@dataclass(frozen=True, slots=True)
class _Shape:
    """An element of the XML; `number` is its position among the photo's shapes."""

    kind: str
    number: int
    attributes: Mapping[str, str]


def open_cvat(root: Path, split: str | None = None) -> ToolFiles:
    """`cvat:DIR[:SPLIT]` or `cvat:FILE.xml`: `annotations.xml`, with photos in `images/`; a split is CVAT's subset, or a folder.

    Shapes of the same label and group are parts of one segment; those of a higher `z_order` lie on top, of equal ones the later.

    Raises:
        InputError: there is no such file or split, or it is no such XML.
    """
    path, wanted = _locate(root, split)
    document = _parsed(path)
    images = document.findall("image")
    if not images:
        raise InputError(f"xml: '{path}': expected photos (<image>), found none (is this another format than 'CVAT for images 1.1'?)")
    subsets = dict.fromkeys(image.get("subset") or "" for image in images)
    if wanted is not None:
        choose_split(path, {name: None for name in subsets if name}, wanted)
        images = [image for image in images if image.get("subset") == wanted]
    categories = _categories(document)
    records = tuple(_record(path, image, number, categories) for number, image in enumerate(images))
    return ToolFiles(categories, records)


def _locate(root: Path, split: str | None) -> tuple[Path, str | None]:
    """The XML, and the subset that is meant in it."""
    if root.is_file() or (root / FILE).is_file():
        return (root if root.is_file() else root / FILE), split
    found = {path.parent.name: path for path in listed(root_folder(root), f"*/{FILE}")}
    if not found:
        raise InputError(f"root: found no {FILE} in '{root}', nor in folders of it")
    return found[choose_split(root, found, split)], None


def _parsed(path: Path) -> ET.Element:
    file = existing_file(path, "xml")
    try:
        data = file.read_bytes()
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # entities can refer to other files, or grow without end
            raise InputError(f"xml: cannot read '{file}': expected no document type or entities, which CVAT does not write")
        root = ET.fromstring(data)
    except (OSError, ET.ParseError, ValueError, LookupError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"xml: cannot read '{file}': {shortened(one_line(error), 200)}") from error
    if root.tag != "annotations":
        raise InputError(f"xml: '{file}': expected <annotations>, got <{shortened(root.tag)}>")
    return root


def _categories(document: ET.Element) -> tuple[Category, ...]:
    """Things, numbered from 1 in the order of the project's labels; of labels that it does not list, by name behind them."""
    meta = document.find("meta")
    colors = {} if meta is None else {label.findtext("name", ""): label.findtext("color", "") for label in meta.iter("label")}
    used = {shape.get("label", "") for image in document.iter("image") for shape in image if shape.tag in SHAPES}
    names = [name for name in dict.fromkeys([*colors, *sorted(used)]) if name]
    return tuple(Category(number, name, color=_color(colors.get(name, ""))) for number, name in enumerate(names, start=1))


def _color(text: str) -> tuple[int, int, int] | None:
    try:
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
    except ValueError:
        return None
    return red, green, blue


def _record(path: Path, image: ET.Element, number: int, categories: tuple[Category, ...]) -> ToolRecord:
    name = photo_name(image.get("name", ""), f"xml: '{path}': image {number}: name")
    shapes = tuple(_Shape(shape.tag, n, dict(shape.attrib)) for n, shape in enumerate(image))
    size = (image.get("height", ""), image.get("width", ""))
    photo = find_photo(photo_folders(path.parent, image.get("subset")), name)
    return ToolRecord(name, name, path, photo, partial(_draw, path, name, size, shapes, categories))


def _draw(path: Path, name: str, size: tuple[str, str], shapes: tuple[_Shape, ...], categories: tuple[Category, ...]) -> PanopticMap:
    where = f"xml: '{path}': image '{shortened(name)}'"
    rows, columns = (int(v) if v.isascii() and v.isdigit() and len(v) < 10 else v for v in size)
    height, width = checked_size(rows, columns, where)
    by_name = {category.name: category.id for category in categories}
    regions = []
    for shape in shapes:
        if shape.kind in WITHOUT_PIXELS:
            continue
        place = f"{where}: shape {shape.number}"
        if shape.kind not in SHAPES:
            raise InputError(f"{place}: expected one of {', '.join(SHAPES)}, got <{shortened(shape.kind)}>")
        label, group = shape.attributes.get("label", ""), shape.attributes.get("group_id", "0")
        order = _number(shape.attributes, "z_order", place, "0")
        patch = _patch(shape, place, height, width)
        regions.append(Region(patch, by_name.get(label), order, None if group == "0" else (label, group)))
    return paint(regions, height, width, categories)


def _patch(shape: _Shape, where: str, height: int, width: int) -> Patch:
    given = shape.attributes
    if shape.kind == "mask":
        left, top, w, h = (_whole(given, key, where) for key in ("left", "top", "width", "height"))
        checked_size(h, w, where)
        return Patch(top, left, cvat_mask(_runs(given.get("rle", ""), where), h, w, f"{where}: rle"))
    angle = _number(given, "rotation", where, "0")
    if shape.kind == "box":
        x0, y0, x1, y1 = (_number(given, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        return polygon(turned(corners, ((x0 + x1) / 2, (y0 + y1) / 2), angle), height, width)
    if shape.kind == "ellipse":
        cx, cy, rx, ry = (_number(given, key, where) for key in ("cx", "cy", "rx", "ry"))
        return ellipse((cx, cy), (rx, ry), height, width, angle)
    text = given.get("points", "")
    points = points_of([pair.split(",") for pair in text.split(";")], 3 if shape.kind == "polygon" else 1, f"{where}: points")
    if shape.kind == "polygon":
        return polygon(points, height, width)
    strokes = [points] if shape.kind == "polyline" else [point[None] for point in points]
    return union([stroke(line, LINE_WIDTH, height, width) for line in strokes])


def _number(given: Mapping[str, str], key: str, where: str, default: str | None = None) -> float:
    text = given.get(key, default)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1e9:
        raise InputError(f"{where}: {key}: expected a number, got {quoted(text)}")
    return value


def _whole(given: Mapping[str, str], key: str, where: str) -> int:
    return round(_number(given, key, where))


def _runs(text: str, where: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{where}: rle: expected numbers and commas, got {quoted(text)}") from error


def cvat_document(images: Iterable[tuple[str, PanopticMap]], categories: Iterable[Category]) -> bytes:
    """Photos' names and maps as XML: a mask for each segment, which holds its pixels exactly."""
    names = {category.id: category for category in categories}
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for category in names.values():
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = category.name
        if category.color is not None:
            ET.SubElement(label, "color").text = "#" + bytes(category.color).hex()
    for number, (name, pmap) in enumerate(images):
        height, width = pmap.shape
        image = ET.SubElement(root, "image", id=str(number), name=name, width=str(width), height=str(height))
        for cutout in cutouts(pmap):
            x, y, w, h = cutout.box
            named = names.get(cutout.segment.category_id or 0)
            ET.SubElement(
                image,
                "mask",
                label="segment" if named is None else named.name,
                source="auto",
                occluded="0",
                rle=", ".join(map(str, cvat_runs(cutout.patch.mask))),
                left=str(x),
                top=str(y),
                width=str(w),
                height=str(h),
                z_order="0",
            )
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)
