"""Data sets made of others: a part of one, and several in a mixture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ldmseg.choices import Task
from ldmseg.config import Labelling
from ldmseg.data.datasets.base import PanopticDataset
from ldmseg.data.datasets.files import CocoPanopticDataset
from ldmseg.dense import Target
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True)
class Subset:
    """A part of a data set, as a data set."""

    source: PanopticDataset
    items: tuple[int, ...]

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.source.categories

    def __len__(self) -> int:
        return len(self.items)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(self.items[index])

    def map(self, index: int) -> PanopticMap:
        return self.source.map(self.items[index])

    def name(self, index: int) -> str:
        return self.source.name(self.items[index])

    def target(self, index: int, task: Task) -> Target:
        return self.source.target(self.items[index], task)


@dataclass(frozen=True)
class MixedPart:
    """One data set of a mixture: how often it is seen beside the others, what its void means, and how often it is seen whole."""

    spec: str
    data: PanopticDataset
    weight: float
    labelling: Labelling
    whole_rate: float | None = None


class Mixture:
    """Several data sets one after another, as one. `training.items` decides which of them a training sample comes from."""

    def __init__(self, parts: Sequence[MixedPart]) -> None:
        self.parts = tuple(parts)
        self.starts = (0, *accumulate(len(part.data) for part in self.parts))

    @property
    def whole(self) -> PanopticDataset:
        """The mixture, or its only part as it is."""
        return self if len(self.parts) > 1 else self.parts[0].data

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.parts[0].data.categories if len(self.parts) == 1 else ()

    def __len__(self) -> int:
        return self.starts[-1]

    def image(self, index: int) -> NDArray[np.uint8]:
        part, item = self._at(index)
        return part.data.image(item)

    def map(self, index: int) -> PanopticMap:
        part, item = self._at(index)
        return part.data.map(item)

    def name(self, index: int) -> str:
        part, item = self._at(index)
        return part.data.name(item)

    def target(self, index: int, task: Task) -> Target:
        part, item = self._at(index)
        return part.data.target(item, task)

    def part_of(self, index: int) -> int:
        """The number of the data set that an item is of."""
        return bisect_right(self.starts, index) - 1

    def labelling(self, index: int) -> Labelling:
        """What void means in the map of an item."""
        return self._at(index)[0].labelling

    def whole_rate(self, index: int, default: float) -> float:
        """How often the whole of an item is shown, where windows are drawn."""
        own = self._at(index)[0].whole_rate
        return default if own is None else own

    def _at(self, index: int) -> tuple[MixedPart, int]:
        number = self.part_of(index)
        return self.parts[number], index - self.starts[number]


def labelling_of(data: PanopticDataset, said: Labelling | None = None) -> Labelling:
    """The meaning of void in a data set: `said`, or its JSON's (`info.labelling`), else `dense`."""
    if said is not None:
        return said
    told = data.records.labelling if isinstance(data, CocoPanopticDataset) else "dense"
    return told if told in get_args(Labelling) else "dense"  # type: ignore[return-value]  # other people's JSON may say anything
