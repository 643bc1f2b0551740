"""Data sets in the formats of annotation tools, one image after the other. Every segment is written with exactly its pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ldmseg.atomic import write_bytes, write_json, write_text
from ldmseg.data.convert.targets import Header, Item, Keeps
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import ImageId
from ldmseg.formats.tools import cvat, segments_ai, yolo_seg
from ldmseg.formats.tools.coco_instances import coco_instances_document
from ldmseg.formats.tools.isat import isat_document
from ldmseg.formats.tools.labelme import labelme_document
from ldmseg.panoptic import PanopticMap

BESIDE = "photos"
"""The folder of photos with a JSON beside each, where there is no split."""


class _Beside(ABC):
    """A folder of photos, and a JSON of the same stem beside each of them."""

    keeps: ClassVar[Keeps] = Keeps(categories=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        self._folder = folder / self.parts(split)[0]
        self._names = {category.id: category.name for category in header.categories}
        self._stems = Stems()
        self._order = header.categories

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        return (BESIDE if split is None else split,)

    @abstractmethod
    def document(self, pmap: PanopticMap, name: str) -> dict[str, Any]: ...

    def add(self, item: Item) -> None:
        name = self._stems.flat(item.name)
        item.write_photo(self._folder / name)
        write_json(self._folder / f"{PurePosixPath(name).stem}.json", self.document(item.maps[0], name))

    def close(self) -> None:
        """Classes in the order of their numbers, so that the splits of a data set agree."""
        write_text(self._folder / "labels.txt", "".join(f"{category.name}\n" for category in self._order))


class LabelmeTarget(_Beside):
    """labelme: a shape of kind `mask` for each segment."""

    def document(self, pmap: PanopticMap, name: str) -> dict[str, Any]:
        return labelme_document(pmap, self._names, name)


class IsatTarget(_Beside):
    """ISAT: a polygon for each segment, in a layer of its own."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, crowds=True)

    def document(self, pmap: PanopticMap, name: str) -> dict[str, Any]:
        return isat_document(pmap, self._names, "", name)


class CocoInstancesTarget:
    """`annotations/instances_<split>.json` and `<split>/`; without a split `instances.json` and `images/`."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, crowds=True, scores=True, stuff=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, json = self.parts(split)
        self._photos, self._json, self._categories = folder / photos, folder / json, header.categories
        self._images: list[tuple[ImageId, str, PanopticMap]] = []

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        return ("images", "instances.json") if split is None else (split, f"annotations/instances_{split}.json")

    def add(self, item: Item) -> None:
        self._images.append((item.image_id, item.name, item.maps[0]))
        item.write_photo(self._photos / item.name)

    def close(self) -> None:
        write_json(self._json, coco_instances_document(self._images, self._categories))


class YoloSegTarget:
    """`images/` and `labels/`, with the split as a folder in both, and a YAML with the classes' names."""

    keeps: ClassVar[Keeps] = Keeps(categories=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, labels, names = self.parts(split)
        self._photos, self._labels, self._yaml = folder / photos, folder / labels, folder / names
        self._split = split
        self._names = {number: category.name for number, category in enumerate(header.categories)}
        self._classes = {category.id: number for number, category in enumerate(header.categories)}
        self._stems = Stems()

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        return ("images", "labels", "data.yaml") if split is None else (f"images/{split}", f"labels/{split}", f"data_{split}.yaml")

    def add(self, item: Item) -> None:
        name = self._stems.flat(item.name)
        write_text(self._labels / f"{PurePosixPath(name).stem}.txt", yolo_seg.yolo_seg_text(item.maps[0], self._classes))
        item.write_photo(self._photos / name)

    def close(self) -> None:
        write_text(self._yaml, yolo_seg.yolo_seg_yaml(self._names, self._split))


class CvatTarget:
    """`annotations.xml` and `images/`, in a folder of the split if there is one."""

    keeps: ClassVar[Keeps] = Keeps(categories=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, xml = self.parts(split)
        self._photos, self._xml, self._categories = folder / photos, folder / xml, header.categories
        self._images: list[tuple[str, PanopticMap]] = []

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        return tuple(name if split is None else f"{split}/{name}" for name in ("images", cvat.FILE))

    def add(self, item: Item) -> None:
        self._images.append((item.name, item.maps[0]))
        item.write_photo(self._photos / item.name)

    def close(self) -> None:
        write_bytes(self._xml, cvat.cvat_document(self._images, self._categories))


class SegmentsTarget:
    """`release.json`, `images/` and `bitmaps/`, in a folder of the split if there is one; segments keep their ids."""

    keeps: ClassVar[Keeps] = Keeps(categories=True, stuff=True)

    def __init__(self, folder: Path, split: str | None, header: Header) -> None:
        photos, bitmaps, release = self.parts(split)
        self._photos, self._bitmaps, self._release = folder / photos, folder / bitmaps, folder / release
        self._categories = header.categories
        self._samples: list[dict[str, Any]] = []
        self._stems = Stems()

    @staticmethod
    def parts(split: str | None) -> tuple[str, ...]:
        names = (segments_ai.IMAGES, segments_ai.BITMAPS, segments_ai.FILE)
        return tuple(name if split is None else f"{split}/{name}" for name in names)

    def add(self, item: Item) -> None:
        name, pmap = self._stems.flat(item.name), item.maps[0]
        stem = PurePosixPath(name).stem
        segments_ai.write_bitmap(self._bitmaps / f"{stem}.png", pmap)
        item.write_photo(self._photos / name)
        label = {
            "label_status": "PRELABELED",
            "attributes": segments_ai.label_attributes(pmap, f"{segments_ai.BITMAPS}/{stem}.png"),
        }
        attributes = {"image": {"url": f"{segments_ai.IMAGES}/{name}"}}
        self._samples.append({"uuid": stem, "name": name, "attributes": attributes, "labels": {"ground-truth": label}})

    def close(self) -> None:
        write_json(self._release, segments_ai.release_document(self._samples, self._categories))


class Stems:
    """Names for one flat folder in which no two files share a stem."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def flat(self, name: str) -> str:
        """A photo's name with `-` in place of the folders that it lies in.

        Raises:
            InputError: another photo's name has the same stem.
        """
        flat = "-".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))
        stem = PurePosixPath(flat).stem
        other = self._taken.setdefault(stem, name)
        if other != name:
            raise InputError(f"'{name}': expected names of which no two have the same stem, but '{other}' also becomes '{stem}'")
        return flat
