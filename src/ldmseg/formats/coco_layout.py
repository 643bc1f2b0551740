"""Where the parts of a COCO panoptic data set lie: the JSON of each split, its folder of PNGs and its folder of photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import ImageEntry
from ldmseg.formats.image import one_line
from ldmseg.formats.inside import path_inside


def as_listed(image: ImageEntry) -> str:
    """The photo's name in the JSON; see `CocoFiles`."""
    return image.file_name


@dataclass(frozen=True, slots=True)
class CocoFiles:
    """The files of a data set with annotations of COCO's kind, in any layout of folders.

    Attributes:
        json_path: the annotations.
        png_dir, image_dir: None if they are to be searched beside the JSON, as in `CocoPanoptic.open`.
        photo_name: a photo's path below `image_dir`.
        empty_segments: whether segments without a pixel are left out instead of being an error.
    """

    json_path: Path
    png_dir: Path | None = None
    image_dir: Path | None = None
    photo_name: Callable[[ImageEntry], str] = as_listed
    empty_segments: bool = False

    def find_png_dir(self, png_names: Sequence[str]) -> Path:
        """The folder that holds the named PNGs.

        Raises:
            InputError: there is none.
        """
        return named_folder(self.png_dir, "png_dir") or find_png_dir(self.json_path, png_names)

    def find_image_dir(self, photo_names: Sequence[str]) -> Path | None:
        """The folder that holds the named photos, None where there is none.

        Raises:
            InputError: a folder that was named is not there.
        """
        return named_folder(self.image_dir, "image_dir") or _find_folder(_photo_folders(self.json_path), photo_names)


def locate_coco(root: str | os.PathLike[str], split: str | None = None) -> CocoFiles:
    """The data set under a folder (`coco-panoptic:ROOT[:SPLIT]`).

    The JSON of split `val` is `panoptic_val.json` in `root` or in `root/annotations`, or `panoptic.json` in `root/val`. Without a split,
    `root/panoptic.json` is taken, or the only split there is. `root` may be a JSON itself.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed).
    """
    folder = Path(root)
    if folder.is_file() and split is None:
        return CocoFiles(folder)
    root_folder(folder)
    whole = folder / "panoptic.json"
    if split is None and whole.is_file():
        return CocoFiles(whole)
    found = list_splits(folder)
    if not found:
        raise InputError(f"root: found no panoptic.json or panoptic_<split>.json in '{folder}' or its annotations folder")
    return CocoFiles(found[choose_split(folder, found, split)])


def list_splits(root: Path) -> dict[str, Path]:
    """The JSON of each split under a folder, by the split's name."""
    named = [*listed(root, "panoptic_*.json"), *listed(root, "annotations/panoptic_*.json")]
    found = {path.stem.removeprefix("panoptic_"): path for path in sorted(named, reverse=True)}
    return dict(sorted(({path.parent.name: path for path in listed(root, "*/panoptic.json")} | found).items()))


def root_folder(root: Path) -> Path:
    """`root`, which must be a folder.

    Raises:
        InputError: it is not.
    """
    if not root.is_dir():
        raise InputError(f"root: expected a folder, got '{root}', which {'is a file' if root.exists() else 'does not exist'}")
    return root


def listed(folder: Path, pattern: str) -> list[Path]:
    """What matches in a folder, by name.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted(folder.glob(pattern))
    except OSError as error:
        raise InputError(f"root: cannot list '{folder}': {one_line(error)}") from error


def choose_split(root: Path, found: Mapping[str, object], split: str | None) -> str:
    """The split that was named, or the only one.

    Raises:
        InputError: it is not among those that were found, or there are several; they are listed.
    """
    names = ", ".join(found)
    if split is None and len(found) > 1:
        raise InputError(f"split: '{root}' has several; name one of: {names}")
    name = next(iter(found)) if split is None else split
    if name not in found:
        raise InputError(f"split: expected one of {names} (in '{root}'), got '{name}'")
    return name


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
        InputError: there is none; the message names the folders that were searched.
    """
    parent, split = json_path.parent, split_name(json_path)
    beside = [parent / json_path.stem, *(parent / "panoptic" / s for s in _shortened(split)), parent / "panoptic", parent]
    candidates = [*beside, *([parent.parent / json_path.stem] if parent.name == "annotations" else [])]  # the last one is detectron2's
    found = _find_folder(candidates, png_names)
    if found is None:
        looked = ", ".join(f"'{c}'" for c in candidates)
        raise InputError(f"png_dir: found no '{png_names[0]}' of '{json_path}' in {looked}; name the folder of PNGs")
    return found


def split_name(json_path: Path) -> str:
    """`val2017` of `panoptic_val2017.json`; empty for `panoptic.json`."""
    return json_path.stem.removeprefix("panoptic").removeprefix("_")


def _photo_folders(json_path: Path) -> list[Path]:
    splits = _shortened(split_name(json_path))
    roots = (json_path.parent, json_path.parent.parent)
    inside = [*splits, *(f"images/{s}" for s in splits), "images"]
    return [*(root / name for root in roots for name in inside), json_path.parent]


def _shortened(split: str) -> list[str]:
    """`train_all` -> `train_all`, `train`: variants of a split share its folders."""
    parts = split.split("_")
    return ["_".join(parts[:n]) for n in range(len(parts), 0, -1)] if split else []


def _find_folder(candidates: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The first folder that has one of the first files; one that is missing must not hide the others."""
    for folder in candidates:
        if any(_is_there(folder, name) for name in names[:20]):
            return folder
    return None


def _is_there(folder: Path, name: str) -> bool:
    try:
        return path_inside(folder, name).is_file()
    except (OSError, InputError):  # a name that is too long, or leads out of the folder
        return False
