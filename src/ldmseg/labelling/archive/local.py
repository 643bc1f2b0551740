"""The local engine: one process hands out shards, and others label them."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ldmseg.errors import InputError
from ldmseg.labelling.archive.failure import Stopped
from ldmseg.labelling.archive.job import ShardDone
from ldmseg.labelling.archive.plan import Shard
from ldmseg.labelling.archive.progress import Progress
from ldmseg.labelling.archive.work import Work
from ldmseg.labelling.archive.worker import THREADS, BatchDone, MakeSegmenter, Message, measure, work_on

DEATHS = 3
"""How often a process may be killed over one shard, or before its first one, until the run stops."""

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class _Process:
    """A process that labels, what it was made by, its connection, and the shard that it has."""

    make: MakeSegmenter
    process: BaseProcess
    connection: Connection
    shard: Shard | None = None
    ready: bool = False


class LocalEngine:
    """Labels shards with one process for each of `makes`.

    Args:
        makes: what makes each process its segmenter.
        finishers: further processes of each that put borders while a GPU draws; 0 where the processor draws.
    """

    def __init__(self, makes: Sequence[MakeSegmenter], finishers: int = 0) -> None:
        self._makes, self._finishers = makes, finishers

    def run(self, work: Work, shards: Sequence[Shard], progress: Progress, on_done: Callable[[ShardDone], None]) -> None:
        """Label all shards; `on_done` hears of each that is complete on the disk.

        Raises:
            InputError: a process told why the run cannot go on, or was killed again and again.
            TooManyFailures: as `progress` says.
        """
        todo, deaths = deque(shards), dict[int, int]()
        processes: list[_Process] = []
        try:
            for make in self._makes[: len(shards)]:
                processes.append(self._start(make, work))
            while todo or any(one.shard for one in processes):
                self._hand_out(processes, todo)
                for one in self._heard(processes):
                    if self._hear(one, progress, on_done):
                        continue
                    _count_death(one, deaths)
                    if one.shard is not None:
                        progress.forget(one.shard.number)
                        todo.appendleft(one.shard)
                    one.connection.close()
                    processes[processes.index(one)] = self._start(one.make, work)
        finally:
            _end(processes)

    def _start(self, make: MakeSegmenter, work: Work) -> _Process:
        own, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work_on, args=(theirs, make, work, self._finishers), name="ldmseg label")
        with _threads(work.job.threads):
            process.start()
        theirs.close()
        return _Process(make, process, own)

    def _hand_out(self, processes: Sequence[_Process], todo: deque[Shard]) -> None:
        for one in processes:
            if todo and one.ready and one.shard is None:
                one.shard = todo.popleft()
                with suppress(OSError):  # it is dead, which is noticed next
                    one.connection.send(one.shard)

    def _heard(self, processes: Sequence[_Process]) -> list[_Process]:
        by_connection = {one.connection: one for one in processes}
        return [by_connection[found] for found in wait(list(by_connection))]  # type: ignore[index]  # nothing else is waited for

    def _hear(self, one: _Process, progress: Progress, on_done: Callable[[ShardDone], None]) -> bool:
        """Take one message; False if the process is dead."""
        try:
            message: Message = one.connection.recv()
        except (EOFError, OSError):
            return False
        if isinstance(message, Stopped):
            if message.crash is not None:
                raise RuntimeError(f"a process of the run ended: {message.crash}")
            raise InputError(message.message)
        if isinstance(message, BatchDone):
            assert one.shard is not None
            progress.batch(one.shard.number, message.photos, message.failures)
        elif isinstance(message, ShardDone):
            on_done(message)
            progress.done(message)
            one.shard = None
        else:
            one.ready = True
        return True


def _count_death(one: _Process, deaths: dict[int, int]) -> None:
    one.process.join(5)
    number = -1 if one.shard is None else one.shard.number
    deaths[number] = deaths.get(number, 0) + 1
    if deaths[number] >= DEATHS:
        code = one.process.exitcode or 0
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        over = "before its first shard" if one.shard is None else f"over shard {number}"
        raise InputError(
            f"workers: a process was {how} {over}, {DEATHS} times; where memory ran out, use fewer --workers or a smaller --batch-size"
        )


def _end(processes: Sequence[_Process]) -> None:
    for one in processes:
        if one.shard is None and one.ready:
            with suppress(OSError):
                one.connection.send(None)
        else:
            one.process.terminate()
    for one in processes:
        one.process.join(5)
        if one.process.is_alive():
            one.process.kill()
            one.process.join()
        one.connection.close()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """The environment of a process that starts inside: its libraries read there how many threads they may use."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Measured:
    """Seconds a photo takes by the number of threads, and the megabytes of a process."""

    seconds: dict[int, float]
    megabytes: float


def measured(make: MakeSegmenter, work: Work, shard: Shard, threads: Sequence[int]) -> Measured:
    """Label some photos of a shard in another process, with each number of threads, and write nothing.

    Raises:
        InputError: the process cannot.
    """
    own, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=measure, args=(theirs, make, work, shard, tuple(threads)))
    with _threads(1):
        process.start()
    theirs.close()
    try:
        message: Any = own.recv()
    except EOFError:
        process.join()
        raise InputError(f"workers: the process that measures the speed ended with code {process.exitcode}; name --workers") from None
    finally:
        process.kill()
        process.join()
        own.close()
    if isinstance(message, Stopped):
        raise RuntimeError(message.crash) if message.crash is not None else InputError(message.message)
    return Measured(*message)
