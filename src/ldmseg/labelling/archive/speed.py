"""How many processes, and how many threads in each: measured on the archive's first photos."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ldmseg.labelling.archive.local import measured
from ldmseg.labelling.archive.plan import Shard
from ldmseg.labelling.archive.work import Work
from ldmseg.labelling.archive.worker import MakeSegmenter

logger = logging.getLogger(__name__)

WORTH_MEASURING = 64
"""Photos a core from which on measuring takes less time than it saves."""

MEMORY_SHARE = 0.8
"""Of the memory that is free, at most so much is for processes."""


@dataclass(frozen=True)
class Division:
    """Processes, and threads of each."""

    workers: int
    threads: int


def divided(
    workers: int | None, threads: int | None, makes: Sequence[MakeSegmenter], work: Work, sample: Shard | None, cores: int | None = None
) -> Division:
    """Choose what is not given.

    Several devices get a process each. On a processor, the first photos are labelled with 1, 2, 4 .. threads, and those are taken with
    which all cores together do most photos a second, if processes do not slow each other down. A small archive has a thread a process.

    Args:
        sample: photos to measure with; None measures nothing.
        cores: those that this process may use, by default.
    """
    cores = usable_cores() if cores is None else cores
    if len(makes) > 1:
        return Division(workers or len(makes), threads or 1)
    if threads is None:
        candidates = [number for number in (1, 2, 4, 8, 16, 32, 64) if number <= cores // (workers or 1)]
        if sample is None or len(candidates) < 2 or work.job.photos < WORTH_MEASURING * cores:
            threads = 1
        else:
            found = measured(makes[0], work, sample, candidates)
            threads = best(found.seconds, cores) if found.seconds else 1
            logger.info("seconds a photo by threads: %s; %.0f MB a process", found.seconds, found.megabytes)
            workers = workers or min(max(1, cores // threads), _fitting(found.megabytes))
    return Division(workers or max(1, cores // threads), threads)


def best(seconds: dict[int, float], cores: int) -> int:
    """The number of threads with which `cores` do most photos a second; of equal ones the smaller."""
    return max(sorted(seconds), key=lambda threads: max(1, cores // threads) / seconds[threads])


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fitting(megabytes: float) -> int:
    import psutil

    return max(1, int(MEMORY_SHARE * psutil.virtual_memory().available / 2**20 / max(1.0, megabytes)))
