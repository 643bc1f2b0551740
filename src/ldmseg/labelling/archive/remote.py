"""Files of this machine and of elsewhere (through fsspec), read alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.image import one_line

T = TypeVar("T")

WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further try to reach a file elsewhere."""

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class SourceLost(InputError):
    """The source as a whole cannot be reached any more. Nothing is wrong with the photos, so the run stops and can go on later."""


def is_remote(place: str) -> bool:
    """Whether a place is an address (`s3://bucket/photos`) and no path of this machine."""
    return "://" in place


def filesystem(place: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path in it.

    Raises:
        InputError: fsspec, or what it needs for this kind of address, is not installed; or there is no such kind.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"source: addresses such as {quoted(place)} need fsspec: pip install 'ldmseg[remote]'") from error
    try:
        system, path = url_to_fs(place)
    except Exception as error:  # every kind of store has its own; ImportError where its package is not installed
        raise InputError(f"source: cannot open {quoted(place)}: {shortened(one_line(error), 200)}") from error
    return system, path


def address(place: str, path: str) -> str:
    """The address of a path in the file system of `place`."""
    return path if is_remote(path) else f"{place.partition('://')[0]}://{path.lstrip('/') if not place.startswith('file:') else path}"


@contextmanager
def opened(place: str) -> Iterator[BinaryIO]:
    """A file of here or elsewhere, to be read.

    Raises:
        OSError: it cannot be opened here.
        SourceLost: the store elsewhere does not answer.
        InputError: there is no such file elsewhere.
    """
    if not is_remote(place):
        with open(place, "rb") as file:
            yield file
        return
    system, path = filesystem(place)
    with _patiently(place, lambda: system.open(path, "rb")) as file:
        yield file


def read_bytes(place: str, start: int | None = None, size: int | None = None) -> bytes:
    """A file's bytes, or `size` of them from `start` on.

    Raises:
        OSError, InputError, SourceLost: as `opened`.
        InputError: there are fewer bytes.
    """
    if is_remote(place):
        system, path = filesystem(place)
        end = None if start is None or size is None else start + size
        data = _patiently(place, lambda: system.cat_file(path, start=start, end=end))
    else:
        with open(place, "rb") as file:
            file.seek(start or 0)
            data = file.read(-1 if size is None else size)
    if size is not None and len(data) < size:
        raise InputError(f"source: cannot read {quoted(place)}: it ends early, at {(start or 0) + len(data)} bytes")
    return bytes(data)


def _patiently(place: str, call: Callable[[], T]) -> T:
    for wait in (*WAITS, None):
        try:
            return call()
        except _ABSENT as error:
            raise InputError(f"source: cannot read {quoted(place)}: {_absence(error)}") from error
        except Exception as error:  # every kind of store has its own
            if wait is None:
                raise SourceLost(f"source: {quoted(place)} cannot be reached: {shortened(one_line(error), 200)}") from error
            time.sleep(wait)
    raise AssertionError


def _absence(error: OSError) -> str:
    return "no permission" if isinstance(error, PermissionError) else "no such file"


def listed_files(place: str) -> Iterator[str]:
    """The addresses of all files below a folder elsewhere, by name.

    Raises:
        InputError, SourceLost: it cannot be listed.
    """
    system, path = filesystem(place)
    for found in sorted(_patiently(place, lambda: system.find(path))):
        yield address(place, found)


def matching(pattern: str) -> list[str]:
    """The addresses that match a pattern elsewhere, by name.

    Raises:
        InputError, SourceLost: the store cannot be listed.
    """
    system, path = filesystem(pattern)
    return [address(pattern, found) for found in sorted(_patiently(pattern, lambda: system.glob(path)))]


def is_folder(place: str) -> bool:
    """Whether files lie below a place, here or elsewhere."""
    if not is_remote(place):
        return os.path.isdir(place)
    system, path = filesystem(place)
    return bool(_patiently(place, lambda: system.isdir(path)))


def base_name(place: str) -> str:
    return PurePosixPath(place).name
