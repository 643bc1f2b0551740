"""What a launcher (accelerate, torchrun, mpirun) tells a process through its environment, before anything is imported or connected."""

from __future__ import annotations

import os

_LAUNCHERS = (
    ("WORLD_SIZE", "RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)


def launched() -> int:
    """How many processes were started; 1 without a launcher."""
    return _number([size for size, _ in _LAUNCHERS], 1)


def rank() -> int:
    """Which of them this one is; 0 is the main process."""
    return _number([rank for _, rank in _LAUNCHERS], 0)


def on_processor() -> bool:
    """Whether accelerate was told to leave GPUs alone."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "t", "on")


def _number(names: list[str], default: int) -> int:
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdecimal()), default)
