"""What a run is: kept beside its results, so that the same command goes on with it and another one is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from ldmseg.atomic import sync, write_json, writing_errors
from ldmseg.errors import InputError, quoted
from ldmseg.formats.json_file import read_json
from ldmseg.locking import LOCK

Format = Literal["coco-panoptic", "webdataset", "parquet"]
"""A folder of PNGs with one `panoptic.json`; tars of PNG and JSON; or tables with the PNGs in them."""

STATE = ".label"
"""The folder in the output that holds what a run needs to go on."""

JOB, DONE, SEGMENTS, STAGING = "job.json", "done.jsonl", "segments", "staging"


@dataclass(frozen=True)
class Job:
    """Everything that decides about the bytes of the results.

    Attributes:
        sources, partial: as they were named, paths made absolute.
        photos: how many the plan has.
        shard_size: photos that are written, and counted as done, together.
        batch_size: photos that a network gets at a time.
        threads: of each process. Sums of floats may depend on it.
        seed: of the noise.
        max_pixels: a photo with more fails.
        with_photos: whether the photos' files go into tars and tables, too.
        unknown, clean: how painted partial maps are read (`ldmseg.formats.painting.read_painting`).
        info: COCO's `info`: program, model, options.
    """

    sources: tuple[str, ...]
    partial: str | None
    format: Format
    photos: int
    shard_size: int
    batch_size: int
    threads: int
    seed: int
    max_pixels: int
    with_photos: bool
    unknown: tuple[int, int, int] | None
    clean: bool
    info: Mapping[str, Any]

    def write(self, state: Path) -> None:
        write_json(state / JOB, asdict(self), indent=2)

    @classmethod
    def read(cls, state: Path) -> Self | None:
        """The job of a folder; None where none was begun.

        Raises:
            InputError: the file is damaged, or of another version of the program.
        """
        path = state / JOB
        if not path.is_file():
            return None
        found = read_json(path)
        if not isinstance(found, dict) or set(found) != {field.name for field in fields(cls)}:
            raise InputError(f"--output: expected a run of this version of ldmseg, got '{path}' of another; use another folder")
        unknown = found["unknown"]
        return cls(**{**found, "sources": tuple(found["sources"]), "unknown": None if unknown is None else tuple(unknown)})

    def check_same(self, asked: Mapping[str, Any], output: Path) -> None:
        """
        Args:
            asked: some of the attributes, as the present command has them.

        Raises:
            InputError: one differs.
        """
        for name, value in asked.items():
            own, value = json.loads(json.dumps([getattr(self, name), value]))
            if name == "info" and own != value:
                name, own, value = _different(own, value)
            if own != value:
                raise InputError(
                    f"--output: '{output}' holds a run with {name} {quoted(own)}, and now it is {quoted(value)}; "
                    "give the first command again to go on, or use another folder"
                )


def _different(own: dict[str, Any], value: dict[str, Any]) -> tuple[str, Any, Any]:
    flat = [{**one, **one.get("inference", {}), "inference": None} for one in (own, value)]
    name = next((key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)), "info")
    return name, flat[0].get(name), flat[1].get(name)


@dataclass(frozen=True)
class ShardDone:
    """A line of `done.jsonl`: a shard whose results are on the disk in full."""

    shard: int
    photos: int
    failed: int


class DoneLines:
    """The shards of a run that are done; a line is on the disk before the next shard is counted."""

    def __init__(self, state: Path) -> None:
        self._path = state / DONE
        self.shards: dict[int, ShardDone] = {}

    def read(self) -> Self:
        """What an earlier process left. A line that it did not finish is cut off."""
        data = self._path.read_bytes() if self._path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with writing_errors(self._path):
                os.truncate(self._path, len(whole))
        for line in whole.splitlines():
            done = ShardDone(**json.loads(line))
            self.shards[done.shard] = done
        return self

    def add(self, done: ShardDone) -> None:
        """
        Raises:
            InputError: the disk is full.
        """
        with writing_errors(self._path):
            with self._path.open("ab") as file:
                file.write(json.dumps(asdict(done)).encode() + b"\n")
            sync(self._path)
        self.shards[done.shard] = done

    def forget_failed(self) -> int:
        """Shards with failed photos count as not done any more; how many there are."""
        failed = [number for number, done in self.shards.items() if done.failed]
        if failed:
            kept = [done for number, done in self.shards.items() if number not in failed]
            with writing_errors(self._path):
                text = "".join(json.dumps(asdict(done)) + "\n" for done in kept)
                temporary = self._path.with_suffix(".tmp")
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, self._path)
            self.shards = {done.shard: done for done in kept}
        return len(failed)


def check_folder(output: Path) -> None:
    """A folder for a new run, or one that holds a run.

    Raises:
        InputError: other files are in it.
    """
    if (output / STATE / JOB).is_file() or not output.is_dir():
        return
    other = sorted(path.name for path in output.iterdir() if path.name not in (STATE, LOCK))
    if other:
        raise InputError(
            f"--output: expected a new folder, or one of an earlier `ldmseg label`, got '{output}', which holds {quoted(other[0])}"
        )
