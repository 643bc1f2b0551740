"""One process at a time in a folder, by a lock of the operating system. The system releases the lock when a process is killed."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ldmseg.atomic import remove_leftovers, writing_errors
from ldmseg.errors import InputError

if os.name == "nt":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

LOCK = ".ldmseg.lock"
"""The file that is locked. It exists while the folder is in use. After a process was killed it stays, without a lock."""

_HELD: set[Path] = set()  # of this process, whose own locks the system does not keep apart
_GUARD = threading.Lock()
_IN_USE = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def locked(folder: str | os.PathLike[str], parts: Sequence[str] = ()) -> Iterator[None]:
    """Hold a folder while the block runs; missing folders are created, and removed again if they are empty at the end.

    Where the process that held it before was killed, the temporary files that it left (`ldmseg.atomic`) are removed first. Where the file
    system has no locks (some network drives), the block runs without one.

    Args:
        parts: folders below it in which its holders write files, too.

    Raises:
        InputError: another process, or another thread of this one, holds the folder; or it cannot be written to.
    """
    path = Path(os.path.realpath(folder))
    with _GUARD:
        if path in _HELD:
            raise InputError(_in_use(folder, str(os.getpid())))
        _HELD.add(path)
    created = [above for above in (path, *path.parents) if not above.exists()]
    try:
        with writing_errors(folder):
            path.mkdir(parents=True, exist_ok=True)
            handle, stale = _acquire(path / LOCK, folder)
        try:
            if stale:
                remove_leftovers(path, *(path / part for part in parts))
            yield
        finally:
            _release(path / LOCK, handle)
    finally:
        with suppress(OSError):  # not empty
            for above in created:
                above.rmdir()
        with _GUARD:
            _HELD.remove(path)


def is_locked(folder: Path) -> bool:
    """Whether a process holds an existing folder."""
    try:
        with locked(folder):
            return False
    except InputError:
        return True


def _acquire(file: Path, folder: str | os.PathLike[str]) -> tuple[int, bool]:
    """The open file with the lock, and whether the file was there before, as a killed process leaves it."""
    while True:
        stale = file.exists()
        handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _IN_USE:
                holder = "" if os.name == "nt" else os.read(handle, 20).decode("ascii", "replace").strip()
                os.close(handle)
                raise InputError(_in_use(folder, holder)) from None
            logger.debug("no locks in %s: %s", folder, error)
            return handle, False
        if _is_there(handle, file):
            with suppress(OSError):  # the disk is full: the lock counts, not what is written
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode("ascii"))
            return handle, stale
        os.close(handle)


def _is_there(handle: int, file: Path) -> bool:
    """Whether the opened file still has this name. The process that held it before may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _release(file: Path, handle: int) -> None:
    if os.name == "nt":  # a file that is open cannot be removed
        os.close(handle)
        with suppress(OSError):
            file.unlink()
    else:
        with suppress(OSError):
            file.unlink()
        os.close(handle)


def _lock(handle: int) -> None:
    """A lock of this process alone. Processes that it starts do not inherit the lock, because they may outlive it."""
    if os.name == "nt":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _in_use(folder: str | os.PathLike[str], process: str) -> str:
    who = f"process {process}" if process.isdigit() else "another process"
    return f"output: '{os.fspath(folder)}' is in use by {who}; wait until it has finished, or choose another folder"
