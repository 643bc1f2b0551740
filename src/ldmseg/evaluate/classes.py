"""Names of segments measured: on true masks, where nothing but the names can be wrong, and as a data set numbers its categories."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.data.datasets import PanopticDataset
from ldmseg.errors import InputError, quoted
from ldmseg.evaluate.report import EvaluationReport
from ldmseg.formats.coco_json import Category
from ldmseg.images import load_images
from ldmseg.inference.naming import Classes, named
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.panoptic import PanopticMap


def evaluate_names(
    classes: Classes,
    dataset: PanopticDataset,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_named: Callable[[NDArray[np.uint8], PanopticMap, PanopticMap], None] | None = None,
) -> EvaluationReport:
    """Class-aware panoptic quality of true segments under other names, which are chosen among the data set's categories.

    Crowd segments are left out of what is named, because they are no segments to be found.

    Args:
        limit: only this many images, from the first.
        on_progress: called with (images done, images in all).
        on_named: called with each photo (H, W, 3), its labels, and the same segments under the names that were found.

    Raises:
        InputError: `limit` is below 1, or the data set has none of the categories.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise InputError(f"limit: expected at least 1, got {limit}")
    chosen = Among(classes, dataset.categories)
    quality, seconds = PanopticQuality(dataset.categories), 0.0
    for index in range(count):
        image, target = dataset.image(index), dataset.map(index)
        bare = nameless(target)
        started = time.monotonic()
        found = named(bare, chosen.probabilities(load_images(image)[0], bare), chosen.categories)
        seconds += time.monotonic() - started
        quality.update(found, target)
        if on_named is not None:
            on_named(image, target, found)
        if on_progress is not None:
            on_progress(index + 1, count)
    settings = {"class_agnostic": False, "true_masks": True, "categories": len(chosen.categories)}
    return EvaluationReport(quality.compute(), count, seconds / count, settings)


def nameless(pmap: PanopticMap) -> PanopticMap:
    """The segments alone: no categories, and no crowd."""
    kept = pmap.keep(s.id for s in pmap.segments if not s.iscrowd)
    return PanopticMap(kept.ids)


class Among:
    """Classes that choose among a data set's categories: those of the same name, under the data set's numbers.

    Raises:
        InputError: they have no category in common.
    """

    def __init__(self, classes: Classes, categories: Sequence[Category]) -> None:
        place = {(c.name, c.isthing): n for n, c in enumerate(classes.categories)}
        self.classes = classes
        self.categories = tuple(c for c in categories if (c.name, c.isthing) in place)
        self._columns = [place[c.name, c.isthing] for c in self.categories]
        if not self.categories:
            expected = f"a data set with some of the model's categories ({_named(classes.categories)})"
            raise InputError(f"data: expected {expected}, got {_named(categories)}")

    def probabilities(self, image: Tensor, pmap: PanopticMap) -> NDArray[np.floating]:
        """(len(pmap), categories) of each segment, each row with a sum of 1."""
        found = self.classes.probabilities(image, pmap)[:, self._columns]
        return found / np.maximum(found.sum(1, keepdims=True), np.finfo(found.dtype).tiny)


def _named(categories: Sequence[Category]) -> str:
    return quoted([c.name for c in categories])
