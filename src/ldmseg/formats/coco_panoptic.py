"""COCO panoptic data sets: a JSON, a folder of PNGs whose colours are segment ids, and a folder of photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import AnnotationEntry, Category, ImageEntry, ImageId, read_coco_json
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC, CocoPanopticWriter, write_coco_panoptic
from ldmseg.formats.id_png import ids_to_rgb, read_id_png, rgb_to_ids
from ldmseg.formats.image import one_line, read_image
from ldmseg.panoptic import VOID, PanopticMap, Segment

__all__ = [
    "CLASS_AGNOSTIC",
    "Category",
    "CocoPanoptic",
    "CocoPanopticRecord",
    "CocoPanopticWriter",
    "ids_to_rgb",
    "open_root",
    "rgb_to_ids",
    "write_coco_panoptic",
]


@dataclass(frozen=True, slots=True)
class CocoPanopticRecord:
    """One annotated image; photo and map are read when they are asked for.

    Attributes:
        image_id: as in the JSON.
        file_name: the photo's, as in the JSON.
        height, width: in pixels, where the JSON says so.
        png_path: the annotation.
        image_dir: the folder of photos, None where none was found.
        segments: in the order of the JSON.
        strict: see `CocoPanoptic.open`.
    """

    image_id: ImageId
    file_name: str
    height: int | None
    width: int | None
    png_path: Path
    image_dir: Path | None
    segments: tuple[Segment, ...]
    strict: bool = True

    @property
    def image_path(self) -> Path:
        """The photo's path.

        Raises:
            InputError: the data set has no folder of photos.
        """
        if self.image_dir is None:
            raise InputError(f"image_dir: the photo '{self.file_name}' was not found beside the annotations; name the folder of photos")
        return self.image_dir / self.file_name

    def read_image(self) -> Image.Image:
        """The photo as 8-bit RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_image(self.image_path)

    def read_map(self) -> PanopticMap:
        """The annotation, with `category_id`, `isthing` and `iscrowd` of every segment; pixels of colour 0 are void.

        Raises:
            InputError: the PNG is missing, damaged or of another size than the JSON says, or (if strict) its ids are not those listed.
        """
        ids = read_id_png(self.png_path, f"annotation of image {self.image_id}")
        for name, expected, found in (("height", self.height, ids.shape[0]), ("width", self.width, ids.shape[1])):
            if expected is not None and expected != found:
                raise InputError(f"annotation of image {self.image_id}: '{self.png_path}': expected {name} {expected}, got {found}")
        return self._agreeing(ids)

    def _agreeing(self, ids: NDArray[np.int32]) -> PanopticMap:
        flat = ids.ravel()
        run_starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        present = set(np.unique(flat[run_starts]).tolist()) - {VOID}
        listed = {s.id for s in self.segments}
        unlisted, empty = sorted(present - listed), sorted(listed - present)
        if self.strict and (unlisted or empty):
            raise InputError(
                f"annotation of image {self.image_id}: '{self.png_path}': ids of the PNG and of segments_info differ: "
                f"{_few(unlisted)} not listed, {_few(empty)} without a pixel"
            )
        if unlisted:
            ids = np.where(np.isin(ids, unlisted), np.int32(VOID), ids)
        return PanopticMap(ids, tuple(s for s in self.segments if s.id in present))


@dataclass(frozen=True, slots=True)
class CocoPanoptic(Sequence[CocoPanopticRecord]):
    """An opened data set: one record per annotation, in the order of the JSON.

    An image may have several annotations (by several people, as in BSDS500) if their PNGs differ.
    """

    json_path: Path
    png_dir: Path
    image_dir: Path | None
    categories: tuple[Category, ...]
    records: tuple[CocoPanopticRecord, ...]

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
        `annotations/panoptic_val/`, `annotations/panoptic/val/`, `annotations/panoptic/` or beside the JSON; photos in `val/`,
        `images/val/` or `images/` (each beside the JSON and one folder up), or beside the JSON.

        Args:
            strict: an id in a PNG that the JSON does not list, one that is listed without a pixel, and an annotation of an unknown image
                are errors. Otherwise such pixels become void, and such segments and annotations are left out.

        Raises:
            InputError: the JSON is missing, broken or inconsistent, or has no annotation, or there is no folder of PNGs.
        """
        parsed = read_coco_json(json_path, strict=strict)
        if not parsed.annotations:
            raise InputError(f"json: '{parsed.path}': annotations: expected at least one")
        png_names = [a.png_name for a in parsed.annotations]
        pngs = named_folder(png_dir, "png_dir") or find_png_dir(parsed.path, png_names)
        photo_names = [parsed.images[a.image_id].file_name for a in parsed.annotations]
        photos = named_folder(image_dir, "image_dir") or _find_folder(_photo_folders(parsed.path), photo_names)
        records = tuple(_record(parsed.images[a.image_id], a, pngs, photos, strict) for a in parsed.annotations)
        return cls(parsed.path, pngs, photos, parsed.categories, records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):  # type: ignore[no-untyped-def, override]
        return self.records[index]

    def __iter__(self) -> Iterator[CocoPanopticRecord]:
        return iter(self.records)


def open_root(root: str | os.PathLike[str], split: str | None = None, strict: bool = True) -> CocoPanoptic:
    """Open the data set under a folder (`coco-panoptic:ROOT[:SPLIT]`).

    The JSON of split `val` is `panoptic_val.json` in `root` or in `root/annotations`, or `panoptic.json` in `root/val`. Without a split,
    `root/panoptic.json` is taken, or the only split there is. `root` may be a JSON itself.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed), or the data set is broken.
    """
    folder = Path(root)
    if folder.is_file() and split is None:
        return CocoPanoptic.open(folder, strict=strict)
    if not folder.is_dir():
        raise InputError(f"root: expected a folder, got '{folder}', which {'is a file' if folder.exists() else 'does not exist'}")
    whole = folder / "panoptic.json"
    if split is None and whole.is_file():
        return CocoPanoptic.open(whole, strict=strict)
    found = list_splits(folder)
    names = ", ".join(found)
    if not found:
        raise InputError(f"root: found no panoptic.json or panoptic_<split>.json in '{folder}' or its annotations folder")
    if split is None and len(found) > 1:
        raise InputError(f"split: '{folder}' has several; name one of: {names}")
    name = next(iter(found)) if split is None else split
    if name not in found:
        raise InputError(f"split: expected one of {names} (in '{folder}'), got '{name}'")
    return CocoPanoptic.open(found[name], strict=strict)


def list_splits(root: Path) -> dict[str, Path]:
    """The JSON of each split under a folder, by the split's name."""
    try:
        named = sorted([*root.glob("panoptic_*.json"), *root.glob("annotations/panoptic_*.json")])
        nested = sorted(root.glob("*/panoptic.json"))
    except OSError as error:
        raise InputError(f"root: cannot list '{root}': {one_line(error)}") from error
    found = {path.stem.removeprefix("panoptic_"): path for path in reversed(named)}
    return dict(sorted(({path.parent.name: path for path in nested} | found).items()))


def named_folder(path: str | os.PathLike[str] | None, what: str) -> Path | None:
    """A folder that the user named, or None.

    Raises:
        InputError: it is not there.
    """
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{what}: expected a folder, got '{folder}', which {'is a file' if folder.exists() else 'does not exist'}")
    return folder


def find_png_dir(json_path: Path, png_names: Sequence[str]) -> Path:
    """The folder beside a JSON that holds its PNGs.

    Raises:
        InputError: there is none; the folders that were looked at are named.
    """
    parent, split = json_path.parent, _split(json_path)
    candidates = [parent / json_path.stem, *(parent / "panoptic" / s for s in _shortened(split)), parent / "panoptic", parent]
    found = _find_folder(candidates, png_names)
    if found is None:
        looked = ", ".join(f"'{c}'" for c in candidates)
        raise InputError(f"png_dir: found no '{png_names[0]}' of '{json_path}' in {looked}; name the folder of PNGs")
    return found


def _photo_folders(json_path: Path) -> list[Path]:
    splits = _shortened(_split(json_path))
    roots = (json_path.parent, json_path.parent.parent)
    inside = [*splits, *(f"images/{s}" for s in splits), "images"]
    return [*(root / name for root in roots for name in inside), json_path.parent]


def _split(json_path: Path) -> str:
    """`val2017` of `panoptic_val2017.json`; empty for `panoptic.json`."""
    return json_path.stem.removeprefix("panoptic").removeprefix("_")


def _shortened(split: str) -> list[str]:
    """`train_all` -> `train_all`, `train`: variants of a split share its folders."""
    parts = split.split("_")
    return ["_".join(parts[:n]) for n in range(len(parts), 0, -1)] if split else []


def _find_folder(candidates: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The first folder that has one of the first files; one that is missing must not hide the others."""
    for folder in candidates:
        if any((folder / name).is_file() for name in names[:20]):
            return folder
    return None


def _record(image: ImageEntry, annotation: AnnotationEntry, pngs: Path, photos: Path | None, strict: bool) -> CocoPanopticRecord:
    png_path = pngs / annotation.png_name
    return CocoPanopticRecord(image.image_id, image.file_name, image.height, image.width, png_path, photos, annotation.segments, strict)


def _few(ids: list[int]) -> str:
    return f"{', '.join(map(str, ids[:5]))}{', ..' if len(ids) > 5 else ''}" if ids else "none"
