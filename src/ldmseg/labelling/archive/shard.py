"""One shard, from its photos to its files: the one function that every engine runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Union

from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC, segments_info
from ldmseg.formats.id_png import id_png
from ldmseg.labelling.archive.destinations import shard_writer
from ldmseg.labelling.archive.failure import ends_run
from ldmseg.labelling.archive.fold import write_segments
from ldmseg.labelling.archive.job import ShardDone
from ldmseg.labelling.archive.loading import Loaded, load, reason
from ldmseg.labelling.archive.plan import Item, Shard, map_name, read_shard
from ldmseg.labelling.archive.work import Work
from ldmseg.labelling.photos import photo_seed
from ldmseg.panoptic import PanopticMap

if TYPE_CHECKING:  # not every segmenter needs torch
    from ldmseg.segmenters import Segmenter
    from ldmseg.segmenters.drawing import DrawingSegmenter, Unfinished

READERS = 4
"""Threads that read photos ahead."""

AHEAD = 2
"""Batches that are read ahead, and, beside a GPU, that wait for their borders."""


@dataclass(frozen=True)
class Beside:
    """What draws, and the processes that put borders and encode maps meanwhile."""

    drawing: DrawingSegmenter
    finishing: Executor


Labeller = Union["Segmenter", Beside]
"""What makes a batch's maps: here, one step after the other; or in two parts, beside each other."""

OnBatch = Callable[[int, list[dict[str, str]]], None]
"""Called with (photos of the shard that are done, the failures among them)."""


@dataclass(frozen=True)
class Written:
    """A map as it is written: the PNG, COCO's `segments_info`, and (height, width)."""

    png: bytes
    segments: list[dict[str, Any]]
    size: tuple[int, int]


def label_shard(work: Work, shard: Shard, labeller: Labeller, on_batch: OnBatch) -> ShardDone:
    """Label the photos of a shard and write its files: the maps, which appear together, and then their list.

    The batches are a function of the plan alone, and so is the noise of a photo. So the results do not depend on who computes them.

    Raises:
        InputError: the disk is full, or the source is gone. Nothing of the shard is in its place then.
    """
    lines: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    with ThreadPoolExecutor(READERS) as readers, shard_writer(work.output, work.job.format, shard.number) as writer:
        for batch in _answered(work, read_shard(work.state, shard), labeller, readers):
            for loaded, answer in batch:
                if isinstance(answer, str):
                    failures.append({"file": loaded.item.entry.name, "error": answer})
                    lines.append(failures[-1])
                else:
                    line = _line(loaded.item, answer)
                    writer.add(line["image"], answer.segments, answer.png, loaded.data)
                    lines.append(line)
            on_batch(len(lines), failures)
    write_segments(work.state, shard.number, lines)
    return ShardDone(shard.number, shard.count, len(failures))


def _line(item: Item, answer: Written) -> dict[str, Any]:
    name, (height, width) = item.entry.name, answer.size
    image = {"id": item.image_id, "file_name": name, "width": width, "height": height}
    return {"image": image, "annotation": {"image_id": item.image_id, "file_name": map_name(name), "segments_info": answer.segments}}


Pending = list[tuple[Loaded, "Written | Future[Written] | str"]]
Answered = list[tuple[Loaded, "Written | str"]]


def label_batch(batch: Sequence[Loaded], labeller: Labeller, seed: int) -> Answered:
    """Each photo of a batch with its map, or with the reason why there is none."""
    return _collected(_asked(batch, labeller, seed))


def _answered(work: Work, items: Sequence[Item], labeller: Labeller, readers: ThreadPoolExecutor) -> Iterator[Answered]:
    """Each batch's photos, with the map or the reason why there is none."""
    waiting: deque[Pending] = deque()
    for batch in _read_ahead(work, items, readers):
        waiting.append(_asked(batch, labeller, work.job.seed))
        while len(waiting) > (AHEAD if isinstance(labeller, Beside) else 0):
            yield _collected(waiting.popleft())
    while waiting:
        yield _collected(waiting.popleft())


def _read_ahead(work: Work, items: Sequence[Item], readers: ThreadPoolExecutor) -> Iterator[list[Loaded]]:
    size, reading = work.job.batch_size, deque[list[Future[Loaded]]]()
    starts = iter(range(0, len(items), size))
    try:
        for start in starts:
            reading.append([readers.submit(load, item, work.job, work.roots) for item in items[start : start + size]])
            if len(reading) > AHEAD:
                yield [future.result() for future in reading.popleft()]
        while reading:
            yield [future.result() for future in reading.popleft()]
    finally:
        for future in (one for batch in reading for one in batch):
            future.cancel()


def _asked(batch: Sequence[Loaded], labeller: Labeller, seed: int) -> Pending:
    """The answers of a batch. Where the segmenter refuses the batch, each photo is asked for alone, so that one spoils no other."""
    good = [one for one in batch if one.error is None]
    try:
        answers = _maps(good, labeller, seed) if good else []
    except Exception as error:
        if ends_run(error):
            raise
        if len(good) > 1:
            answers = [answer for one in good for _, answer in _asked([one], labeller, seed)]
        else:
            answers = [_refusal(error)]
    found = iter(answers)
    return [(one, next(found) if one.error is None else one.error) for one in batch]


def _refusal(error: Exception) -> str:
    return reason(error) if isinstance(error, InputError) else f"{type(error).__name__}: {reason(error)}"


def _maps(good: Sequence[Loaded], labeller: Labeller, seed: int) -> list[Written | Future[Written] | str]:
    photos = [one.photo for one in good if one.photo is not None]
    partials = [one.partial for one in good if one.partial is not None] or None
    seeds = [photo_seed(seed, PurePosixPath(one.item.entry.name).stem) for one in good]
    names = [one.item.entry.name for one in good]
    if isinstance(labeller, Beside):
        drawn = labeller.drawing(photos, partials, seeds)
        return [labeller.finishing.submit(finished, *both) for both in zip(drawn, names, strict=True)]
    return [written(pmap, name) for pmap, name in zip(labeller(photos, partials, seeds), names, strict=True)]


def finished(drawn: Unfinished, name: str) -> Written:
    """The share of a photo's work that needs no network."""
    return written(drawn.finished(), name)


def written(pmap: PanopticMap, name: str) -> Written:
    return Written(id_png(pmap.ids), segments_info(pmap, {CLASS_AGNOSTIC.id}, class_agnostic=True, where=f"'{name}'"), pmap.shape)


def _collected(batch: Pending) -> Answered:
    found: Answered = []
    for loaded, answer in batch:
        try:
            found.append((loaded, answer.result() if isinstance(answer, Future) else answer))
        except Exception as error:
            if ends_run(error):
                raise
            found.append((loaded, _refusal(error)))
    return found
