"""Mean intersection over union of semantic maps (Everingham et al., "The PASCAL Visual Object Classes Challenge", 2010)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap


@dataclass(frozen=True, slots=True)
class SemanticQuality:
    """Fractions in 0..1.

    Attributes:
        miou: mean of `iou` over the categories that occur in the truth.
        accuracy: share of the truth's pixels whose category is right.
        iou: by category id, pixels in both / pixels in either; categories that do not occur in the truth are left out.
        pixels: of the truth that count.
    """

    miou: float
    accuracy: float
    iou: dict[int, float]
    pixels: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class MeanIoU:
    """mIoU over a stream of images; pixels are counted over all of them before anything is divided.

    Maps may be semantic or of segments: a pixel counts for its segment's category. Pixels that are void or of no listed category in the
    truth do not count; where the prediction is so, it is wrong.

    Args:
        categories: what may occur.

    Raises:
        InputError: no category.
    """

    def __init__(self, categories: Iterable[Category]) -> None:
        self.categories = tuple(categories)
        if not self.categories:
            raise InputError("categories: expected at least one, got none")
        self._place = {c.id: i for i, c in enumerate(self.categories)}
        size = len(self.categories) + 1
        self._counts = np.zeros((size, size), dtype=np.int64)  # truth by prediction, no category last

    def update(self, prediction: PanopticMap, target: PanopticMap) -> None:
        """Add one image.

        Raises:
            InputError: the maps differ in size.
        """
        if prediction.shape != target.shape:
            raise InputError(f"prediction: expected the target's size {target.shape} (height, width), got {prediction.shape}")
        size = len(self._counts)
        cells = self._index(target) * size + self._index(prediction)
        self._counts += np.bincount(cells.ravel(), minlength=size * size).reshape(size, size)

    def merge(self, other: MeanIoU) -> MeanIoU:
        """Add what `other` has counted to this one, which is returned.

        Raises:
            InputError: the two have other categories.
        """
        if self.categories != other.categories:
            raise InputError("other: expected a MeanIoU with the same categories")
        self._counts += other._counts
        return self

    def compute(self) -> SemanticQuality:
        """The figures so far; without a pixel they are 0."""
        counts = self._counts[:-1]  # (categories, categories + 1): the truth's pixels that count
        both, truth = np.diag(counts), counts.sum(1)
        either = truth + counts.sum(0)[:-1] - both
        present = truth > 0
        iou = {c.id: float(both[i] / either[i]) for i, c in enumerate(self.categories) if present[i]}
        pixels = int(truth.sum())
        return SemanticQuality(
            miou=float(np.mean(list(iou.values()))) if iou else 0.0,
            accuracy=float(both.sum() / pixels) if pixels else 0.0,
            iou=iou,
            pixels=pixels,
        )

    def _index(self, pmap: PanopticMap) -> NDArray[np.intp]:
        """(H, W) place of each pixel's category, that of no category where it has none."""
        none = len(self.categories)
        places = [none if s.category_id is None else self._place.get(s.category_id, none) for s in pmap.segments]
        return np.array([*places, none], dtype=np.intp)[pmap.dense]
