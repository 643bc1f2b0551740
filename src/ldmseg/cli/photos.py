"""The photos of a `segment` or `inpaint` run: checked before anything is computed, and written as they come."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldmseg.cli.console import Progress
from ldmseg.cli.outputs import check_output_folder
from ldmseg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from ldmseg.formats.coco_panoptic import CocoPanopticWriter
    from ldmseg.panoptic import PanopticMap

OVERLAY = "_overlay"
"""What an overlay's name has after the photo's stem."""

CONFIDENCE, PANELS = "_confidence", "_panels"
"""The same of the heat map, and of the picture that shows everything side by side."""

Predict = Callable[[Sequence["Photo"], "list[Image.Image]"], "list[Prediction]"]
"""A batch of photos and their pictures -> what the model says of them."""


@dataclass(frozen=True)
class Prediction:
    """A photo's map; (H, W) `confidence` in 0..1 where several samples were drawn; the partial map that was `given`."""

    map: PanopticMap
    confidence: NDArray[np.float32] | None = None
    given: PanopticMap | None = None


@dataclass(frozen=True)
class Pictures:
    """Which pictures are wanted beside the map, by what their names have after the photo's stem."""

    suffixes: tuple[str, ...] = (OVERLAY,)


@dataclass(frozen=True)
class Photo:
    """One photo that can be read.

    Attributes:
        image_id: the stem's number where all stems are different numbers (as COCO's are), else the position from 1.
        size: (height, width) in pixels, upright.
    """

    path: Path
    image_id: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Written:
    """What was written for one photo; a picture that was not wanted is None, `seconds` is the model's time.

    `confidence_mean` is over all pixels, where several samples were drawn.
    """

    file: str
    map: str
    overlay: str | None
    confidence: str | None
    panels: str | None
    segments: int
    seconds: float
    confidence_mean: float | None


def check_photos(images: Sequence[Path], output: Path, pictures: Pictures, progress: Progress) -> list[Photo]:
    """Read every photo once, so that the first bad one ends the run before anything is computed or written.

    Raises:
        InputError: a photo cannot be read or its name is no text, two outputs would have the same name, or an output would replace a photo.
    """
    from ldmseg.formats.image import list_images, read_image

    paths = list_images(images)
    check_output_folder(output)
    _check_names(paths, output, pictures)
    sizes: list[tuple[int, int]] = []
    with _threads() as pool:
        for size in pool.map(lambda path: read_image(path).size, paths):
            sizes.append(size)
            progress.update(len(sizes), len(paths))
    ids = _image_ids(paths)
    return [Photo(path, image_id, (height, width)) for path, image_id, (width, height) in zip(paths, ids, sizes, strict=True)]


def _check_names(paths: Sequence[Path], output: Path, pictures: Pictures) -> None:
    photos, writers = {path.resolve() for path in paths}, dict[str, Path]()
    for path in paths:
        if not _is_text(path.name):
            raise InputError(f"images: expected file names that are text, because panoptic.json holds them, got {path.name!r}")
        for name in output_names(path, pictures):
            if (output / name).resolve() in photos:
                raise InputError(f"--output: expected a folder where no photo would be replaced, got '{output}', which holds '{name}'")
            other = writers.setdefault(name, path)
            if other is not path:
                raise InputError(f"images: '{other}' and '{path}' would both write '{name}'; rename one, or use --no-overlay")


def _is_text(name: str) -> bool:
    """Bytes that are none are kept in paths as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def output_names(path: Path, pictures: Pictures) -> list[str]:
    """The names of the pictures that are written for a photo, its map's first."""
    return [f"{path.stem}.png", *(f"{path.stem}{suffix}.png" for suffix in pictures.suffixes)]


def _image_ids(paths: Sequence[Path]) -> list[int]:
    numbers = [int(path.stem) for path in paths if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 16]  # JSON's doubles
    distinct = len(set(numbers)) == len(paths)
    return numbers if distinct else list(range(1, len(paths) + 1))


def photo_generator(seed: int, path: Path) -> torch.Generator:
    """Randomness of one photo: a function of the seed and the file's stem, so that other photos do not matter."""
    import torch

    digest = hashlib.sha256(f"{seed}:{path.stem}".encode("utf-8", "surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def write_maps(
    photos: Sequence[Photo], predict: Predict, output: Path, *, batch_size: int, pictures: Pictures, progress: Progress
) -> Iterator[Written]:
    """Predict batch by batch and write each photo's files; the JSON follows at the end, also after an error, of what was done.

    One process at a time writes into a folder: two would each leave a JSON of their own maps alone.

    Photos are read ahead and pictures drawn in other threads, because for large photos that takes longer than the model.
    """
    batches = [photos[start : start + batch_size] for start in range(0, len(photos), batch_size)]
    drawing: deque[tuple[Written, Future[None]]] = deque()
    done = 0
    with _threads() as pool, _writer(output) as writer:
        for batch, loaded in _read_ahead(batches, pool):
            began = time.perf_counter()
            predictions = predict(batch, loaded)
            seconds = round((time.perf_counter() - began) / len(batch), 4)
            for photo, picture, prediction in zip(batch, loaded, predictions, strict=True):
                map_path = writer.add(photo.path.name, photo.image_id, prediction.map)
                paths = {suffix: output / f"{photo.path.stem}{suffix}.png" for suffix in pictures.suffixes}
                one = _written(photo, map_path, paths, prediction, seconds)
                drawing.append((one, pool.submit(_draw, paths, picture, prediction)))
                done += 1
                progress.update(done, len(photos))
            while len(drawing) > batch_size:
                yield _finished(*drawing.popleft())
        while drawing:
            yield _finished(*drawing.popleft())


def _written(photo: Photo, map_path: Path, paths: dict[str, Path], prediction: Prediction, seconds: float) -> Written:
    overlay, confidence, panels = (str(paths[suffix]) if suffix in paths else None for suffix in (OVERLAY, CONFIDENCE, PANELS))
    mean = None if prediction.confidence is None else round(float(prediction.confidence.mean()), 4)
    return Written(str(photo.path), str(map_path), overlay, confidence, panels, len(prediction.map), seconds, mean)


def _read_ahead(batches: Sequence[Sequence[Photo]], pool: ThreadPoolExecutor) -> Iterator[tuple[Sequence[Photo], list[Image.Image]]]:
    from ldmseg.formats.image import read_image

    reading: list[Future[Image.Image]] = []
    for batch, following in zip([[], *batches], [*batches, []], strict=True):
        pictures = [future.result() for future in reading]
        reading = [pool.submit(read_image, photo.path) for photo in following]
        if batch:
            yield batch, pictures


def _draw(paths: dict[str, Path], picture: Image.Image, prediction: Prediction) -> None:
    from ldmseg.atomic import atomic_write
    from ldmseg.visualize import completion_panels, confidence_map, overlay

    for suffix, path in paths.items():
        if suffix == OVERLAY:
            drawn = overlay(picture, prediction.map)
        elif suffix == CONFIDENCE and prediction.confidence is not None:
            drawn = confidence_map(prediction.confidence)
        else:
            drawn = completion_panels(picture, prediction.map, given=prediction.given, confidence=prediction.confidence)
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


@contextmanager
def _writer(output: Path) -> Iterator[CocoPanopticWriter]:
    from ldmseg.formats.coco_panoptic import CocoPanopticWriter
    from ldmseg.locking import locked

    with locked(output):
        writer = CocoPanopticWriter(output, png_dir=output)
        try:
            yield writer
        except BaseException:
            with suppress(InputError):  # the first error is the one to tell
                writer.close()
            raise
        writer.close()
