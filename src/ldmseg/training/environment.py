"""What a launcher (accelerate, torchrun, mpirun) sets in a process's environment, read before anything is imported or connected."""

from __future__ import annotations

import os

_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_RANKS = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")


def launched() -> int:
    """How many processes were started; 1 without a launcher."""
    return _number(_SIZES, 1)


def local_rank() -> int:
    """Which of those on this machine this one is."""
    return _number(_LOCAL_RANKS, 0)


def on_processor() -> bool:
    """Whether accelerate was started for processors only."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "t", "on")


def _number(names: tuple[str, ...], default: int) -> int:
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdecimal()), default)
