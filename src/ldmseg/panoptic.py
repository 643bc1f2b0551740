"""The one in-memory type for a whole image's segments. Every format, metric, picture and model takes it or returns it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

VOID = 0
"""The id of a pixel that belongs to no segment (unlabelled in a ground truth, unknown in a partial map)."""

MAX_ID = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known about one segment; its pixels are those of `PanopticMap.ids` that hold `id`.

    `map` is the map that it was taken from (`pmap[id]`); it does not count when segments are compared.
    """

    id: int
    category_id: int | None = None
    isthing: bool | None = None
    iscrowd: bool = False
    score: float | None = None
    map: PanopticMap | None = field(default=None, repr=False, compare=False, kw_only=True)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) where the segment lies.

        Raises:
            InputError: it was not taken from a map.
        """
        if self.map is None:
            raise InputError("mask: expected a segment of a map, pmap[id], got one on its own")
        return self.map.ids == self.id


@dataclass(frozen=True, eq=False, repr=False)
class PanopticMap:
    """A gap-free or partial map of segments.

    Args:
        ids: (H, W) integers in 0..2**31-1; `VOID` (0) belongs to no segment. Kept as a read-only int32 copy.
        segments: one `Segment` per non-void id that occurs in `ids`, sorted by id. Left out, they are derived from `ids`.

    Raises:
        InputError: `ids` is not a non-empty 2-D integer array in range, or does not agree with `segments`.
    """

    ids: NDArray[np.integer]
    segments: tuple[Segment, ...] = None  # type: ignore[assignment]  # None: derived from ids
    run_ends: NDArray[np.intp] = field(init=False, repr=False)
    """(R,) the last pixel, counted along the rows, of each run of equal ids: far fewer than pixels, and enough to count with."""
    run_index: NDArray[np.intp] = field(init=False, repr=False)
    """(R,) each run's index into `segments`, -1 where void."""

    def __post_init__(self) -> None:
        ids = _checked_ids(self.ids)
        object.__setattr__(self, "ids", ids)
        ends = run_ends(ids)
        values, index = np.unique(np.append(ids.ravel().take(ends), np.int32(VOID)), return_inverse=True)
        object.__setattr__(self, "run_ends", ends)
        object.__setattr__(self, "run_index", index[:-1] - 1)
        present = values[1:].tolist()
        if self.segments is None:
            segments = tuple(Segment(i) for i in present)
        else:
            segments = tuple(sorted((s if s.map is None else replace(s, map=None) for s in self.segments), key=lambda s: s.id))
            listed = [s.id for s in segments]
            if len(set(listed)) != len(listed):
                raise InputError(f"segments: expected each id once, got {_first_repeated(listed)} twice")
            if listed != present:
                missing, empty = sorted(set(present) - set(listed)), sorted(set(listed) - set(present))
                raise InputError(
                    f"segments: expected exactly the non-void ids of the map, "
                    f"but {missing[:5]} have no segment and {empty[:5]} have no pixel"
                )
        object.__setattr__(self, "segments", segments)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.ids.shape  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.segments)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PanopticMap):
            return NotImplemented
        return self.segments == other.segments and np.array_equal(self.ids, other.ids)

    @cached_property
    def _by_id(self) -> dict[int, Segment]:
        return {s.id: s for s in self.segments}

    def __getitem__(self, segment_id: int) -> Segment:
        """The segment with that id; it knows its pixels (`pmap[id].mask`)."""
        return replace(self._by_id[segment_id], map=self)

    def __iter__(self) -> Iterator[Segment]:
        return (self[s.id] for s in self.segments)

    def __repr__(self) -> str:
        void = f"{100 * (1 - self.areas.sum() / self.ids.size):.1f}".removesuffix(".0")
        return f"PanopticMap({self.shape[0]}x{self.shape[1]}, {len(self)} segment{'s' * (len(self) != 1)}, {void} % void)"

    @cached_property
    def dense(self) -> NDArray[np.intp]:
        """(H, W) index into `segments`, -1 where void."""
        return np.repeat(self.run_index, np.diff(self.run_ends, prepend=-1)).reshape(self.shape)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(len(segments),) pixels of each segment."""
        lengths = np.diff(self.run_ends, prepend=-1)
        return np.bincount(self.run_index + 1, lengths, len(self) + 1)[1:].astype(np.int64)

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """(len(segments), 4) tight x, y, width, height of each segment in pixels, as COCO gives them."""
        ys, xs = np.nonzero(self.ids != VOID)
        index = self.dense[ys, xs]
        low = np.full((len(self), 2), np.iinfo(np.int64).max)
        high = np.full((len(self), 2), -1)
        for axis, values in enumerate((xs, ys)):
            np.minimum.at(low[:, axis], index, values)
            np.maximum.at(high[:, axis], index, values)
        return np.concatenate([low, high - low + 1], axis=1)

    def with_ids(self, ids: ArrayLike) -> PanopticMap:
        """The same segments' attributes on other pixels; a segment that lost its last pixel is dropped, a new id gets a bare segment."""
        return with_attributes(ids, self.segments)

    def relabel(self, new_ids: Mapping[int, int]) -> PanopticMap:
        """Give segments other ids; an id mapped to `VOID` disappears, an id not named stays.

        Raises:
            InputError: two segments would share an id.
        """
        target = [new_ids.get(s.id, s.id) for s in self.segments]
        kept = [t for t in target if t != VOID]
        if len(set(kept)) != len(kept):
            raise InputError(f"new_ids: expected distinct ids, but two segments would become {_first_repeated(kept)}")
        table = np.array([*target, VOID], dtype=np.int64)  # the last entry serves dense == -1
        segments = tuple(replace(s, id=t) for s, t in zip(self.segments, target, strict=True) if t != VOID)
        return PanopticMap(table[self.dense], segments)  # type: ignore[arg-type]  # checked and converted there

    def keep(self, segment_ids: Iterable[int]) -> PanopticMap:
        """Only the named segments; everything else becomes void."""
        wanted = set(segment_ids)
        return self.relabel({s.id: VOID for s in self.segments if s.id not in wanted})

    def largest(self, count: int) -> PanopticMap:
        """The `count` segments with the most pixels (the smaller id wins a tie); the rest becomes void."""
        if count >= len(self):
            return self
        order = np.argsort(-self.areas, kind="stable")[:count]
        return self.keep(self.segments[i].id for i in order)

    def resize(self, height: int, width: int) -> PanopticMap:
        """Nearest neighbour (pixel centres), so that ids never mix; segments that vanish are dropped."""
        if height < 1 or width < 1:
            raise InputError(f"height, width: expected at least 1, got {height} and {width}")
        rows = nearest_indices(self.shape[0], height)
        columns = nearest_indices(self.shape[1], width)
        return self.with_ids(self.ids[rows[:, None], columns[None, :]])

    def flip(self) -> PanopticMap:
        """Left and right exchanged."""
        return PanopticMap(self.ids[:, ::-1], self.segments)

    # ------------------------------------------------------------------------------------------- what later rows make of a map
    def plot(
        self,
        image: Image.Image | NDArray[np.uint8] | str | PathLike[str] | None = None,
        *,
        alpha: float = 0.5,
        colors: Literal["id", "category"] | Mapping[int, tuple[int, int, int]] = "id",
    ) -> Image.Image:
        """The photo tinted by segment, or without a photo the segments in flat colours (`ldmseg.visualize.plot`)."""
        return _later("visualize", "plot")(self, image, alpha=alpha, colors=colors)

    def _repr_png_(self) -> bytes:
        """How a notebook shows a map."""
        return _later("visualize", "png")(self.plot())

    def save(self, path: str | PathLike[str]) -> None:
        """Write the map, with the attributes of its segments, as a PNG (`ldmseg.formats.label_png.save_map`)."""
        _later("formats.label_png", "save_map")(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The map that `save` wrote, or that of any label picture (`ldmseg.formats.label_png.load_map`)."""
        return _later("formats.label_png", "load_map")(path)

    def polygons(self) -> dict[int, tuple[NDArray[np.int64], ...]]:
        """(N, 2) corners x, y of each part and hole of each segment (`ldmseg.formats.outlines.polygons`)."""
        return _later("formats.outlines", "polygons")(self)

    def to_coco(self, image_id: int | str = 1) -> list[dict[str, Any]]:
        """Annotations as in COCO's instance files (`ldmseg.formats.outlines.coco_objects`)."""
        return _later("formats.outlines", "coco_objects")(self, image_id)

    def to_detections(self) -> Any:
        """`supervision.Detections`, where supervision is installed (`ldmseg.formats.outlines.detections`)."""
        return _later("formats.outlines", "detections")(self)


def _later(module: str, name: str) -> Any:
    """A function of a later row of the package, loaded when it is called.

    A map is where users look for what can be made of it. The methods above forward to functions that take a map and do the work; nothing in
    this module needs what they return, so that it still stands alone.
    """
    return getattr(importlib.import_module(f"ldmseg.{module}"), name)


def with_attributes(ids: ArrayLike, segments: Iterable[Segment]) -> PanopticMap:
    """A map of these ids, each with the attributes of the segment of its id if there is one; segments without a pixel are left out."""
    pmap = PanopticMap(ids)  # type: ignore[arg-type]  # checked and converted there
    known = {s.id: s if s.map is None else replace(s, map=None) for s in segments}
    object.__setattr__(pmap, "segments", tuple(known.get(s.id, s) for s in pmap.segments))  # the same ids in the same order
    return pmap


def present_ids(ids: NDArray[np.integer]) -> NDArray[np.integer]:
    """(S,) the values that occur in an array, sorted: numpy's `unique`, of the ends of runs."""
    return np.unique(ids.ravel().take(run_ends(ids)))


def run_ends(ids: NDArray[np.integer]) -> NDArray[np.intp]:
    """(R,) the last pixel of each run of equal values in an array of any shape, counted in C order."""
    flat = ids.ravel()
    return np.append((flat[1:] != flat[:-1]).nonzero()[0], flat.size - 1)


def extent(mask: NDArray[np.generic]) -> tuple[slice, slice] | None:
    """The rows and columns that hold all pixels of a (H, W) array that are not 0; None if there is none."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)) if rows.size else None


def nearest_indices(size: int, target: int) -> NDArray[np.intp]:
    """(target,) source index whose pixel lies under each target pixel's centre."""
    return np.minimum(((np.arange(target) + 0.5) * size / target).astype(np.intp), size - 1)


def _checked_ids(ids: ArrayLike) -> NDArray[np.int32]:
    array = np.asarray(ids)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"ids: expected a non-empty (H, W) array, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise InputError(f"ids: expected integers, got {array.dtype}")
    if array.dtype != np.int32 and (int(array.max()) > MAX_ID):
        raise InputError(f"ids: expected at most {MAX_ID}, got {int(array.max())}")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise InputError(f"ids: expected 0 (void) or more, got {int(array.min())}")
    array = np.array(array, dtype=np.int32, order="C")
    array.setflags(write=False)
    return array


def _first_repeated(values: list[int]) -> int:
    seen: set[int] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    raise AssertionError("no repeated value")
