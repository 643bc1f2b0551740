"""The whole run: planned once, labelled shard by shard, resumed where it stopped, and folded into one result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ldmseg.atomic import check_output_folder
from ldmseg.errors import InputError
from ldmseg.formats.image import MAX_PIXELS
from ldmseg.labelling.archive.destinations import MAPS, check_parquet, clean_up
from ldmseg.labelling.archive.fold import FAILED, fold, write_failed
from ldmseg.labelling.archive.job import STATE, DoneLines, Format, Job, ShardDone, check_folder
from ldmseg.labelling.archive.local import LocalEngine
from ldmseg.labelling.archive.plan import Shard, shards_of, write_plan
from ldmseg.labelling.archive.progress import Progress, State
from ldmseg.labelling.archive.remote import is_remote
from ldmseg.labelling.archive.sources import entries
from ldmseg.labelling.archive.speed import Division, divided
from ldmseg.labelling.archive.work import Work
from ldmseg.locking import locked

if TYPE_CHECKING:
    from ldmseg.labelling.archive.worker import MakeSegmenter

LARGEST_SHARD, SMALLEST_SHARD, SHARDS = 256, 16, 64
"""Photos of a shard by default: a 64th of the archive, but not more and not fewer than these."""


class Engine(Protocol):
    """What labels shards: processes of this machine, or a cluster."""

    def run(self, work: Work, shards: Sequence[Shard], progress: Progress, on_done: Callable[[ShardDone], None]) -> None: ...


@dataclass(frozen=True)
class Request:
    """What a user asks for; None is what the program chooses, or what the run has that is gone on with.

    The attributes are those of `ldmseg.labelling.archive.job.Job`, and these:

    Attributes:
        workers: processes.
        max_failures: photos that may fail before the run stops.
        retry_failed: shards in which photos failed are labelled again.
    """

    sources: tuple[str, ...]
    output: Path
    info: dict[str, Any] = field(default_factory=dict)
    partial: str | None = None
    format: Format = "coco-panoptic"
    seed: int = 0
    shard_size: int | None = None
    batch_size: int | None = None
    threads: int | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    with_photos: bool = False
    unknown: tuple[int, int, int] | None = None
    clean: bool = False
    max_failures: int | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        photos, failed: of the whole run.
        labelled_now: photos of this call; `seconds` is its time without planning and folding.
        shards, shards_before: all, and those that were done before this call.
        panoptic: the JSON of a COCO folder.
        failures: the file with the reasons, where photos failed.
    """

    output: str
    format: Format
    photos: int
    failed: int
    labelled_now: int
    seconds: float
    shards: int
    shards_before: int
    workers: int
    threads: int
    batch_size: int
    panoptic: str | None
    failures: str | None


MakeEngine = Callable[[Division], Engine]
"""How the work is divided -> what does it."""


def label_archive(
    request: Request,
    makes: Sequence[MakeSegmenter],
    *,
    batch_size: int = 4,
    finishers: int = 0,
    make_engine: MakeEngine | None = None,
    on_list: Callable[[int], None] = lambda count: None,
    on_progress: Callable[[State], None] = lambda state: None,
) -> Report:
    """Label all photos of an archive, or go on with a run that stopped; docs/archives.md describes the files.

    Args:
        makes: what makes a process its segmenter, one for each device. Processes beyond their number begin anew with the first.
        batch_size: by default.
        finishers: processes of each that put borders beside a GPU.
        make_engine: another engine than the local one.
        on_list: called now and then with the number of photos found.

    Raises:
        InputError: the request cannot be done or gone on with, another process works in the folder, the disk is full, or the source is
            gone. What is done stays, and the same call goes on from there.
        TooManyFailures: more than `max_failures`; likewise.
    """
    output = request.output
    check_output_folder(output)
    if request.format == "parquet":
        check_parquet()
    check_folder(output)
    with locked(output):
        check_folder(output)
        clean_up(output)
        job, division = _begun(request, makes, batch_size, on_list)
        engine = make_engine(division) if make_engine else LocalEngine(_for_each(makes, division.workers), finishers)
        return _label(request, job, division, engine, on_progress)


def _for_each(makes: Sequence[MakeSegmenter], workers: int) -> list[MakeSegmenter]:
    return [makes[number % len(makes)] for number in range(workers)]


def _begun(request: Request, makes: Sequence[MakeSegmenter], batch_size: int, on_list: Callable[[int], None]) -> tuple[Job, Division]:
    """The job of the folder, or a new one."""
    state, asked = request.output / STATE, _asked(request)
    job = Job.read(state)
    if job is not None:
        job.check_same(asked, request.output)
        return job, divided(request.workers, job.threads, makes, _work(request.output, job), None)
    found = entries(request.sources, request.partial[1:] if request.partial is not None and _is_member(request.partial) else None)
    photos = write_plan(state, found, on_list, request.output / MAPS if request.format == "coco-panoptic" else None)
    size = request.shard_size or min(LARGEST_SHARD, max(SMALLEST_SHARD, -(-photos // SHARDS)))
    job = Job(**{"batch_size": batch_size, "threads": 1, **asked, "shard_size": size, "photos": photos})
    sample = shards_of(state, size)[0]
    division = divided(request.workers, request.threads, makes, _work(request.output, job), sample)
    job = replace(job, threads=division.threads)
    job.write(state)
    return job, division


def _asked(request: Request) -> dict[str, Any]:
    """The attributes of a job that a request decides."""
    partial_maps = request.partial
    if partial_maps is not None and not _is_member(partial_maps):
        partial_maps = _absolute(partial_maps)
        if not is_remote(partial_maps) and not os.path.isdir(partial_maps):
            raise InputError(f"--partial: expected a folder, or the suffix of members of the tars (.partial.png), got '{request.partial}'")
    found = {
        "sources": tuple(_absolute(source) for source in request.sources),
        "partial": partial_maps,
        **{name: getattr(request, name) for name in ("format", "seed", "max_pixels", "with_photos", "unknown", "clean", "info")},
    }
    return found | {name: value for name in ("shard_size", "batch_size", "threads") if (value := getattr(request, name)) is not None}


def _is_member(partial_maps: str) -> bool:
    """Whether partial maps are members of the tars, named by their suffix, and not in a folder."""
    return partial_maps.startswith(".") and "/" not in partial_maps and not os.path.isdir(partial_maps)


def _absolute(place: str) -> str:
    return place if is_remote(place) else os.path.abspath(place)


def _work(output: Path, job: Job) -> Work:
    named = (*job.sources, *([] if job.partial is None else [job.partial]))
    return Work(output, job, tuple(place for place in named if not is_remote(place) and os.path.exists(place)))


def _label(request: Request, job: Job, division: Division, engine: Engine, on_progress: Callable[[State], None]) -> Report:
    output, state = request.output, request.output / STATE
    shards, done = shards_of(state, job.shard_size), DoneLines(state).read()
    if request.retry_failed:
        done.forget_failed()
    before = list(done.shards.values())
    progress = Progress(job.photos, before, request.max_failures, on_progress)
    todo = [shard for shard in shards if shard.number not in done.shards]
    began = time.monotonic()
    try:
        if todo:
            engine.run(_work(output, job), todo, progress, done.add)
    finally:
        seconds = time.monotonic() - began
        clean_up(output)
        failed = write_failed(state, done.shards, progress.open_failures(), output / FAILED)
    panoptic = output / f"{MAPS}.json"
    if job.format == "coco-panoptic":
        fold(state, done.shards, job.info, panoptic)
    return Report(
        output=str(output),
        format=job.format,
        photos=job.photos,
        failed=failed,
        labelled_now=job.photos - sum(one.photos for one in before),
        seconds=round(seconds, 3),
        shards=len(shards),
        shards_before=len(before),
        workers=division.workers,
        threads=job.threads,
        batch_size=job.batch_size,
        panoptic=str(panoptic) if job.format == "coco-panoptic" else None,
        failures=str(output / FAILED) if failed else None,
    )
