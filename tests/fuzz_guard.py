"""What a reader may do while it reads a file that it was given: watched by an audit hook, a clock of the processor and the memory."""

from __future__ import annotations

import collections
import dataclasses
import faulthandler
import os
import signal
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS, WAITING = 10.0, 300.0
"""Of the processor's time that a reader may take, and of anybody's (a reader that waits for ever takes none)."""

MEMORY = 2_000_000_000
"""Bytes that a reader may take, beyond what the process has."""

WRITERS = (typing.__file__, dataclasses.__file__, collections.__file__)
"""Parts of Python that run text of their own making, when a library is imported late."""

PATHS = {"open", "os.listdir", "os.scandir", "os.chdir", "os.truncate", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.rename"}
"""Events whose first argument is a path (of `os.rename` and `os.link` the second one, too)."""

NEVER = ("subprocess.", "socket.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "ctypes.dlopen", "urllib.", "ftplib.")
"""How events begin that run something else or leave the machine."""


class Forbidden(BaseException):
    """A reader did what it may not; no handler of errors stops this."""


class Guard:
    """Watches this process from its creation on, inside `watching` blocks.

    Args:
        scratch: the folder that may be read and written in all blocks.
        told: a file that says, after the process was ended for its time, which block that was.
    """

    def __init__(self, scratch: Path, told: Path) -> None:
        self._scratch = os.path.realpath(scratch)
        places = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1] / "src"), "/proc", "/usr/share", "/usr/lib", "/dev/urandom")
        self._libraries = tuple(os.path.realpath(place) for place in places)
        self._watching = False
        self._told = told.open("w")
        faulthandler.register(signal.SIGPROF, self._told, chain=True)  # the default, which follows, ends the process
        sys.addaudithook(self._hook)

    @contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """
        Raises:
            Forbidden: the block did what it may not, or took more than `MEMORY`.
        """
        self._told.seek(0)
        self._told.truncate()
        self._told.write(name + "\n")
        self._told.flush()
        faulthandler.dump_traceback_later(WAITING, exit=True, file=self._told)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the highest value is the present one
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
        if (taken := _memory("VmHWM") - before) > MEMORY:
            raise Forbidden(f"took {taken / 1e9:.2f} GB of memory")

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event.startswith(NEVER):
            self._refuse(f"{event} {arguments}")
        if event == "exec":
            self._check_code(arguments[0])
        if event in PATHS:
            for path in arguments[: 2 if event == "os.rename" else 1]:
                self._check_path(event, path, arguments)

    def _check_code(self, code: Any) -> None:
        file = getattr(code, "co_filename", "<string>")
        if file == "<string>" and sys._getframe(2).f_code.co_filename in WRITERS:
            return
        if not file.startswith("<frozen") and not os.path.realpath(file).startswith(self._libraries):
            self._refuse(f"ran code of {file}")

    def _check_path(self, event: str, path: Any, arguments: tuple[Any, ...]) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a descriptor that is open
        real = os.path.realpath(os.fsdecode(path))
        if real == self._scratch or real.startswith(self._scratch + os.sep):
            return
        reads = event in ("os.listdir", "os.scandir") or (event == "open" and not _writes(arguments))
        if not reads or not real.startswith(self._libraries):
            self._refuse(f"{event} {real}")

    def _refuse(self, what: str) -> None:
        self._watching = False  # what follows is the report
        raise Forbidden(what)


def _memory(kind: str) -> int:
    """Bytes: `VmRSS` is what the process has, `VmHWM` the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
