"""Several processes of one launch speak with one voice: an error is told once, in one line, and ends them all."""

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
"""Seconds that a mute process which failed gives the one that speaks."""


class _Muted(io.StringIO):
    """Standard error of a process that does not speak yet."""


class Ended(BaseException):
    """The launcher ended this process. No `Exception`, so that nobody takes it for an error to go on from."""


def mute_all_but_first() -> None:
    """Until the processes know each other (`together`), what one says all would say: only the first of each machine does."""
    if local_rank() > 0:
        sys.stderr = _Muted()


@contextmanager
def together(run: Path) -> Iterator[bool]:
    """Connect the processes of this launch; yields whether this one is the main process, which alone prints.

    The first that has an error tells it and exits; the others exit without a word, wherever they are: their own errors (a connection that
    breaks) are no more than its consequence. If a process was killed and could not tell, the first that misses it does.
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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends all when one exits; first this one says why
        if not distributed.first_to_tell():
            raise typer.Exit(FAILURE) from None
        sys.stderr = sys.__stderr__
        if isinstance(error, Ended) or distributed.is_lost(error):
            say(f"ldmseg: error: a process of this run was ended or cannot be reached; {_way_on(run)}")
            raise typer.Exit(FAILURE) from None
        raise


def leave(code: int) -> NoReturn:
    """Exit; one of several processes that failed does so without the interpreter's clean-up, which may wait for those that are gone.

    One that is still mute first lets the other speak, with whose exit the launcher ends all.
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
