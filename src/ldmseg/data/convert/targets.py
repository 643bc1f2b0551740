"""Formats that a data set can be written in, one image after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.atomic import writing_errors
from ldmseg.errors import InputError
from ldmseg.formats import cityscapes
from ldmseg.formats.ade20k import IMAGE_FOLDERS, PREFIX
from ldmseg.formats.coco_json import Category, ImageId, Provenance
from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter
from ldmseg.formats.image import existing_file
from ldmseg.formats.label_folder import IMAGES, MASKS
from ldmseg.formats.label_png import write_label_png
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class Item:
    """One image on its way into another format.

    Attributes:
        name: the photo's file name, with the folders that it lies in below the data set's.
        image_id: as the source has it.
        photo: the photo's file, None where there is none (generated scenes).
        pixels: decodes the photo, (H, W, 3) uint8.
        maps: one, or one of each annotator.
    """

    name: str
    image_id: ImageId
    photo: Path | None
    pixels: Callable[[], NDArray[np.uint8]]
    maps: tuple[PanopticMap, ...]

    def write_photo(self, path: Path) -> None:
        """The same bytes where the suffix is the photo's own, else the same pixels.

        Raises:
            InputError: the photo is missing or damaged, or cannot be written.
        """
        with writing_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if self.photo is not None and self.photo.suffix.lower() == path.suffix.lower():
            self._copy(self.photo, path)
            return
        picture = Image.fromarray(self.pixels())
        with writing_errors(path, path):
            picture.save(path)

    def _copy(self, photo: Path, path: Path) -> None:
        try:
            data = existing_file(photo, "image").open("rb")
        except OSError as error:
            raise InputError(f"image: cannot read '{photo}': {error.strerror}") from error
        with data, writing_errors(path), path.open("wb") as copy:
            shutil.copyfileobj(data, copy)


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of a data set that concern all its images."""

    categories: tuple[Category, ...]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Keeps:
    """What a format holds beside photos and ids."""

    categories: bool = False
    crowds: bool = False
    scores: bool = False
    stuff: bool = False
    annotators: bool = False
    provenance: bool = False


class Target(Protocol):
    """Writes a split below a folder: `add` per image, then `close`. `parts` are what it makes there, and the last makes it a data set."""

    keeps: ClassVar[Keeps]

    def __init__(self, folder: Path, split: str | None, header: Header) -> None: ...

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]: ...

    def add(self, item: Item) -> None: ...

    def close(self) -> None: ...


class CocoTarget:
    """COCO's own layout, `annotations/panoptic_<split>.json` and `<split>/`; without a split `panoptic.json` and `images/`."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, crowds=True, scores=True, stuff=True, annotators=True, provenance=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, _, json = self.parts(split)
        self._photos = folder / photos
        self._writer = CocoPanopticWriter(folder / json, header.categories, provenance=header.provenance)

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        if split is None:
            return ("images", "panoptic", "panoptic.json")
        return (split, f"annotations/panoptic_{split}", f"annotations/panoptic_{split}.json")

    def add(self, item: Item) -> None:
        if len(item.maps) == 1:
            self._writer.add(item.name, item.image_id, item.maps[0])
        else:
            stem = PurePosixPath(item.name).with_suffix("")
            for number, pmap in enumerate(item.maps):
                self._writer.add(item.name, item.image_id, pmap, png_name=f"{stem}_ann{number}.png", annotator=number)
        item.write_photo(self._photos / item.name)

    def close(self) -> None:
        self._writer.close()


class AdeTarget(CocoTarget):
    """ADE20K's layout: `ade20k_panoptic_<split>.json` and `images/training/` or `images/validation/`."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, crowds=True, scores=True, stuff=True, provenance=True)

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        name = _needed(split, "ade20k")
        return (f"images/{IMAGE_FOLDERS.get(name, name)}", f"{PREFIX}{name}", f"{PREFIX}{name}.json")


class CityscapesTarget:
    """`gtFine`'s instance ids and label ids, and the panoptic files that are made from them. Photos are PNGs."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, crowds=True, stuff=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, instances, _, json = self.parts(split)
        self._photos, self._instances = folder / photos, folder / instances
        self._categories = header.categories
        self._writer = CocoPanopticWriter(folder / json, cityscapes.CATEGORIES)
        self._names: dict[str, str] = {}

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        name = _needed(split, "cityscapes")
        panoptic = f"gtFine/cityscapes_panoptic_{name}"
        return (f"leftImg8bit/{name}", f"gtFine/{name}", panoptic, f"{panoptic}.json")

    def add(self, item: Item) -> None:
        core = cityscapes.core_name(item.name)
        other = self._names.setdefault(core, item.name)
        if other != item.name:
            raise InputError(f"'{item.name}': expected names that differ in Cityscapes' scheme, but '{other}' also becomes '{core}'")
        pmap = cityscapes.with_instance_ids(item.maps[0], self._categories, f"'{item.name}'")
        city = core.split("_")[0]
        labels = np.where(pmap.ids >= cityscapes.PER_CLASS, pmap.ids // cityscapes.PER_CLASS, pmap.ids)
        for suffix, values in ((cityscapes.INSTANCES, pmap.ids.astype(np.uint16)), ("_gtFine_labelIds.png", labels.astype(np.uint8))):
            path = self._instances / city / f"{core}{suffix}"
            with writing_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
        self._writer.add(f"{core}_gtFine_leftImg8bit.png", core, pmap, png_name=f"{core}_gtFine_panoptic.png")
        item.write_photo(self._photos / city / f"{core}{cityscapes.PHOTO}")

    def close(self) -> None:
        self._writer.close()


class LabelTarget:
    """`images/` and `masks/`, with the split as a folder in both. Ids alone are kept."""

    keeps: ClassVar[Keeps] = Keeps()

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        self._photos, self._masks = (folder / part for part in self.parts(split))
        self._stems: dict[str, str] = {}

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        return (IMAGES, MASKS[0]) if split is None else (f"{IMAGES}/{split}", f"{MASKS[0]}/{split}")

    def add(self, item: Item) -> None:
        name = "-".join(part for part in PurePosixPath(item.name).parts if part not in ("/", ".."))  # the folders are flat
        stem = PurePosixPath(name).stem
        other = self._stems.setdefault(stem, item.name)
        if other != item.name:
            raise InputError(f"'{item.name}': expected names of which no two have the same stem, but '{other}' also becomes '{stem}.png'")
        write_label_png(self._masks / f"{stem}.png", item.maps[0])
        item.write_photo(self._photos / name)

    def close(self) -> None:
        pass


def _needed(split: str | None, kind: str) -> str:
    if split is None:
        raise InputError(f"split: expected a name, because {kind} data sets have splits, got none")
    return split
