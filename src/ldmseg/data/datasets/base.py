"""What every data set can do, and what some can do beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ldmseg.choices import Task
from ldmseg.dense import Target, semantic_map
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category, ImageId
from ldmseg.panoptic import PanopticMap


@runtime_checkable
class PanopticDataset(Protocol):
    """Photo, map and name of each image, read separately: stage 1 needs no photos.

    What is read from files raises an `InputError` that names the file if it is missing or damaged; the other images are not affected.
    """

    @property
    def categories(self) -> tuple[Category, ...]: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB."""
        ...

    def map(self, index: int) -> PanopticMap: ...

    def name(self, index: int) -> str:
        """The photo's file name, with the folders that it lies in below the data set's."""
        ...

    def target(self, index: int, task: Task) -> Target:
        """What a perfect model of a task would draw of an image: its map, its semantic map (`ldmseg.dense`), or its depth.

        Raises:
            InputError: the data set does not have it.
        """
        ...


class MapTargets:
    """`PanopticDataset.target` of a data set that has maps and their categories, and no depth."""

    def target(self, index: int, task: Task) -> Target:
        pmap: PanopticMap = self.map(index)  # type: ignore[attr-defined]  # of the data set that this is a part of
        if task == "panoptic":
            return pmap
        if task == "semantic":
            return semantic_map(pmap, self.categories)  # type: ignore[attr-defined]
        raise InputError(f"data: expected a data set with depth for the task depth, such as scenes:COUNT, got a {type(self).__name__}")


@runtime_checkable
class FileDataset(PanopticDataset, Protocol):
    """A data set whose photos are files."""

    def image_path(self, index: int) -> Path:
        """The photo, which may be missing or damaged.

        Raises:
            InputError: there is no place where it could be.
        """
        ...

    def image_id(self, index: int) -> ImageId:
        """What the data set calls the image; two items share it only if they are one image."""
        ...


@runtime_checkable
class AnnotatedDataset(PanopticDataset, Protocol):
    """A data set in which several people labelled each image; `map` gives one of theirs."""

    def annotators(self, index: int) -> tuple[PanopticMap, ...]:
        """The maps of all annotators of an image, at least one, in the order of the file."""
        ...

    def annotator_count(self, index: int) -> int:
        """The number of an image's maps, found without reading them."""
        ...
