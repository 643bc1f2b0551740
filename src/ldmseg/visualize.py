"""Pictures of segments: colour maps, overlays on a photo, contact sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from os import PathLike
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ldmseg.dense import DepthMap, Target
from ldmseg.errors import InputError, quoted
from ldmseg.formats.image import read_image
from ldmseg.palette import VOID_COLOR, Color, category_colors, segment_colors
from ldmseg.panoptic import VOID, PanopticMap

HEAT = np.array([(13, 8, 50), (92, 18, 110), (190, 55, 84), (245, 135, 50), (250, 240, 150)])
"""Colours from 0 to 1, each brighter than the one before, so that they also read in gray."""


MARGIN = 4
"""Pixels between the pictures of a sheet."""

SegmentColors = Literal["id", "category"] | Mapping[int, Color]
"""How segments are coloured: each in its own colour, each in its category's, or in the colours that are given by id."""


def color_map(pmap: PanopticMap, *, colors: SegmentColors = "id") -> Image.Image:
    """Each segment in one flat colour, void in dark grey.

    Args:
        pmap: the segments.
        colors: "id" gives neighbours different colours (`ldmseg.palette`); "category" colours by category, so that things of a kind
            look alike, and leaves a segment without a category light grey. {id: (R, G, B)} are colours that segments have already;
            the others get different ones.

    Raises:
        InputError: `colors` is none of these.
    """
    return Image.fromarray(_segment_colors(pmap, colors)[pmap.dense])


def overlay(
    image: Image.Image | NDArray[np.uint8],
    pmap: PanopticMap,
    *,
    alpha: float = 0.5,
    outline: bool = True,
    colors: SegmentColors = "id",
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


def captioned(picture: Image.Image, pmap: PanopticMap, names: Mapping[int, str]) -> Image.Image:
    """A picture of segments with the name of each one's category on it, at the segment's pixel that is nearest to its centre.

    A segment without a category, and one that is smaller than its name, gets none.

    Args:
        picture: as large as the map.
        names: of categories, by their number.
    """
    result = picture.copy()
    draw, text = ImageDraw.Draw(result), _text_height(min(picture.size))
    font = ImageFont.load_default(size=text)
    for segment, area, (left, top, width, height) in zip(pmap.segments, pmap.areas.tolist(), pmap.boxes.tolist(), strict=True):
        name = names.get(-1 if segment.category_id is None else segment.category_id, "")
        if not name or area < text * font.getlength(name):
            continue
        ys, xs = np.nonzero(pmap.ids[top : top + height, left : left + width] == segment.id)
        nearest = int(((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2).argmin())
        place = left + int(xs[nearest]), top + int(ys[nearest])
        draw.text(place, name, fill=(255, 255, 255), stroke_width=max(1, text // 8), stroke_fill=(0, 0, 0), font=font, anchor="mm")
    return result


def plot(
    pmap: PanopticMap,
    image: Image.Image | NDArray[np.uint8] | str | PathLike[str] | None = None,
    *,
    alpha: float = 0.5,
    colors: SegmentColors = "id",
) -> Image.Image:
    """`overlay` on a photo, which may be a path; `color_map` without one.

    Raises:
        InputError: as these.
    """
    if image is None:
        return color_map(pmap, colors=colors)
    return overlay(read_image(image) if isinstance(image, (str, PathLike)) else image, pmap, alpha=alpha, colors=colors)


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    data = BytesIO()
    picture.save(data, format="PNG")
    return data.getvalue()


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


def confidence_picture(confidence: ArrayLike) -> Image.Image:
    """`confidence_map` over a bar that tells what its colours mean; as wide as the map, and higher by the bar.

    Raises:
        InputError: as `confidence_map`.
    """
    heat = confidence_map(confidence)
    return _below(heat, _heat_bar(heat.width, _text_height(max(heat.size))), 0)


def depth_picture(depth: DepthMap, near: float | None = None, far: float | None = None) -> Image.Image:
    """A depth map in the colours of `confidence_map` on a logarithmic scale: near is bright, far is dark, unknown is grey.

    Args:
        near, far: the depths of the brightest and the darkest colour; the map's own by default.

    Raises:
        InputError: the range is none.
    """
    known = depth.known
    low, high = (depth.values[known].min(), depth.values[known].max()) if known.any() else (1.0, 1.0)
    low, high = low if near is None else near, high if far is None else far
    if not 0 < low <= high:
        raise InputError(f"near, far: expected 0 < near <= far, got {quoted(near)} and {quoted(far)}")
    values = np.where(known, depth.values, high).astype(np.float64)
    brightness = 1 - np.log(values / low) / max(np.log(high / low), 1e-9)
    colors = np.asarray(confidence_map(brightness.clip(0, 1)))
    return Image.fromarray(np.where(known[..., None], colors, np.array(VOID_COLOR, dtype=np.uint8)))


def target_picture(image: Image.Image | NDArray[np.uint8], target: Target) -> Image.Image:
    """A task's target to look at: the photo tinted by segment or category (`overlay`), or a `depth_picture`."""
    return depth_picture(target) if isinstance(target, DepthMap) else overlay(image, target)


def completion_panels(
    image: Image.Image | NDArray[np.uint8],
    pmap: PanopticMap,
    *,
    given: PanopticMap | None = None,
    confidence: ArrayLike | None = None,
    colors: Mapping[int, Color] | None = None,
    tile: int = 480,
) -> Image.Image:
    """Photo, what was given of the map, the map, and how sure it is, side by side; what there is not is left out.

    Args:
        colors: of segments that have one already. A given segment has the same colour before and after.
        tile: the longer side of a panel in pixels.
    """
    photo = Image.fromarray(np.asarray(_rgb(image), dtype=np.uint8))
    shared = segment_colors(pmap, keep=colors)
    panels = {"photo": photo}
    if given is not None:
        panels["given"] = overlay(photo, given, alpha=0.85, colors=shared)
    panels["map"] = overlay(photo, pmap, colors=shared)
    if confidence is not None:
        panels["confidence"] = confidence_map(confidence)
    sheet = contact_sheet([list(panels.values())], titles=list(panels), tile=tile)
    if confidence is None:
        return sheet
    bar = _heat_bar(_fit(photo, tile).width, _text_height(tile))
    return _below(sheet, bar, sheet.width - bar.width - MARGIN)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]], *, titles: Sequence[str] | None = None, tile: int = 128, margin: int = MARGIN
) -> Image.Image:
    """Pictures in a grid on white, each as large as a tile allows; `None` leaves a gap.

    All columns are as wide as the widest picture, and a row is as high as the highest picture in it.

    Args:
        rows: the pictures, row by row; rows may differ in length.
        titles: one heading per column.
        tile: the longer side of a tile in pixels.
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
    fitted = [[None if picture is None else _fit(picture, tile) for picture in row] for row in rows]
    width = max((p.width for row in fitted for p in row if p is not None), default=tile)
    heights = [max((p.height for p in row if p is not None), default=tile) for row in fitted]
    text_height = _text_height(tile)
    top = margin + (text_height + margin if titles is not None else 0)
    sheet = Image.new("RGB", (margin + columns * (width + margin), top + sum(heights) + len(rows) * margin), "white")
    if titles is not None:
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=text_height)
        for column, title in enumerate(titles):
            middle = margin + column * (width + margin) + width / 2, margin + text_height / 2
            draw.text(middle, title, fill=(40, 40, 40), font=font, anchor="mm")
    for row, height in zip(fitted, heights, strict=True):
        for column, picture in enumerate(row):
            if picture is not None:
                left = margin + column * (width + margin) + (width - picture.width) // 2
                sheet.paste(picture, (left, top + (height - picture.height) // 2))
        top += height + margin
    return sheet


def in_columns(
    rows: Sequence[Sequence[Image.Image | None]], titles: Sequence[str], columns: int
) -> tuple[list[list[Image.Image | None]], list[str]]:
    """Rows of pictures set side by side, so many to a row of the sheet, and the headings for it; for `contact_sheet`."""
    width = len(titles)
    padded = [[*row, *[None] * (width - len(row))] for row in rows]
    sheet = [[picture for row in padded[start : start + columns] for picture in row] for start in range(0, len(padded), columns)]
    return sheet, list(titles) * min(columns, len(rows))


def _text_height(side: int) -> int:
    """Pixels of letters that can be read beside a picture of that side."""
    return min(22, max(10, side // 9))


def _heat_bar(width: int, text: int) -> Image.Image:
    """A bar with the colours of `confidence_map`, and in letters of `text` pixels what they mean."""
    pad = max(2, text // 3)
    picture = Image.new("RGB", (width, 2 * text + 3 * pad), "white")
    ramp = confidence_map(np.linspace(0, 1, max(2, width - 2 * pad))[None])
    picture.paste(ramp.resize((ramp.width, text)), (pad, pad))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=text)
    fitting = (words for words in ("share of samples that agree", "agreement") if font.getlength(words) < width - 4 * text)
    for x, words, anchor in ((pad, "0", "lt"), (width / 2, next(fitting, ""), "mt"), (width - pad, "1", "rt")):
        draw.text((x, text + 2 * pad), words, fill=(40, 40, 40), font=font, anchor=anchor)
    return picture


def _below(picture: Image.Image, other: Image.Image, left: int) -> Image.Image:
    """A picture, and another under it from column `left`, on white."""
    both = Image.new("RGB", (picture.width, picture.height + other.height), "white")
    both.paste(picture, (0, 0))
    both.paste(other, (left, picture.height))
    return both


def _segment_colors(pmap: PanopticMap, colors: SegmentColors) -> NDArray[np.uint8]:
    """(len(pmap) + 1, 3) for indexing with `pmap.dense`: the last entry, which -1 picks, is void's."""
    if isinstance(colors, Mapping):
        chosen = segment_colors(pmap, keep=colors)
    elif colors == "id":
        chosen = segment_colors(pmap)
    elif colors == "category":
        chosen = category_colors(pmap)
    else:
        raise InputError(f"colors: expected 'id', 'category' or {{id: (R, G, B)}}, got {quoted(colors)}")
    return np.array([*(chosen[s.id] for s in pmap.segments), VOID_COLOR], dtype=np.uint8)


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
