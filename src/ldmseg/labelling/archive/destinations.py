"""Where maps go: a folder of COCO's kind, tars or tables. A shard's files appear together, when it is complete."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import tarfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Protocol, Self

from ldmseg.atomic import atomic_write, sync, writing_errors
from ldmseg.errors import InputError
from ldmseg.labelling.archive.job import STAGING, STATE, Format
from ldmseg.labelling.archive.plan import map_name

MAPS = "panoptic"
"""The folder of PNGs in a COCO panoptic data set, beside `panoptic.json`."""

ROWS_BYTES = 32_000_000
"""Bytes of pictures in a row group of a table."""


class ShardWriter(Protocol):
    """The maps of one shard. Nothing of them is in its place before the block has ended without an error."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None: ...

    def add(self, image: dict[str, Any], segments: list[dict[str, Any]], png: bytes, photo: bytes | None) -> None:
        """One photo: COCO's `image`, its `segments_info`, the map's PNG and, where wanted, the photo's own file."""
        ...


def shard_writer(output: Path, format: Format, number: int) -> ShardWriter:
    if format == "coco-panoptic":
        return FolderShard(output, number)
    return TarShard(output, number) if format == "webdataset" else TableShard(output, number)


def clean_up(output: Path) -> None:
    """Remove what killed processes left of shards that they did not finish."""
    shutil.rmtree(output / STATE / STAGING, ignore_errors=True)
    for leftover in (*output.glob(".*.tmp.*"), *(output / STATE).glob("**/.*.tmp.*"), *(output / STATE).glob("*.tmp")):
        leftover.unlink(missing_ok=True)


class FolderShard:
    """`panoptic/<name>.png` of each photo. The files are made in a hidden folder and moved when all are there."""

    def __init__(self, output: Path, number: int) -> None:
        self._maps = output / MAPS
        self._stage = output / STATE / STAGING / f"{number:06d}-{secrets.token_hex(6)}"
        self._names: list[str] = []

    def __enter__(self) -> Self:
        with writing_errors(self._stage):
            self._stage.mkdir(parents=True)
        return self

    def add(self, image: dict[str, Any], segments: list[dict[str, Any]], png: bytes, photo: bytes | None) -> None:
        name = map_name(image["file_name"])
        path = self._stage / name
        with writing_errors(self._maps / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        self._names.append(name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                with writing_errors(self._maps):
                    self._move()
        finally:
            shutil.rmtree(self._stage, ignore_errors=True)

    def _move(self) -> None:
        for name in self._names:
            sync(self._stage / name)
        folders = {(self._maps / name).parent for name in self._names}
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            os.replace(self._stage / name, self._maps / name)
        for folder in folders:
            _sync_folder(folder)


class _FileShard:
    """A shard that is one file."""

    suffix = ""

    def __init__(self, output: Path, number: int) -> None:
        self._path = output / f"{number:06d}{self.suffix}"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(atomic_write(self._path))
        self._stack.enter_context(writing_errors(self._path, temporary))
        self._open(temporary)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def _open(self, temporary: Path) -> None:
        raise NotImplementedError


class TarShard(_FileShard):
    """`000000.tar` in WebDataset's layout: `<name>.panoptic.png`, `<name>.json` and, where wanted, the photo under its own name."""

    suffix = ".tar"

    def _open(self, temporary: Path) -> None:
        tar = tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # the stack closes it
        self._tar = self._stack.enter_context(tar)

    def add(self, image: dict[str, Any], segments: list[dict[str, Any]], png: bytes, photo: bytes | None) -> None:
        stem = str(PurePosixPath(image["file_name"]).with_suffix(""))
        if photo is not None:
            self._put(image["file_name"], photo)
        self._put(f"{stem}.panoptic.png", png)
        self._put(f"{stem}.json", json.dumps({**image, "segments_info": segments}, ensure_ascii=False).encode())

    def _put(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # its date and owner are 0, so that equal maps give equal tars
        member.size = len(data)
        with writing_errors(self._path):
            self._tar.addfile(member, io.BytesIO(data))


class TableShard(_FileShard):
    """`000000.parquet`: a row for each photo."""

    suffix = ".parquet"

    def __init__(self, output: Path, number: int) -> None:
        super().__init__(output, number)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def _open(self, temporary: Path) -> None:
        parquet, self._schema = check_parquet(), _schema()
        self._writer = self._stack.enter_context(parquet.ParquetWriter(temporary, self._schema, compression="zstd"))

    def add(self, image: dict[str, Any], segments: list[dict[str, Any]], png: bytes, photo: bytes | None) -> None:
        row = {"image_id": image["id"], "file_name": image["file_name"], "width": image["width"], "height": image["height"]}
        self._rows.append({**row, "map": png, "photo": photo, "segments": segments})
        self._bytes += len(png) + len(photo or b"")
        if self._bytes >= ROWS_BYTES:
            self._flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        if kind is None:
            try:
                self._flush()
            except BaseException as failure:
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        return super().__exit__(kind, error, trace)

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            with writing_errors(self._path):
                self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0


def check_parquet() -> Any:
    """pyarrow's Parquet module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("--to: parquet needs pyarrow: pip install 'ldmseg[parquet]'") from error
    return pyarrow.parquet


def _schema() -> Any:
    import pyarrow as pa

    segment = {"id": pa.int32(), "category_id": pa.int32(), "area": pa.int64(), "bbox": pa.list_(pa.int32()), "iscrowd": pa.int8()}
    columns = {"image_id": pa.int64(), "file_name": pa.string(), "width": pa.int32(), "height": pa.int32(), "map": pa.binary()}
    segments = pa.list_(pa.struct([*segment.items(), ("score", pa.float64())]))
    return pa.schema([*columns.items(), ("photo", pa.binary()), ("segments", segments)])


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # folders cannot be opened there
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
