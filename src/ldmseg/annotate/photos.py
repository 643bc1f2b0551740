"""The photos of a project: opaque names for the browser, and pictures at the size at which they are edited."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ldmseg.errors import InputError, quoted
from ldmseg.formats.image import MAX_PIXELS, list_images, read_image

EDIT_SIDE = 1280
"""Pixels of the longer side while a photo is edited; a larger one is edited at this size and saved at its own."""
ORIENTATION = 0x0112
"""The EXIF tag that says how a photo is turned."""
THUMBNAIL = 160
"""Pixels of the longer side of a thumbnail."""


@dataclass(frozen=True)
class Photo:
    """One photo.

    Attributes:
        key: what the browser calls it: it says nothing of where the file is.
        path: the file.
        shape: (H, W) in pixels, upright; None where it cannot be read, and `problem` says why.
    """

    key: str
    path: Path
    shape: tuple[int, int] | None
    problem: str | None = None

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def edit_shape(self) -> tuple[int, int]:
        """(h, w) while it is edited."""
        height, width = self.size
        scale = min(1.0, EDIT_SIDE / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W).

        Raises:
            InputError: it cannot be read.
        """
        if self.shape is None:
            raise InputError(self.problem or "image: cannot be read")
        return self.shape

    def read(self) -> Image.Image:
        """8-bit RGB at the size at which it is edited.

        Raises:
            InputError: it cannot be read, or has changed its size.
        """
        height, width = self.edit_shape
        picture = read_image(self.path)
        if picture.size[::-1] != self.size:
            raise InputError(f"image: '{self.path}' was {self.size[1]}x{self.size[0]} when it was opened, and is another picture now")
        return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


def find_photos(given: Sequence[Path]) -> list[Photo]:
    """The photos that files and folders name; one that cannot be read is listed with the reason.

    Raises:
        InputError: there are none, two share a stem, a name is no text, or a link in a folder leads out of it.
    """
    roots = [path.resolve() for path in given if path.is_dir()]
    named = {path.resolve() for path in given if not path.is_dir()}
    found = []
    for path in list_images(given):
        real = path.resolve()
        if path.is_symlink() and real not in named and not any(real.is_relative_to(root) for root in roots):
            raise InputError(f"images: '{path}' is a link that leads out of its folder; name the folder that it leads to")
        try:
            path.name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"images: expected file names that are text, for panoptic.json, got {quoted(path.name)}") from error
        found.append(_photo(path))
    return found


def _photo(path: Path) -> Photo:
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    try:
        return Photo(key, path, _shape(path))
    except InputError as error:
        return Photo(key, path, None, str(error).replace(f"'{path}'", f"'{path.name}'"))


def _shape(path: Path) -> tuple[int, int]:
    """(H, W), upright, from the head of the file where that says so."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
    except Exception:  # whatever a decoder raises: reading it in full tells in one line what is wrong
        return read_image(path).size[::-1]
    if width * height > MAX_PIXELS:
        raise InputError(f"image: cannot read '{path}': {width}x{height} are more than {MAX_PIXELS} pixels")
    return (width, height) if turned else (height, width)


def as_jpeg(picture: Image.Image, longest: int | None = None) -> bytes:
    """A picture for the screen; `longest` is the longer side in pixels."""
    if longest is not None:
        picture = ImageOps.contain(picture, (longest, longest), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=92, subsampling=0)
    return data.getvalue()
