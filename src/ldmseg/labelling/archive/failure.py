"""Which errors are about one photo, and which end a run."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass

from ldmseg.errors import InputError
from ldmseg.labelling.archive.remote import SourceLost


@dataclass(frozen=True)
class Stopped:
    """The run cannot go on: `message` in one line; `crash` is the traceback of a programming error."""

    message: str
    crash: str | None = None


def ends_run(error: Exception) -> bool:
    """Whether the next photo would meet the same: memory or the disk is full, the source is gone, a device or a process broke down."""
    return isinstance(error, (SourceLost, OSError, BrokenExecutor)) or out_of_memory(error) or "CUDA error" in str(error)


def out_of_memory(error: BaseException) -> bool:
    """Python's, a GPU's, or that of torch's allocator on a CPU, which has no type of its own."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)


def stopped(error: BaseException) -> Stopped:
    """What ends a run, as a process tells it to the one that hands out shards."""
    if isinstance(error, InputError):
        return Stopped(str(error))
    if out_of_memory(error):
        return Stopped("out of memory; use fewer --workers or a smaller --batch-size")
    if isinstance(error, OSError):
        return Stopped(f"'{os.fsdecode(error.filename)}': {error.strerror}" if error.filename else str(error.strerror or error))
    return Stopped(f"{type(error).__name__}: {error}", traceback.format_exc())
