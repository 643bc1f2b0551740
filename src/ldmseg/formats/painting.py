"""Partial maps as people paint them: strokes of colour on a layer of their own, often softer than a map can be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from scipy.ndimage import binary_erosion, label

from ldmseg.errors import InputError, quoted
from ldmseg.formats.id_png import ids_to_rgb, open_picture, rgb_to_ids
from ldmseg.formats.image import MAX_MAP_PIXELS
from ldmseg.formats.label_png import OPAQUE, file_named, ids_of
from ldmseg.palette import Color, painted_colors
from ldmseg.panoptic import VOID, PanopticMap

SNAP = 48.0
"""Distance in RGB up to which a stray colour counts as a main one; main colours are at least so far apart."""

MAX_CLEANED_PIXELS = 40_000_000
"""Of a picture that is cleaned, unless more are allowed; cleaning takes 48 bytes a pixel."""

SPECK = 16
"""Segments of fewer pixels are hardly painted on purpose."""

_COLORED = ("RGB", "RGBA", "CMYK", "YCbCr")
_WIDE = np.ones((3, 3), dtype=bool)
_MIX = 24.0  # distance in RGB from the line between two colours, up to which a third may be a mixture of them
_NEARLY_ALL = 0.99


@dataclass(frozen=True, eq=False)
class Painting:
    """A partial map, and the colours in which its segments were painted, where those can be told apart."""

    map: PanopticMap
    colors: Mapping[int, Color]


def read_painting(
    path: str | os.PathLike[str], *, unknown: Color | None = None, clean: bool = False, max_pixels: int | None = None
) -> Painting:
    """The partial map of a picture, as `read_label_png` reads it.

    Args:
        unknown: a colour that stands for unknown, as black does: that of the paper one painted on.
        clean: snap stray colours (a soft brush's, JPEG's) to the main ones, and leave what is unsure unknown. Main colours that are nearer
            than `SNAP` count as one. Gray and palette pictures hold ids and not colours, and are left as they are.
        max_pixels: `MAX_MAP_PIXELS` by default, `MAX_CLEANED_PIXELS` with `clean`.

    Raises:
        InputError: as `read_label_png`; also when the picture is a JPEG or half transparent and is not to be cleaned.
    """
    usual = MAX_CLEANED_PIXELS if clean else MAX_MAP_PIXELS
    with open_picture(path, "label", usual if max_pixels is None else max_pixels) as image:
        if clean and image.mode in _COLORED:
            rgba = np.asarray(image.convert("RGBA"))
            ids: NDArray = clean_colors(rgba[..., :3], rgba[..., 3] > OPAQUE // 2, [] if unknown is None else [unknown])
        elif image.format == "JPEG":
            raise InputError(f"label: '{os.fspath(path)}': JPEG changes colours, which are ids; save a PNG, or clean it (--clean-partial)")
        else:
            ids = np.array(ids_of(image, path, "label"))
            if unknown is not None:
                ids[(np.asarray(image.convert("RGB")) == unknown).all(axis=2)] = VOID
        palette = image.getpalette("RGB") if image.mode == "P" and ids.dtype == np.uint8 else None
        colored = image.mode in (*_COLORED, "P")
    with file_named(path):
        pmap = PanopticMap(ids)  # type: ignore[arg-type]  # checked there
    if palette is not None:
        return Painting(pmap, _palette_colors(pmap, palette))
    return Painting(pmap, painted_colors([s.id for s in pmap.segments]) if colored else {})


def _palette_colors(pmap: PanopticMap, palette: Sequence[int]) -> dict[int, Color]:
    """The colours of ids that are indices into a palette, [R, G, B, R, ..]."""
    entries = np.array(palette, dtype=np.uint8).reshape(-1, 3)
    ids = {int(rgb_to_ids(entries[s.id])): s.id for s in pmap.segments if s.id < len(entries)}
    return {ids[code]: color for code, color in painted_colors(list(ids)).items()}


def named_color(name: str, option: str) -> Color:
    """`white`, `#ffffff` or `255,255,255` -> (255, 255, 255).

    Raises:
        InputError: it is no colour; `option` is named.
    """
    try:
        plain = name.replace(" ", "")
        return ImageColor.getrgb(f"rgb({plain})" if "," in plain and "(" not in plain else plain)[:3]  # type: ignore[return-value]
    except ValueError:
        raise InputError(f"{option}: expected a colour such as white, #ffffff or 255,255,255, got {quoted(name)}") from None


def doubts(painting: Painting) -> list[str]:
    """What is probably a mistake in a partial map, each in one line with what helps."""
    pmap = painting.map
    known = float(pmap.areas.sum()) / pmap.ids.size
    found = []
    if len(pmap) and known >= _NEARLY_ALL:
        largest = pmap.segments[int(pmap.areas.argmax())].id
        name = _color_name(painting.colors.get(largest))
        what = f"is {name}: if that is the paper, --unknown {name} leaves it out" if name else f"has id {largest}: 0 is unknown"
        found.append(f"{100 * known:.3g} % of the pixels are given, so that little is completed; most {what}")
    specks = _specks(pmap)
    if specks >= 8 and 2 * specks > len(pmap) and painting.colors:
        found.append(f"{len(pmap)} segments are given; {_explained(specks)}")
    return found


def too_many_hint(pmap: PanopticMap) -> str:
    """Why a map may have more segments than anybody painted, to be put after a message; empty if it does not look like that."""
    specks = _specks(pmap)
    return f"; {_explained(specks)}" if 2 * specks > len(pmap) else ""


def clean_colors(rgb: NDArray[np.uint8], known: NDArray[np.bool_], unknown: Sequence[Color] = ()) -> NDArray[np.int32]:
    """(H, W, 3) painted colours -> (H, W) ids of the main colours (R + 256 G + 65536 B), VOID where a pixel is unsure or unknown.

    Args:
        known: (H, W) where there is paint.
        unknown: colours that stand for unknown, beside black.
    """
    codes = np.where(known, rgb_to_ids(rgb), VOID)
    values, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    nothing = [VOID, *(int(rgb_to_ids(np.array(color, np.uint8))) for color in unknown)]
    mains = _main_colors(values, counts, nothing)
    snapped = _snapped(values, mains)[inverse].reshape(codes.shape)
    mains = [m for m in mains if m in nothing or not (_is_mixture(m, mains) and _core_share(snapped == m) < 0.2)]
    snapped = _snapped(values, mains)[inverse].reshape(codes.shape)
    ids = np.where(np.isin(snapped, nothing), VOID, snapped)
    for main in set(mains) - set(nothing):
        ids[_slivers(ids == main, codes == main)] = VOID
    return ids.astype(np.int32)


def _main_colors(values: NDArray[np.int32], counts: NDArray[np.intp], nothing: Sequence[int]) -> list[int]:
    """Frequent colours that are far from each other, the most frequent first; what stands for nothing is among them.

    Counted are boxes of 32 levels, because JPEG spreads a colour; a box is represented by its most frequent colour.
    """
    painted = int(counts[~np.isin(values, nothing)].sum())
    _, box = np.unique(ids_to_rgb(values) >> 5, axis=0, return_inverse=True)
    totals = np.bincount(box.ravel(), weights=counts)
    by_count = np.argsort(counts, kind="stable")
    representative = np.zeros(len(totals), dtype=np.int64)
    representative[box.ravel()[by_count]] = values[by_count]  # of equal places the last counts
    enough = totals >= max(SPECK, painted // 2000)
    mains = list(nothing)
    for value in representative[np.argsort(-totals, kind="stable")][: int(enough.sum())].tolist():
        if _distances(np.array([value]), mains).min() >= SNAP:
            mains.append(value)
    return mains


def _snapped(values: NDArray[np.int32], mains: Sequence[int]) -> NDArray[np.int32]:
    """(N,) the nearest main colour of each colour, VOID where none is near."""
    nearest, far = np.empty(len(values), dtype=np.int32), np.empty(len(values), dtype=bool)
    for start in range(0, len(values), 65536):  # a photo has a million colours
        distances = _distances(values[start : start + 65536], mains)
        nearest[start : start + 65536] = np.array(mains)[distances.argmin(axis=1)]
        far[start : start + 65536] = distances.min(axis=1) >= SNAP
    return np.where(far, np.int32(VOID), nearest)


def _distances(values: NDArray, mains: Sequence[int]) -> NDArray[np.float64]:
    """(N, M) in RGB."""
    first, second = (ids_to_rgb(np.asarray(codes, np.int64)).astype(np.float64) for codes in (values, mains))
    return np.linalg.norm(first[:, None] - second[None], axis=2)


def _is_mixture(color: int, mains: Sequence[int]) -> bool:
    """Whether a colour lies between two others, as the soft border of one on the other does."""
    others = ids_to_rgb(np.array([m for m in mains if m != color], np.int64)).astype(np.float64)  # (M, 3)
    point = ids_to_rgb(np.array([color], np.int64))[0].astype(np.float64)
    start, along = others[:, None], others[None] - others[:, None]  # (M, M, 3)
    length = np.maximum((along**2).sum(-1), 1e-9)
    share = np.clip(((point - start) * along).sum(-1) / length, 0, 1)
    return bool((np.linalg.norm(start + share[..., None] * along - point, axis=-1) < _MIX).any())


def _core_share(mask: NDArray[np.bool_]) -> float:
    return binary_erosion(mask, _WIDE, border_value=1).sum() / max(1, mask.sum())


def _slivers(mask: NDArray[np.bool_], exact: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a colour that are nowhere three pixels wide and mostly not exactly of that colour: soft borders between two others."""
    parts, count = label(mask, _WIDE)
    wide = np.bincount(parts[binary_erosion(mask, _WIDE, border_value=1)], minlength=count + 1) > 0
    true = np.bincount(parts[exact & mask], minlength=count + 1)
    return mask & ~(wide | (2 * true >= np.bincount(parts.ravel(), minlength=count + 1)))[parts]


def _color_name(color: Color | None) -> str | None:
    if color is None:
        return None
    return "white" if color == (255, 255, 255) else "#" + bytes(color).hex()


def _specks(pmap: PanopticMap) -> int:
    return int((pmap.areas < SPECK).sum())


def _explained(specks: int) -> str:
    return (
        f"{specks} of them have fewer than {SPECK} pixels, as a soft brush, an eraser or JPEG leaves them at borders: "
        "paint with a hard brush and save a PNG, or clean the picture (--clean-partial; read_painting in Python)"
    )
