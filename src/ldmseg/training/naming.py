"""The categories of several data sets as those of one classifier: by name, because numbers differ from set to set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.datasets import Mixture
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap

logger = logging.getLogger(__name__)


class CategoryTable:
    """Of each data set of a mixture, its categories' places among the classifier's.

    Args:
        places: of each data set, category id -> place; categories that the classifier does not have are left out.
        mixture: whose items are asked for.
    """

    def __init__(self, places: Sequence[dict[int, int]], mixture: Mixture) -> None:
        self._places, self._mixture = tuple(places), mixture

    @classmethod
    def of(cls, categories: Sequence[Category], mixture: Mixture) -> Self:
        """By name and by whether they are things.

        Raises:
            InputError: a data set has no category of the classifier's.
        """
        place = {(c.name, c.isthing): n for n, c in enumerate(categories)}
        found = []
        for part in mixture.parts:
            own = {c.id: place[c.name, c.isthing] for c in part.data.categories if (c.name, c.isthing) in place}
            if not own:
                raise InputError(f"data.train: expected a data set with some of the classifier's categories, got '{part.spec}' with none")
            if len(own) < len(part.data.categories):
                logger.info("%s: %d of %d categories are the classifier's", part.spec, len(own), len(part.data.categories))
            found.append(own)
        return cls(found, mixture)

    def places(self, pmap: PanopticMap, item: int) -> NDArray[np.int64]:
        """(len(pmap),) the place of each segment's category, -1 where the classifier does not have it."""
        own = self._places[self._mixture.part_of(item)]
        return np.array([own.get(-1 if s.category_id is None else s.category_id, -1) for s in pmap.segments], dtype=np.int64)


def classifier_categories(said: Sequence[Category], where: str) -> tuple[Category, ...]:
    """Those that a classifier can learn to tell apart.

    Raises:
        InputError: there are fewer than two, as in a data set without classes.
    """
    if len(said) < 2:
        raise InputError(f"categories: expected a data set with at least 2 categories, got '{where}' with {len(said)}")
    return tuple(said)
