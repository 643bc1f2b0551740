"""Clocks and memory for ratios in one run: CPU seconds on a processor, seconds on a GPU; the two sides take turns."""

from __future__ import annotations

import ctypes
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MIB = 2**20


class Clock:
    """CPU seconds of this process, which other programs on the machine hardly change; on a GPU, seconds until it has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = "CPU time of the process" if device.type == "cpu" else "wall clock, after synchronisation"

    def __call__(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, run: Callable[[], Any]) -> float:
        began = self()
        run()
        return self() - began


def in_turn(clock: Clock, sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; the first round warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            taken = clock.seconds(run)
            if number:
                found[name].append(taken)
    return found


def ratio(slower: list[float], faster: list[float]) -> float:
    """Median over the rounds of how many times faster one side was."""
    return round(statistics.median(a / b for a, b in zip(slower, faster, strict=True)), 3)


def median_ms(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)


def extra_memory(run: Callable[[], Any], device: torch.device) -> float:
    """MiB that `run` needs above what is held before it: the highest resident set (Linux), or what was allocated on the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return round((torch.cuda.max_memory_allocated(device) - held) / MIB, 1)
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed would hide what this one takes
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident set begins anew
    held = _status("VmRSS")
    run()
    return round((_status("VmHWM") - held) / 1024, 1)


def peak_of_children() -> float:
    """MiB: the largest resident set of the processes that were waited for; Linux counts in KiB, macOS in bytes."""
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB, 1)


def _status(field: str) -> int:
    """KiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")
