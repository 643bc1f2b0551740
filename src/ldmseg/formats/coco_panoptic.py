"""COCO panoptic data sets: a JSON, a folder of PNGs whose colours are segment ids, and a folder of photos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.errors import InputError, shortened
from ldmseg.formats.coco_json import Category, ImageId, read_coco_json
from ldmseg.formats.coco_layout import CocoFiles, find_png_dir, list_splits, locate_coco, named_folder
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC, CocoPanopticWriter, write_coco_panoptic
from ldmseg.formats.id_png import ids_to_rgb, read_id_png, rgb_to_ids
from ldmseg.formats.image import read_image
from ldmseg.formats.inside import path_inside
from ldmseg.panoptic import VOID, PanopticMap, Segment

__all__ = [
    "CLASS_AGNOSTIC",
    "Category",
    "CocoPanoptic",
    "CocoPanopticRecord",
    "CocoPanopticWriter",
    "find_png_dir",
    "ids_to_rgb",
    "list_splits",
    "named_folder",
    "open_root",
    "rgb_to_ids",
    "write_coco_panoptic",
]


@dataclass(frozen=True, slots=True)
class CocoPanopticRecord:
    """One annotated image; photo and map are read when they are asked for.

    Attributes:
        image_id: as in the JSON.
        file_name: the photo's, below `image_dir`.
        height, width: in pixels, where the JSON has them.
        png_path: the annotation.
        image_dir: the folder of photos, None where none was found.
        segments: in the order of the JSON.
        strict: see `CocoPanoptic.open`.
        empty_segments: segments without a pixel are left out, whatever `strict` says.
        annotator: who labelled it, where several people did.
    """

    image_id: ImageId
    file_name: str
    height: int | None
    width: int | None
    png_path: Path
    image_dir: Path | None
    segments: tuple[Segment, ...]
    strict: bool = True
    empty_segments: bool = False
    annotator: int | str | None = None

    @property
    def image_path(self) -> Path:
        """The photo's path.

        Raises:
            InputError: the data set has no folder of photos, or the photo's name leads out of it.
        """
        path = None if self.image_dir is None else path_inside(self.image_dir, self.file_name)
        if path is None or path == self.png_path:  # what was written beside the JSON without photos has a map of the photo's name there
            raise InputError(f"image_dir: the photo '{self.file_name}' was not found beside the annotations; name the folder of photos")
        return path

    def read_image(self) -> Image.Image:
        """The photo as 8-bit RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_image(self.image_path)

    def read_map(self) -> PanopticMap:
        """The annotation, with `category_id`, `isthing` and `iscrowd` of every segment; pixels of colour 0 are void.

        Raises:
            InputError: the PNG is missing, damaged or not of the size in the JSON, or (if strict) its ids are not those listed.
        """
        ids = read_id_png(self.png_path, f"annotation of image {shortened(self.image_id)}")
        for name, expected, found in (("height", self.height, ids.shape[0]), ("width", self.width, ids.shape[1])):
            if expected is not None and expected != found:
                where = f"annotation of image {shortened(self.image_id)}: '{self.png_path}'"
                raise InputError(f"{where}: expected {name} {expected}, got {found}")
        return self._agreeing(ids)

    def _agreeing(self, ids: NDArray[np.int32]) -> PanopticMap:
        flat = ids.ravel()
        run_starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        present = set(np.unique(flat[run_starts]).tolist()) - {VOID}
        listed = {s.id for s in self.segments}
        unlisted, empty = sorted(present - listed), sorted(listed - present)
        if self.strict and (unlisted or (empty and not self.empty_segments)):
            raise InputError(
                f"annotation of image {shortened(self.image_id)}: '{self.png_path}': ids of the PNG and of segments_info differ: "
                f"{_few(unlisted)} not listed, {_few(empty)} without a pixel"
            )
        if unlisted:
            ids = np.where(np.isin(ids, unlisted), np.int32(VOID), ids)
        return PanopticMap(ids, tuple(s for s in self.segments if s.id in present))


@dataclass(frozen=True, slots=True)
class CocoPanoptic(Sequence[CocoPanopticRecord]):
    """An opened data set: one record per annotation, in the order of the JSON.

    An image may have several annotations (by several people, as in BSDS500) if their PNGs differ. `labelling` is what the JSON says that
    void means (`info.labelling`).
    """

    json_path: Path
    png_dir: Path
    image_dir: Path | None
    categories: tuple[Category, ...]
    records: tuple[CocoPanopticRecord, ...]
    labelling: str = "dense"

    @classmethod
    def open(
        cls,
        json_path: str | os.PathLike[str],
        png_dir: str | os.PathLike[str] | None = None,
        image_dir: str | os.PathLike[str] | None = None,
        strict: bool = True,
    ) -> CocoPanoptic:
        """Open a data set by its JSON.

        Folders that are not named are looked for beside the JSON. For `annotations/panoptic_val.json`, PNGs are in
        `annotations/panoptic_val/`, `annotations/panoptic/val/`, `annotations/panoptic/`, beside the JSON, or (as detectron2 has them) in
        `panoptic_val/` beside `annotations/`; photos in `val/`, `images/val/` or `images/` (each beside the JSON and one folder up), or
        beside the JSON.

        Args:
            strict: an id in a PNG that the JSON does not list, one that is listed without a pixel, and an annotation of an unknown image
                are errors. Otherwise such pixels become void, and such segments and annotations are left out.

        Raises:
            InputError: the JSON is missing, broken or inconsistent, or has no annotation, or there is no folder of PNGs.
        """
        named = (named_folder(png_dir, "png_dir"), named_folder(image_dir, "image_dir"))
        return cls.at(CocoFiles(Path(json_path), *named), strict)

    @classmethod
    def at(cls, files: CocoFiles, strict: bool = True) -> CocoPanoptic:
        """Open a data set whose parts were located; arguments and errors are those of `open`."""
        parsed = read_coco_json(files.json_path, strict=strict)
        if not parsed.annotations:
            raise InputError(f"json: '{parsed.path}': annotations: expected at least one")
        images = [parsed.images[a.image_id] for a in parsed.annotations]
        names = [files.photo_name(image) for image in images]
        for name in (*names, *(a.png_name for a in parsed.annotations)):
            path_inside(parsed.path.parent, name, f"json: '{parsed.path}': file_name")
        pngs = files.find_png_dir([a.png_name for a in parsed.annotations])
        photos = files.find_image_dir(names)
        records = tuple(
            CocoPanopticRecord(
                image_id=image.image_id,
                file_name=name,
                height=image.height,
                width=image.width,
                png_path=path_inside(pngs, annotation.png_name),
                image_dir=photos,
                segments=annotation.segments,
                strict=strict,
                empty_segments=files.empty_segments,
                annotator=annotation.annotator,
            )
            for image, name, annotation in zip(images, names, parsed.annotations, strict=True)
        )
        return cls(parsed.path, pngs, photos, parsed.categories, records, parsed.labelling)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        return self.records[index]

    def __iter__(self) -> Iterator[CocoPanopticRecord]:
        return iter(self.records)


def open_root(root: str | os.PathLike[str], split: str | None = None, strict: bool = True) -> CocoPanoptic:
    """Open the data set under a folder (`coco-panoptic:ROOT[:SPLIT]`), found by the rules of `locate_coco`.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed), or the data set is broken.
    """
    return CocoPanoptic.at(locate_coco(root, split), strict)


def _few(ids: list[int]) -> str:
    return f"{', '.join(map(str, ids[:5]))}{', ..' if len(ids) > 5 else ''}" if ids else "none"
