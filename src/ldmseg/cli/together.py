"""Output of several processes of one launch: an error is printed once, in one line, and ends all processes."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from ldmseg.cli.console import say
from ldmseg.training.environment import launched, local_rank

FAILURE = 1
PATIENCE = 30.0
"""Seconds that a silenced process waits after its failure, so that the process with output can print first."""


class _Muted(io.StringIO):
    """Standard error of a process whose output is silenced."""


class Ended(BaseException):
    """The launcher ended this process. It is no `Exception`, so that no handler treats it as an error to recover from."""


def mute_all_but_first() -> None:
    """Silence all processes but the first of each machine. Until `together` connects them, all would print the same."""
    if local_rank() > 0:
        sys.stderr = _Muted()


@contextmanager
def together(run: Path) -> Iterator[bool]:
    """Connect the processes of this launch, and yield whether this one is the main process. Only the main process prints.

    The first process with an error prints it and exits. The others exit without output, because their own errors (a connection that
    breaks) are only its consequence. If a process was killed, the first that gets no answer from it prints that.
    """
    if launched() == 1:
        yield True
        return
    from ldmseg.training import distributed

    signal.signal(signal.SIGTERM, _end)
    try:
        state = distributed.join()
        sys.stderr = sys.__stderr__
        yield state.is_main_process
        state.destroy_process_group()
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends all processes when one exits; the reason is printed first
        if not distributed.first_to_tell():
            raise typer.Exit(FAILURE) from None
        sys.stderr = sys.__stderr__
        if isinstance(error, Ended) or distributed.is_lost(error):
            say(f"ldmseg: error: a process of this run was ended or cannot be reached; {_way_on(run)}")
            raise typer.Exit(FAILURE) from None
        raise


def leave(code: int) -> NoReturn:
    """Exit. A failed process of several skips the interpreter's clean-up, which may wait for processes that have ended.

    A silenced process first waits, so that the other can print its error. The launcher ends all processes when that one exits.
    """
    if code and launched() > 1:
        if isinstance(sys.stderr, _Muted):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(PATIENCE)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise Ended


def _way_on(run: Path) -> str:
    from ldmseg.training.checkpoint import newest_checkpoint

    newest = newest_checkpoint(run)
    return f"the same command goes on from {newest}" if newest else f"{run} has no checkpoint yet, so the same command starts anew"
