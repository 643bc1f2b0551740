"""What a project's `annotate.json` says of its photos, without opening them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmseg.annotate.photos import Photo
from ldmseg.errors import InputError


@dataclass(frozen=True)
class Entry:
    """What is known of a photo without opening it.

    Attributes:
        image_id: in the data set.
        finished: whether a person said so.
        begun: whether there is a map.
        pinned, confident: shares of the pixels, in 0..1; None: not known.
    """

    image_id: int
    finished: bool = False
    begun: bool = False
    pinned: float = 0.0
    confident: float | None = None


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object, empty where there is no file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--output: cannot read '{path}', which is to hold a project") from error
    if not isinstance(found, dict):
        raise InputError(f"--output: expected a project, got '{path}', which holds none")
    return found


def entries_of(photos: Sequence[Photo], stored: Any) -> dict[str, Entry]:
    """What is known of each photo; new ones get numbers that no other has, their own where their name is one."""
    stored = stored if isinstance(stored, dict) else {}
    known: dict[str, Entry] = {}
    for name, values in stored.items():
        if isinstance(values, dict) and isinstance(number := values.get("image_id"), int) and 0 <= number < 2**53:  # JSON's doubles
            shares = [_share(values.get(key)) for key in ("pinned", "confident")]
            known[name] = Entry(number, values.get("finished") is True, values.get("begun") is True, shares[0] or 0.0, shares[1])
    taken, found = {entry.image_id for entry in known.values()}, dict[str, Entry]()
    for photo in photos:
        name = photo.path.name
        if name not in known:
            own = int(photo.stem) if photo.stem.isascii() and photo.stem.isdigit() and len(photo.stem) < 16 else 0
            number = own if own and own not in taken else max((i for i in taken if i < 2**40), default=0) + 1
            known[name] = Entry(number)
            taken.add(number)
        found[photo.key] = known[name]
    return found


def _share(value: Any) -> float | None:
    """A share of the pixels as it was stored, None for anything else."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
