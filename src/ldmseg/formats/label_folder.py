"""The plainest data set: a folder of photos and a folder of id pictures of the same names."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_layout import choose_split, root_folder
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.formats.image import IMAGE_SUFFIXES, one_line, read_image
from ldmseg.formats.label_png import read_label_png
from ldmseg.panoptic import PanopticMap

IMAGES, MASKS = "images", ("masks", "labels")
"""The folders' names; of the second the first that is there."""


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """One photo and its map. A file that is None was not found in its folder."""

    stem: str
    image_path: Path | None
    mask_path: Path | None
    image_dir: Path | None
    mask_dir: Path

    @property
    def photo(self) -> Path:
        """The photo's path.

        Raises:
            InputError: there is no photo of that name.
        """
        if self.image_path is None:
            folder = self.image_dir or self.mask_dir.parent / IMAGES
            raise InputError(f"image: '{self.mask_path}' has no photo '{self.stem}.*' in '{folder}'")
        return self.image_path

    def read_image(self) -> Image.Image:
        """The photo as 8-bit RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_image(self.photo)

    def read_map(self) -> PanopticMap:
        """The ids; every segment is of the category "segment".

        Raises:
            InputError: the picture is missing or damaged, or holds no ids.
        """
        if self.mask_path is None:
            raise InputError(f"label: '{self.image_path}' has no map '{self.stem}.*' in '{self.mask_dir}'")
        pmap = read_label_png(self.mask_path)
        named = (replace(s, category_id=CLASS_AGNOSTIC.id, isthing=CLASS_AGNOSTIC.isthing) for s in pmap.segments)
        return PanopticMap(pmap.ids, tuple(named))


@dataclass(frozen=True, slots=True)
class LabelFolder:
    """The pictures of two folders by stem. Every file of a stem is listed, so that a missing or second one can be reported."""

    image_dir: Path | None
    mask_dir: Path
    images: Mapping[str, Sequence[Path]]
    masks: Mapping[str, Sequence[Path]]

    def records(self) -> tuple[LabelRecord, ...]:
        """One per stem, by name; a photo without a map, or the other way round, has one too.

        Raises:
            InputError: two files of a folder share a stem.
        """
        for files in (*self.images.values(), *self.masks.values()):
            if len(files) > 1:
                names = ", ".join(file.name for file in files)
                raise InputError(f"root: expected one file '{files[0].stem}.*' in '{files[0].parent}', got {names}")
        stems = sorted({*self.images, *self.masks})
        return tuple(LabelRecord(s, _only(self.images, s), _only(self.masks, s), self.image_dir, self.mask_dir) for s in stems)


def open_label_folder(root: str | os.PathLike[str], split: str | None = None) -> LabelFolder:
    """`root/images/` and `root/masks/` (or `labels/`), with the splits as folders in them or around them.

    Photos may be missing as a whole: ids alone are enough to train an autoencoder.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed), or no picture.
    """
    folder = root_folder(Path(root))
    if split is None and (whole := _pair(folder, "")) is not None and whole.masks:
        return whole
    found = dict[str, LabelFolder]()
    for name in _subfolders(folder):
        if (around := _pair(folder / name, "")) is not None and around.masks:
            found[name] = around
    for name in sorted({n for kind in (IMAGES, *MASKS) for n in _subfolders(folder / kind)}):
        if (inside := _pair(folder, name)) is not None and inside.masks:
            found[name] = inside
    if not found:
        is_coco = any(folder.glob("panoptic*.json")) or any((folder / "annotations").glob("panoptic*.json"))
        looks = "; it looks like a data set of the format coco-panoptic" if is_coco else ""
        raise InputError(f"root: found no pictures in a folder '{MASKS[0]}' or '{MASKS[1]}' of '{folder}', nor in splits of it{looks}")
    return found[choose_split(folder, dict(sorted(found.items())), split)]


def _pair(root: Path, split: str) -> LabelFolder | None:
    mask_dir = next((root / name / split for name in MASKS if (root / name / split).is_dir()), None)
    if mask_dir is None:
        return None
    image_dir = root / IMAGES / split
    photos = image_dir if image_dir.is_dir() else None
    return LabelFolder(photos, mask_dir, {} if photos is None else _by_stem(photos), _by_stem(mask_dir))


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found = defaultdict[str, list[Path]](list)
    for path in _inside(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            found[path.stem].append(path)
    return dict(found)


def _subfolders(folder: Path) -> list[str]:
    return [path.name for path in _inside(folder) if path.is_dir()] if folder.is_dir() else []


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise InputError(f"root: cannot list '{folder}': {one_line(error)}") from error


def _only(files: Mapping[str, Sequence[Path]], stem: str) -> Path | None:
    return files[stem][0] if stem in files else None
