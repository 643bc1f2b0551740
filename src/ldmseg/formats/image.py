"""Photos as people have them: any file or picture in, 8-bit RGB out."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ldmseg.errors import InputError, shortened

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What `list_images` takes from a folder; a file that is named itself may have any suffix."""

ImageSource = str | os.PathLike[str] | bytes | Image.Image

BROKEN_IMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow's decoders raise on a damaged file."""

MAX_PIXELS = 178_956_970
"""Of a picture that is read unless more are allowed; Pillow's own limit. A file of 2 KB can hold as many, and costs 8 bytes for each."""

MAX_MAP_PIXELS = 100_000_000
"""The same of a label picture, which takes up to 19 bytes a pixel, so that neither it nor a photo takes more than 2 GB."""

BAND = 2**19
"""Pixels that are converted at a time where Pillow has no conversion of its own."""

_ORIENTATION = 0x0112
_PILLOW = threading.Lock()


def read_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture as 8-bit RGB, upright.

    Args:
        source: a path, the bytes of an image file, or a `PIL.Image` (which is not changed).
        max_pixels: of a file; one of more is refused before it is decoded. Reading takes at most 12 bytes a pixel.

    The orientation in the EXIF data is applied. Transparency is laid over white. 16-bit gray is scaled by its whole range (65535 is
    white), 32-bit and float pictures from their smallest to their largest finite value. Of several frames or pages the first is read.

    Raises:
        InputError: there is no such file, it has too many pixels, or it is no picture that can be read in full.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "image")
    if isinstance(source, bytes):
        name = "the given bytes"
        data: BytesIO | Path = BytesIO(source)
        empty = not source
    else:
        path = existing_file(source, "image")
        name, data, empty = f"'{path}'", path, path.stat().st_size == 0
    if empty:
        raise InputError(f"image: cannot read {name}: it is empty")
    try:
        with open_image(data, max_pixels) as image:
            image.load()
            return _to_rgb(image, name)
    except InputError:
        raise
    except TooManyPixels as error:
        raise InputError(f"image: cannot read {name}: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"image: cannot read {name}: it is no picture of a known format") from error
    except BROKEN_IMAGE as error:
        raise InputError(f"image: cannot read {name}: {shortened(one_line(error), 200)}") from error


def read_size(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of a photo as `read_image` gives it, from its header alone.

    Raises:
        InputError: there is no such file, it has too many pixels, or it is no picture.
    """
    file = existing_file(path, "image")
    try:
        with open_image(file, max_pixels) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except BROKEN_IMAGE as error:
        raise InputError(f"image: cannot read '{file}': {shortened(one_line(error), 200)}") from error


def stored_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) as a picture's header has them, whatever its orientation and however many pixels.

    Raises:
        InputError: there is no such file, or it is no picture.
    """
    file = existing_file(path, "image")
    try:
        with _open_any(file) as image:
            return image.height, image.width
    except BROKEN_IMAGE as error:
        raise InputError(f"image: cannot read '{file}': {shortened(one_line(error), 200)}") from error


class TooManyPixels(ValueError):
    """A picture is larger than its reader allows."""


def open_image(data: BytesIO | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Pillow's `Image.open`, which reads the header alone, with a limit of the caller's.

    Raises:
        TooManyPixels: the picture has more pixels.
    """
    pillows = max_pixels if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
    try:
        image = Image.open(data) if max_pixels <= MAX_PIXELS else _open_any(data)
    except Image.DecompressionBombError as error:
        allowed = f"expected at most {min(max_pixels, pillows):,} pixels"
        raise TooManyPixels(f"{allowed}, got more; --max-pixels (max_pixels) allows more") from error
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        image.close()
        raise TooManyPixels(f"expected at most {max_pixels:,} pixels, got {size}; --max-pixels (max_pixels) allows more")
    return image


def _open_any(data: BytesIO | Path) -> Image.Image:
    """Without Pillow's limit, which is one for the whole process: only where a user asked for more, and for as long as it takes."""
    with _PILLOW:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(data)
        finally:
            Image.MAX_IMAGE_PIXELS = own


def list_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The picture files that `paths` name: files in the given order, and each folder's pictures (not its subfolders') by name.

    A file that is named twice is listed once.

    Raises:
        InputError: a path does not exist, a folder has no picture, nothing was given, or two files share a stem (outputs are named
            after it, so that one would overwrite the other's).
    """
    given: Sequence[str | os.PathLike[str]] = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise InputError("images: expected at least one file or folder, got none")
    found: dict[Path, Path] = {}
    for entry in given:
        path = Path(entry)
        for file in _pictures_in(path) if path.is_dir() else [existing_file(path, "image")]:
            found.setdefault(Path(os.path.realpath(file)), file)
    by_stem: dict[str, Path] = {}
    for file in found.values():
        other = by_stem.setdefault(file.stem, file)
        if other is not file:
            raise InputError(f"images: '{other}' and '{file}' would both be written as '{file.stem}'; rename one or run them apart")
    return list(found.values())


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """`path` if a regular file is there: devices and pipes have no end, or none that comes.

    Raises:
        InputError: `what` names the argument in the message.
    """
    found = Path(path)
    try:
        if found.is_file():
            return found
        kind = "it is a folder" if found.is_dir() else "it is no regular file" if found.exists() else "no such file"
    except (OSError, ValueError) as error:  # a name that is too long, a NUL byte, a folder without permission
        kind = one_line(error)
    raise InputError(f"{what}: cannot read '{found}': {kind}")


def one_line(error: BaseException) -> str:
    """The text of an exception, in one line and without a path or an error number."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _pictures_in(folder: Path) -> list[Path]:
    try:
        inside = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." and p.is_file())
    except OSError as error:
        raise InputError(f"images: cannot list '{folder}': {one_line(error)}") from error
    if not inside:
        raise InputError(f"images: the folder '{folder}' has no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return inside


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    given, image = image, _upright(image)
    if image is not given and image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(image)).convert("RGB")
    try:
        return _over_white(image) if image.has_transparency_data else image.convert("RGB")
    except ValueError as error:
        raise InputError(f"image: cannot read {name}: pictures of mode {image.mode} are not supported") from error


def _upright(image: Image.Image) -> Image.Image:
    with suppress(*BROKEN_IMAGE):  # damaged EXIF data is no reason to refuse the picture
        if image.getexif().get(_ORIENTATION, 1) != 1:  # else Pillow would copy it
            return ImageOps.exif_transpose(image)
    return image


def _over_white(image: Image.Image) -> Image.Image:
    """RGB of a picture with transparency; band by band, because layers and their sum take 16 bytes a pixel more."""
    result = Image.new("RGB", image.size)
    for top, band in _bands(image):
        above = band.convert("RGBA")
        result.paste(Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB"), (0, top))
    return result


def _to_8_bit(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W) gray levels of a 16-bit, 32-bit or float picture."""
    low, high = 0.0, 65535.0
    ranges = [_finite_range(np.asarray(band)) for _, band in _bands(image)]
    found = [limits for limits in ranges if limits is not None]
    if image.mode == "F" or any(least < 0 or most > 65535 for least, most in found):
        low, high = (min(least for least, _ in found), max(most for _, most in found)) if found else (0.0, 0.0)
    scale = 255 / (high - low) if high > low else 0.0
    levels = np.empty((image.height, image.width), dtype=np.uint8)
    for top, band in _bands(image):
        values = np.asarray(band).astype(np.float64)
        filled = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
        levels[top : top + band.height] = np.rint((filled - low) * scale)
    return levels


def _finite_range(values: NDArray) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The first row and the picture of each band of rows."""
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
