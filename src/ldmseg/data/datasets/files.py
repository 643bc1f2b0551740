"""Data sets in files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.data.datasets.base import MapTargets
from ldmseg.formats import cityscapes
from ldmseg.formats.coco_json import Category, ImageId
from ldmseg.formats.coco_panoptic import CLASS_AGNOSTIC, CocoPanoptic, CocoPanopticRecord
from ldmseg.formats.label_folder import LabelRecord
from ldmseg.formats.tools.base import ToolRecord
from ldmseg.panoptic import PanopticMap


class _Record(Protocol):
    def read_image(self) -> Image.Image: ...

    def read_map(self) -> PanopticMap: ...


R = TypeVar("R", bound=_Record)


@dataclass(frozen=True)
class _RecordDataset(MapTargets, Generic[R]):
    """One record per item, which reads its photo and its map."""

    records: Sequence[R]

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(self.records[index].read_image())

    def map(self, index: int) -> PanopticMap:
        return self.records[index].read_map()


@dataclass(frozen=True)
class CocoPanopticDataset(_RecordDataset[CocoPanopticRecord]):
    """Photos with annotations of COCO's kind, one item each: `coco-panoptic`, `ade20k`, and `cityscapes` with its panoptic files."""

    records: CocoPanoptic

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(self.records.categories)

    def name(self, index: int) -> str:
        return self.records[index].file_name

    def image_path(self, index: int) -> Path:
        return self.records[index].image_path

    def image_id(self, index: int) -> ImageId:
        return self.records[index].image_id


@dataclass(frozen=True)
class CityscapesDataset(_RecordDataset[cityscapes.CityscapesRecord]):
    """`cityscapes:DIR[:SPLIT]` read from `gtFine`'s instance ids."""

    @property
    def categories(self) -> tuple[Category, ...]:
        return cityscapes.CATEGORIES

    def name(self, index: int) -> str:
        photo = self.records[index].image_path
        return f"{photo.parent.name}/{photo.name}"

    def image_path(self, index: int) -> Path:
        return self.records[index].image_path

    def image_id(self, index: int) -> ImageId:
        return self.records[index].name


@dataclass(frozen=True)
class LabelFolderDataset(_RecordDataset[LabelRecord]):
    """`labels:DIR[:SPLIT]`: photos and id pictures; all segments are of the category "segment"."""

    @property
    def categories(self) -> tuple[Category, ...]:
        return (CLASS_AGNOSTIC,)

    def name(self, index: int) -> str:
        record = self.records[index]
        return f"{record.stem}.png" if record.image_path is None else record.image_path.name

    def image_path(self, index: int) -> Path:
        return self.records[index].photo

    def image_id(self, index: int) -> ImageId:
        return self.records[index].stem


@dataclass(frozen=True)
class ToolDataset(_RecordDataset[ToolRecord]):
    """What an annotation tool wrote: `labelme:DIR`, `coco-instances:DIR:train`, `cvat:DIR` .."""

    categories: tuple[Category, ...]
    records: tuple[ToolRecord, ...]

    def name(self, index: int) -> str:
        return self.records[index].name

    def image_path(self, index: int) -> Path:
        return self.records[index].image_path

    def image_id(self, index: int) -> ImageId:
        return self.records[index].image_id


@dataclass(frozen=True)
class AnnotatorDataset(MapTargets):
    """`bsds500:DIR[:SPLIT]`: an item per image, with all of its annotations.

    `map` is the one that has the (lower) median number of segments, of several such the first.
    """

    categories: tuple[Category, ...]
    records: tuple[tuple[CocoPanopticRecord, ...], ...]

    @classmethod
    def of(cls, source: CocoPanoptic) -> AnnotatorDataset:
        """Puts the annotations of an image together, whatever their order."""
        found = defaultdict[ImageId, list[CocoPanopticRecord]](list)
        for record in source:
            found[record.image_id].append(record)
        return cls(source.categories, tuple(tuple(records) for records in found.values()))

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(self.records[index][0].read_image())

    def map(self, index: int) -> PanopticMap:
        ordered = sorted(self.records[index], key=lambda record: len(record.segments))
        return ordered[(len(ordered) - 1) // 2].read_map()

    def annotators(self, index: int) -> tuple[PanopticMap, ...]:
        return tuple(record.read_map() for record in self.records[index])

    def annotator_count(self, index: int) -> int:
        return len(self.records[index])

    def name(self, index: int) -> str:
        return self.records[index][0].file_name

    def image_path(self, index: int) -> Path:
        return self.records[index][0].image_path

    def image_id(self, index: int) -> ImageId:
        return self.records[index][0].image_id
