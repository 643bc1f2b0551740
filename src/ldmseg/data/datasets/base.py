"""What every data set can do, and what some can do beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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
