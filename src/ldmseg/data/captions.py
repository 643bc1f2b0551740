"""A data set together with the captions of its photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmseg.choices import Task
from ldmseg.data.datasets import PanopticDataset
from ldmseg.dense import Target
from ldmseg.formats.captions import Captions
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True)
class CaptionedDataset:
    """A data set whose photos have captions, as a data set; for models whose descriptor reads them."""

    source: PanopticDataset
    texts: Captions

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.source.categories

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.source.image(index)

    def map(self, index: int) -> PanopticMap:
        return self.source.map(index)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def target(self, index: int, task: Task) -> Target:
        return self.source.target(index, task)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of a photo, by one or several people.

        Raises:
            InputError: nothing is.
        """
        return self.texts.of(self.source.name(index))

    def check(self) -> None:
        """Every photo has a caption; no picture is opened.

        Raises:
            InputError: one has none.
        """
        for index in range(len(self.source)):
            self.captions(index)
