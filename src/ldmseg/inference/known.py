"""What is known of a map before it is drawn, on the user's side (section 3.3); `ldmseg.inference.cells` is the latents' side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ldmseg.choices import IdPolicy
from ldmseg.codes import assign_given
from ldmseg.errors import InputError
from ldmseg.formats.id_png import rgb_to_ids
from ldmseg.formats.label_png import ids_of
from ldmseg.formats.painting import read_painting, too_many_hint
from ldmseg.inference.cells import shrink_partial
from ldmseg.panoptic import VOID, PanopticMap, Segment, extent, present_ids, with_attributes


@dataclass(frozen=True, eq=False)
class KnownMap:
    """A partial map of one photo.

    Attributes:
        map: (H, W) what is given, VOID where nothing is.
        certain: (H, W) the given pixels that come back as they are: all of them, unless a rough map is refined.
    """

    map: PanopticMap
    certain: NDArray[np.bool_]

    @classmethod
    def of(cls, pmap: PanopticMap, certain: NDArray[np.bool_] | None = None) -> Self:
        given = pmap.ids != VOID
        return cls(pmap, given if certain is None else given & certain)

    @cached_property
    def certain_ids(self) -> NDArray[np.int32]:
        """(H, W) the ids that come back as they are, VOID elsewhere."""
        return np.where(self.certain, self.map.ids, VOID)

    def mirrored(self, axes: tuple[int, ...]) -> KnownMap:
        """Mirrored along these axes."""
        return KnownMap(mirror(self.map, axes), np.flip(self.certain, axes)) if axes else self


def mirror(pmap: PanopticMap, axes: tuple[int, ...]) -> PanopticMap:
    """The map mirrored along these axes; the same axes give it back."""
    return pmap.with_ids(np.flip(pmap.ids, axes)) if axes else pmap


PartialInput = PanopticMap | Image.Image | NDArray | Tensor | str | PathLike
"""What a user may give as a partial map of one photo."""


def load_partials(partial: PartialInput | Sequence[PartialInput]) -> list[PanopticMap]:
    """One partial map, a batch or a list of such -> maps.

    A map is a `PanopticMap`; the path of a label picture, or a PIL picture, by the table of `ldmseg.formats.label_png.read_label_png`; an
    (H, W) array or tensor of ids, or (B, H, W) of several; an (H, W, 3) array or a (3, H, W) tensor of bytes, whose ids are
    R + 256 G + 65536 B.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(partial, (list, tuple)):
        return [_load_partial(item) for item in partial]
    if isinstance(partial, Tensor):
        partial = _with_colors_last(partial)
    if isinstance(partial, np.ndarray) and partial.ndim - _colored(partial) == 3:
        return [_load_partial(item) for item in partial]
    return [_load_partial(partial)]  # type: ignore[arg-type]


def _load_partial(item: PartialInput) -> PanopticMap:
    if isinstance(item, PanopticMap):
        return item
    if isinstance(item, (str, PathLike)):
        return read_painting(item).map
    if isinstance(item, Image.Image):
        item = ids_of(item, "the picture", "partial")
    elif isinstance(item, Tensor):
        item = _with_colors_last(item)
    if not isinstance(item, np.ndarray):
        raise InputError(f"partial: expected a PanopticMap, a picture, an array, a tensor or a path an image, got {type(item).__name__}")
    ids = rgb_to_ids(item) if _colored(item) else item.astype(np.uint8) if item.dtype == bool else item
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise InputError(f"partial: expected (H, W) whole numbers or (H, W, 3) bytes, got {item.dtype} of shape {item.shape}")
    return PanopticMap(ids)


def _with_colors_last(ids: Tensor) -> NDArray:
    """(3, H, W) or (B, 3, H, W) bytes -> (.., H, W, 3); ids as they are."""
    array = ids.detach().cpu()
    colored = array.dtype == torch.uint8 and array.ndim >= 3 and array.shape[-3] == 3
    return (array.movedim(-3, -1) if colored else array).numpy()


def _colored(ids: NDArray) -> bool:
    return ids.dtype == np.uint8 and ids.ndim >= 3 and ids.shape[-1] == 3


def known_maps(partials: Sequence[PanopticMap], images: Sequence[Tensor], certain: Any = None, *, refine: bool = False) -> list[KnownMap]:
    """What is known of each image, checked.

    Args:
        partials: one map per image, of the image's size.
        certain: for a rough map, (H, W) booleans per image: the pixels that come back as given. None are by default.
        refine: whether the maps are rough ones; otherwise all that is given is certain.

    Raises:
        InputError: not one map, or mask, of each image's size.
    """
    if len(partials) != len(images):
        raise InputError(f"partial: expected one map per image ({len(images)}), got {len(partials)} map{'s' * (len(partials) != 1)}")
    for index, (partial, image) in enumerate(zip(partials, images, strict=True)):
        if partial.shape != tuple(image.shape[-2:]):
            raise InputError(f"partial: expected the size of image {index}, {tuple(image.shape[-2:])}, got {partial.shape} (H, W)")
    if not refine:
        if certain is not None:
            raise InputError("certain: expected with method refine only; with the others all that is given is certain")
        return [KnownMap.of(partial) for partial in partials]
    masks = [np.zeros(p.shape, dtype=bool) for p in partials] if certain is None else _masks(certain, partials)
    return [KnownMap.of(partial, mask) for partial, mask in zip(partials, masks, strict=True)]


def _masks(certain: Any, partials: Sequence[PanopticMap]) -> list[NDArray[np.bool_]]:
    masks = [certain] if isinstance(certain, np.ndarray) and certain.ndim == 2 else list(certain)
    if len(masks) != len(partials):
        raise InputError(f"certain: expected one mask per image ({len(partials)}), got {len(masks)}")
    for mask, partial in zip(masks, partials, strict=True):
        if np.shape(mask) != partial.shape or np.asarray(mask).dtype != bool:
            raise InputError(f"certain: expected (H, W) booleans of the map's size {partial.shape}, got {np.shape(mask)}")
    return [np.asarray(mask) for mask in masks]


# ------------------------------------------------------------------------------------------------------------ the model's terms
def check_count(known: KnownMap, num_ids: int) -> None:
    """
    Raises:
        InputError: more segments than the model has ids.
    """
    if len(known.map) > num_ids - 1:
        got = f"{len(known.map):,}{too_many_hint(known.map)}"
        raise InputError(f"partial: expected at most {num_ids - 1} segments (the model's ids), got {got}")


@dataclass(frozen=True, eq=False)
class CodedMap:
    """A known map in the model's ids, on its own square.

    Attributes:
        ids: (S, S) int64, VOID where nothing is given.
        certain_ids: (S, S) int64, the same, VOID where not certain.
        given: the user's id of each of the model's ids.
    """

    ids: NDArray[np.int64]
    certain_ids: NDArray[np.int64]
    given: Mapping[int, int]


def in_model_ids(known: KnownMap, size: int, num_ids: int, policy: IdPolicy) -> CodedMap:
    """Ids of the given segments by the model's policy; a segment keeps at least one of its pixels on the square.

    Raises:
        InputError: more segments than the model has ids.
    """
    check_count(known, num_ids)
    square = PanopticMap(shrink_partial(known.map, size))
    codes = assign_given(square.dense, len(square), square.dense >= 0, num_ids, policy, np.random.default_rng(0))
    given = {int(code): s.id for s, code in zip(square.segments, codes, strict=True)}
    ids = np.append(codes, VOID)[square.dense]
    if np.array_equal(known.certain, known.map.ids != VOID):
        return CodedMap(ids, ids, given)
    code_of = {own: code for code, own in given.items()}
    certain = PanopticMap(shrink_partial(PanopticMap(known.certain_ids), size))
    certain = certain.relabel({s.id: code_of.get(s.id, VOID) for s in certain.segments})  # another may win a shared pixel here
    return CodedMap(ids, certain.ids.astype(np.int64), given)


def complete(drawn: PanopticMap, known: KnownMap, given: Mapping[int, int]) -> PanopticMap:
    """The completed map: drawn segments under the given ids, new ones under unused ids, and every certain pixel as it was given.

    A given segment that was not drawn takes over what was drawn on its marks: the whole of a new segment where it has most of the marks
    there, else the part of a segment that is nearest to its given pixels.

    Args:
        drawn: (H, W) a map in the model's ids.
        given: the user's id of each of the model's ids (`CodedMap.given`).
    """
    used = {s.id for s in known.map.segments}
    fresh = (i for i in range(1, len(used) + len(drawn) + 1) if i not in used)
    own = {s.id: given[s.id] if s.id in given else next(fresh) for s in drawn.segments}  # the user's id of each of the model's
    table = np.zeros(max(own, default=VOID) + 1, dtype=np.int32)
    table[list(own)] = list(own.values())
    ids = table.take(drawn.ids)  # (H, W)
    _place_missing(ids, known, set(own.values()))
    np.copyto(ids, known.map.ids, where=known.certain)
    return with_attributes(ids, (*(Segment(own[s.id], score=s.score) for s in drawn.segments), *known.map.segments))


def _place_missing(ids: NDArray[np.int32], known: KnownMap, drawn: set[int]) -> None:
    """Give each certain given segment that is not among the drawn ones a place in (H, W) `ids`."""
    marks, used = known.certain_ids, {s.id for s in known.map.segments}
    missing = sorted(set(present_ids(marks).tolist()) - {VOID} - drawn)
    hosts = sorted({int(i) for i in np.unique(ids[np.isin(marks, missing)])} - {VOID}) if missing else []
    for host in hosts:
        box = extent(ids == host)
        assert box is not None  # hosts are of `ids`
        inside, on_box = ids[box] == host, marks[box]
        on_host, counts = np.unique(on_box[inside & (on_box != VOID)], return_counts=True)
        if host not in used and on_host[counts.argmax()] in missing and counts.max() > 0.5 * counts.sum():
            ids[box][inside] = on_host[counts.argmax()]
            continue
        nearest = distance_transform_edt(~(inside & (on_box != VOID)), return_distances=False, return_indices=True)
        closest = on_box[tuple(nearest)]
        taken = inside & np.isin(closest, missing)
        ids[box][taken] = closest[taken]
