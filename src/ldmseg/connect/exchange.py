"""From a tool's export to a data set whose maps `inpaint` completes, and from completed maps back to the tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.atomic import write_json, write_text
from ldmseg.data.convert import ConversionReport, write_dataset
from ldmseg.data.convert.staging import staged
from ldmseg.data.datasets import FileDataset, MapTargets, PanopticDataset, load_dataset
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category, ImageId
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.formats.tools.label_studio import Control, label_config, task_document
from ldmseg.panoptic import PanopticMap, Segment

OnProgress = Callable[[int, int], None]
MODEL_VERSION = "ldmseg"


def import_tool(
    tool: str, root: Path, output: Path, *, split: str | None = None, photos: Path | None = None, on_progress: OnProgress | None = None
) -> ConversionReport:
    """Write a tool's export as a COCO panoptic data set: `images/`, and maps in `panoptic/` that `inpaint --partial` takes as they are.

    Args:
        split: of several in the export, the one that is meant; the result has none.
        photos: a folder of the photos, by their names, where they do not lie with the export.

    Raises:
        InputError: the export is damaged, or something would be overwritten.
    """
    spec = f"{tool}:{root}" + ("" if split is None else f":{split}")
    return write_dataset(load_dataset(spec), output, "coco-panoptic", photos=photos, on_progress=on_progress)


def export_tool(
    tool: str,
    spec: str,
    output: Path,
    *,
    split: str | None = None,
    photos: Path | None = None,
    names: str | None = None,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Write the maps of a data set in a tool's format.

    Args:
        photos: a folder of the photos, by their names; what `segment` and `inpaint` write has none.
        names: the data set that was completed: a segment gets the category that the segment of the same id has there.

    Raises:
        InputError: a data set is damaged, or something would be overwritten.
    """
    return write_dataset(named_dataset(spec, names), output, tool, split=split, photos=photos, on_progress=on_progress)


def export_label_studio(
    spec: str,
    output: Path,
    control: Control,
    *,
    prefix: str,
    names: str | None = None,
    as_annotations: bool = False,
    on_progress: OnProgress | None = None,
) -> ConversionReport:
    """Write `tasks.json` to import into Label Studio, and `label_config.xml`, the labelling interface that it is for.

    Args:
        prefix: of the photos' addresses in Label Studio; the name of each follows.
        as_annotations: finished labels instead of predictions.

    Raises:
        InputError: a data set is damaged, or something would be overwritten.
    """
    dataset = named_dataset(spec, names)
    labels = {category.id: category.name for category in dataset.categories}
    tasks, segments = [], 0
    for index in range(len(dataset)):
        pmap = dataset.map(index)
        segments += len(pmap)
        task = task_document(prefix + dataset.name(index), pmap, labels, control, MODEL_VERSION)
        if as_annotations:
            task["annotations"] = [{"result": prediction["result"]} for prediction in task.pop("predictions")]
        tasks.append(task)
        if on_progress is not None:
            on_progress(index + 1, len(dataset))
    with staged(output, ["label_config.xml", "tasks.json"]) as stage:
        write_text(stage / "label_config.xml", label_config(labels.values(), control))
        write_json(stage / "tasks.json", tasks)
    return ConversionReport(str(output / "tasks.json"), len(dataset), segments, ())


def named_dataset(spec: str, names: str | None) -> PanopticDataset:
    """A data set, with the categories that the segments of the same photo and id have in another one.

    Raises:
        InputError: one of the data sets is damaged, or photos share a name.
    """
    dataset = load_dataset(spec)
    if names is None:
        return dataset
    if not isinstance(dataset, FileDataset):
        raise InputError(f"--names: expected with a data set in files, got '{spec}'")
    given = load_dataset(names)
    positions = {given.name(index): index for index in range(len(given))}
    if len(positions) < len(given):
        raise InputError(f"--names: expected photos of which no two have the same name, in '{names}'")
    rest = Category(max((c.id for c in given.categories), default=0) + 1, CLASS_AGNOSTIC.name)
    return NamedDataset(dataset, given, positions, (*given.categories, rest))


@dataclass(frozen=True)
class NamedDataset(MapTargets):
    """A data set whose segments have the categories of another one's; what is not in it is of the last category, "segment"."""

    source: FileDataset
    given: PanopticDataset
    positions: dict[str, int]
    categories: tuple[Category, ...]

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(index)

    def map(self, index: int) -> PanopticMap:
        pmap, position = self.source.map(index), self.positions.get(self.name(index))
        known = {} if position is None else {s.id: s for s in self.given.map(position).segments}
        rest = Segment(0, self.categories[-1].id, True)
        segments = tuple(
            Segment(s.id, k.category_id, k.isthing, k.iscrowd, s.score) for s in pmap.segments for k in (known.get(s.id, rest),)
        )
        return PanopticMap(pmap.ids, segments)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def image_path(self, index: int) -> Path:
        return self.source.image_path(index)

    def image_id(self, index: int) -> ImageId:
        return self.source.image_id(index)
