"""YOLO's segmentation format: a text file beside each photo, a line per object: its class and one ring of points, as shares of the size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_layout import choose_split, listed, root_folder
from ldmseg.formats.image import IMAGE_SUFFIXES, existing_file, one_line, read_size
from ldmseg.formats.patches import polygon
from ldmseg.formats.regions import Region, cutouts, paint
from ldmseg.formats.tools.base import ToolFiles, ToolRecord
from ldmseg.panoptic import PanopticMap

IMAGES, LABELS = "images", "labels"
NAMES = ("data.yaml", "dataset.yaml", "classes.txt")
DIGITS = 7
"""Behind the point; the error of a coordinate is far below a pixel's half, so that what is written is read as the same pixels."""


def open_yolo_seg(root: Path, split: str | None = None) -> ToolFiles:
    """`yolo-seg:DIR[:SPLIT]`: `images/` and `labels/`, with the splits as folders in them or around them.

    Classes are named by `data.yaml` (or another YAML of the folder with `names`) or `classes.txt`; class 0 is category 1. The paths in the
    YAML are not used. A photo without a text has no object.

    Raises:
        InputError: there is no such folder or split, or it has no photo.
    """
    folder = root_folder(root)
    images, labels = _folders(folder, split)
    photos = [path for path in listed(images, "*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
    if not photos:
        raise InputError(f"root: found no photos in '{images}'")
    categories = _categories(folder, split)
    records = []
    for photo in photos:
        text = labels / f"{photo.stem}.txt"
        records.append(ToolRecord(photo.name, photo.stem, text, photo, partial(read_yolo_seg, text, photo, categories)))
    return ToolFiles(categories, tuple(records))


def _folders(root: Path, split: str | None) -> tuple[Path, Path]:
    if split is None and (root / LABELS).is_dir() and any(p.is_file() for p in listed(root / LABELS, "*.txt")):
        return root / IMAGES, root / LABELS
    found = {path.name: (root / IMAGES / path.name, path) for path in listed(root / LABELS, "*") if path.is_dir()}
    found |= {path.parent.name: (path.parent / IMAGES, path) for path in listed(root, f"*/{LABELS}") if path.is_dir()}
    if not found:
        raise InputError(f"root: found no folder '{LABELS}' with texts in '{root}', nor in splits of it")
    return found[choose_split(root, dict(sorted(found.items())), split)]


def _categories(root: Path, split: str | None) -> tuple[Category, ...]:
    candidates = [*(root / name for name in (*NAMES, f"data_{split}.yaml")), *listed(root, "*.yaml")]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise InputError(f"root: expected the names of the classes in {' or '.join(NAMES)} of '{root}', found none")
    try:
        text = existing_file(path, "names").read_text(encoding="utf-8-sig")
        names: Any = text.splitlines() if path.suffix == ".txt" else yaml.safe_load(text)["names"]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"names: cannot read '{path}': expected a list of names, got {shortened(one_line(error))}") from error
    if isinstance(names, list):
        names = dict(enumerate(name for name in names if name != ""))
    if not isinstance(names, dict) or not names or not all(isinstance(n, int) and 0 <= n < 2**24 for n in names):
        raise InputError(f"names: '{path}': expected a list of names or numbers with names, got {quoted(names)}")
    return tuple(Category(number + 1, str(names[number])) for number in sorted(names))


def read_yolo_seg(path: Path, photo: Path, categories: tuple[Category, ...] = ()) -> PanopticMap:
    """The map of one photo, whose size scales the points.

    The format says nothing of what lies on top: here the smaller object does.

    Raises:
        InputError: the photo or the text is damaged, or a line is no ring of points.
    """
    height, width = read_size(photo)
    known = {category.id for category in categories}
    regions = []
    for number, line in enumerate(_lines(path), start=1):
        where = f"label: '{path}': line {number}"
        try:
            name, values = line.split()[0], np.array(line.split()[1:], dtype=np.float64)
            category = int(name) + 1
        except ValueError as error:
            raise InputError(f"{where}: expected a class and numbers, got {quoted(line)}") from error
        if known and category not in known:
            raise InputError(f"{where}: expected a class from 0 to {max(known) - 1}, got {shortened(name)}")
        if values.size < 6 or values.size % 2 or not bool((np.abs(values) <= 2).all()):
            kind = " (a box)" if values.size == 4 else ""
            raise InputError(f"{where}: expected three or more points as shares of the photo's size, got {values.size} numbers{kind}")
        patch = polygon(values.reshape(-1, 2) * (width, height), height, width)
        regions.append(Region(patch, category, -float(patch.mask.sum())))
    return paint(regions, height, width, categories)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        return [line for line in existing_file(path, "label").read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"label: cannot read '{path}': {one_line(error)}") from error


def yolo_seg_text(pmap: PanopticMap, classes: Mapping[int, int]) -> str:
    """A map as lines; parts and holes of a segment are joined into one ring, which encloses the same pixels.

    Args:
        classes: YOLO's number, from 0, of each category; a segment without a category is of class 0.
    """
    height, width = pmap.shape
    lines = []
    for cutout in cutouts(pmap):
        shares = (cutout.ring() / (width, height)).ravel().tolist()
        numbers = " ".join(f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") for value in shares)
        lines.append(f"{classes.get(cutout.segment.category_id or 0, 0)} {numbers}\n")
    return "".join(lines)


def yolo_seg_yaml(names: Mapping[int, str], split: str | None) -> str:
    """`data.yaml`: where photos lie (of a data set in splits those of `train` and `val`), and the classes' names by number."""
    splits = ["train", "val"] if split is None else list(dict.fromkeys(["train", "val", split]))
    photos: dict[str, Any] = {name: str(PurePosixPath(IMAGES, name if split else "")) for name in splits}
    return yaml.safe_dump({"path": ".", **photos, "names": {**names}}, sort_keys=False, allow_unicode=True)
