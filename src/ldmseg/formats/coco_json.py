"""The JSON half of COCO panoptic data: parsed, checked and typed; no picture is opened here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmseg.errors import InputError
from ldmseg.formats.image import existing_file, one_line
from ldmseg.panoptic import VOID, Segment

ImageId = int | str


@dataclass(frozen=True, slots=True)
class Category:
    """A class of segments."""

    id: int
    name: str
    isthing: bool = True
    supercategory: str = ""
    color: tuple[int, int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry of COCO's `categories` list."""
        entry: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "supercategory": self.supercategory or self.name,
            "isthing": int(self.isthing),
        }
        return entry if self.color is None else entry | {"color": list(self.color)}


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One of COCO's `images`."""

    image_id: ImageId
    file_name: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class AnnotationEntry:
    """One of COCO's `annotations`: the PNG of an image and its segments in the order of the file, with `isthing` filled in."""

    image_id: ImageId
    png_name: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class CocoPanopticJson:
    """A whole file; `images` and `categories` may be empty in predictions."""

    path: Path
    images: dict[ImageId, ImageEntry]
    annotations: tuple[AnnotationEntry, ...]
    categories: tuple[Category, ...]


def read_coco_json(
    path: str | os.PathLike[str], *, predictions: bool = False, categories: Iterable[Category] | None = None, strict: bool = True
) -> CocoPanopticJson:
    """Read and check a COCO panoptic JSON.

    Args:
        predictions: only `annotations` is needed, as the reference program wants it; an image has one annotation.
        categories: what segments may be of, instead of the file's own `categories`. An empty one allows everything.
        strict: otherwise annotations of images that are not listed are left out.

    Raises:
        InputError: the file is missing, no JSON, or not consistent.
    """
    file = existing_file(path, "json")
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON
        raise InputError(f"json: cannot read '{file}': {one_line(error)}") from error
    reader = _Reader(file)
    reader.expect(isinstance(document, dict), "expected an object with images, annotations and categories")
    own = () if predictions and "categories" not in document else reader.categories(document)
    images = {} if predictions and "images" not in document else reader.images(document)
    annotations = reader.annotations(document, {c.id: c for c in (own if categories is None else categories)})
    if not predictions:
        reader.expect(bool(images), "images: expected at least one")
        annotations = reader.of_known_images(annotations, images, strict)
    reader.distinct_annotations(annotations, one_per_image=predictions)
    return CocoPanopticJson(file, images, tuple(annotations), own)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes a document apart; every complaint names the file and the entry."""

    path: Path

    def expect(self, condition: bool, message: str) -> None:
        if not condition:
            raise InputError(f"json: '{self.path}': {message}")

    def entries(self, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        self.expect(key in document, f"the key '{key}' is missing")
        entries = document[key]
        self.expect(isinstance(entries, list), f"{key}: expected a list, got {type(entries).__name__}")
        for number, entry in enumerate(entries):
            self.expect(isinstance(entry, dict), f"{key}[{number}]: expected an object, got {type(entry).__name__}")
        return entries

    def value(self, entry: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
        if key not in entry:
            raise InputError(f"json: '{self.path}': {where}: the key '{key}' is missing")
        found = entry[key]
        if not isinstance(found, kind) or (isinstance(found, bool) and bool not in (kind if isinstance(kind, tuple) else (kind,))):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise InputError(f"json: '{self.path}': {where}: {key}: expected {names}, got {str(found)[:60]!r}")
        return found

    def categories(self, document: Mapping[str, Any]) -> tuple[Category, ...]:
        found: dict[int, Category] = {}
        for number, entry in enumerate(self.entries(document, "categories")):
            where = f"categories[{number}]"
            identity = self.value(entry, "id", int, where)
            self.expect(identity not in found, f"{where}: id {identity} occurs twice")
            if "isthing" not in entry:
                self.expect(False, f"{where}: the key 'isthing' is missing (is this a file of boxes or instances, not panoptic?)")
            color = entry.get("color")
            if color is not None:
                valid = isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)
                self.expect(valid, f"{where}: color: expected three numbers from 0 to 255, got {color!r}")
            isthing = bool(self.value(entry, "isthing", (int, bool), where))
            name, group = str(entry.get("name", identity)), str(entry.get("supercategory", ""))
            found[identity] = Category(identity, name, isthing, group, None if color is None else tuple(color))
        return tuple(found.values())

    def images(self, document: Mapping[str, Any]) -> dict[ImageId, ImageEntry]:
        found: dict[ImageId, ImageEntry] = {}
        for number, entry in enumerate(self.entries(document, "images")):
            where = f"images[{number}]"
            identity = self.value(entry, "id", (int, str), where)
            self.expect(identity not in found, f"{where}: id {identity} occurs twice")
            size = [None if entry.get(key) is None else self.value(entry, key, int, where) for key in ("width", "height")]
            found[identity] = ImageEntry(identity, self.value(entry, "file_name", str, where), *size)
        return found

    def annotations(self, document: Mapping[str, Any], categories: Mapping[int, Category]) -> list[AnnotationEntry]:
        found = []
        for number, entry in enumerate(self.entries(document, "annotations")):
            where = f"annotations[{number}]"
            image_id = self.value(entry, "image_id", (int, str), where)
            where = f"annotation of image {image_id}"
            if "segments_info" not in entry:
                hint = " (is this a file of boxes or instances, not panoptic?)" if "segmentation" in entry else ""
                self.expect(False, f"{where}: the key 'segments_info' is missing{hint}")
            png_name = self.value(entry, "file_name", str, where)
            listed = self.entries(entry, "segments_info")
            found.append(AnnotationEntry(image_id, png_name, self.segments(listed, categories, where)))
        return found

    def segments(self, listed: list[dict[str, Any]], categories: Mapping[int, Category], where: str) -> tuple[Segment, ...]:
        found: dict[int, Segment] = {}
        for entry in listed:
            identity = self.value(entry, "id", int, where)
            category_id = self.value(entry, "category_id", int, where)
            self.expect(identity > VOID, f"{where}: segment id: expected 1 or more (0 is void), got {identity}")
            self.expect(identity not in found, f"{where}: segment {identity} occurs twice")
            category = categories.get(category_id)
            self.expect(
                category is not None or not categories,
                f"{where}: segment {identity} has category {category_id}, which is not one of the categories",
            )
            score = entry.get("score")
            found[identity] = Segment(
                identity,
                category_id,
                None if category is None else category.isthing,
                bool(entry.get("iscrowd", 0)),
                float(score) if isinstance(score, (int, float)) else None,
            )
        return tuple(found.values())

    def of_known_images(
        self, annotations: list[AnnotationEntry], images: Mapping[ImageId, ImageEntry], strict: bool
    ) -> list[AnnotationEntry]:
        if strict:
            for annotation in annotations:
                known = annotation.image_id in images
                self.expect(known, f"'{annotation.png_name}' is the annotation of image {annotation.image_id}, which is not in images")
        return [a for a in annotations if a.image_id in images]

    def distinct_annotations(self, annotations: list[AnnotationEntry], one_per_image: bool) -> None:
        seen: set[tuple[ImageId, str]] = set()
        for annotation in annotations:
            key = (annotation.image_id, "" if one_per_image else annotation.png_name)
            self.expect(key not in seen, f"image {annotation.image_id} has two annotations{'' if one_per_image else f' {key[1]!r}'}")
            seen.add(key)
