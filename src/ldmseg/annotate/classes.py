"""The classes that segments may be of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.formats.image import existing_file, one_line
from ldmseg.palette import PALETTE

MOST = 1000
LONGEST_NAME = 100


def read_classes(path: Path) -> tuple[Category, ...]:
    """A class a line: a name, and after a comma `stuff` for what has no instances (sky, road); `thing` is understood.

    Raises:
        InputError: the file cannot be read, is no text, has no class, or names one twice.
    """
    file = existing_file(path, "--labels")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"--labels: cannot read '{file}': {one_line(error)}") from error
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, kind = (part.strip() for part in line.partition(","))
        if kind not in ("", "thing", "stuff"):
            raise InputError(f"--labels: '{file}', line {number}: expected `name` or `name, stuff`, got {quoted(line.strip())}")
        entries.append((name, kind != "stuff"))
    if not entries:
        raise InputError(f"--labels: expected a class a line in '{file}', found none")
    return checked_classes(made(entries), f"--labels: '{file}'")


def made(entries: Iterable[tuple[str, bool]]) -> list[Category]:
    """Classes with numbers and colours of their own, from names and whether they are things."""
    first = CLASS_AGNOSTIC.id + 1
    return [Category(first + n, name, thing, color=PALETTE[n % len(PALETTE)]) for n, (name, thing) in enumerate(entries)]


def parse_classes(values: Any) -> tuple[Category, ...]:
    """Classes as the browser sends them: a list of objects with `id`, `name`, `isthing` and `color`.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(values, list):
        raise InputError(f"classes: expected a list, got {type(values).__name__}")
    found = []
    for value in values:
        if not isinstance(value, dict):
            raise InputError(f"classes: expected objects, got {type(value).__name__}")
        number, name, color = value.get("id"), value.get("name"), value.get("color")
        if not isinstance(number, int) or isinstance(number, bool) or not CLASS_AGNOSTIC.id < number < 2**31:
            raise InputError(f"classes: id: expected a whole number from {CLASS_AGNOSTIC.id + 1}, got {quoted(number)}")
        if not isinstance(name, str) or not isinstance(value.get("isthing"), bool):
            raise InputError(f"classes: expected a name and whether it is a thing, got {quoted(value)}")
        if not isinstance(color, list) or len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
            raise InputError(f"classes: color: expected three numbers from 0 to 255, got {quoted(color)}")
        found.append(Category(number, name.strip(), value["isthing"], color=(color[0], color[1], color[2])))
    return checked_classes(found, "classes")


def checked_classes(classes: Sequence[Category], where: str) -> tuple[Category, ...]:
    """
    Raises:
        InputError: too many, or a name or a number that is empty, too long or there twice.
    """
    if len(classes) > MOST:
        raise InputError(f"{where}: expected at most {MOST} classes, got {len(classes)}")
    names, numbers = set[str](), set[int]()
    for one in classes:
        if not one.name or len(one.name) > LONGEST_NAME or not one.name.isprintable():
            raise InputError(f"{where}: expected names of 1 to {LONGEST_NAME} printable characters, got {quoted(one.name)}")
        if one.name in names or one.id in numbers:
            raise InputError(f"{where}: expected each class once, got {quoted(one.name)} twice")
        names.add(one.name)
        numbers.add(one.id)
    return tuple(classes)
