"""Names of segments measured: on true masks, where nothing but the names can be wrong, and as a data set numbers its categories."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
    """Class-aware panoptic quality of true segments under other names.

    Crowd segments are left out of what is named, because they are no segments to be found.

    Args:
        limit: only this many images, from the first.
        on_progress: called with (images done, images in all).
        on_named: called with each photo (H, W, 3), its labels, and the same segments under the names that were found.

    Raises:
        InputError: `limit` is below 1, or the data set lacks a category that segments may get.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise InputError(f"limit: expected at least 1, got {limit}")
    numbers = category_numbers(classes.categories, dataset.categories)
    quality, seconds = PanopticQuality(dataset.categories), 0.0
    for index in range(count):
        image, target = dataset.image(index), dataset.map(index)
        bare = nameless(target)
        started = time.monotonic()
        found = named(bare, classes.probabilities(load_images(image)[0], bare), classes.categories)
        seconds += time.monotonic() - started
        found = renumbered(found, numbers)
        quality.update(found, target)
        if on_named is not None:
            on_named(image, target, found)
        if on_progress is not None:
            on_progress(index + 1, count)
    return EvaluationReport(quality.compute(), count, seconds / count, {"class_agnostic": False, "true_masks": True})


def nameless(pmap: PanopticMap) -> PanopticMap:
    """The segments alone: no categories, and no crowd."""
    kept = pmap.keep(s.id for s in pmap.segments if not s.iscrowd)
    return PanopticMap(kept.ids)


def category_numbers(own: Sequence[Category], wanted: Sequence[Category]) -> dict[int, int]:
    """The data set's number of each category that segments may get; they are the same by name and by whether they are things.

    Raises:
        InputError: the data set lacks one.
    """
    theirs = {(c.name, c.isthing): c.id for c in wanted}
    lacking = [c for c in own if (c.name, c.isthing) not in theirs]
    if lacking:
        rest = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise InputError(f"data: expected a data set with all of the {len(own)} categories of the model, got none {quoted(lacking[0].name)}{rest}")
    return {c.id: theirs[c.name, c.isthing] for c in own}


def renumbered(pmap: PanopticMap, numbers: Mapping[int, int]) -> PanopticMap:
    """The same segments under another data set's numbers of their categories."""
    if all(number == other for number, other in numbers.items()):
        return pmap
    changed = (s if s.category_id is None else replace(s, category_id=numbers[s.category_id]) for s in pmap.segments)
    return PanopticMap(pmap.ids, tuple(changed))
