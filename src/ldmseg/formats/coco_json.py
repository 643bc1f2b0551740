"""The JSON half of COCO panoptic data: parsed, checked and typed; no picture is opened here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.json_file import read_json
from ldmseg.panoptic import VOID, Segment

ImageId = int | str

LARGEST = 2**63 - 1
"""Of whole numbers, with which arrays can count."""


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
    """One of COCO's `annotations`: the PNG of an image and its segments in the order of the file, with `isthing` filled in.

    `annotator` is who labelled the image, where several people did.
    """

    image_id: ImageId
    png_name: str
    segments: tuple[Segment, ...]
    annotator: int | str | None = None


@dataclass(frozen=True, slots=True)
class CocoPanopticJson:
    """A whole file; `images` and `categories` may be empty in predictions; `labelling` is the meaning of void, from `info.labelling`."""

    path: Path
    images: dict[ImageId, ImageEntry]
    annotations: tuple[AnnotationEntry, ...]
    categories: tuple[Category, ...]
    labelling: str = "dense"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a data set comes from: the JSON's fields beside the annotations. `images` has an image's further fields (licence, URLs)."""

    info: Mapping[str, Any] = field(default_factory=dict)
    licenses: tuple[Any, ...] = ()
    images: Mapping[ImageId, Mapping[str, Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.info or self.licenses or self.images)


def read_provenance(path: str | os.PathLike[str]) -> Provenance:
    """The `info`, the `licenses` and the images' further fields of a COCO JSON that `read_coco_json` reads.

    Raises:
        InputError: the file is missing or holds no JSON object.
    """
    _, document = open_document(path)
    own = {"id", "file_name", "width", "height"}
    images = {entry["id"]: {key: value for key, value in entry.items() if key not in own} for entry in document.get("images", ())}
    info, licenses = document.get("info"), document.get("licenses")
    return Provenance(
        info if isinstance(info, dict) else {},
        tuple(licenses) if isinstance(licenses, list) else (),
        {identity: further for identity, further in images.items() if further},
    )


def read_coco_json(
    path: str | os.PathLike[str], *, predictions: bool = False, categories: Iterable[Category] | None = None, strict: bool = True
) -> CocoPanopticJson:
    """Read and check a COCO panoptic JSON.

    Args:
        predictions: only `annotations` is needed, as in the reference program; an image has one annotation.
        categories: what segments may be of, instead of the file's own `categories`. An empty one allows everything.
        strict: otherwise annotations of images that are not listed are left out.

    Raises:
        InputError: the file is missing, no JSON, or not consistent.
    """
    reader, document = open_document(path)
    own = () if predictions and "categories" not in document else reader.categories(document)
    images = {} if predictions and "images" not in document else reader.images(document)
    annotations = reader.annotations(document, {c.id: c for c in (own if categories is None else categories)})
    if not predictions:
        reader.expect(bool(images), "images: expected at least one")
        annotations = reader.of_known_images(annotations, images, strict)
    reader.distinct_annotations(annotations, one_per_image=predictions)
    info = document.get("info")
    labelling = info.get("labelling", "dense") if isinstance(info, dict) else "dense"
    return CocoPanopticJson(reader.path, images, tuple(annotations), own, str(labelling))


def open_document(path: str | os.PathLike[str]) -> tuple[JsonReader, dict[str, Any]]:
    """A JSON as it is, and the reader that takes it apart.

    Raises:
        InputError: the file is missing or holds no JSON object.
    """
    document = read_json(path)
    reader = JsonReader(Path(path))
    reader.expect(isinstance(document, dict), "expected an object with images, annotations and categories")
    return reader, document


@dataclass(frozen=True, slots=True)
class JsonReader:
    """Takes a document apart; every complaint is an `InputError` that names the file and the entry."""

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
            raise InputError(f"json: '{self.path}': {where}: {key}: expected {names}, got {quoted(found)}")
        if isinstance(found, int) and not -LARGEST <= found <= LARGEST:
            raise InputError(f"json: '{self.path}': {where}: {key}: expected a number of at most 64 bits, got {quoted(found)}")
        return found

    def categories(self, document: Mapping[str, Any]) -> tuple[Category, ...]:
        found: dict[int, Category] = {}
        for number, entry in enumerate(self.entries(document, "categories")):
            category = self.category(entry, f"categories[{number}]")
            self.expect(category.id not in found, f"categories[{number}]: id {category.id} occurs twice")
            found[category.id] = category
        return tuple(found.values())

    def category(self, entry: Mapping[str, Any], where: str) -> Category:
        identity = self.value(entry, "id", int, where)
        if "isthing" not in entry:
            self.expect(False, f"{where}: the key 'isthing' is missing (is this a file of boxes or instances, not panoptic?)")
        color = entry.get("color")
        if color is not None:
            valid = isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)
            self.expect(valid, f"{where}: color: expected three numbers from 0 to 255, got {quoted(color)}")
        isthing = bool(self.value(entry, "isthing", (int, bool), where))
        name, group = str(entry.get("name", identity)), str(entry.get("supercategory", ""))
        return Category(identity, name, isthing, group, None if color is None else tuple(color))

    def images(self, document: Mapping[str, Any]) -> dict[ImageId, ImageEntry]:
        found: dict[ImageId, ImageEntry] = {}
        for number, entry in enumerate(self.entries(document, "images")):
            image = self.image(entry, f"images[{number}]")
            self.expect(image.image_id not in found, f"images[{number}]: id {shortened(image.image_id)} occurs twice")
            found[image.image_id] = image
        return found

    def image(self, entry: Mapping[str, Any], where: str) -> ImageEntry:
        identity = self.value(entry, "id", (int, str), where)
        size = [None if entry.get(key) is None else self.value(entry, key, int, where) for key in ("width", "height")]
        return ImageEntry(identity, self.value(entry, "file_name", str, where), *size)

    def annotations(self, document: Mapping[str, Any], categories: Mapping[int, Category]) -> list[AnnotationEntry]:
        listed = enumerate(self.entries(document, "annotations"))
        return [self.annotation(entry, f"annotations[{number}]", categories) for number, entry in listed]

    def annotation(self, entry: Mapping[str, Any], where: str, categories: Mapping[int, Category]) -> AnnotationEntry:
        bare = self.annotated_file(entry, where)
        where, found = f"annotation of image {shortened(bare.image_id)}", dict[int, Segment]()
        for listed in self.entries(entry, "segments_info"):
            segment = self.segment(listed, where, categories)
            self.expect(segment.id not in found, f"{where}: segment {segment.id} occurs twice")
            found[segment.id] = segment
        return replace(bare, segments=tuple(found.values()))

    def annotated_file(self, entry: Mapping[str, Any], where: str) -> AnnotationEntry:
        """An annotation without its segments."""
        image_id = self.value(entry, "image_id", (int, str), where)
        where = f"annotation of image {shortened(image_id)}"
        if "segments_info" not in entry:
            hint = " (is this a file of boxes or instances, not panoptic?)" if "segmentation" in entry else ""
            self.expect(False, f"{where}: the key 'segments_info' is missing{hint}")
        annotator = None if entry.get("annotator") is None else self.value(entry, "annotator", (int, str), where)
        return AnnotationEntry(image_id, self.value(entry, "file_name", str, where), (), annotator)

    def segment(self, entry: Mapping[str, Any], where: str, categories: Mapping[int, Category]) -> Segment:
        identity = self.value(entry, "id", int, where)
        category_id = self.value(entry, "category_id", int, where)
        self.expect(identity > VOID, f"{where}: segment id: expected 1 or more (0 is void), got {identity}")
        category = categories.get(category_id)
        self.expect(
            category is not None or not categories,
            f"{where}: segment {identity} has category {category_id}, which is not one of the categories",
        )
        score = entry.get("score")
        if isinstance(score, int):
            score = self.value(entry, "score", (int, bool), where)
        isthing = None if category is None else category.isthing
        return Segment(
            identity, category_id, isthing, bool(entry.get("iscrowd", 0)), float(score) if isinstance(score, (int, float)) else None
        )

    def of_known_images(
        self, annotations: list[AnnotationEntry], images: Mapping[ImageId, ImageEntry], strict: bool
    ) -> list[AnnotationEntry]:
        if strict:
            for annotation in annotations:
                known = annotation.image_id in images
                name, image = shortened(annotation.png_name), shortened(annotation.image_id)
                self.expect(known, f"'{name}' is the annotation of image {image}, which is not in images")
        return [a for a in annotations if a.image_id in images]

    def distinct_annotations(self, annotations: list[AnnotationEntry], one_per_image: bool) -> None:
        seen: set[tuple[ImageId, str]] = set()
        for annotation in annotations:
            key = (annotation.image_id, "" if one_per_image else annotation.png_name)
            which = "" if one_per_image else f" {quoted(key[1])}"
            self.expect(key not in seen, f"image {shortened(annotation.image_id)} has two annotations{which}")
            seen.add(key)
