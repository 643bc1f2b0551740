"""Which photos a run labels, in which order, under which names and numbers: decided once, and kept on the disk."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ldmseg.atomic import atomic_write, writing_errors
from ldmseg.errors import InputError, quoted
from ldmseg.labelling.archive.sources import Entry

PLAN = "plan.jsonl"
LONGEST = 250
"""Bytes of a folder's or a file's name; systems take some 255."""

_LISTING = "listing.tmp"


@dataclass(frozen=True, slots=True)
class Item:
    """A photo of the plan.

    Attributes:
        image_id: the stem's number where it is one (of several equal ones the first), else a free number.
        problem: why it cannot be labelled, where that is known from its name.
    """

    image_id: int
    entry: Entry
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive photos that are written, and counted as done, together: `count` from byte `offset` of the plan on."""

    number: int
    count: int
    offset: int


def map_name(name: str) -> str:
    """The map's file name of a photo's."""
    return str(PurePosixPath(name).with_suffix(".png"))


def write_plan(folder: Path, found: Iterable[Entry], on_progress: Callable[[int], None], below: Path | None = None) -> int:
    """List all photos in `folder`; their number is returned. It takes 16 bytes of memory a photo.

    Args:
        below: a folder for maps, in which no photo may lie.

    Raises:
        InputError: there is no photo, two photos' maps would have one name, or a map would replace a photo.
    """
    names, numbers, count = array("Q"), array("q"), 0
    replaced = None if below is None else os.path.realpath(below) + os.sep
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        listing = folder / _LISTING
        with listing.open("w", encoding="utf-8") as file:
            for count, entry in enumerate(found, start=1):
                problem = _problem(entry)
                if replaced is not None and entry.part is None and entry.place.startswith(replaced):
                    raise InputError(f"--output: expected a folder where no photo would be replaced, got that of {quoted(entry.place)}")
                names.append(_hash(f"{count}//" if problem else map_name(entry.name)))
                numbers.append(-1 if problem else _number(entry.name))
                name = entry.name.encode("utf-8", "backslashreplace").decode() if problem else entry.name
                file.write(json.dumps([name, entry.place, entry.part, entry.partial, problem]) + "\n")
                if count % 1000 == 0:
                    on_progress(count)
    if not count:
        raise InputError("SOURCE: expected photos, found none")
    _check_distinct(np.frombuffer(names, np.uint64), listing)
    ids = _image_ids(np.frombuffer(numbers, np.int64))
    with atomic_write(folder / PLAN) as temporary, temporary.open("w", encoding="utf-8") as file, listing.open(encoding="utf-8") as lines:
        for line, image_id in zip(lines, ids, strict=True):
            file.write(f"[{image_id}, {line[1:]}")
    listing.unlink()
    return count


def shards_of(folder: Path, size: int) -> list[Shard]:
    """The plan, divided into shards of `size` photos."""
    found, offset, start, count = list[Shard](), 0, 0, 0
    with (folder / PLAN).open("rb") as file:
        for line in file:
            offset, count = offset + len(line), count + 1
            if count == size:
                found.append(Shard(len(found), count, start))
                start, count = offset, 0
    return [*found, Shard(len(found), count, start)] if count else found


def read_shard(folder: Path, shard: Shard) -> list[Item]:
    with (folder / PLAN).open("rb") as file:
        file.seek(shard.offset)
        return [_item(file.readline()) for _ in range(shard.count)]


def _item(line: bytes) -> Item:
    image_id, name, place, part, partial, problem = json.loads(line)
    return Item(image_id, Entry(name, place, part and (part[0], part[1]), partial and (partial[0], partial[1])), problem)


def _problem(entry: Entry) -> str | None:
    """Why no map can have the name of a photo."""
    parts = PurePosixPath(entry.name).parts
    if any("\ud800" <= c <= "\udfff" or c == "\0" for c in entry.name):
        return "its name is no text, and the results hold names"
    if not parts or entry.name.startswith("/") or ".." in parts or "\\" in entry.name:
        return "its name leads out of the folder for the results"
    if any(len(part.encode()) > LONGEST for part in parts):
        return f"its name has a part of more than {LONGEST} bytes"
    return None


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def _number(name: str) -> int:
    stem = PurePosixPath(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 16 else -1  # JSON's doubles


def _check_distinct(names: np.ndarray, listing: Path) -> None:
    values, counts = np.unique(names, return_counts=True)
    twice = {int(value) for value in values[counts > 1][:1000]}
    seen: dict[str, str] = {}
    with listing.open(encoding="utf-8") as lines:
        for line, value in zip(lines, names.tolist(), strict=True) if twice else ():
            if value in twice:
                name, place = json.loads(line)[:2]
                output, this = map_name(name), f"'{name}' of {quoted(place)}"
                if output in seen:
                    raise InputError(f"SOURCE: {seen[output]} and {this} would both be written as '{output}'; label them apart")
                seen[output] = this


def _image_ids(numbers: np.ndarray) -> Iterator[int]:
    """Each photo's number; as `ldmseg segment` numbers photos."""
    own, first = np.unique(numbers, return_index=True)
    first = first[own >= 0]
    own = own[own >= 0]
    keeps = np.zeros(len(numbers), dtype=bool)
    keeps[first] = True
    free, place = 1, int(np.searchsorted(own, 1))
    for number, kept in zip(numbers.tolist(), keeps.tolist(), strict=True):
        if kept:
            yield number
            continue
        while place < len(own) and own[place] == free:
            free, place = free + 1, place + 1
        yield free
        free += 1
