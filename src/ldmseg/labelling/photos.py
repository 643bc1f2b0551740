"""The photos of a labelling run, and the partial maps beside them, checked before anything is computed."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldmseg.atomic import check_output_folder
from ldmseg.errors import InputError, quoted

if TYPE_CHECKING:
    import torch

    from ldmseg.panoptic import PanopticMap

ReadMap = Callable[[Path, int], "PanopticMap"]
"""A path and how many pixels a picture may have -> the map that it holds."""

OnProgress = Callable[[int, int], None]
"""Called with (photos done, photos in all)."""

OVERLAY = "_overlay"
"""What an overlay's name has after the photo's stem."""

CONFIDENCE, PANELS = "_confidence", "_panels"
"""The same of the heat map, and of the picture that shows everything side by side."""


@dataclass(frozen=True)
class Pictures:
    """Which pictures are wanted beside the map, by what their names have after the photo's stem."""

    suffixes: tuple[str, ...] = (OVERLAY,)


@dataclass(frozen=True)
class Photo:
    """One photo that can be read.

    Attributes:
        image_id: the stem's number where it is one (as COCO's are), whatever the other photos are called; else a number that is free.
        size: (height, width) in pixels, upright.
    """

    path: Path
    image_id: int
    size: tuple[int, int]

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]


def check_photos(
    images: Sequence[Path], output: Path, pictures: Pictures, on_progress: OnProgress, max_pixels: int | None = None
) -> list[Photo]:
    """Read every photo once, so that the first bad one ends the run before anything is computed or written.

    Args:
        max_pixels: of a photo; `ldmseg.formats.image.MAX_PIXELS` by default.

    Raises:
        InputError: a photo cannot be read, has too many pixels, or its name is no text, two outputs would have the same name, or an output
            would replace a photo.
    """
    from ldmseg.formats.image import MAX_PIXELS, list_images, read_image

    limit = MAX_PIXELS if max_pixels is None else max_pixels
    paths = list_images(images)
    check_output_folder(output)
    _check_names(paths, output, pictures)
    sizes: list[tuple[int, int]] = []
    with ThreadPoolExecutor() as pool:
        for size in pool.map(lambda path: read_image(path, limit).size, paths):
            sizes.append(size)
            on_progress(len(sizes), len(paths))
    ids = _image_ids(paths)
    return [Photo(path, image_id, (height, width)) for path, image_id, (width, height) in zip(paths, ids, sizes, strict=True)]


def _check_names(paths: Sequence[Path], output: Path, pictures: Pictures) -> None:
    photos, writers = {os.path.realpath(path) for path in paths}, dict[str, Path]()
    for path in paths:
        check_name(path)
        for name in output_names(path, pictures):
            if os.path.realpath(output / name) in photos:
                raise InputError(f"--output: expected a folder where no photo would be replaced, got '{output}', which holds '{name}'")
            other = writers.setdefault(name, path)
            if other is not path:
                raise InputError(f"images: '{other}' and '{path}' would both write '{name}'; rename one, or use --no-overlay")


def check_name(path: Path) -> None:
    """Bytes that are no text are kept in paths as lone surrogates.

    Raises:
        InputError: the file's name holds some.
    """
    if any("\ud800" <= character <= "\udfff" for character in path.name):
        raise InputError(f"images: expected file names that are text, because panoptic.json holds them, got {quoted(path.name)}")


def output_names(path: Path, pictures: Pictures) -> list[str]:
    """The names of the pictures that are written for a photo, its map's first."""
    return [f"{path.stem}.png", *(f"{path.stem}{suffix}.png" for suffix in pictures.suffixes)]


def _image_ids(paths: Sequence[Path]) -> list[int]:
    first: dict[int, Path] = {}
    for path in paths:
        if path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 16:  # JSON's doubles
            first.setdefault(int(path.stem), path)
    ids, taken = {path: number for number, path in first.items()}, set(first)
    free = (number for number in itertools.count(1) if number not in taken)
    return [ids[path] if path in ids else next(free) for path in paths]


def photo_generator(seed: int, path: Path) -> torch.Generator:
    """Randomness of one photo: a function of the seed and the file's stem, so that other photos do not matter."""
    import torch

    return torch.Generator().manual_seed(photo_seed(seed, path.stem))


def photo_seed(seed: int, stem: str) -> int:
    """The seed of one photo's randomness (`photo_generator`)."""
    digest = hashlib.sha256(f"{seed}:{stem}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8]) >> 1


def check_partials(
    photos: Sequence[Photo], partial: Path, output: Path, option: str, pictures: Pictures, read: ReadMap
) -> dict[Path, Path]:
    """The label PNG of each photo; each is `read` once.

    Raises:
        InputError: a PNG is missing, unreadable, of another size than its photo, holds ids that the result cannot, or would be replaced.
    """
    from ldmseg.formats.id_png import MAX_RGB_ID

    if not partial.is_dir() and len(photos) > 1:
        raise InputError(f"{option}: expected a folder with <stem>.png for each of {len(photos)} photos, got '{partial}'")
    found = {photo.path: partial / f"{photo.path.stem}.png" if partial.is_dir() else partial for photo in photos}
    written = {os.path.realpath(output / name) for photo in photos for name in output_names(photo.path, pictures)}
    for photo in photos:
        path = found[photo.path]
        if not path.is_file():
            raise InputError(f"{option}: expected a label PNG for '{photo.path}', found no '{path}'")
        if os.path.realpath(path) in written:
            raise InputError(f"--output: expected a folder where no given map would be replaced, got '{output}', which holds '{path.name}'")
        _check_size(photo, path, _header_size(path), option)  # before it is decoded, which costs by its own size
        pmap = read(path, photo.pixels)
        _check_size(photo, path, pmap.shape, option)
        highest = pmap.segments[-1].id if pmap.segments else 0
        if highest > MAX_RGB_ID:
            raise InputError(f"{option}: '{path}': expected ids up to {MAX_RGB_ID}, got {highest}")
    return found


def _header_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a picture as it is stored; None where its header cannot be read."""
    from ldmseg.formats.image import stored_size

    try:
        return stored_size(path)
    except InputError:  # its reader says what is wrong
        return None


def _check_size(photo: Photo, path: Path, found: tuple[int, int] | None, option: str) -> None:
    if found is not None and found != photo.size:
        (height, width), (got_height, got_width) = photo.size, found
        raise InputError(f"{option}: '{path}': expected {width}x{height}, the size of '{photo.path}', got {got_width}x{got_height}")
