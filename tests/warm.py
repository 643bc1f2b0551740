"""A process that has everything imported and forks a child for each call: a call begins at once, and its whole group can be killed.

Started as a program it serves; `Warm` is the other end.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
"""Audit events of calls that change a folder; `open` is one where it is for writing."""

ENVIRONMENT = {**dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"), "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Ended:
    """How a call ended: its exit code, or the negative signal; its stdout and stderr; the changes that it began; its time."""

    code: int
    out: str
    err: str
    changes: int
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Warm:
    """The server, and calls to it.

    Args:
        folder: for logs; nothing else is written there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        path = os.pathsep.join([*(entry for entry in sys.path if entry)])
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.kill()
        self._server.communicate()

    def learn(self, call: str, arguments: list[str], watched: Path) -> Ended:
        """Run a call to its end, and have the server import what it imported, so that later calls need not."""
        ended = self.run(call, arguments, watched)
        self._ask({"import": json.loads((self._folder / "modules.json").read_text())})
        self._told()
        return ended

    def run(self, call: str, arguments: list[str], watched: Path, *, after: float | None = None, at_change: int | None = None) -> Ended:
        """Run `module:function` with one argument, a list of texts, in a process group of its own.

        Args:
            watched: changes below this folder count.
            after: kill the group so many seconds after it began.
            at_change: the process kills its group when it is about to make the change of this number, from 0.
        """
        logs = [str(self._folder / name) for name in ("out.txt", "err.txt", "changes.txt", "modules.json")]
        began = time.monotonic()
        self._ask({"call": call, "arguments": arguments, "watched": str(watched), "at_change": at_change, "logs": logs})
        process = self._told()["process"]
        if after is not None:
            time.sleep(after)
            with suppress(ProcessLookupError):  # it has ended
                os.killpg(process, signal.SIGKILL)
        code = self._told()["code"]
        seconds = time.monotonic() - began
        out, err, changes = (Path(log).read_text(errors="replace") for log in logs[:3])
        return Ended(code, out, err, int(changes or 0), seconds)

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()

    def _told(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    for line in sys.stdin:
        request = json.loads(line)
        if "import" in request:
            _import(request["import"])
            answer({})
            continue
        process = os.fork()
        if process == 0:
            answers.close()
            _child(request)
        answer({"process": process})
        _, status = os.waitpid(process, 0)
        answer({"code": os.waitstatus_to_exitcode(status)})


def _import(names: list[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # one that is made while a program runs
            continue


def _child(request: dict[str, Any]) -> None:
    os.setsid()
    out, err, changes, modules = request["logs"]
    for descriptor, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    Path(changes).write_text("")
    counted = _count(request["watched"], request["at_change"])
    code = 70
    try:
        module, function = request["call"].split(":")
        code = getattr(importlib.import_module(module), function)(request["arguments"])
        made = counted[0]
        Path(changes).write_text(str(made))
        Path(modules).write_text(json.dumps(sorted(sys.modules)))
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _count(watched: str, last: int | None) -> list[int]:
    """The number of changes below a folder until now, as a list of one; the process dies before change `last`."""
    counted = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and _writes(arguments)):
            path = arguments[0]
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(watched):
                if counted[0] == last:
                    os.killpg(0, signal.SIGKILL)
                counted[0] += 1

    sys.addaudithook(hook)
    return counted


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


if __name__ == "__main__":
    _serve()
