"""The whole conversion: read, checked for what the format cannot hold, and written so that it is there in full or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.convert.registry import TARGETS
from ldmseg.data.convert.staging import staged
from ldmseg.data.convert.targets import Header, Item, Keeps
from ldmseg.data.datasets import AnnotatedDataset, DataSpec, FileDataset, PanopticDataset, load_dataset, parse_spec
from ldmseg.data.datasets.loading import locate
from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import ImageId, Provenance, read_provenance
from ldmseg.formats.coco_layout import CocoFiles
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.formats.image import read_image
from ldmseg.formats.inside import path_inside
from ldmseg.formats.tools.registry import TOOLS


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What was written.

    Attributes:
        data: the name under which it can be loaded.
        images, segments: how many; of several annotators' maps all that were written.
        lost: what the format does not hold, each in a few words.
    """

    data: str
    images: int
    segments: int
    lost: tuple[str, ...]


def convert_dataset(
    spec: str,
    output: Path,
    target: str,
    *,
    split: str | None = None,
    photos: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Write a data set in another format.

    Args:
        spec: the source, `FORMAT:ROOT[:SPLIT]`.
        output: a folder; other splits may be in it.
        target: one of `TARGETS`.
        split: of the result; the source's if left out.
        photos: a folder of the photos, by their names, for a source that has none of its own.
        on_progress: called with (images written, images in all).

    Raises:
        InputError: the source is broken, an image cannot be held by the format, or something would be overwritten. Nothing is left of it.
    """
    parsed = parse_spec(spec)
    name = split if split is not None else parsed.split
    _check(target, name)
    dataset = load_dataset(spec)
    if (
        isinstance(dataset, FileDataset)
        and output.exists()
        and output.samefile(parsed.root if parsed.root.is_dir() else parsed.root.parent)
    ):
        raise InputError(f"output: expected another folder than the data set's own, got '{output}'")
    return write_dataset(dataset, output, target, split=name, photos=photos, provenance=_provenance(parsed), on_progress=on_progress)


def write_dataset(
    dataset: PanopticDataset,
    output: Path,
    target: str,
    *,
    split: str | None = None,
    photos: Path | None = None,
    provenance: Provenance | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """As `convert_dataset`, of a data set that is open; `provenance` is what its file says beyond the annotations."""
    _check(target, split)
    kind, told = TARGETS[target], provenance or Provenance()
    losses = _Losses(kind.keeps, dataset, bool(told))
    segments = 0
    with staged(output, kind.parts(split)) as stage:
        writer = kind(stage, split, Header(tuple(dataset.categories), told))
        for done, item in enumerate(_items(dataset, kind.keeps, losses, photos), start=1):
            writer.add(item)
            segments += sum(len(pmap) for pmap in item.maps)
            if on_progress is not None:
                on_progress(done, len(dataset))
        writer.close()
    data = f"{target}:{output}" + ("" if split is None else f":{split}")
    return ConversionReport(data, len(dataset), segments, losses.told())


def _check(target: str, split: str | None) -> None:
    if target not in TARGETS:
        raise InputError(f"to: expected one of {', '.join(TARGETS)}, got {quoted(target)}")
    if split is not None and (not split or split.startswith(".") or "/" in split or "\\" in split):
        raise InputError(f"split: expected a plain name, got {quoted(split)}")


def _provenance(spec: DataSpec) -> Provenance:
    files = None if spec.kind == "scenes" or spec.kind in TOOLS else locate(spec)
    return read_provenance(files.json_path) if isinstance(files, CocoFiles) else Provenance()


class _Losses:
    """Counts what a format does not hold."""

    def __init__(self, keeps: Keeps, dataset: PanopticDataset, provenance: bool) -> None:
        self._keeps = keeps
        self._provenance = provenance
        self._named = tuple(dataset.categories) != (CLASS_AGNOSTIC,)
        self._crowds = self._scores = self._further = 0
        self._stuff = sum(not category.isthing for category in dataset.categories)

    def count(self, item: Item, annotators: int) -> None:
        for pmap in item.maps:
            self._crowds += sum(s.iscrowd for s in pmap.segments)
            self._scores += sum(s.score is not None for s in pmap.segments)
        self._further += annotators - len(item.maps)

    def told(self) -> tuple[str, ...]:
        flat = not self._keeps.categories
        found = (
            (flat and self._named, "the categories"),
            (not self._keeps.crowds and self._crowds, f"the mark of {self._crowds} crowds, which are now plain segments"),
            (not self._keeps.scores and self._scores, "the scores"),
            (not flat and not self._keeps.stuff and self._stuff, f"that {self._stuff} categories are stuff, which are now things"),
            (self._further, f"{self._further} maps of further annotators"),
            (self._provenance and not self._keeps.provenance, "the JSON's fields beside the annotations (licences, origin)"),
        )
        return tuple(text for lost, text in found if lost)


def _items(dataset: PanopticDataset, keeps: Keeps, losses: _Losses, photos: Path | None) -> Iterator[Item]:
    files = dataset if isinstance(dataset, FileDataset) else None
    several = dataset if isinstance(dataset, AnnotatedDataset) else None
    for index, image_id in enumerate(_image_ids(dataset)):
        name, pixels = dataset.name(index), partial(dataset.image, index)
        photo: Path | None
        if photos is not None:
            photo = path_inside(photos, name)
            pixels = partial(_pixels, photo)
        else:
            photo = None if files is None else files.image_path(index)
        maps = (dataset.map(index),) if several is None or not keeps.annotators else several.annotators(index)
        item = Item(name, image_id, photo, pixels, maps)
        losses.count(item, 1 if several is None else several.annotator_count(index))
        yield item


def _pixels(photo: Path) -> NDArray[np.uint8]:
    return np.asarray(read_image(photo))


def _image_ids(dataset: PanopticDataset) -> list[ImageId]:
    """As the data set has them; names that are all different numbers (as COCO's files have) become those, and scenes are counted from 1."""
    if not isinstance(dataset, FileDataset):
        return list(range(1, len(dataset) + 1))
    found = [dataset.image_id(index) for index in range(len(dataset))]
    if len(set(found)) < len(found):
        raise InputError("data: expected one annotation per image, got several of one; open it as bsds500:DIR:SPLIT")
    numbers = [int(i) for i in found if isinstance(i, str) and i.isascii() and i.isdigit() and len(i) < 16]  # JSON's doubles
    return list(numbers) if len(set(numbers)) == len(found) else found
