"""Captions of photos, read from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import one_line
from ldmseg.formats.json_file import read_json


@dataclass(frozen=True)
class Captions:
    """`by_name`: photo's file name -> its captions, at least one; `source`: the files, for messages."""

    by_name: Mapping[str, tuple[str, ...]]
    source: str

    def of(self, name: str) -> tuple[str, ...]:
        """The captions of a photo. A name with folders is also tried without them.

        Raises:
            InputError: there is none.
        """
        found = self.by_name.get(name) or self.by_name.get(PurePosixPath(name).name)
        if not found:
            raise InputError(f"captions: expected one of {quoted(name)} in {self.source}, got none")
        return found


def read_captions(paths: Sequence[str | Path]) -> Captions:
    """One or several files, each `{file name: caption or list of captions}` or COCO's captions (`images` and `annotations`).

    Raises:
        InputError: a file is missing, not JSON or of another structure.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in paths:
        for name, captions in _read(Path(path)):
            found[name] = found.get(name, ()) + captions
    return Captions(found, ", ".join(str(path) for path in paths))


def _read(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    values = read_json(path, "captions")
    if not isinstance(values, dict):
        raise InputError(f"captions: expected file names with captions in {str(path)!r}, got {type(values).__name__}")
    if isinstance(values.get("images"), list) and isinstance(values.get("annotations"), list):
        return _coco(values, path)
    return [(name, _texts(value, name, path)) for name, value in values.items()]


def _coco(values: dict[str, Any], path: Path) -> list[tuple[str, tuple[str, ...]]]:
    try:
        names = {image["id"]: str(image["file_name"]) for image in values["images"]}
        return [(names[entry["image_id"]], _texts(entry["caption"], names[entry["image_id"]], path)) for entry in values["annotations"]]
    except (KeyError, TypeError) as error:
        expected = "COCO's images (id, file_name) and annotations (image_id, caption)"
        raise InputError(f"captions: expected {expected} in {str(path)!r}, got {shortened(one_line(error))}") from None


def _texts(value: Any, name: str, path: Path) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"captions: expected text for {quoted(name)} in {str(path)!r}, got {quoted(value)}")
    return texts
