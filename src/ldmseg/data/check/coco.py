"""Checks of annotations of COCO's kind. Every entry is checked by itself, so that a wrong one hides no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ldmseg.data.check.findings import Finding, FindingKind, look_at_ids, look_at_photo, size_mismatch
from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import AnnotationEntry, Category, ImageEntry, ImageId, JsonReader, open_document
from ldmseg.formats.coco_layout import CocoFiles
from ldmseg.formats.id_png import read_id_png
from ldmseg.formats.inside import path_inside
from ldmseg.panoptic import PanopticMap

Look = Callable[[], list[Finding]]
"""Opens the files of one image."""


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """What the JSON has of a segment's pixels; None where it has nothing that can be compared."""

    area: float | None
    box: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation and its segments by id."""

    entry: AnnotationEntry
    segments: Mapping[int, ListedSegment]


@dataclass
class CocoCheck:
    """Reads a JSON entry by entry. `findings` are those of the JSON itself; `looks` are still to be done, one per image.

    Args:
        files: what to check.
        everybody: an image may have an annotation by each of several people, even without the field `annotator`.
    """

    files: CocoFiles
    everybody: bool
    findings: list[Finding] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def read(self) -> CocoCheck:
        try:
            reader, document = open_document(self.files.json_path)
        except InputError as error:
            self._add("broken-json", str(error))
            return self
        categories = self._categories(reader, document)
        images = self._images(reader, document)
        annotations = self._annotations(reader, document, images, categories)
        by_image: dict[ImageId, list[Annotation]] = {identity: [] for identity in images}
        for annotation in annotations:
            by_image[annotation.entry.image_id].append(annotation)
        if not images:
            self._add("broken-json", "images: expected at least one that can be read")
        for identity, found in by_image.items():
            if not found:
                self._add("no-annotation", f"image {identity} ('{images[identity].file_name}') has no annotation")
        self._plan(images, by_image)
        return self

    # ---------------------------------------------------------------------------------------------------------------- the JSON
    def _add(self, kind: FindingKind, message: str) -> None:
        path = self.files.json_path
        for prefix in (f"json: '{path}': ", f"json: cannot read '{path}': "):
            message = message.removeprefix(prefix)
        self.findings.append(Finding(kind, str(path), shortened(message, 300)))

    def _entries(self, reader: JsonReader, document: Mapping[str, Any], key: str) -> list[Any]:
        entries = document.get(key)
        if isinstance(entries, list):
            return entries
        self._add("broken-json", f"the key '{key}' is missing" if key not in document else f"{key}: expected a list")
        return []

    def _categories(self, reader: JsonReader, document: Mapping[str, Any]) -> dict[int, Category]:
        found: dict[int, Category] = {}
        for number, entry in enumerate(self._entries(reader, document, "categories")):
            try:
                category = reader.category(_object(reader, entry, f"categories[{number}]"), f"categories[{number}]")
            except InputError as error:
                self._add("broken-json", str(error))
                continue
            if category.id in found:
                self._add("duplicate-id", f"categories[{number}]: id {category.id} occurs twice")
            found[category.id] = category
        return found

    def _images(self, reader: JsonReader, document: Mapping[str, Any]) -> dict[ImageId, ImageEntry]:
        found: dict[ImageId, ImageEntry] = {}
        names: dict[str, ImageId] = {}
        for number, entry in enumerate(self._entries(reader, document, "images")):
            try:
                image = reader.image(_object(reader, entry, f"images[{number}]"), f"images[{number}]")
            except InputError as error:
                self._add("broken-json", str(error))
                continue
            if image.image_id in found:
                self._add("duplicate-id", f"images[{number}]: id {image.image_id} occurs twice")
                continue
            other = names.setdefault(self.files.photo_name(image), image.image_id)
            if other != image.image_id:
                self._add("shared-file", f"images {other} and {image.image_id} have one photo, '{image.file_name}'")
            found[image.image_id] = image
        return found

    def _annotations(
        self, reader: JsonReader, document: Mapping[str, Any], images: Mapping[ImageId, ImageEntry], categories: Mapping[int, Category]
    ) -> list[Annotation]:
        found: list[Annotation] = []
        pngs: dict[str, ImageId] = {}
        seen: set[ImageId] = set()
        for number, entry in enumerate(self._entries(reader, document, "annotations")):
            where = f"annotations[{number}]"
            try:
                bare = reader.annotated_file(_object(reader, entry, where), where)
                listed = reader.entries(entry, "segments_info")
            except InputError as error:
                self._add("broken-json", str(error))
                continue
            segments = self._segments(reader, listed, f"annotation of image {bare.image_id}", categories)
            if bare.png_name in pngs:
                self._add(
                    "shared-file", f"the annotations of images {pngs[bare.png_name]} and {bare.image_id} have one PNG, '{bare.png_name}'"
                )
            if bare.image_id in seen and not self.everybody and bare.annotator is None:
                self._add("two-annotations", f"image {bare.image_id} has a second annotation, '{bare.png_name}'")
            pngs.setdefault(bare.png_name, bare.image_id)
            if bare.image_id not in images:
                self._add("unknown-image", f"'{bare.png_name}' is the annotation of image {bare.image_id}, which is not in images")
                continue
            seen.add(bare.image_id)
            found.append(Annotation(bare, segments))
        return found

    def _segments(
        self, reader: JsonReader, listed: list[dict[str, Any]], where: str, categories: Mapping[int, Category]
    ) -> dict[int, ListedSegment]:
        found: dict[int, ListedSegment] = {}
        for entry in listed:
            try:
                segment = reader.segment(entry, where, {})
            except InputError as error:
                self._add("broken-json", str(error))
                continue
            if segment.id in found:
                self._add("duplicate-id", f"{where}: segment {segment.id} occurs twice")
            if categories and segment.category_id not in categories:
                self._add("unknown-category", f"{where}: segment {segment.id} has category {segment.category_id}, which is not listed")
            area, box = entry.get("area"), entry.get("bbox")
            area = area if isinstance(area, int | float) else None
            found[segment.id] = ListedSegment(area, tuple(box) if isinstance(box, list) else None)
        return found

    # --------------------------------------------------------------------------------------------------------------- the files
    def _plan(self, images: Mapping[ImageId, ImageEntry], by_image: Mapping[ImageId, list[Annotation]]) -> None:
        png_dir, image_dir = None, None
        try:
            png_names = [a.entry.png_name for annotations in by_image.values() for a in annotations]
            png_dir = self.files.find_png_dir(png_names) if png_names else None
        except InputError as error:
            self._add("missing-file", str(error))
        names = {identity: self.files.photo_name(image) for identity, image in images.items()}
        try:
            image_dir = self.files.find_image_dir(list(names.values()))
        except InputError as error:
            self._add("missing-file", str(error))
        else:
            if image_dir is None and images:
                self._add("missing-file", f"found no folder with the photos ('{next(iter(names.values()))}', ..)")
        for identity, image in images.items():
            photo = self._inside(image_dir, names[identity])
            found = [(self._inside(png_dir, a.entry.png_name), a.segments) for a in by_image[identity]]
            pngs = tuple((png, segments) for png, segments in found if png is not None)
            self.looks.append(partial(look_at_image, image, photo, pngs))

    def _inside(self, folder: Path | None, name: str) -> Path | None:
        """The path of a file that the JSON names. A name that leads out of the data set is a finding, and the file is not opened."""
        try:
            return None if folder is None else path_inside(folder, name)
        except InputError as error:
            self._add("broken-json", str(error))
            return None


def look_at_image(image: ImageEntry, photo: Path | None, pngs: tuple[tuple[Path, Mapping[int, ListedSegment]], ...]) -> list[Finding]:
    """Open a photo and the PNGs of its annotations, and compare both with the JSON. A photo of None is skipped."""
    findings: list[Finding] = []
    listed = None if image.height is None or image.width is None else (image.height, image.width)
    size = None
    if photo is not None:
        size, findings = look_at_photo(photo)
        if size is not None and listed is not None:
            findings += size_mismatch(photo, size, "the JSON", listed)
    for png, segments in pngs:
        ids, broken = look_at_ids(png, partial(read_id_png, png))
        findings += broken
        if ids is not None:
            for other, expected in (("the JSON", listed), ("the photo", size if listed is None else None)):
                if expected is not None:
                    findings += size_mismatch(png, ids.shape, other, expected)  # type: ignore[arg-type]
            findings += compare_segments(png, PanopticMap(ids), segments)
    return findings


def compare_segments(png: Path, drawn: PanopticMap, listed: Mapping[int, ListedSegment]) -> list[Finding]:
    """What was drawn in a PNG against what is listed for it."""
    findings: list[Finding] = []

    def add(kind: FindingKind, message: str) -> None:
        findings.append(Finding(kind, str(png), message))

    present = {segment.id for segment in drawn.segments}
    for identity in listed:
        if identity not in present:
            add("empty-segment", f"segment {identity} has no pixel")
    for segment, area, box in zip(drawn.segments, drawn.areas.tolist(), drawn.boxes.tolist(), strict=True):
        said = listed.get(segment.id)
        if said is None:
            add("unlisted-id", f"{area} pixels have id {segment.id}, which no segment is listed for")
            continue
        if said.area is not None and said.area != area:
            add("wrong-area", f"segment {segment.id}: the JSON says {quoted(said.area)} pixels, it has {area}")
        if said.box is not None and list(said.box) != box:
            add("wrong-box", f"segment {segment.id}: the JSON says bbox {quoted(list(said.box))}, it has {box}")
    return findings


def _object(reader: JsonReader, entry: Any, where: str) -> dict[str, Any]:
    reader.expect(isinstance(entry, dict), f"{where}: expected an object, got {type(entry).__name__}")
    return entry
