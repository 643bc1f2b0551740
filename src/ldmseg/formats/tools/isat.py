"""ISAT: a JSON beside each photo, with polygons in layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category, JsonReader, open_document
from ldmseg.formats.patches import points_of, polygon, stroke
from ldmseg.formats.regions import Region, checked_size, cutouts, paint
from ldmseg.formats.tools.base import VOID_NAMES, ToolFiles, ToolRecord, broken_record, json_files, named_categories, photo_name, tool_files
from ldmseg.panoptic import PanopticMap

LINE_WIDTH = 5.0
"""Pixels across of what has fewer than three points, which are partial labels."""

BACKGROUND = "__background__"


def open_isat(root: Path, split: str | None = None) -> ToolFiles:
    """`isat:DIR[:SPLIT]`: the JSONs of a folder; photos lie beside them, under the name in `info`.

    Objects of the same category and group are parts of one segment; those of a higher layer lie on top, of equal ones the later. What is of
    the category `__background__` makes the pixels below it void.

    Raises:
        InputError: there is no such folder, or no JSON in it.
    """
    folder, paths = json_files(root, split)
    names: set[str] = set()
    found: list[tuple[Path, str] | ToolRecord] = []
    for path in paths:
        try:
            reader, document = open_document(path)
            names.update(_label(reader, entry, f"objects[{n}]") for n, entry in enumerate(reader.entries(document, "objects")))
            found.append((path, photo_name(reader.value(_info(reader, document), "name", str, "info"), f"json: '{path}': info: name")))
        except InputError as error:
            found.append(broken_record(path, error))
    return tool_files(folder, names, found, read_isat)


def read_isat(path: Path, categories: tuple[Category, ...] | None = None) -> PanopticMap:
    """The map of one JSON. Pixels that no object covers are void.

    Args:
        categories: what names mean; left out, they are the file's own in order.

    Raises:
        InputError: the file is missing or damaged.
    """
    reader, document = open_document(path)
    info = _info(reader, document)
    height, width = checked_size(info.get("height"), info.get("width"), f"json: '{path}': info: width, height")
    objects = reader.entries(document, "objects")
    labels = [_label(reader, entry, f"objects[{number}]") for number, entry in enumerate(objects)]
    known = named_categories(path.parent, labels) if categories is None else categories
    by_name = {category.name: category.id for category in known}
    regions = []
    for number, (entry, label) in enumerate(zip(objects, labels, strict=True)):
        where = f"objects[{number}]"
        points = points_of(entry.get("segmentation"), 1, f"json: '{path}': {where}: segmentation")
        drawn = polygon(points, height, width) if len(points) > 2 else stroke(points, LINE_WIDTH, height, width)
        group = entry.get("group")
        layer = float(reader.value(entry, "layer", (int, float), where)) if "layer" in entry else 0.0
        regions.append(
            Region(
                drawn,
                by_name.get(label),
                layer,
                None if group in (None, "", 0) else (label, str(group)),
                bool(entry.get("iscrowd", False)),
                erases=label in VOID_NAMES,
            )
        )
    return paint(regions, height, width, known)


def _info(reader: JsonReader, document: Mapping[str, Any]) -> Mapping[str, Any]:
    return reader.value(document, "info", dict, "ISAT")


def _label(reader: JsonReader, entry: Mapping[str, Any], where: str) -> str:
    return reader.value(entry, "category", str, where)


def isat_document(pmap: PanopticMap, categories: Mapping[int, str], folder: str, image_path: str) -> dict[str, Any]:
    """A map as ISAT's JSON; parts and holes of a segment are joined into one polygon, which encloses the same pixels.

    Args:
        categories: names by id; a segment without one is called "segment".
        folder: where the photo lies, as ISAT shows it.
        image_path: the photo's name beside the JSON.
    """
    objects = []
    for number, cutout in enumerate(cutouts(pmap), start=1):
        x, y, w, h = cutout.box
        objects.append(
            {
                "category": categories.get(cutout.segment.category_id or 0, "segment"),
                "group": number,
                "segmentation": cutout.ring().astype(float).tolist(),
                "area": float(cutout.area),
                "layer": float(number),
                "bbox": [float(x), float(y), float(x + w), float(y + h)],
                "iscrowd": cutout.segment.iscrowd,
                "note": "",
            }
        )
    height, width = pmap.shape
    name = str(PurePosixPath(image_path))
    info = {"description": "ISAT", "folder": folder, "name": name, "width": width, "height": height, "depth": 3, "note": ""}
    return {"info": info, "objects": objects}
