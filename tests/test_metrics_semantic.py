from __future__ import annotations

import numpy as np
import pytest

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.metrics.semantic import MeanIoU
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(5, "a"), Category(2, "b", isthing=False), Category(8, "c"))


def of_categories(rows: list[list[int]]) -> PanopticMap:
    """A map whose segments' ids are their categories."""
    ids = np.array(rows)
    return PanopticMap(ids, tuple(Segment(int(i), int(i)) for i in np.unique(ids) if i))


def test_known_answer() -> None:
    metric = MeanIoU(CATEGORIES)
    metric.update(of_categories([[5, 5, 2, 2]]), of_categories([[5, 2, 2, 2]]))
    found = metric.compute()
    assert found.iou == {5: 0.5, 2: pytest.approx(2 / 3)}
    assert found.miou == pytest.approx((1 / 2 + 2 / 3) / 2) and found.accuracy == 0.75 and found.pixels == 4


def test_pixels_are_counted_over_all_images() -> None:
    metric, halves = MeanIoU(CATEGORIES), [MeanIoU(CATEGORIES), MeanIoU(CATEGORIES)]
    pairs = [([[5, 5, 5]], [[5, 5, 5]]), ([[2]], [[5]])]
    for (drawn, true), half in zip(pairs, halves, strict=True):
        metric.update(of_categories(drawn), of_categories(true))
        half.update(of_categories(drawn), of_categories(true))
    assert metric.compute().miou == 0.75 == halves[0].merge(halves[1]).compute().miou  # and not the mean of 1 and 0


def test_the_truths_void_does_not_count_and_the_predictions_is_wrong() -> None:
    metric = MeanIoU(CATEGORIES)
    metric.update(of_categories([[5, 0, 8]]), of_categories([[5, 5, 0]]))
    assert metric.compute().iou == {5: 0.5}


def test_segments_of_a_category_count_together() -> None:
    metric = MeanIoU(CATEGORIES)
    metric.update(PanopticMap(np.array([[1, 2, 3]]), (Segment(1, 5), Segment(2, 5), Segment(3, None))), of_categories([[5, 5, 2]]))
    assert metric.compute().iou == {5: 1.0, 2: 0.0}


def test_nothing_and_mistakes() -> None:
    assert MeanIoU(CATEGORIES).compute().to_dict() == {"miou": 0.0, "accuracy": 0.0, "iou": {}, "pixels": 0}
    with pytest.raises(InputError, match="categories: expected at least one"):
        MeanIoU([])
    with pytest.raises(InputError, match=r"prediction: expected the target's size \(1, 1\)"):
        MeanIoU(CATEGORIES).update(of_categories([[5, 5]]), of_categories([[5]]))
    with pytest.raises(InputError, match="other: expected a MeanIoU with the same categories"):
        MeanIoU(CATEGORIES).merge(MeanIoU(CATEGORIES[:2]))
