"""Average precision of instances, in the three senses in which papers give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.metrics.iou import pair_iou
from ldmseg.panoptic import VOID, PanopticMap

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""0.5, 0.55, .., 0.95."""

_RECALLS = np.linspace(0, 1, 101)  # COCO's


@dataclass(frozen=True)
class AveragePrecisionResult:
    """Counts and figures at T thresholds of IoU.

    Attributes:
        thresholds: (T,), rising.
        tp, fp, fn: (T,) matched pairs, predictions without a match and instances without one, over all images.
        dsb: (T,) TP / (TP + FP + FN) of each image, mean over images: the measure of the Data Science Bowl 2018 (Caicedo et al.,
            "Nucleus segmentation across imaging experiments", 2019). An image with nothing to find in which nothing is found counts 1.
        pooled: (T,) TP / (TP + FP + FN) of all images' counts together, as StarDist gives it for a data set (Schmidt et al., 2018).
        coco: (T,) area under the curve of precision over recall, read at 101 recalls (Lin et al., "Microsoft COCO", 2014), where
            predictions are ranked by score; None if one has no score, 0 without instances. There is no limit on predictions per image.
        images: how many.
    """

    thresholds: tuple[float, ...]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    dsb: NDArray[np.float64]
    pooled: NDArray[np.float64]
    coco: NDArray[np.float64] | None
    images: int

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: of each sense the mean over the thresholds and the values, as fractions."""
        senses = {"dsb": self.dsb, "pooled": self.pooled, "coco": self.coco}
        figures = {
            name: None if values is None else {"mean": float(values.mean()), "at": values.tolist()} for name, values in senses.items()
        }
        counts = {name: getattr(self, name).tolist() for name in ("tp", "fp", "fn")}
        return {"thresholds": list(self.thresholds), **figures, **counts, "images": self.images}


class AveragePrecision:
    """Average precision over a stream of images, without classes.

    Instances are the true segments that are not stuff (`isthing` False); one of unknown kind is an instance. Predictions are the predicted
    segments that are not stuff either; one of unknown kind that matches true stuff (IoU above 0.5) is taken for that stuff and does not
    count. An instance has at most one prediction, found in the order of the scores. Void and crowd of the truth take no part: predicted
    pixels there do not count in the IoU, and a prediction without a match of which more than half lies there is forgiven.

    Args:
        thresholds: of the IoU that a match needs at least, in 0.5..1, where a match is unique.

    Raises:
        InputError: no threshold, or one outside 0.5..1.
    """

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.thresholds = tuple(sorted(float(t) for t in thresholds))
        if not self.thresholds or not all(0.5 <= t <= 1 for t in self.thresholds):
            raise InputError(f"thresholds: expected at least one, each in 0.5..1, got {list(thresholds)}")
        self._iou: list[NDArray[np.float64]] = []  # of each image's predictions with their instances, 0 without one
        self._score: list[NDArray[np.float64]] = []  # beside them, NaN where unknown
        self._forgiven: list[NDArray[np.bool_]] = []
        self._instances: list[int] = []

    def update(self, prediction: PanopticMap, target: PanopticMap) -> None:
        """Add one image.

        Raises:
            InputError: the maps differ in size.
        """
        truth = target.keep(s.id for s in target.segments if not s.iscrowd)  # crowd is void
        pairs = pair_iou(prediction, truth)
        stuff = np.array([s.isthing is False for s in truth.segments], dtype=bool)
        known = np.array([s.isthing is not None for s in prediction.segments], dtype=bool)
        score = np.array([np.nan if s.score is None else s.score for s in prediction.segments])
        is_stuff = np.array([s.isthing is False for s in prediction.segments], dtype=bool)
        background = pairs.prediction[(pairs.iou > 0.5) & stuff[pairs.target]]
        is_stuff[background] |= ~known[background]

        candidate = (pairs.iou >= 0.5) & ~stuff[pairs.target] & ~is_stuff[pairs.prediction]
        matched = _matched(len(prediction), score, pairs.prediction[candidate], pairs.target[candidate], pairs.iou[candidate])
        on_void = np.bincount(prediction.dense[(truth.ids == VOID) & (prediction.ids != VOID)], minlength=len(prediction))
        counted = ~is_stuff
        self._iou.append(matched[counted])
        self._score.append(score[counted])
        self._forgiven.append((2 * on_void > prediction.areas)[counted])
        self._instances.append(int((~stuff).sum()))

    def merge(self, other: AveragePrecision) -> AveragePrecision:
        """Add what `other` has counted to this one, which is returned.

        Raises:
            InputError: the two have different thresholds.
        """
        if self.thresholds != other.thresholds:
            raise InputError(f"other: expected the thresholds {list(self.thresholds)}, got {list(other.thresholds)}")
        for name in ("_iou", "_score", "_forgiven", "_instances"):
            getattr(self, name).extend(getattr(other, name))
        return self

    def compute(self) -> AveragePrecisionResult:
        """The figures so far; zeros where there are no images."""
        images, instances = len(self._instances), np.array(self._instances, dtype=np.int64)
        level = np.array(self.thresholds)[:, None]  # (T, 1)
        iou, forgiven = (np.concatenate([[], *parts]) for parts in (self._iou, self._forgiven))
        right = iou >= level  # (T, P)
        wrong = ~right & ~forgiven.astype(bool)
        image = np.repeat(np.arange(images), [len(found) for found in self._iou])
        tp, fp = (np.stack([np.bincount(image[row], minlength=images) for row in rows]) for rows in (right, wrong))  # (T, images)
        fn = instances - tp
        return AveragePrecisionResult(
            thresholds=self.thresholds,
            tp=tp.sum(1),
            fp=fp.sum(1),
            fn=fn.sum(1),
            dsb=_share(tp, fp, fn).mean(1) if images else np.zeros(len(level)),
            pooled=_share(tp.sum(1), fp.sum(1), fn.sum(1)) if images else np.zeros(len(level)),
            coco=self._coco(right, wrong, int(instances.sum())),
            images=images,
        )

    def _coco(self, right: NDArray[np.bool_], wrong: NDArray[np.bool_], instances: int) -> NDArray[np.float64] | None:
        score = np.concatenate([[], *self._score])
        if np.isnan(score).any():
            return None
        order = np.argsort(-score, kind="stable")  # of equal scores the earlier image is first, as in COCO's program
        return np.array([_curve_area(r[order], w[order], instances) for r, w in zip(right, wrong, strict=True)])


def _matched(
    count: int, score: NDArray[np.float64], prediction: NDArray[np.intp], target: NDArray[np.intp], iou: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(count,) each prediction's IoU with its instance, 0 for none, from the pairs with an IoU of at least 0.5.

    Above 0.5 no segment is in two pairs. At exactly 0.5 one can be: the highest score chooses first.
    """
    matched = np.zeros(count)
    taken: set[int] = set()
    for index in np.lexsort((target, -iou, -np.nan_to_num(score)[prediction])):
        p, t = int(prediction[index]), int(target[index])
        if matched[p] == 0 and t not in taken:
            matched[p] = iou[index]
            taken.add(t)
    return matched


def _share(tp: NDArray[np.int64], fp: NDArray[np.int64], fn: NDArray[np.int64]) -> NDArray[np.float64]:
    total = tp + fp + fn
    return np.where(total > 0, tp / np.maximum(total, 1), 1.0)


def _curve_area(right: NDArray[np.bool_], wrong: NDArray[np.bool_], instances: int) -> float:
    """Mean over the 101 recalls of the best precision at that recall or above; predictions come in falling order of score."""
    if instances == 0:
        return 0.0
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    precision = np.append(hits / np.maximum(hits + misses, 1), 0.0)  # the last serves recalls that are never reached
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[np.searchsorted(hits / instances, _RECALLS, side="left")].mean())
