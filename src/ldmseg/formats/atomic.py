"""Files that are either there in full or not there at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ldmseg.errors import InputError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there becomes `path` when the block ends without an exception.

    The temporary file has the target's suffix (so that writers that look at it keep working), is synced to the disk, gets the
    permissions a newly created file gets and replaces the target in one step. After any exception (also KeyboardInterrupt)
    it is removed and an older `path` is untouched. Missing folders are created.

    Raises:
        InputError: the file cannot be written (disk full, folder not writable, a folder lies there).
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"output: cannot write '{target}': a folder is there")
    with writing_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:100]}.", suffix=f".tmp{target.suffix}", dir=target.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with writing_errors(target, only=temporary):
            yield temporary
        with writing_errors(target):
            temporary.chmod(_new_file_mode(target))
            _sync(temporary)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing_errors(path: str | os.PathLike[str], only: Path | None = None) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one line for the user.

    With `only`, an error that names another file than `only` (a file that the block reads) passes unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if only is not None and error.filename is not None and Path(os.fsdecode(error.filename)) != only:
            raise
        raise InputError(f"output: cannot write '{os.fspath(path)}': {error.strerror or error}") from error


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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)  # Windows syncs only what is open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _new_file_mode(target: Path) -> int:
    """The permissions of the file that is replaced, or those a new file gets (mkstemp gives 0600 to everything)."""
    with suppress(OSError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
