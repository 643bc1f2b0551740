"""Ids as colours (R + 256 G + 65536 B, COCO's panoptic encoding), and the PNGs that hold them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

from ldmseg.atomic import write_bytes
from ldmseg.errors import InputError, shortened
from ldmseg.formats.image import BROKEN_IMAGE, MAX_PIXELS, existing_file, one_line, open_image

MAX_RGB_ID = 2**24 - 1
"""The largest id that three bytes hold."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN_RGB = bytes((8, 2, 0, 0, 0))
"""Bit depth, colour type, compression, filter and interlacing of a 24-bit PNG, as its header has them."""


def rgb_to_ids(rgb: ArrayLike) -> NDArray[np.int32]:
    """(H, W, 3) bytes -> (H, W) ids.

    Raises:
        InputError: the array has another shape or type.
    """
    array = np.asarray(rgb)
    if array.ndim < 1 or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise InputError(f"rgb: expected (.., 3) bytes, got {array.dtype} of shape {array.shape}")
    codes = np.zeros((*array.shape[:-1], 4), dtype=np.uint8)
    codes[..., :3] = array
    return codes.view("<i4")[..., 0].astype(np.int32, copy=False)


def ids_to_rgb(ids: ArrayLike) -> NDArray[np.uint8]:
    """(H, W) ids -> (H, W, 3) bytes.

    Raises:
        InputError: an id is negative or above 2**24 - 1.
    """
    array = np.asarray(ids)
    if array.dtype.kind not in "iu":
        raise InputError(f"ids: expected integers, got {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) > MAX_RGB_ID):
        raise InputError(f"ids: expected 0 to {MAX_RGB_ID} (three bytes), got {int(array.min())} to {int(array.max())}")
    codes = np.ascontiguousarray(array, dtype="<u4")
    return np.ascontiguousarray(codes.view(np.uint8).reshape(*array.shape, 4)[..., :3])


def read_id_png(path: str | os.PathLike[str], what: str = "PNG") -> NDArray[np.int32]:
    """(H, W) ids of a PNG in COCO's encoding; an alpha channel is ignored, a palette stands for its colours.

    Raises:
        InputError: the file is missing or damaged, or is gray.
    """
    return (read_id_codes(path, what) & np.uint32(MAX_RGB_ID)).view(np.int32)


def read_id_codes(path: str | os.PathLike[str], what: str = "PNG") -> NDArray[np.uint32]:
    """As `read_id_png`, but the upper byte of each (H, W) code holds anything: the bytes lie as the decoder has them, which is fastest."""
    codes = _decode_with_imagecodecs(existing_file(path, what))
    if codes is not None:
        return codes
    with open_picture(path, what) as image:
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode not in ("RGB", "RGBA"):
            raise InputError(
                f"{what}: cannot read '{os.fspath(path)}': expected an RGB picture (id = R + 256 G + 65536 B), got mode {image.mode}"
            )
        data = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")
        return np.frombuffer(data, dtype="<u4").reshape(image.height, image.width)


def _decode_with_imagecodecs(file: Path) -> NDArray[np.uint32] | None:
    """The codes of a plain 24-bit PNG where imagecodecs is installed (the extra `fast`), whose decoder takes two thirds of Pillow's time.

    None where it is not installed, for any other kind of file, and for a damaged one. Pillow then reports what is wrong.
    """
    try:
        import imagecodecs
    except ImportError:
        return None
    try:
        data = file.read_bytes()
        width, height, kind = int.from_bytes(data[16:20]), int.from_bytes(data[20:24]), data[24:29]
        too_large = width * height > MAX_PIXELS
        if data[:8] != PNG_SIGNATURE or kind != PLAIN_RGB or too_large or not _checksums_hold(data):
            return None
        pixels = imagecodecs.png_decode(data)  # (H, W, 3)
    except (OSError, ValueError, imagecodecs.PngError):  # ValueError: its message quotes the file's bytes as if they were UTF-8
        return None
    codes = np.empty(pixels.size // 3, dtype="<u4")
    codes[:-1] = np.ndarray(codes.size - 1, "<u4", pixels, strides=(3,))  # four bytes from every third on: the next pixel's is on top
    codes[-1:] = rgb_to_ids(pixels[-1:, -1])
    return codes.reshape(height, width)


def _checksums_hold(data: bytes) -> bool:
    """Whether every chunk of a PNG is whole; the decoder would let a wrong checksum pass."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])  # of the chunk's content; 4 bytes of checksum follow
        if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        start = end + 4
    return start == len(data)


def write_id_png(path: str | os.PathLike[str], ids: ArrayLike) -> None:
    """Write (H, W) ids as an RGB PNG, atomically.

    Raises:
        InputError: an id does not fit, or the file cannot be written.
    """
    write_bytes(path, id_png(ids))


def id_png(ids: ArrayLike) -> bytes:
    """The bytes of the file that `write_id_png` writes.

    Raises:
        InputError: an id does not fit.
    """
    picture = BytesIO()
    Image.fromarray(ids_to_rgb(ids)).save(picture, format="PNG")
    return picture.getvalue()


@contextmanager
def open_picture(path: str | os.PathLike[str], what: str, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """A decoded picture, in the mode in which it is stored.

    Raises:
        InputError: the file is missing, empty or damaged, or has too many pixels; `what` names it in the message.
    """
    file = existing_file(path, what)
    try:
        image = open_image(file, max_pixels)
        image.load()
    except UnidentifiedImageError as error:
        kind = "it is empty" if file.stat().st_size == 0 else "it is no picture of a known format"
        raise InputError(f"{what}: cannot read '{file}': {kind}") from error
    except BROKEN_IMAGE as error:
        raise InputError(f"{what}: cannot read '{file}': {shortened(one_line(error), 200)}") from error
    with image:
        yield image
