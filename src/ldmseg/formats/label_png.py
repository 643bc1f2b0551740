"""Plain label pictures: a pixel's value is the id of its segment, 0 is void. Attributes of segments are not kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldmseg.atomic import atomic_write
from ldmseg.errors import InputError, quoted
from ldmseg.formats.id_png import ids_to_rgb, open_picture, rgb_to_ids
from ldmseg.formats.image import MAX_MAP_PIXELS, one_line
from ldmseg.panoptic import VOID, PanopticMap, Segment

OPAQUE = 255
"""Alpha of a pixel that hides what lies under it."""


def read_label_png(path: str | os.PathLike[str], max_pixels: int = MAX_MAP_PIXELS) -> PanopticMap:
    """The map that a label picture holds.

    | picture | id |
    |---|---|
    | 1-bit, 8-bit and 16-bit gray, 32-bit integers | the value (0 and 1 for 1 bit) |
    | palette | the index into the palette |
    | RGB | R + 256 G + 65536 B, as COCO has it |
    | RGBA, a painted layer: alpha is 0 or 255 | R + 256 G + 65536 B where opaque, 0 where transparent |
    | RGBA, alpha from 0 to 127 (`write_label_png`) | R + 256 G + 65536 B + 2**24 A |
    | gray with alpha, palette with transparency | value or index where opaque, 0 elsewhere; as RGBA if index 0 is a stroke's |

    Raises:
        InputError: the file is missing or damaged, is of another kind, is half transparent, or holds an id above 2**31 - 1.
    """
    with file_named(path):
        return PanopticMap(read_label_ids(path, max_pixels=max_pixels))  # type: ignore[arg-type]  # converted to int32 there, if they fit


@contextmanager
def file_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in an error that does not."""
    try:
        yield
    except InputError as error:
        if os.fspath(path) in str(error):
            raise
        raise InputError(f"label: cannot read '{os.fspath(path)}': {error}") from error


def read_label_ids(path: str | os.PathLike[str], what: str = "label", max_pixels: int = MAX_MAP_PIXELS) -> NDArray[np.integer]:
    """(H, W) pixel values of a label picture, in the type in which they are stored.

    Raises:
        InputError: as `read_label_png`, but values may be of any size; `what` names the file in the message.
    """
    with open_picture(path, what, max_pixels) as image:
        return ids_of(image, path, what)


def write_label_png(path: str | os.PathLike[str], pmap: PanopticMap, texts: Mapping[str, str] | None = None) -> None:
    """Write a map's ids with as few bytes per pixel as its largest id needs: 8 or 16-bit gray, RGB up to 2**24 - 1, RGBA above.

    `read_label_png` gives the same ids back.

    Args:
        texts: named texts for the file to hold beside the picture.

    Raises:
        InputError: the file cannot be written.
    """
    highest = pmap.segments[-1].id if pmap.segments else 0
    if highest < 2**8:
        picture = Image.fromarray(pmap.ids.astype(np.uint8))
    elif highest < 2**16:
        picture = Image.fromarray(pmap.ids.astype(np.uint16))
    elif highest < 2**24:
        picture = Image.fromarray(ids_to_rgb(pmap.ids))
    else:
        picture = Image.fromarray(pmap.ids.astype("<u4").view(np.uint8).reshape(*pmap.shape, 4))
    chunks = PngInfo()
    for name, text in (texts or {}).items():
        chunks.add_itxt(name, text)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=chunks)


_ATTRIBUTES = "ldmseg:segments"
"""The text chunk of a PNG that holds what is known of the segments."""


def save_map(path: str | os.PathLike[str], pmap: PanopticMap) -> None:
    """`write_label_png`, with the segments' attributes in the file too: `load_map` gives the same map back.

    Raises:
        InputError: the file is not called `.png`, or cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"path: expected a name that ends in .png, got {quoted(os.fspath(path))}")
    listed = [{f.name: getattr(s, f.name) for f in fields(Segment) if f.name != "map"} for s in pmap.segments]
    write_label_png(path, pmap, {_ATTRIBUTES: json.dumps(listed)})


def load_map(path: str | os.PathLike[str]) -> PanopticMap:
    """The map of a label picture, as `read_label_png` reads it, with the attributes that `save_map` wrote.

    Raises:
        InputError: as `read_label_png`; or what the file says of its segments does not fit its pixels.
    """
    with open_picture(path, "label") as image:
        text = image.info.get(_ATTRIBUTES)
        ids = ids_of(image, path)
    with file_named(path):
        if text is None:
            return PanopticMap(ids)  # type: ignore[arg-type]  # converted there
        try:
            return PanopticMap(ids, tuple(Segment(**entry) for entry in json.loads(text)))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise InputError(f"expected the attributes of its segments, got {quoted(text)}") from error


def ids_of(image: Image.Image, path: str | os.PathLike[str] = "the picture", what: str = "label") -> NDArray[np.integer]:
    """(H, W) pixel values of an opened label picture, by the table of `read_label_png`.

    Raises:
        InputError: it is of another kind, or half transparent; `path` and `what` name it.
    """
    if image.mode == "P" and "transparency" in image.info:
        try:
            indices, layer = np.array(image), image.convert("RGBA")
        except ValueError as error:  # more transparencies than colours
            raise InputError(f"{what}: cannot read '{os.fspath(path)}': {one_line(error)}") from error
        hidden = np.asarray(layer)[..., 3] == 0
        if not (indices[~hidden] == VOID).any():
            indices[hidden] = VOID
            return indices
        image = layer  # entry 0 is a stroke's colour, so that indices cannot be ids
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype == bool else values
    pixels, where = np.asarray(image), f"{what}: cannot read '{os.fspath(path)}'"
    if image.mode == "RGB":
        return rgb_to_ids(pixels)
    if image.mode not in ("LA", "RGBA"):
        raise InputError(f"{where}: expected a gray (8, 16 or 32 bit), palette, RGB or RGBA picture, got mode {image.mode}")
    alpha = pixels[..., -1]
    soft = (alpha > 0) & (alpha < OPAQUE)
    if not soft.any():
        values = pixels[..., 0] if image.mode == "LA" else rgb_to_ids(np.ascontiguousarray(pixels[..., :3]))
        return np.where(alpha == OPAQUE, values, values.dtype.type(VOID))
    if image.mode == "RGBA" and alpha.max() < 128:
        return np.ascontiguousarray(pixels).view("<u4")[..., 0]
    raise InputError(
        f"{where}: expected alpha 0 (unknown) or 255, got {int(soft.sum())} pixels between, as a soft brush or a layer's opacity leaves; "
        "paint with a hard brush at full opacity, or clean it (--clean-partial)"
    )
