"""Cityscapes: `leftImg8bit/<split>/<city>/` photos, and `gtFine` as instance-id PNGs or as the panoptic files made from them."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category, ImageEntry
from ldmseg.formats.coco_layout import CocoFiles, choose_split, listed, root_folder
from ldmseg.formats.image import read_image
from ldmseg.formats.label_png import read_label_ids
from ldmseg.panoptic import VOID, PanopticMap, Segment, run_ends

CATEGORIES = (
    Category(7, "road", False, "flat", (128, 64, 128)),
    Category(8, "sidewalk", False, "flat", (244, 35, 232)),
    Category(11, "building", False, "construction", (70, 70, 70)),
    Category(12, "wall", False, "construction", (102, 102, 156)),
    Category(13, "fence", False, "construction", (190, 153, 153)),
    Category(17, "pole", False, "object", (153, 153, 153)),
    Category(19, "traffic light", False, "object", (250, 170, 30)),
    Category(20, "traffic sign", False, "object", (220, 220, 0)),
    Category(21, "vegetation", False, "nature", (107, 142, 35)),
    Category(22, "terrain", False, "nature", (152, 251, 152)),
    Category(23, "sky", False, "sky", (70, 130, 180)),
    Category(24, "person", True, "human", (220, 20, 60)),
    Category(25, "rider", True, "human", (255, 0, 0)),
    Category(26, "car", True, "vehicle", (0, 0, 142)),
    Category(27, "truck", True, "vehicle", (0, 0, 70)),
    Category(28, "bus", True, "vehicle", (0, 60, 100)),
    Category(31, "train", True, "vehicle", (0, 80, 100)),
    Category(32, "motorcycle", True, "vehicle", (0, 0, 230)),
    Category(33, "bicycle", True, "vehicle", (119, 11, 32)),
)
"""The classes that are evaluated, under their label ids."""

IGNORED = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})
"""Labels that are not evaluated (unlabeled, ego vehicle, .., caravan, trailer); their pixels are void."""

PER_CLASS = 1000
"""An instance id is label * 1000 + number; a smaller value is a label: stuff, or a group of things that is not divided."""

PHOTO, INSTANCES = "_leftImg8bit.png", "_gtFine_instanceIds.png"

_BY_ID = {c.id: c for c in CATEGORIES}
_BY_NAME = {(c.name, c.isthing): c for c in CATEGORIES}


@dataclass(frozen=True, slots=True)
class CityscapesRecord:
    """One image, annotated by an instance-id PNG. `name` is `<city>_<sequence>_<frame>`; either file may be missing."""

    name: str
    image_path: Path
    instance_path: Path

    def read_image(self) -> Image.Image:
        """The photo as 8-bit RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_image(self.image_path)

    def read_map(self) -> PanopticMap:
        """The annotation with Cityscapes' own ids; groups of things are crowds, labels that are not evaluated are void.

        Raises:
            InputError: the PNG is missing or damaged, or holds a label that Cityscapes does not have.
        """
        values = read_label_ids(self.instance_path, f"annotation of image {self.name}")
        pmap, unknown = from_instance_ids(values)
        if unknown:
            raise InputError(
                f"annotation of image {self.name}: '{self.instance_path}': expected Cityscapes' labels (0 to 33), "
                f"got {', '.join(map(str, unknown[:5]))}"
            )
        return pmap


@dataclass(frozen=True, slots=True)
class CityscapesFiles:
    """A split of `gtFine` without panoptic files: an entry for each photo or annotation that is there."""

    image_dir: Path
    instance_dir: Path
    records: tuple[CityscapesRecord, ...]


def locate_cityscapes(root: str | os.PathLike[str], split: str | None = None) -> CocoFiles | CityscapesFiles:
    """The annotations of a split: `gtFine/cityscapes_panoptic_<split>.json` if it is there, else `gtFine/<split>/<city>/`'s instance ids.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed).
    """
    folder = root_folder(Path(root))
    panoptic = {p.stem.removeprefix("cityscapes_panoptic_"): p for p in listed(folder, "gtFine/cityscapes_panoptic_*.json")}
    instances = {p.parent.parent.name: p.parent.parent for p in listed(folder, f"gtFine/*/*/*{INSTANCES}")}
    found = sorted({*panoptic, *instances})
    if not found:
        raise InputError(f"root: found no cityscapes_panoptic_<split>.json and no <split>/<city>/*{INSTANCES} in '{folder / 'gtFine'}'")
    name = choose_split(folder, dict.fromkeys(found), split)
    image_dir = folder / "leftImg8bit" / name.removesuffix("_trainId")
    if name in panoptic:
        photos = image_dir if image_dir.is_dir() else None
        return CocoFiles(panoptic[name], panoptic[name].with_suffix(""), photos, photo_name)
    return _instance_files(image_dir, instances[name])


def photo_name(image: ImageEntry) -> str:
    """`<city>/<image id>_leftImg8bit.png`: the JSON's own `file_name` is not that of a file."""
    identity = str(image.image_id)
    return f"{identity.split('_')[0]}/{identity}{PHOTO}" if "_" in identity else image.file_name


def from_instance_ids(values: NDArray[np.integer]) -> tuple[PanopticMap, tuple[int, ...]]:
    """(H, W) instance ids -> their map, and the values that belong to no label; those are void in the map."""
    segments, unknown = [], []
    for value in np.unique(values.ravel()[run_ends(values)]).tolist():
        label = value if value < PER_CLASS else value // PER_CLASS
        category = _BY_ID.get(label)
        if category is not None:
            segments.append(Segment(value, label, category.isthing, category.isthing and value < PER_CLASS))
        elif label not in IGNORED:
            unknown.append(value)
    ids = np.where(np.isin(values, [s.id for s in segments]), values, VOID)
    return PanopticMap(ids, tuple(segments)), tuple(unknown)


def with_instance_ids(pmap: PanopticMap, categories: Iterable[Category], where: str) -> PanopticMap:
    """The same segments under Cityscapes' instance ids and classes; an id that is such a one already stays.

    Args:
        categories: of the map. Each that occurs needs its counterpart: a class of the same name that is a thing or stuff as well.
        where: names the image in messages.

    Raises:
        InputError: a category has no counterpart; two segments of a class would have one id because it is stuff, or they are crowds; or
            there are more than 1000 of a class.
    """
    known = {c.id: c for c in categories}
    segments, things = dict[int, Segment](), defaultdict[int, list[int]](list)
    for segment in pmap.segments:
        source = None if segment.category_id is None else known.get(segment.category_id)
        category = None if source is None else _BY_NAME.get((source.name.strip().lower(), source.isthing))
        if category is None:
            what = segment.category_id if source is None else f"'{source.name}' ({'thing' if source.isthing else 'stuff'})"
            raise InputError(f"{where}: segment {segment.id}: the category {what} is not one of Cityscapes' classes")
        segments[segment.id] = replace(segment, id=category.id, category_id=category.id, isthing=category.isthing)
        if category.isthing and not segment.iscrowd:
            things[category.id].append(segment.id)
    for label, ids in things.items():
        if len(ids) > PER_CLASS:
            name = _BY_ID[label].name
            raise InputError(f"{where}: expected at most {PER_CLASS} segments of '{name}' (Cityscapes' ids), got {len(ids)}")
        numbers = range(label * PER_CLASS, (label + 1) * PER_CLASS)
        free = iter(sorted(set(numbers) - set(ids)))
        segments |= {i: replace(segments[i], id=i if i in numbers else next(free)) for i in ids}
    taken = Counter(s.id for s in segments.values())
    for new in segments.values():
        if taken[new.id] > 1:
            kind = "groups" if new.iscrowd else "stuff"
            name = _BY_ID[new.id].name
            raise InputError(f"{where}: expected one '{name}' (Cityscapes has one id for all {kind} of a class), got {taken[new.id]}")
    renamed = pmap.relabel({old: new.id for old, new in segments.items()})
    return PanopticMap(renamed.ids, tuple(segments.values()))


def core_name(file_name: str) -> str:
    """`<city>_<sequence>_<frame>` for a photo of any name; a name that is of this form already stays."""
    path = Path(file_name)
    core = re.sub(r"(_gtFine)?(_leftImg8bit)?$", "", path.stem)
    if re.fullmatch(r"[^_.]+_[^_.]+_[^_.]+", core):
        return core
    return f"images_000000_{re.sub(r'[^0-9A-Za-z-]', '-', path.with_suffix('').as_posix())}"


def _instance_files(image_dir: Path, instance_dir: Path) -> CityscapesFiles:
    photos = {p.name.removesuffix(PHOTO): p for p in listed(image_dir, f"*/*{PHOTO}")}
    instances = {p.name.removesuffix(INSTANCES): p for p in listed(instance_dir, f"*/*{INSTANCES}")}
    records = []
    for name in sorted({*photos, *instances}):
        city = (instances[name] if name in instances else photos[name]).parent.name
        photo, instance = image_dir / city / f"{name}{PHOTO}", instance_dir / city / f"{name}{INSTANCES}"
        records.append(CityscapesRecord(name, photos.get(name, photo), instances.get(name, instance)))
    return CityscapesFiles(image_dir, instance_dir, tuple(records))
