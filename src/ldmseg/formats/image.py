"""Photos as people have them: any file or picture in, 8-bit RGB out."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ldmseg.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""What `list_images` takes from a folder; a file that is named itself may have any suffix."""

ImageSource = str | os.PathLike[str] | bytes | Image.Image

BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow's decoders raise on a damaged file."""


def read_image(source: ImageSource) -> Image.Image:
    """A picture as 8-bit RGB, upright.

    Args:
        source: a path, the bytes of an image file, or a `PIL.Image` (which is not changed).

    The orientation in the EXIF data is applied. Transparency is laid over white. 16-bit gray is scaled by its whole range (65535 is
    white), 32-bit and float pictures from their smallest to their largest finite value. Of several frames or pages the first is read.

    Raises:
        InputError: there is no such file, or it is no picture that can be read in full.
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
        with Image.open(data) as image:
            image.load()
            return _to_rgb(image, name)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"image: cannot read {name}: it is no picture of a known format") from error
    except BROKEN_IMAGE as error:
        raise InputError(f"image: cannot read {name}: {one_line(error)}") from error


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
            found.setdefault(file.resolve(), file)
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
    """What an exception says, in one line and without a path or an error number."""
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
    with suppress(*BROKEN_IMAGE):  # damaged EXIF data is no reason to refuse the picture
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(image)).convert("RGB")
    try:
        if image.has_transparency_data:
            above = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"image: cannot read {name}: pictures of mode {image.mode} are not supported") from error


def _to_8_bit(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W) gray levels of a 16-bit, 32-bit or float picture."""
    values = np.asarray(image).astype(np.float64)
    finite = np.isfinite(values)
    if image.mode == "F" or (values < 0).any() or (values > 65535).any():
        low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    else:
        low, high = 0.0, 65535.0
    scale = 255 / (high - low) if high > low else 0.0
    filled = np.clip(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
    return np.rint((filled - low) * scale).astype(np.uint8)
