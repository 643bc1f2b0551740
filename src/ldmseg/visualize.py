"""Pictures of segments: colour maps, overlays on a photo, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import VOID, PanopticMap

VOID_COLOR = (64, 64, 64)
"""Dark grey: belongs to no segment."""

_GOLDEN = 0.6180339887498949
_SATURATIONS = np.array([0.55, 0.8, 0.42])
_VALUES = np.array([0.95, 0.78, 0.62, 0.88])


HEAT = np.array([(13, 8, 50), (92, 18, 110), (190, 55, 84), (245, 135, 50), (250, 240, 150)])
"""Colours from 0 to 1, each brighter than the one before, so that they also read in gray."""


def palette(count: int) -> NDArray[np.uint8]:
    """(count, 3) distinct colours; entry i is what id i is drawn in everywhere, entry 0 is void's dark grey.

    Raises:
        InputError: `count` is negative.
    """
    if count < 0:
        raise InputError(f"count: expected 0 or more, got {count}")
    return id_colors(np.arange(count))


def id_colors(ids: ArrayLike) -> NDArray[np.uint8]:
    """(..., 3) colour of each id: hues a golden-ratio turn apart, so that neighbouring ids differ, the same in every image."""
    numbers = np.asarray(ids, dtype=np.int64)
    hue = (numbers * _GOLDEN + 0.07) % 1.0
    saturation, value = _SATURATIONS[numbers % 3], _VALUES[numbers % 4]
    turns = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6  # HSV to RGB, one formula per channel
    rgb = value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(turns, 4 - turns), 0, 1))
    colors = np.round(rgb * 255).astype(np.uint8)
    colors[numbers == VOID] = VOID_COLOR
    return colors


def color_map(pmap: PanopticMap, *, colors: Literal["id", "category"] = "id") -> Image.Image:
    """Each segment in one flat colour, void in dark grey.

    Args:
        pmap: the segments.
        colors: "id" gives every id its own colour, the same in every image; "category" colours by category, so that things
            of a kind look alike, and leaves a segment without a category light grey.

    Raises:
        InputError: `colors` is neither of the two.
    """
    return Image.fromarray(_segment_colors(pmap, colors)[pmap.dense])


def overlay(
    image: Image.Image | NDArray[np.uint8],
    pmap: PanopticMap,
    *,
    alpha: float = 0.5,
    outline: bool = True,
    colors: Literal["id", "category"] = "id",
) -> Image.Image:
    """The photo tinted by segment; void keeps the photo's colours under light hatching.

    Args:
        image: the photo, PIL or (H, W, 3) or (H, W) uint8, as large as the map.
        pmap: the segments.
        alpha: 0 leaves the photo as it is, 1 hides it.
        outline: draw borders between segments, light on dark and dark on light.
        colors: as in `color_map`.

    Raises:
        InputError: the photo is of another kind or size than expected, or `alpha` lies outside 0..1.
    """
    photo = _rgb(image)
    if photo.shape[:2] != pmap.shape:
        raise InputError(f"image: expected the map's size {pmap.shape} (height, width), got {photo.shape[:2]}")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha: expected 0..1, got {alpha}")
    tint = _segment_colors(pmap, colors).astype(np.float32)[pmap.dense]
    mixed = photo + np.float32(alpha) * (tint - photo)
    void = pmap.ids == VOID
    if void.any():
        lines = np.float32(0.35 * min(1.0, 2 * alpha)) * _hatching(pmap.shape)[..., None]
        mixed[void] = (photo + lines * (255 - photo))[void]
    if outline:
        edge = _borders(pmap.ids)
        mixed[edge] = np.where(mixed[edge].mean(axis=1, keepdims=True) > 128, np.float32(20), np.float32(245))
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def confidence_map(confidence: ArrayLike) -> Image.Image:
    """How sure a map is, from dark (0) to bright (1).

    Args:
        confidence: (H, W) in 0..1.

    Raises:
        InputError: another shape, or a number out of range.
    """
    values = np.asarray(confidence, dtype=np.float64)
    if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"confidence: expected (H, W) numbers in 0..1, got shape {values.shape}")
    stops = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(values, stops, HEAT[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().astype(np.uint8))


def completion_panels(
    image: Image.Image | NDArray[np.uint8],
    pmap: PanopticMap,
    *,
    given: PanopticMap | None = None,
    confidence: ArrayLike | None = None,
    tile: int = 384,
) -> Image.Image:
    """Photo, what was given of the map, the map, and how sure it is, side by side; what there is not is left out."""
    photo = Image.fromarray(np.asarray(_rgb(image), dtype=np.uint8))
    panels = {"photo": photo}
    if given is not None:
        panels["given"] = overlay(photo, given, alpha=0.85)
    panels["map"] = overlay(photo, pmap)
    if confidence is not None:
        panels["confidence (bright: sure)"] = confidence_map(confidence)
    return contact_sheet([list(panels.values())], titles=list(panels), tile=tile)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]], *, titles: Sequence[str] | None = None, tile: int = 128, margin: int = 4
) -> Image.Image:
    """Pictures in a grid on white, each fitted into a square tile; `None` leaves a gap.

    Args:
        rows: the pictures, row by row; rows may differ in length.
        titles: one heading per column.
        tile: side of a tile in pixels.
        margin: pixels between and around tiles.

    Raises:
        InputError: there is no picture, a size is out of range, or there are not as many titles as columns.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise InputError("rows: expected at least one picture, got none")
    if tile < 1 or margin < 0:
        raise InputError(f"tile, margin: expected at least 1 and 0, got {tile} and {margin}")
    if titles is not None and len(titles) != columns:
        raise InputError(f"titles: expected one per column ({columns}), got {len(titles)}")
    text_height = min(18, max(10, tile // 9))
    top = margin + (text_height + margin if titles is not None else 0)
    step = tile + margin
    sheet = Image.new("RGB", (margin + columns * step, top + len(rows) * step), "white")
    if titles is not None:
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=text_height)
        for column, title in enumerate(titles):
            draw.text((margin + column * step + tile / 2, margin + text_height / 2), title, fill=(40, 40, 40), font=font, anchor="mm")
    for row_number, row in enumerate(rows):
        for column, picture in enumerate(row):
            if picture is not None:
                fitted = _fit(picture, tile)
                x, y = margin + column * step + (tile - fitted.width) // 2, top + row_number * step + (tile - fitted.height) // 2
                sheet.paste(fitted, (x, y))
    return sheet


def _segment_colors(pmap: PanopticMap, colors: str) -> NDArray[np.uint8]:
    """(len(pmap) + 1, 3) for indexing with `pmap.dense`: the last entry, which -1 picks, is void's."""
    if colors == "id":
        numbers = [s.id for s in pmap.segments]
    elif colors == "category":
        numbers = [VOID if s.category_id is None else s.category_id + 1 for s in pmap.segments]
    else:
        raise InputError(f"colors: expected 'id' or 'category', got {quoted(colors)}")
    table = id_colors(np.array([*numbers, VOID]))
    unknown = np.array([*(number == VOID for number in numbers), False])
    table[unknown] = (200, 200, 200)
    return table


def _rgb(image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"), dtype=np.float32)
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise InputError(f"image: expected a PIL image or (H, W, 3) or (H, W) uint8, got {array.shape} {array.dtype}")
    return array.astype(np.float32)


def _hatching(shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) 1 on thin diagonals, 0 between."""
    height, width = shape
    period = max(6, min(height, width) // 24)
    diagonal = (np.arange(height)[:, None] + np.arange(width)[None, :]) % period
    return (diagonal < max(1, period // 6)).astype(np.float32)


def _borders(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(H, W) whether the id changes within a reach that grows with the image (one pixel up to about 600)."""
    edge = np.zeros(ids.shape, dtype=np.bool_)
    for reach in range(1, max(1, round(min(ids.shape) / 400)) + 1):
        edge[:, :-reach] |= ids[:, reach:] != ids[:, :-reach]
        edge[:-reach] |= ids[reach:] != ids[:-reach]
    return edge


def _fit(picture: Image.Image, tile: int) -> Image.Image:
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, method)
