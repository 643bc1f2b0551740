"""Segments.ai: a release JSON and a bitmap of ids for each photo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.atomic import atomic_write
from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category, JsonReader, open_document
from ldmseg.formats.coco_layout import choose_split, root_folder
from ldmseg.formats.id_png import ids_to_rgb, read_id_png
from ldmseg.formats.inside import path_inside
from ldmseg.formats.tools.base import ToolFiles, ToolRecord, photo_name
from ldmseg.panoptic import VOID, PanopticMap, Segment

FILE, IMAGES, BITMAPS = "release.json", "images", "bitmaps"
TASKS = ("segmentation-bitmap", "segmentation-bitmap-highres")


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled photo of a release; `segments` are (id, category) pairs."""

    uuid: str
    name: str
    image_url: str
    bitmap_url: str
    segments: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What a release JSON says of one of its labelsets; samples without a label are left out."""

    path: Path
    categories: tuple[Category, ...]
    samples: tuple[Sample, ...]


def read_release(path: Path, labelset: str | None = None) -> Release:
    """
    Raises:
        InputError: the file is missing or no release of bitmaps, or there is no such labelset (or several, and none was named).
    """
    reader, document = open_document(path)
    dataset = reader.value(document, "dataset", dict, "release")
    kind = reader.value(dataset, "task_type", str, "dataset")
    reader.expect(kind in TASKS, f"dataset: task_type: expected one of {', '.join(TASKS)}, got {quoted(kind)}")
    attributes = reader.value(dataset, "task_attributes", dict, "dataset")
    categories = tuple(_category(reader, entry, f"categories[{n}]") for n, entry in enumerate(reader.entries(attributes, "categories")))
    sets = {reader.value(entry, "name", str, "labelsets"): None for entry in reader.entries(dataset, "labelsets")}
    reader.expect(bool(sets), "labelsets: expected at least one")
    name = choose_split(path, sets, "ground-truth" if labelset is None and "ground-truth" in sets else labelset)
    known = {category.id for category in categories}
    samples = [_sample(reader, entry, name, known, f"samples[{n}]") for n, entry in enumerate(reader.entries(dataset, "samples"))]
    found = tuple(sample for sample in samples if sample is not None)
    reader.expect(bool(found), f"samples: expected at least one with a label in the labelset '{shortened(name)}'")
    reader.expect(len({s.name for s in found}) == len(found), "samples: expected names of which no two are the same")
    return Release(path, categories, found)


def open_segments(root: Path, split: str | None = None) -> ToolFiles:
    """`segments:DIR[:LABELSET]`, or a folder in place of the labelset: `release.json`, photos in `images/` and bitmaps in `bitmaps/`.

    Raises:
        InputError: there is no such folder or release.
    """
    folder = root_folder(root)
    if split is not None and (inside := path_inside(folder, split, "split") / FILE).is_file():
        folder, split = inside.parent, None
    release = read_release(folder / FILE, split)
    records = []
    for sample in release.samples:
        bitmap = path_inside(folder / BITMAPS, f"{sample.uuid}.png", "uuid")
        draw = partial(read_bitmap, bitmap, sample, release.categories)
        records.append(ToolRecord(sample.name, sample.uuid, bitmap, path_inside(folder / IMAGES, sample.name, "name"), draw))
    return ToolFiles(release.categories, tuple(records))


def read_bitmap(path: Path, sample: Sample, categories: tuple[Category, ...]) -> PanopticMap:
    """The map of a bitmap, under Segments.ai's own ids; 0 is void.

    Raises:
        InputError: the bitmap is missing or damaged, or has ids that the release does not list.
    """
    ids = read_id_png(path, "bitmap")
    isthing = {category.id: category.isthing for category in categories}
    present = [int(value) for value in np.unique(ids) if value != VOID]
    listed = dict(sample.segments)
    unknown = [value for value in present if value not in listed]
    if unknown:
        raise InputError(f"bitmap: '{path}': expected the ids that the release lists, got also {quoted(unknown[:5])}")
    return PanopticMap(ids, tuple(Segment(i, listed[i], isthing[listed[i]]) for i in present))


def _category(reader: JsonReader, entry: Mapping[str, Any], where: str) -> Category:
    color = entry.get("color")
    told = {"isthing": bool(entry.get("has_instances", True)), "color": color[:3] if isinstance(color, list) else None}
    return reader.category({**entry, **told}, where)


def _sample(reader: JsonReader, entry: Mapping[str, Any], labelset: str, known: set[int], where: str) -> Sample | None:
    labels = entry.get("labels")
    label = labels.get(labelset) if isinstance(labels, dict) else None
    attributes = label.get("attributes") if isinstance(label, dict) else None
    if not isinstance(attributes, dict) or not isinstance(attributes.get("segmentation_bitmap"), dict):
        return None
    segments = []
    for listed in reader.entries(attributes, "annotations"):
        identity, category = (reader.value(listed, key, int, f"{where}: annotations") for key in ("id", "category_id"))
        reader.expect(category in known, f"{where}: segment {identity} has category {category}, which is not one of the categories")
        segments.append((identity, category))
    image = reader.value(reader.value(entry, "attributes", dict, where), "image", dict, where)
    name = photo_name(reader.value(entry, "name", str, where), f"json: '{reader.path}': {where}: name")
    bitmap = reader.value(attributes["segmentation_bitmap"], "url", str, where)
    return Sample(reader.value(entry, "uuid", str, where), name, reader.value(image, "url", str, where), bitmap, tuple(segments))


def bitmap_rgba(pmap: PanopticMap) -> NDArray[np.uint8]:
    """(H, W, 4) as Segments.ai wants it: R + 256 G + 65536 B, opaque.

    Raises:
        InputError: an id is above 2**24 - 1.
    """
    rgb = ids_to_rgb(pmap.ids)
    return np.concatenate([rgb, np.full((*pmap.shape, 1), 255, dtype=np.uint8)], axis=-1)


def write_bitmap(path: Path, pmap: PanopticMap) -> None:
    """
    Raises:
        InputError: an id does not fit, or the file cannot be written.
    """
    picture = Image.fromarray(bitmap_rgba(pmap))
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


def release_document(samples: Sequence[Mapping[str, Any]], categories: Iterable[Category]) -> dict[str, Any]:
    """A release of samples in Segments.ai's form."""
    listed = [{"id": c.id, "name": c.name, "has_instances": c.isthing, **({"color": list(c.color)} if c.color else {})} for c in categories]
    dataset = {
        "name": "ldmseg",
        "task_type": TASKS[0],
        "task_attributes": {"format_version": "0.1", "categories": listed},
        "labelsets": [{"name": "ground-truth"}],
        "samples": list(samples),
    }
    return {"name": "ldmseg", "dataset": dataset}


def label_attributes(pmap: PanopticMap, bitmap_url: str) -> dict[str, Any]:
    """What Segments.ai calls the attributes of a label; a segment without a category is of category 1."""
    return {
        "format_version": "0.1",
        "annotations": [{"id": s.id, "category_id": 1 if s.category_id is None else s.category_id} for s in pmap.segments],
        "segmentation_bitmap": {"url": bitmap_url},
    }
