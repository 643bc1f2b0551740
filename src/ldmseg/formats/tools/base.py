"""What the formats of all annotation tools have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath

from PIL import Image

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category, ImageId
from ldmseg.formats.coco_layout import choose_split, listed, root_folder
from ldmseg.formats.image import read_image
from ldmseg.formats.inside import path_inside
from ldmseg.panoptic import PanopticMap

VOID_NAMES = frozenset({"_background_", "__background__", "__ignore__"})
"""Labels that labelme and ISAT give to what is no object; pixels under them are void."""

NAME_LISTS = ("labels.txt", "classes.txt")
"""Files that list the names of the classes, one a line, in the order that numbers them."""


@dataclass(frozen=True)
class ToolRecord:
    """One photo and its annotation, which are read when they are asked for.

    Attributes:
        name: the photo's, below the folder of photos.
        source: the file with the annotation.
        photo: None where the annotation does not say which.
        draw: makes the map.
        problem: why the annotation cannot be read at all; None if it can.
    """

    name: str
    image_id: ImageId
    source: Path
    photo: Path | None
    draw: Callable[[], PanopticMap] | None
    problem: str | None = None

    @property
    def image_path(self) -> Path:
        """
        Raises:
            InputError: there is no place where the photo could be.
        """
        if self.photo is None:
            raise InputError(self.problem or f"image: found no photo '{self.name}' of '{self.source}'")
        return self.photo

    def read_image(self) -> Image.Image:
        """The photo as 8-bit RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        return read_image(self.image_path)

    def read_map(self) -> PanopticMap:
        """
        Raises:
            InputError: the annotation is missing or damaged.
        """
        if self.draw is None:
            raise InputError(self.problem or f"label: '{self.source}' cannot be read")
        return self.draw()


@dataclass(frozen=True)
class ToolFiles:
    """A data set of a tool: what its segments may be of, and a record per photo."""

    categories: tuple[Category, ...]
    records: tuple[ToolRecord, ...]


def broken_record(source: Path, error: InputError) -> ToolRecord:
    """The place of an annotation that cannot be read, so that the others can be used and a check tells."""
    return ToolRecord(source.name, source.stem, source, None, None, str(error))


def tool_files(
    folder: Path,
    names: Iterable[str],
    found: Iterable[tuple[Path, str] | ToolRecord],
    read: Callable[[Path, tuple[Category, ...]], PanopticMap],
) -> ToolFiles:
    """The records of a folder in which each photo has a JSON of its own.

    Args:
        names: of all categories.
        found: each JSON and its photo's name, or the record of one that cannot be read.
        read: the map of a JSON, with what names mean.
    """
    categories = named_categories(folder, names)
    records = [
        one
        if isinstance(one, ToolRecord)
        else ToolRecord(one[1], one[0].stem, one[0], path_inside(folder, one[1]), partial(read, one[0], categories))
        for one in found
    ]
    return ToolFiles(categories, tuple(records))


def photo_name(name: str, what: str) -> str:
    """A photo's name as an annotation has it, with `/` between folders also where it was written on Windows.

    Raises:
        InputError: it is absolute or has `..` in it.
    """
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts or not windows.parts:
        raise InputError(f"{what}: expected a photo's name below the data set's folder, got {quoted(name)}")
    return "/".join(windows.parts)


def find_photo(folders: Iterable[Path], name: str) -> Path:
    """The photo in the first folder that has it, else where it would be in the first of them."""
    candidates = [path_inside(folder, name) for folder in folders]
    return next((path for path in candidates if path.is_file()), candidates[0])


def photo_folders(root: Path, split: str | None) -> list[Path]:
    """Where photos of a data set may lie, beside what annotates them or in folders named `images` or as the split."""
    inside = [*([split, f"images/{split}"] if split else []), "images"]
    return [*(root / name for name in inside), root]


def json_files(root: Path, split: str | None) -> tuple[Path, list[Path]]:
    """The folder of a data set that has an annotation beside each photo, and its JSONs. The only folder of that kind need not be named.

    Raises:
        InputError: there is no such folder, or it has none.
    """
    folder = root_folder(root if split is None else path_inside(root_folder(root), split, "split"))
    found = listed(folder, "*.json")
    if found:
        return folder, found
    inside = {path.parent.name: path.parent for path in listed(folder, "*/*.json")}
    if split is not None or not inside:
        raise InputError(f"root: found no *.json in '{folder}'")
    chosen = inside[choose_split(root, inside, None)]
    return chosen, listed(chosen, "*.json")


def named_categories(root: Path, found: Iterable[str]) -> tuple[Category, ...]:
    """Things, numbered from 1: first those of `labels.txt` or `classes.txt`, so that splits agree, then others by name."""
    path = next((root / name for name in NAME_LISTS if (root / name).is_file()), None)
    lines = [] if path is None else path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = dict.fromkeys([*(line.strip() for line in lines), *sorted(set(found))])
    wanted = [name for name in names if name and name not in VOID_NAMES]
    return tuple(Category(number, name) for number, name in enumerate(wanted, start=1))
