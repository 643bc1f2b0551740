"""Files that are either there in full or not there at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ldmseg.errors import InputError

_MARK = ".tmp"
_TEMPORARY = re.compile(rf"\..*\.[0-9a-f]{{12}}{re.escape(_MARK)}(\.[^.]*)?", re.DOTALL)
"""The names of temporary files."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block writes there becomes `path` if the block ends without an exception.

    The temporary file keeps the target's suffix (writers choose the format by it), is synced to the disk and replaces the target in
    one step. After any exception (`KeyboardInterrupt` too) it is removed and an older `path` is as it was. Missing folders are created;
    a link is followed.

    Raises:
        InputError: the file cannot be written: disk full, folder not writable, something that is no file is there.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"output: cannot write '{os.fspath(path)}': {'a folder' if target.is_dir() else 'no regular file'} is there")
    with writing_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.stem[:80]}.{secrets.token_hex(6)}{_MARK}{target.suffix}")
        # The mode of a new file is 0666 less the umask. An existing file keeps its own.
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        os.close(handle)
    try:
        with writing_errors(path, temporary):
            yield temporary
        with writing_errors(path):
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            sync(temporary)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(*folders: Path) -> None:
    """Remove the temporary files that killed processes left in these folders, and not below them; no other process may be writing there."""
    for folder in folders:
        with suppress(OSError):  # no such folder
            for path in folder.iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` atomically; the path is returned."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` as UTF-8 with `\\n` line ends, atomically; the path is returned."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> Path:
    """Write `value` as one JSON document (UTF-8, a final line end), atomically; the path is returned.

    Raises:
        ValueError: `value` holds NaN or infinity, which JSON does not have.
    """
    return write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def writing_errors(path: str | os.PathLike[str], temporary: Path | None = None) -> Iterator[None]:
    """Turn the system's refusal to write `path` into one line; an error about another file than `temporary` passes unchanged."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = _refusal(error, temporary)
        if reason is None:
            raise
        raise InputError(f"output: cannot write '{os.fspath(path)}': {reason}") from error


def _refusal(error: Exception, temporary: Path | None) -> str | None:
    full = os.strerror(errno.ENOSPC)
    if isinstance(error, OSError) and error.errno is not None:
        about_another = temporary is not None and error.filename is not None and os.fsdecode(error.filename) != str(temporary)
        return None if about_another else (error.strerror or str(error))
    # Compiled writers lose the error number: safetensors raises its own type, Pillow an OSError without one.
    if full in str(error):
        return full
    if isinstance(error, OSError) and "when writing image file" in str(error):
        return str(error)
    return None


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDWR)  # Windows syncs only what is open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_output_folder(folder: Path, option: str = "--output") -> None:
    """Nothing is created.

    Raises:
        InputError: a file is in the way, or the folder (or the first existing one above it) cannot be written to.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{option}: expected a folder, got '{folder}', where '{existing}' is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{option}: expected a folder to write to, got '{folder}', where '{existing}' may not be written to")


def check_output_file(file: Path, option: str = "--report") -> None:
    """As `check_output_folder`, for one file.

    Raises:
        InputError: a folder has that name, or the file's folder cannot be written to.
    """
    if file.is_dir():
        raise InputError(f"{option}: expected a file, got the folder '{file}'")
    check_output_folder(file.parent, option)
