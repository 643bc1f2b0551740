"""Whatever a user calls an image -> tensors of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.errors import InputError
from ldmseg.formats.image import read_image

_BAND = 2**20
"""Numbers of a photo that are resized at once (4 MiB)."""

ImageInput = Image.Image | NDArray | Tensor | str | PathLike


def load_images(image: ImageInput | Sequence[ImageInput]) -> list[Tensor]:
    """One image, a batch or a list of images -> (3, H, W) tensors: uint8 where the image is, else float32 in 0..1.

    Raises:
        InputError: nothing was given, or something is no image. The message says what was expected and what came.
    """
    if (isinstance(image, Tensor) and image.ndim == 4) or (isinstance(image, np.ndarray) and image.ndim == 4):
        image = list(image)
    items = list(image) if isinstance(image, (list, tuple)) else [image]
    if not items:
        raise InputError("image: expected at least one, got an empty list")
    return [_load(item) for item in items]  # type: ignore[arg-type]


def image_batch(images: Sequence[Tensor], size: int) -> Tensor:
    """(3, H, W) images, uint8 or floats in 0..1 -> (B, 3, size, size) in -1..1.

    Bilinear with anti-aliasing; the aspect ratio is given up, as in the paper.
    """
    return torch.cat([_square(image, size) for image in images]) * 2 - 1


def as_photo(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W), uint8 or floats in 0..1 -> (H, W, 3)."""
    return (image if image.dtype == torch.uint8 else (image * 255).round().byte()).movedim(0, -1).numpy()


def _square(image: Tensor, size: int) -> Tensor:
    """(3, H, W) -> (1, 3, size, size) float32 in 0..1."""
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return _floats(image)[None]
    # The filter is separable: bands of rows are narrowed, and a large photo is never held in floats.
    rows = max(1, _BAND // (3 * width))
    narrow = [_resized(_floats(image[:, top : top + rows])[None], (min(rows, height - top), size)) for top in range(0, height, rows)]
    return _resized(torch.cat(narrow, dim=2), (size, size))


def _resized(floats: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(floats, size=size, mode="bilinear", antialias=True, align_corners=False)


def _floats(image: Tensor) -> Tensor:
    return image.contiguous().float().div_(255) if image.dtype == torch.uint8 else image


def _load(item: ImageInput) -> Tensor:
    if isinstance(item, (str, PathLike, Image.Image)):
        return _from_array(np.asarray(read_image(item)))
    if isinstance(item, Tensor):
        if item.ndim != 3 or item.shape[0] not in (1, 3, 4):
            raise InputError(f"image: expected a tensor (3, H, W) or (B, 3, H, W), got shape {tuple(item.shape)}")
        return _from_array(item.detach().cpu().movedim(0, -1).numpy())
    if isinstance(item, np.ndarray):
        return _from_array(item)
    raise InputError(f"image: expected a PIL image, an array, a tensor or a path, got {type(item).__name__}")


def _from_array(array: NDArray) -> Tensor:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.size == 0:
        raise InputError(f"image: expected an array (H, W), (H, W, 3) or (H, W, 4), got shape {array.shape}")
    array = array[..., :3] if array.shape[-1] == 4 else array
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InputError(f"image: expected floats in 0..1, got {array.min():.4g}..{array.max():.4g}")
        scaled = array.astype(np.float32)
    elif array.dtype == np.uint8:
        scaled = array
    elif array.dtype == np.uint16:
        scaled = array.astype(np.float32) / np.float32(65535)
    elif array.dtype == bool:
        scaled = array.astype(np.float32)
    else:
        raise InputError(f"image: expected uint8, uint16, bool or floats in 0..1, got {array.dtype}")
    return torch.from_numpy(np.array(np.broadcast_to(scaled, (*scaled.shape[:2], 3)))).movedim(-1, 0)
