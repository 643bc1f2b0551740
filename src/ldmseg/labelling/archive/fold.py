"""One `panoptic.json` and one `failed.jsonl` of all shards, made line by line: memory does not grow with the archive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ldmseg.atomic import atomic_write, write_text
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.labelling.archive.job import SEGMENTS

FAILED = "failed.jsonl"
_FAILURE = '{"file"'  # how the line of a photo without a map begins


def segments_file(state: Path, shard: int) -> Path:
    """A line for each photo of the shard: `{"image": .., "annotation": ..}` as COCO has them, or `{"file": .., "error": ..}`."""
    return state / SEGMENTS / f"{shard:06d}.jsonl"


def write_segments(state: Path, shard: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """The last file of a shard.

    Raises:
        InputError: it cannot be written.
    """
    write_text(segments_file(state, shard), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _texts(state: Path, shards: Iterable[int]) -> Iterator[str]:
    for shard in shards:
        with segments_file(state, shard).open(encoding="utf-8") as file:
            yield from file


def _photos(state: Path, shards: Iterable[int], key: str) -> Iterator[dict[str, Any]]:
    """`key` of each photo that has a map."""
    return (json.loads(text)[key] for text in _texts(state, shards) if not text.startswith(_FAILURE))


def fold(state: Path, shards: Iterable[int], info: Mapping[str, Any], path: Path) -> None:
    """Write the `panoptic.json` of these shards: COCO's panoptic format, class-agnostic.

    Raises:
        InputError: it cannot be written.
    """
    numbers = sorted(shards)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(dict(info), ensure_ascii=False)}, "images": [')
        _write_list(file, _photos(state, numbers, "image"))
        file.write('], "annotations": [')
        _write_list(file, _photos(state, numbers, "annotation"))
        file.write(f'], "categories": {json.dumps([CLASS_AGNOSTIC.to_dict()])}}}\n')


def _write_list(file: TextIO, items: Iterable[Mapping[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((", " if number else "") + json.dumps(item, ensure_ascii=False))


def write_failed(state: Path, shards: Iterable[int], further: Iterable[Mapping[str, str]], path: Path) -> int:
    """Write a line `{"file": .., "error": ..}` for each photo that failed; their number. Without one the file is removed.

    Args:
        further: failures of shards that are not done.

    Raises:
        InputError: it cannot be written.
    """
    count = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        failures = (line for line in _texts(state, sorted(shards)) if line.startswith(_FAILURE))
        for text in chain(failures, (json.dumps(line, ensure_ascii=False) + "\n" for line in further)):
            file.write(text)
            count += 1
    if not count:
        path.unlink()
    return count
