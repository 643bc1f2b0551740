"""What people read: progress and logs on stderr, results on stdout."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import rich.progress
    import rich.table

PLAIN_EVERY = 30.0  # seconds between lines where stderr is no terminal


def print_json(value: Any) -> None:
    """The one object of `--json`."""
    print(json.dumps(value, indent=2, allow_nan=False))


def print_table(table: rich.table.Table) -> None:
    from rich.console import Console

    Console().print(table)


def say(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr)


class _StderrHandler(logging.Handler):
    """Looks stderr up at each line, because a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def configure_logging(verbose: bool) -> bool:
    """Show the library's warnings, and with `verbose` what it does."""
    logger = logging.getLogger("ldmseg")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("ldmseg: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    return verbose


class Progress:
    """How far something is: a bar where stderr is a terminal, else a line now and then."""

    def __init__(self, what: str, enabled: bool = True) -> None:
        self.what, self.enabled = what, enabled
        self._bar: rich.progress.Progress | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self.enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True)
            self._bar.start()
            self._bar.add_task(self.what, total=None, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` are ready."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, note=note)
        elif self.enabled and time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            say(f"{self.what} {done}/{total} {note}".rstrip())
