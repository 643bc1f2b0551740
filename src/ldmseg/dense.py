"""What dense tasks beside panoptic segmentation give: depth maps, and semantic maps, which are `PanopticMap`s of a kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import VOID, PanopticMap


@dataclass(frozen=True, eq=False, repr=False)
class DepthMap:
    """The distance of what each pixel shows.

    Args:
        values: (H, W) numbers above 0, in units of `unit`; NaN where the depth is unknown. Kept as a read-only float32 copy.
        unit: what a depth of 1 is.

    Raises:
        InputError: `values` is not a non-empty 2-D array of such numbers.
    """

    values: NDArray[np.float32]
    unit: str = "metres"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked(self.values))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.values.shape  # type: ignore[return-value]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(H, W) where the depth is known."""
        return ~np.isnan(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DepthMap):
            return NotImplemented
        return self.unit == other.unit and np.array_equal(self.values, other.values, equal_nan=True)

    def __repr__(self) -> str:
        known = self.values[self.known]
        told = f"{known.min():.3g} to {known.max():.3g} {self.unit}" if known.size else "unknown everywhere"
        return f"DepthMap({self.shape[0]}x{self.shape[1]}, {told})"

    def mirrored(self, axes: tuple[int, ...]) -> DepthMap:
        """Mirrored along these axes; the same axes give it back."""
        return DepthMap(np.flip(self.values, axes), self.unit) if axes else self


def _checked(values: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"values: expected a non-empty (H, W) array, got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"values: expected numbers, got {array.dtype}")
    array = np.array(array, dtype=np.float32, order="C")
    wrong = array[~(np.isnan(array) | ((array > 0) & (array < np.inf)))]
    if wrong.size:
        raise InputError(f"values: expected finite numbers above 0, or NaN where unknown, got {wrong[0]}")
    array.setflags(write=False)
    return array


Target = PanopticMap | DepthMap
"""What a task is about: a map of segments or of categories, or a depth map."""


def semantic_map(pmap: PanopticMap, categories: Sequence[Category]) -> PanopticMap:
    """The semantic map of a map with categories: all pixels of a category are one segment; pixels of no listed category are void.

    Returns:
        (H, W), where the id of the i-th category is i, counted from 1.
    """
    number = {c.id: index for index, c in enumerate(categories, start=1)}
    table = np.array([*(VOID if s.category_id is None else number.get(s.category_id, VOID) for s in pmap.segments), VOID])
    return with_categories(PanopticMap(table[pmap.dense]), categories)


def with_categories(pmap: PanopticMap, categories: Sequence[Category]) -> PanopticMap:
    """A semantic map's segments with the category that each id stands for; scores stay."""
    named = [(s, categories[s.id - 1]) for s in pmap.segments]
    return PanopticMap(pmap.ids, tuple(replace(s, category_id=c.id, isthing=c.isthing) for s, c in named))
