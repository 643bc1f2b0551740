"""Ids as colours (R + 256 G + 65536 B, COCO's panoptic encoding), and the PNGs that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

from ldmseg.errors import InputError
from ldmseg.formats.atomic import atomic_write
from ldmseg.formats.image import BROKEN_IMAGE, existing_file, one_line

MAX_RGB_ID = 2**24 - 1
"""The largest id that three bytes hold."""


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
    """As `read_id_png`, but the upper byte of each (H, W) code holds anything: the bytes lie as Pillow has them, which is fastest."""
    with open_picture(path, what) as image:
        if image.mode == "P":
            image = image.convert("RGB")
        if image.mode not in ("RGB", "RGBA"):
            raise InputError(
                f"{what}: cannot read '{os.fspath(path)}': expected an RGB picture (id = R + 256 G + 65536 B), got mode {image.mode}"
            )
        data = image.tobytes("raw", "RGBX" if image.mode == "RGB" else "RGBA")
        return np.frombuffer(data, dtype="<u4").reshape(image.height, image.width)


def write_id_png(path: str | os.PathLike[str], ids: ArrayLike) -> None:
    """Write (H, W) ids as an RGB PNG, atomically.

    Raises:
        InputError: an id does not fit, or the file cannot be written.
    """
    picture = Image.fromarray(ids_to_rgb(ids))
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


@contextmanager
def open_picture(path: str | os.PathLike[str], what: str) -> Iterator[Image.Image]:
    """A decoded picture, in the mode in which it is stored.

    Raises:
        InputError: the file is missing, empty or damaged; `what` names it in the message.
    """
    file = existing_file(path, what)
    try:
        image = Image.open(file)
        image.load()
    except UnidentifiedImageError as error:
        kind = "it is empty" if file.stat().st_size == 0 else "it is no picture of a known format"
        raise InputError(f"{what}: cannot read '{file}': {kind}") from error
    except BROKEN_IMAGE as error:
        raise InputError(f"{what}: cannot read '{file}': {one_line(error)}") from error
    with image:
        yield image
