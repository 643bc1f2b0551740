"""A process that labels shards for the local engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from ldmseg.labelling.archive.failure import Stopped, stopped
from ldmseg.labelling.archive.job import ShardDone
from ldmseg.labelling.archive.plan import Shard, read_shard
from ldmseg.labelling.archive.work import Work

if TYPE_CHECKING:
    from ldmseg.labelling.archive.shard import Labeller
    from ldmseg.segmenters import Segmenter

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Where libraries read, when they are loaded, how many threads they may use."""

MakeSegmenter = Callable[[], "Segmenter"]
"""Makes a segmenter in the process that uses it; it is sent there, so it must be a function of a module, perhaps with `partial`."""


@dataclass(frozen=True)
class Ready:
    """The segmenter is loaded."""


@dataclass(frozen=True)
class BatchDone:
    """So many photos of the shard are done, with these failures among them."""

    photos: int
    failures: list[dict[str, str]]


Message = Ready | BatchDone | ShardDone | Stopped


def work_on(connection: Connection, make: MakeSegmenter, work: Work, finishers: int) -> None:
    """Label the shards that come through the connection until None comes."""
    stay_with_parent()
    try:
        from ldmseg.labelling.archive.shard import label_shard

        labeller = labeller_of(make, finishers)
        connection.send(Ready())
        while (shard := connection.recv()) is not None:
            connection.send(label_shard(work, shard, labeller, lambda *done: connection.send(BatchDone(*done))))
    except BrokenExecutor:
        os._exit(1)  # a process that finished maps was killed: as if this one had been
    except (EOFError, BrokenPipeError):
        os._exit(1)  # the run is over
    except BaseException as error:
        connection.send(stopped(error))


def stay_with_parent() -> None:
    """End with the process that started this one, even if it is killed; and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def labeller_of(make: MakeSegmenter, finishers: int) -> Labeller:
    """The segmenter; or its networks, with so many processes beside this one for the last steps, which end with it."""
    segmenter = make()
    if not finishers:
        return segmenter
    from ldmseg.labelling.archive.shard import Beside
    from ldmseg.segmenters import PipelineSegmenter
    from ldmseg.segmenters.drawing import DrawingSegmenter

    assert isinstance(segmenter, PipelineSegmenter)  # no other is made for a GPU
    pool = ProcessPoolExecutor(finishers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_finisher)
    return Beside(DrawingSegmenter(segmenter), pool)


def _start_finisher() -> None:
    stay_with_parent()
    os.environ.update(dict.fromkeys(THREADS, "1"))


def measure(connection: Connection, make: MakeSegmenter, work: Work, shard: Shard, threads: tuple[int, ...]) -> None:
    """Send the seconds a photo that each number of threads takes, {threads: seconds}, and the megabytes of this process."""
    stay_with_parent()
    try:
        import torch

        from ldmseg.labelling.archive.loading import load
        from ldmseg.labelling.archive.shard import label_batch

        loaded = (load(item, work.job, work.roots) for item in read_shard(work.state, shard))
        good = [one for one, _ in zip((one for one in loaded if one.error is None), range(work.job.batch_size), strict=False)]
        segmenter, seconds = make(), dict[int, float]()
        torch.set_num_threads(threads[0])
        for number in (threads[0], *threads) if good else ():  # the first time it warms up
            torch.set_num_threads(number)
            began = time.perf_counter()
            label_batch(good, segmenter, work.job.seed)
            seconds[number] = (time.perf_counter() - began) / len(good)
        import psutil

        connection.send((seconds, psutil.Process().memory_info().rss / 2**20))
    except BaseException as error:
        connection.send(stopped(error))
