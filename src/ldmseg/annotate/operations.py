"""What a person does to a map: plain functions from a state to the next; the browser predicts the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ldmseg.annotate.cells import MAX_ID, PINNED, Cells, ids_of, mask_of_runs, packed, pins_of, present_ids
from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import VOID


@dataclass(frozen=True, slots=True)
class Label:
    """What a segment is: its category (None: not said) and the number of its colour in the palette."""

    category: int | None = None
    color: int = 0


@dataclass(frozen=True, eq=False)
class State:
    """A map at one moment.

    Attributes:
        cells: (H, W) ids and pins (`ldmseg.annotate.cells`), read-only.
        labels: of each segment that is there, and no other.
    """

    cells: Cells
    labels: Mapping[int, Label] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cells = np.ascontiguousarray(self.cells, dtype=np.uint16).view()
        cells.setflags(write=False)
        object.__setattr__(self, "cells", cells)
        kept = {i: self.labels.get(i, Label(color=i - 1)) for i in present_ids(cells)}
        object.__setattr__(self, "labels", MappingProxyType(kept))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.cells.shape  # type: ignore[return-value]

    def same_as(self, other: State) -> bool:
        """Whether nothing differs."""
        return dict(self.labels) == dict(other.labels) and np.array_equal(self.cells, other.cells)


@dataclass(frozen=True, eq=False)
class Paint:
    """Give pixels to a segment, which may be new.

    Attributes:
        mask: (H, W) the pixels.
        pin: whether they are meant exactly (brush, lasso), or only as a hint (box), which leaves all pinned pixels alone.
        over: whether pixels that are pinned to other segments are painted over.
        label: of a segment that is not there yet.
        within: top, left, bottom, right of a box that the segment does not grow beyond when the rest is completed.
        grow: whether the segment may take more of what was painted over; not with an outline, which says all.
    """

    id: int
    mask: NDArray[np.bool_]
    pin: bool = True
    over: bool = True
    label: Label = Label()
    within: tuple[int, int, int, int] | None = None
    grow: bool = True

    def __call__(self, state: State) -> State:
        ids, pins = ids_of(state.cells), pins_of(state.cells)
        others = np.zeros(state.shape, dtype=bool) if self.over else ids != self.id
        taken = self.mask & ~(pins & (others if self.pin else True))
        cells = state.cells.copy()
        cells[taken] = np.uint16(self.id) | (PINNED if self.pin else np.uint16(0))
        return State(cells, {self.id: self.label, **state.labels})


@dataclass(frozen=True, eq=False)
class Erase:
    """Pixels belong to nothing any more, pinned or not."""

    mask: NDArray[np.bool_]

    def __call__(self, state: State) -> State:
        return State(np.where(self.mask, np.uint16(VOID), state.cells), state.labels)


@dataclass(frozen=True)
class Merge:
    """All of these segments become the first of them; pinned pixels stay pinned."""

    ids: tuple[int, ...]

    def __call__(self, state: State) -> State:
        ids = ids_of(state.cells)
        return State(packed(np.where(np.isin(ids, self.ids), self.ids[0], ids), pins_of(state.cells)), state.labels)


@dataclass(frozen=True, eq=False)
class Split:
    """Cut a segment along a line: each piece but the largest becomes a segment of its own; the line goes to the piece beside it."""

    id: int
    mask: NDArray[np.bool_]

    def __call__(self, state: State) -> State:
        ids = ids_of(state.cells)
        inside = ids == self.id
        pieces, count = ndimage.label(inside & ~self.mask)
        if count < 2:
            return state
        nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
        pieces = np.where(inside, pieces[tuple(nearest)], 0)
        areas = np.bincount(pieces.ravel(), minlength=count + 1)
        areas[0] = 0
        order = np.argsort(-areas, kind="stable")[:count]
        fresh = fresh_ids(state, count - 1)
        found, labels = ids.copy(), dict(state.labels)
        for piece, new in zip(order[1:].tolist(), fresh, strict=True):
            found[pieces == piece] = new
            labels[new] = replace(state.labels[self.id], color=new - 1)
        return State(packed(found, pins_of(state.cells)), labels)


@dataclass(frozen=True)
class Delete:
    """The segments' pixels belong to nothing."""

    ids: tuple[int, ...]

    def __call__(self, state: State) -> State:
        return State(np.where(np.isin(ids_of(state.cells), self.ids), np.uint16(VOID), state.cells), state.labels)


@dataclass(frozen=True)
class Pin:
    """The segments (none named: all) are accepted as they are, or let go of."""

    ids: tuple[int, ...]
    on: bool = True

    def __call__(self, state: State) -> State:
        ids = ids_of(state.cells)
        meant = np.isin(ids, self.ids) if self.ids else ids != VOID
        return State(packed(ids, (pins_of(state.cells) | meant) if self.on else (pins_of(state.cells) & ~meant)), state.labels)


@dataclass(frozen=True)
class Classify:
    """The segments are of this category; None: of none."""

    ids: tuple[int, ...]
    category: int | None

    def __call__(self, state: State) -> State:
        changed = {i: replace(state.labels[i], category=self.category) for i in self.ids if i in state.labels}
        return State(state.cells, {**state.labels, **changed})


Operation = Paint | Erase | Merge | Split | Delete | Pin | Classify


def fresh_ids(state: State, count: int) -> list[int]:
    """Ids above all that are there.

    Raises:
        InputError: there are too many segments.
    """
    highest = max(state.labels, default=VOID)
    if highest + count <= MAX_ID:
        return list(range(highest + 1, highest + count + 1))
    free = [i for i in range(1, MAX_ID + 1) if i not in state.labels][:count]
    if len(free) < count:
        raise InputError(f"segments: expected at most {MAX_ID}")
    return free


# ------------------------------------------------------------------------------------------------------------------------ reading
def read_operation(values: Any, shape: tuple[int, int]) -> Operation:
    """An operation as the browser sends it: an object with its `kind`.

    Raises:
        InputError: it is not one, or does not fit a map of this size.
    """
    if not isinstance(values, dict):
        raise InputError(f"operation: expected an object, got {type(values).__name__}")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _READERS:
        raise InputError(f"kind: expected one of {', '.join(_READERS)}, got {quoted(kind)}")
    return _READERS[kind](values, shape)


def _paint(values: dict[str, Any], shape: tuple[int, int]) -> Operation:
    label = Label(_category(values), _whole(values, "color", 0, 0, MAX_ID))
    pin, over, grow = (_flag(values, name, True) for name in ("pin", "over", "grow"))
    return Paint(_id(values), _mask(values, shape), pin, over, label, _box(values, shape), grow)


def _id(values: dict[str, Any]) -> int:
    return _whole(values, "id", None, 1, MAX_ID)


def _ids(values: dict[str, Any], least: int = 1) -> tuple[int, ...]:
    found = values.get("ids")
    if not isinstance(found, list) or not least <= len(found) <= MAX_ID or not all(_is_whole(i) and 1 <= i <= MAX_ID for i in found):
        raise InputError(f"ids: expected a list of at least {least} ids from 1 to {MAX_ID}, got {quoted(found)}")
    return tuple(found)


def _mask(values: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    runs = values.get("runs")
    if not isinstance(runs, list) or not all(_is_whole(number) for number in runs):
        raise InputError(f"runs: expected a list of whole numbers, got {quoted(runs)}")
    return mask_of_runs(runs, shape)


def _box(values: dict[str, Any], shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    box = values.get("within")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(_is_whole(number) for number in box):
        raise InputError(f"within: expected top, left, bottom, right, got {quoted(box)}")
    top, left, bottom, right = box
    if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
        raise InputError(f"within: expected a box inside the map of {shape[1]}x{shape[0]}, got {quoted(box)}")
    return top, left, bottom, right


def _category(values: dict[str, Any]) -> int | None:
    return None if values.get("category") is None else _whole(values, "category", None, 1, 2**31 - 1)


def _flag(values: dict[str, Any], name: str, default: bool) -> bool:
    found = values.get(name, default)
    if not isinstance(found, bool):
        raise InputError(f"{name}: expected true or false, got {quoted(found)}")
    return found


def _whole(values: dict[str, Any], name: str, default: int | None, low: int, high: int) -> int:
    found = values.get(name, default)
    if _is_whole(found) and low <= found <= high:
        return found
    raise InputError(f"{name}: expected a whole number from {low} to {high}, got {quoted(found)}")


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


_READERS: dict[str, Callable[[dict[str, Any], tuple[int, int]], Operation]] = {
    "paint": _paint,
    "erase": lambda values, shape: Erase(_mask(values, shape)),
    "merge": lambda values, shape: Merge(_ids(values, least=2)),
    "split": lambda values, shape: Split(_id(values), _mask(values, shape)),
    "delete": lambda values, shape: Delete(_ids(values)),
    "pin": lambda values, shape: Pin(_ids(values, least=0), _flag(values, "on", True)),
    "classify": lambda values, shape: Classify(_ids(values), _category(values)),
}
