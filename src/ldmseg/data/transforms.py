"""From a photo and its map to the square that a model is trained on: one `View` for both, so that they cannot come apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg.config import ColorConfig, DataConfig
from ldmseg.errors import InputError
from ldmseg.images import image_batch, load_images
from ldmseg.panoptic import VOID

PADDING = 128
"""The gray of what lies outside the photo; its labels are void."""

SCALE_RANGES = {"crop": (1.0, 1.0), "jitter": (0.1, 2.0), "zoom": (1.0, 2.0)}
"""Of `data.scale_range`; the second is that of large-scale jitter in Simple Copy-Paste (Ghiasi et al. 2021)."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)[:, None, None]  # ITU-R BT.601


@dataclass(frozen=True)
class View:
    """A square window of a scaled image.

    Attributes:
        height, width: what the whole image is scaled to, pixels; a photo and a map of different sizes are each scaled to it.
        top, left: where in that the window begins; negative where it begins outside.
        size: S, the window's side.
        flip: whether left and right are exchanged at the end.
    """

    height: int
    width: int
    top: int
    left: int
    size: int
    flip: bool

    @classmethod
    def square(cls, size: int) -> Self:
        """The whole image as a square, its proportions given up, as in the paper."""
        return cls(size, size, 0, 0, size, flip=False)

    @property
    def whole(self) -> bool:
        """Whether it shows the whole image and nothing else."""
        return self.height == self.width == self.size and self.top == self.left == 0

    def times(self, factor: int) -> View:
        """The same window with `factor` times as many pixels along each side."""
        height, width, top, left, size = (factor * length for length in (self.height, self.width, self.top, self.left, self.size))
        return View(height, width, top, left, size, self.flip)

    def ids(self, ids: NDArray[np.integer]) -> NDArray[np.integer]:
        """(H, W) ids -> (S, S), the id under each pixel's centre, `VOID` outside; ids are never mixed."""
        rows, inside_rows = _sources(ids.shape[0], self.height, self.top, self.size)
        columns, inside_columns = _sources(ids.shape[1], self.width, self.left, self.size)
        window = ids[rows[:, None], columns[None, :]]
        if not (inside_rows.all() and inside_columns.all()):
            window = np.where(inside_rows[:, None] & inside_columns[None, :], window, VOID).astype(ids.dtype)
        return window[:, ::-1] if self.flip else window

    def image(self, image: NDArray[np.uint8], color: Color | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) photo -> (3, S, S), bilinear with anti-aliasing, `PADDING` outside; colours are changed inside alone."""
        if self.whole:  # as a pipeline does it in use
            photo = image_batch(load_images(image), self.size)[0]  # (3, S, S) in -1..1
            window = ((photo + 1) * 127.5).round().byte().numpy()
            window = window if color is None else color.adjust(window)
        else:
            window = self._window(image, color)
        return np.ascontiguousarray(window[:, :, ::-1] if self.flip else window)

    def _window(self, image: NDArray[np.uint8], color: Color | None) -> NDArray[np.uint8]:
        top, bottom = max(self.top, 0), min(self.top + self.size, self.height)
        left, right = max(self.left, 0), min(self.left + self.size, self.width)
        rows, columns = image.shape[0] / self.height, image.shape[1] / self.width  # pixels of the photo per pixel of the window
        box = (left * columns, top * rows, min(right * columns, image.shape[1]), min(bottom * rows, image.shape[0]))
        # Pillow scales only what the window shows, which for a large scale is a small part of the photo.
        shown = Image.fromarray(image).resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
        piece = np.moveaxis(np.asarray(shown), -1, 0)  # (3, bottom - top, right - left)
        window = np.full((3, self.size, self.size), PADDING, dtype=np.uint8)
        window[:, top - self.top : bottom - self.top, left - self.left : right - self.left] = (
            piece if color is None else color.adjust(piece)
        )
        return window


@dataclass(frozen=True)
class Color:
    """Factors of a photo's colours, 1 where they stay."""

    brightness: float
    contrast: float
    saturation: float

    def adjust(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(3, H, W) -> the same: brightness, then contrast about the mean gray, then saturation about each pixel's gray."""
        values = image.astype(np.float32) * np.float32(self.brightness)
        gray = float((values * _LUMA).sum(axis=0).mean())
        values = gray + np.float32(self.contrast) * (values - gray)
        grays = (values * _LUMA).sum(axis=0)  # (H, W)
        values = grays + np.float32(self.saturation) * (values - grays)
        return np.rint(values).clip(0, 255).astype(np.uint8)


def draw_view(shape: tuple[int, int], config: DataConfig, rng: np.random.Generator) -> View:
    """The window of one training sample.

    `square` shows the whole image, whatever its proportions (the paper); `crop` scales the shorter side to `size`, `jitter` the longer
    one, each times a number drawn from `scale_range`, and the window lies anywhere inside, or the image anywhere in the window. `zoom`
    scales both sides to `size` times the number, for a window of the image's own proportions, except in a share of `whole_rate`.

    Args:
        shape: (H, W) of the map.
    """
    size = config.size
    height = width = size
    top = left = 0
    if config.resize != "square":
        scale = rng.uniform(*(config.scale_range or SCALE_RANGES[config.resize]))
        if config.resize == "zoom":
            height = width = size if rng.random() < config.whole_rate else max(1, round(scale * size))
        else:
            side = min(shape) if config.resize == "crop" else max(shape)
            height, width = (max(1, round(scale * size / side * length)) for length in shape)
        top, left = (int(rng.integers(min(0, length - size), max(0, length - size) + 1)) for length in (height, width))
    return View(height, width, top, left, size, flip=bool(config.flip and rng.random() < 0.5))


def view_count(config: DataConfig) -> int:
    """How many fixed views a photo has: the whole, the whole mirrored where flips are on, and `data.windows` windows.

    Raises:
        InputError: views are drawn anew each time.
    """
    if config.resize not in ("square", "zoom") or (config.resize == "zoom" and config.windows is None):
        raise InputError(f"data.windows: expected a number of windows with resize zoom, or resize square, got resize {config.resize}")
    return 1 + config.flip + (config.windows or 0)


def fixed_view(item: int, number: int, config: DataConfig) -> View:
    """View `number` of a photo. It depends on these two alone, and not on the seed of a run."""
    whole = View.square(config.size)
    if number <= config.flip:
        return replace(whole, flip=number == 1)
    rng = np.random.default_rng([item, number, 4])
    scaled = max(1, round(rng.uniform(*(config.scale_range or SCALE_RANGES["zoom"])) * config.size))
    top, left = (int(rng.integers(min(0, scaled - config.size), max(0, scaled - config.size) + 1)) for _ in range(2))
    return View(scaled, scaled, top, left, config.size, flip=bool(config.flip and rng.random() < 0.5))


def draw_view_number(config: DataConfig, rng: np.random.Generator) -> int:
    """Which fixed view a training sample shows: the whole photo in a share of `whole_rate`, else one of the windows."""
    wholes = 1 + config.flip
    if not config.windows or rng.random() < config.whole_rate:
        return int(rng.integers(wholes))
    return wholes + int(rng.integers(config.windows))


def draw_color(config: ColorConfig, rng: np.random.Generator) -> Color | None:
    """Each factor evenly from 1 - x to 1 + x; None (and no number drawn) where all are 0."""
    if config == ColorConfig():
        return None
    return Color(*(rng.uniform(1 - x, 1 + x) for x in (config.brightness, config.contrast, config.saturation)))


def _sources(length: int, scaled: int, first: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For `size` pixels from `first` on of a side scaled from `length` to `scaled`: the source of each, and whether there is one."""
    positions = np.arange(first, first + size)
    sources = np.floor((positions + 0.5) * length / scaled).astype(np.intp)
    return sources.clip(0, length - 1), (positions >= 0) & (positions < scaled)
