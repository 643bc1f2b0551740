"""COCO instances: one JSON with an outline or run lengths for each object of each photo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category, ImageEntry, ImageId, JsonReader, open_document
from ldmseg.formats.coco_layout import choose_split, listed, root_folder
from ldmseg.formats.outlines import coco_objects
from ldmseg.formats.patches import Patch, points_of, polygon, union
from ldmseg.formats.regions import Region, checked_size, paint
from ldmseg.formats.run_lengths import coco_mask
from ldmseg.formats.tools.base import ToolFiles, ToolRecord, find_photo, photo_folders, photo_name
from ldmseg.panoptic import PanopticMap

WHOLE = ("instances.json", "_annotations.coco.json", "annotations.json")
"""Names of the JSON of a data set, or of a split's folder, without a split in its name."""


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """One of COCO's `annotations` of instances; `segmentation` is as in the file, and is looked at when it is drawn."""

    number: int
    category_id: int
    iscrowd: bool
    score: float | None
    segmentation: Any


def open_coco_instances(root: Path, split: str | None = None) -> ToolFiles:
    """`coco-instances:DIR[:SPLIT]` or `coco-instances:FILE.json`.

    Raises:
        InputError: there is no such split, or several and none was named, or the JSON is broken.
    """
    path, name = _locate(root, split)
    reader, document = open_document(path)
    categories = _categories(reader, document)
    known = {category.id for category in categories}
    images = reader.images(document)
    objects = defaultdict[ImageId, list[InstanceEntry]](list)
    for number, entry in enumerate(reader.entries(document, "annotations")):
        image_id = reader.value(entry, "image_id", (int, str), f"annotations[{number}]")
        reader.expect(image_id in images, f"annotations[{number}] is of image {shortened(image_id)}, which is not in images")
        objects[image_id].append(_entry(reader, entry, number, known))
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    folders = [*photo_folders(base, name), *([path.parent] if path.parent != base else [])]
    records = []
    for image in images.values():
        photo = photo_name(image.file_name, f"json: '{path}': file_name")
        draw = partial(_draw, path, image, tuple(objects[image.image_id]), categories)
        records.append(ToolRecord(photo, image.image_id, path, find_photo(folders, photo), draw))
    reader.expect(bool(records), "images: expected at least one")
    return ToolFiles(categories, tuple(records))


def _locate(root: Path, split: str | None) -> tuple[Path, str | None]:
    """The JSON and its split's name."""
    if root.is_file() and split is None:
        return root, root.stem.removeprefix("instances").removeprefix("_") or None
    root_folder(root)
    if split is None and (whole := next((root / name for name in WHOLE if (root / name).is_file()), None)) is not None:
        return whole, None
    inside = [path for name in reversed(WHOLE) for path in listed(root, f"*/{name}")]
    named = [*listed(root, "annotations/instances_*.json"), *listed(root, "instances_*.json")]
    found = {path.parent.name: path for path in inside} | {path.stem.removeprefix("instances_"): path for path in named}
    if not found:
        raise InputError(f"root: found no instances_<split>.json or {WHOLE[0]} in '{root}' or its annotations folder")
    name = choose_split(root, dict(sorted(found.items())), split)
    return found[name], name


def _categories(reader: JsonReader, document: Mapping[str, Any]) -> tuple[Category, ...]:
    """As the JSON has them; what is not said to be stuff is a thing."""
    found: dict[int, Category] = {}
    for number, entry in enumerate(reader.entries(document, "categories")):
        category = reader.category({"isthing": 1, **entry}, f"categories[{number}]")
        reader.expect(category.id not in found, f"categories[{number}]: id {category.id} occurs twice")
        found[category.id] = category
    return tuple(found.values())


def _entry(reader: JsonReader, entry: Mapping[str, Any], number: int, known: set[int]) -> InstanceEntry:
    where = f"annotations[{number}]"
    category = reader.value(entry, "category_id", int, where)
    reader.expect(category in known, f"{where}: category {category} is not one of the categories")
    score = entry.get("score")
    value = float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) and abs(score) < 1e9 else None
    return InstanceEntry(number, category, bool(entry.get("iscrowd", 0)), value, entry.get("segmentation"))


def _draw(path: Path, image: ImageEntry, entries: tuple[InstanceEntry, ...], categories: tuple[Category, ...]) -> PanopticMap:
    """COCO says nothing of what lies on top: here the smaller object does, and crowds lie below all others."""
    where = f"json: '{path}': image {shortened(image.image_id)}"
    height, width = checked_size(image.height, image.width, where)
    regions = []
    for entry in entries:
        patch = segmentation_patch(entry.segmentation, height, width, f"{where}: annotations[{entry.number}]: segmentation")
        order = -float(patch.mask.sum()) if not entry.iscrowd else -np.inf
        regions.append(Region(patch, entry.category_id, order, iscrowd=entry.iscrowd, score=entry.score))
    return paint(regions, height, width, categories)


def segmentation_patch(segmentation: Any, height: int, width: int, where: str) -> Patch:
    """COCO's `segmentation`, a list of outlines (together one object) or run lengths, as pixels.

    Raises:
        InputError: it is neither, or of another size.
    """
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise InputError(f"{where}: expected the size [{height}, {width}], got {quoted(size)}")
        if not isinstance(counts, (str, list)):
            raise InputError(f"{where}: expected counts as a list or text, got {quoted(counts)}")
        return Patch.of(coco_mask(counts, height, width, where))
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f"{where}: expected outlines or run lengths, got {quoted(segmentation)} (is this a file of boxes?)")
    return union([polygon(points_of(ring, 3, where), height, width) for ring in segmentation])


def coco_instances_document(images: Iterable[tuple[ImageId, str, PanopticMap]], categories: Iterable[Category]) -> dict[str, Any]:
    """Photos' ids, names and maps as COCO's JSON. Every segment is held exactly, as compressed run lengths."""
    listed_images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, name, pmap in images:
        height, width = pmap.shape
        listed_images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        annotations += [entry | {"id": len(annotations) + n} for n, entry in enumerate(coco_objects(pmap, image_id, compress=True), 1)]
    return {"info": {}, "images": listed_images, "annotations": annotations, "categories": [c.to_dict() for c in categories]}
