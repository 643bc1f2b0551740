"""Writing COCO panoptic data sets, one image at a time."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from ldmseg.atomic import write_json
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category, ImageId, Provenance, open_document, read_coco_json
from ldmseg.formats.id_png import MAX_RGB_ID, write_id_png
from ldmseg.panoptic import PanopticMap

CLASS_AGNOSTIC = Category(1, "segment", isthing=True)
"""The category of segments without one."""


class CocoPanopticWriter:
    """Writes a PNG per image as it comes and the JSON at the end; a context manager.

    Every file is written whole or not at all, and the JSON replaces an older one in one step. If nothing was added, or the block ended
    with an exception, no JSON is written (an older one stays); `close()` writes it in any case.

    Args:
        path: the JSON (`.json`), with the PNGs in the folder of the same name beside it; or a folder, for `panoptic.json` in it and the
            PNGs in `panoptic/` there.
        categories: what segments may be of. Left out, the data set is class-agnostic: all segments are of category 1, "segment".
        png_dir: another folder for the PNGs.
        provenance: the JSON's `info` and `licenses`, and further fields of the images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        categories: Iterable[Category] | None = None,
        png_dir: str | os.PathLike[str] | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        given = Path(path)
        self.json_path = given if given.suffix == ".json" else given / "panoptic.json"
        self.png_dir = self.json_path.with_suffix("") if png_dir is None else Path(png_dir)
        self.categories = (CLASS_AGNOSTIC,) if categories is None else tuple(categories)
        self._class_agnostic = categories is None
        self._category_ids = {c.id for c in self.categories}
        if len(self._category_ids) != len(self.categories):
            raise InputError("categories: expected each id once")
        self._provenance = provenance or Provenance()
        self._images: dict[ImageId, dict[str, Any]] = {}
        self._annotations: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> CocoPanopticWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def __len__(self) -> int:
        return len(self._annotations)

    @property
    def maps(self) -> frozenset[str]:
        """The names of the PNGs that were added, or that were there."""
        return frozenset(self._annotations)

    def resume(self) -> Self:
        """Go on with the data set that is there, if there is one: its images stay until they are removed.

        Raises:
            InputError: the JSON that is there is none of a panoptic data set.
        """
        if self.json_path.is_file():
            read_coco_json(self.json_path)
            _, document = open_document(self.json_path)
            self._images = {entry["id"]: entry for entry in document["images"]}
            self._annotations = {entry["file_name"]: entry for entry in document["annotations"]}
        return self

    def arrange(self) -> None:
        """Put the images and their maps in the order of the images' ids, in whatever order they were added."""

        def by_id(entry: Mapping[str, Any], key: str) -> tuple[bool, ImageId]:
            return isinstance(entry[key], str), entry[key]

        self._images = dict(sorted(self._images.items(), key=lambda item: by_id(item[1], "id")))
        self._annotations = dict(sorted(self._annotations.items(), key=lambda item: by_id(item[1], "image_id")))

    def remove(self, png_name: str) -> bool:
        """Leave a map and its image out, of which this was the only map; whether there was one. Its PNG stays."""
        gone = self._annotations.pop(png_name, None)
        if gone is not None and all(entry["image_id"] != gone["image_id"] for entry in self._annotations.values()):
            self._images.pop(gone["image_id"], None)
        return gone is not None

    def add(
        self,
        file_name: str,
        image_id: ImageId,
        pmap: PanopticMap,
        *,
        png_name: str | None = None,
        annotator: int | str | None = None,
    ) -> Path:
        """Write one image's PNG and return its path.

        Args:
            file_name: the photo's, relative to the folder of photos.
            image_id: not used before, unless by another annotator of the same photo.
            png_name: left out, it is the photo's with the suffix `.png`, in the same subfolder.
            annotator: who drew this map, where an image is added once for each of several people; their `png_name`s must differ.

        Raises:
            InputError: the image or its PNG was added before, a segment's category is unknown, an id is above 2**24 - 1, or the file cannot
                be written.
        """
        photo = PurePosixPath(file_name.replace(os.sep, "/"))
        if photo.is_absolute() or ".." in photo.parts or not photo.name:
            raise InputError(f"file_name: expected a path relative to the folder of photos, got '{file_name}'")
        png_name = str(photo.with_suffix(".png")) if png_name is None else png_name
        height, width = pmap.shape
        image = {**self._provenance.images.get(image_id, {}), "id": image_id, "file_name": str(photo), "width": width, "height": height}
        if image_id in self._images and (annotator is None or self._images[image_id] != image):
            raise InputError(f"image_id: {image_id} was added before")
        if png_name in self._annotations:
            raise InputError(f"file_name: '{file_name}' and an image that was added before would both be written as '{png_name}'")
        segments = segments_info(pmap, self._category_ids, self._class_agnostic, f"'{file_name}'")
        png_path = self.png_dir / png_name
        write_id_png(png_path, pmap.ids)
        self._images[image_id] = image
        told = {} if annotator is None else {"annotator": annotator}
        self._annotations[png_name] = {"image_id": image_id, "file_name": png_name, **told, "segments_info": segments}
        return png_path

    def close(self) -> Path | None:
        """Write the JSON of what was added; None if that was nothing.

        Raises:
            InputError: it cannot be written.
        """
        if not self._annotations:
            return None
        document = {
            "info": dict(self._provenance.info),
            **({"licenses": list(self._provenance.licenses)} if self._provenance.licenses else {}),
            "images": list(self._images.values()),
            "annotations": list(self._annotations.values()),
            "categories": [c.to_dict() for c in self.categories],
        }
        return write_json(self.json_path, document)


def segments_info(pmap: PanopticMap, category_ids: Container[int], class_agnostic: bool, where: str) -> list[dict[str, Any]]:
    """COCO's `segments_info` of a map.

    Args:
        category_ids: what segments may be of.
        class_agnostic: whether a segment without a category is of `CLASS_AGNOSTIC`.
        where: names the map in errors.

    Raises:
        InputError: a segment's category is unknown, or an id is above 2**24 - 1.
    """
    categories = []
    for segment in pmap.segments:
        category = CLASS_AGNOSTIC.id if segment.category_id is None and class_agnostic else segment.category_id
        if category not in category_ids:
            raise InputError(f"{where}: segment {segment.id} has category {category}, which is not one of the categories")
        categories.append(category)
    return segment_entries(pmap, categories, where)


def segment_entries(pmap: PanopticMap, categories: Sequence[int | None], where: str) -> list[dict[str, Any]]:
    """The `segments_info` of a map whose segments are of these categories.

    Raises:
        InputError: an id is above 2**24 - 1; `where` names the map.
    """
    if pmap.segments and pmap.segments[-1].id > MAX_RGB_ID:
        raise InputError(f"{where}: expected ids up to {MAX_RGB_ID} (a PNG has three bytes), got {pmap.segments[-1].id}")
    found = []
    for segment, category, area, box in zip(pmap.segments, categories, pmap.areas.tolist(), pmap.boxes.tolist(), strict=True):
        entry: dict[str, Any] = {"id": segment.id, "category_id": category, "area": area, "bbox": box, "iscrowd": int(segment.iscrowd)}
        found.append(entry if segment.score is None else entry | {"score": segment.score})
    return found


def write_coco_panoptic(
    path: str | os.PathLike[str],
    items: Iterable[tuple[str, ImageId, PanopticMap]],
    categories: Iterable[Category] | None = None,
    png_dir: str | os.PathLike[str] | None = None,
) -> Path | None:
    """Write (file name, image id, map) items as a data set; the JSON's path is returned, None without items.

    The arguments and errors are those of `CocoPanopticWriter`.
    """
    with CocoPanopticWriter(path, categories, png_dir) as writer:
        for file_name, image_id, pmap in items:
            writer.add(file_name, image_id, pmap)
        return writer.close()
