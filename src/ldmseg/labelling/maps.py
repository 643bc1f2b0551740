"""Maps and pictures of a labelling run. Each batch is written when it is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ldmseg.errors import InputError
from ldmseg.labelling.photos import CONFIDENCE, OVERLAY, PANELS, OnProgress, Photo, Pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from ldmseg.choices import Task
    from ldmseg.dense import Target
    from ldmseg.formats.coco_json import Category, Provenance
    from ldmseg.formats.coco_panoptic import CocoPanopticWriter
    from ldmseg.formats.depth_png import DepthWriter
    from ldmseg.palette import Color
    from ldmseg.panoptic import PanopticMap

W = TypeVar("W", "CocoPanopticWriter", "DepthWriter")

Predict = Callable[[Sequence["Photo"], "list[Image.Image]"], "list[Prediction]"]
"""A batch of photos and their pictures -> the model's results."""


@dataclass(frozen=True)
class Prediction:
    """A photo's map, or its depth.

    (H, W) `confidence` in 0..1 where several samples were drawn; the partial map that was `given`, and its `colors`.
    """

    map: Target
    confidence: NDArray[np.float32] | None = None
    given: PanopticMap | None = None
    colors: Mapping[int, Color] | None = None


@dataclass(frozen=True)
class Written:
    """What was written for one photo; a picture that was not wanted is None, `seconds` is the model's time.

    `segments` are those of a map; a depth map has none. `confidence_mean` is over all pixels, where several samples were drawn.
    """

    file: str
    map: str
    overlay: str | None
    confidence: str | None
    panels: str | None
    segments: int
    seconds: float
    confidence_mean: float | None


def write_maps(
    photos: Sequence[Photo],
    predict: Predict,
    output: Path,
    *,
    batch_size: int,
    pictures: Pictures,
    on_progress: OnProgress,
    origin: Provenance | None = None,
    categories: Sequence[Category] | None = None,
    task: Task = "panoptic",
) -> Iterator[Written]:
    """Predict batch by batch and write each photo's files; the JSON follows at the end, also after an error, of what was done.

    One process at a time writes into a folder: two would each leave a JSON of their own maps alone.

    Photos are read ahead and pictures drawn in other threads, because for large photos that takes longer than the model.

    Args:
        categories: what the predicted segments may be; None if they have no names.
        task: what is predicted; depth is written as `ldmseg.formats.depth_png` has it, with depth.json in place of panoptic.json.
    """
    batches = [photos[start : start + batch_size] for start in range(0, len(photos), batch_size)]
    drawing: deque[tuple[Written, Future[None]]] = deque()
    done = 0
    names = {category.id: category.name for category in categories or ()}
    with _threads() as pool, _task_writer(output, origin, categories, task) as writer:
        for batch, loaded in _read_ahead(batches, pool):
            began = time.perf_counter()
            predictions = predict(batch, loaded)
            seconds = round((time.perf_counter() - began) / len(batch), 4)
            for photo, picture, prediction in zip(batch, loaded, predictions, strict=True):
                map_path = writer.add(photo.path.name, photo.image_id, prediction.map)  # type: ignore[arg-type]  # of the writer's task
                paths = {suffix: output / f"{photo.path.stem}{suffix}.png" for suffix in pictures.suffixes}
                one = _written(photo, map_path, paths, prediction, seconds)
                drawing.append((one, pool.submit(_draw, paths, picture, prediction, names)))
                done += 1
                on_progress(done, len(photos))
            while len(drawing) > batch_size:
                yield _finished(*drawing.popleft())
        while drawing:
            yield _finished(*drawing.popleft())


def _written(photo: Photo, map_path: Path, paths: dict[str, Path], prediction: Prediction, seconds: float) -> Written:
    from ldmseg.dense import DepthMap

    overlay, confidence, panels = (str(paths[suffix]) if suffix in paths else None for suffix in (OVERLAY, CONFIDENCE, PANELS))
    mean = None if prediction.confidence is None else round(float(prediction.confidence.mean()), 4)
    segments = 0 if isinstance(prediction.map, DepthMap) else len(prediction.map)
    return Written(str(photo.path), str(map_path), overlay, confidence, panels, segments, seconds, mean)


def _read_ahead(batches: Sequence[Sequence[Photo]], pool: ThreadPoolExecutor) -> Iterator[tuple[Sequence[Photo], list[Image.Image]]]:
    from ldmseg.formats.image import MAX_PIXELS, read_image

    reading: list[Future[Image.Image]] = []
    for batch, following in zip([[], *batches], [*batches, []], strict=True):
        pictures = [future.result() for future in reading]
        reading = [pool.submit(read_image, photo.path, max(MAX_PIXELS, photo.pixels)) for photo in following]
        if batch:
            yield batch, pictures


def _draw(paths: dict[str, Path], picture: Image.Image, prediction: Prediction, names: Mapping[int, str]) -> None:
    from ldmseg.atomic import atomic_write
    from ldmseg.dense import DepthMap
    from ldmseg.palette import segment_colors
    from ldmseg.visualize import captioned, completion_panels, confidence_picture, depth_picture, overlay

    pmap = prediction.map
    colors = {} if isinstance(pmap, DepthMap) else segment_colors(pmap, keep=prediction.colors)
    for suffix, path in paths.items():
        if suffix == CONFIDENCE and prediction.confidence is not None:
            drawn = confidence_picture(prediction.confidence)
        elif isinstance(pmap, DepthMap):
            drawn = depth_picture(pmap)
        elif suffix == OVERLAY:
            drawn = captioned(overlay(picture, pmap, colors=colors), pmap, names)
        else:
            given, confidence = prediction.given, prediction.confidence
            drawn = completion_panels(picture, pmap, given=given, confidence=confidence, colors=colors)
        with atomic_write(path) as temporary:
            drawn.save(temporary, format="PNG")


def _finished(written: Written, drawing: Future[None]) -> Written:
    drawing.result()
    return written


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """After an error, work that has not begun is dropped."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _task_writer(
    output: Path, origin: Provenance | None, categories: Sequence[Category] | None, task: Task
) -> AbstractContextManager[CocoPanopticWriter | DepthWriter]:
    if task != "depth":
        return map_writer(output, origin, categories)
    from ldmseg.formats.depth_png import DepthWriter

    return _closed(output, lambda: DepthWriter(output, provenance=origin))


def map_writer(
    output: Path, origin: Provenance | None, categories: Sequence[Category] | None = None
) -> AbstractContextManager[CocoPanopticWriter]:
    """Write maps and `panoptic.json` into a folder that no other process writes to; after an error the JSON has what was added."""
    from ldmseg.formats.coco_panoptic import CocoPanopticWriter

    return _closed(output, lambda: CocoPanopticWriter(output, categories, png_dir=output, provenance=origin))


@contextmanager
def _closed(output: Path, opened: Callable[[], W]) -> Iterator[W]:
    from ldmseg.locking import locked

    with locked(output):
        writer = opened()
        try:
            yield writer
        except BaseException:
            with suppress(InputError):  # the first error is the one to raise
                writer.close()
            raise
        writer.close()
