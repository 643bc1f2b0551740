"""Panoptic quality (Kirillov et al., "Panoptic Segmentation", 2019), by the rules of COCO's reference program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.metrics.overlaps import ON_VOID, Overlaps, SegmentTable, map_overlaps
from ldmseg.panoptic import PanopticMap, Segment

CLASS_AGNOSTIC_ID = 1
"""The category of a segment that has none, and of every segment when classes do not count."""

# An IoU above 1/2 is a double in (1/2, 1], whose last bit is worth 2**-53: sums of such integers are exact in any order.
_IOU_UNIT = 2**53


@dataclass(frozen=True, slots=True)
class Stat:
    """Figures of one category, or the means over a group of categories; fractions in 0..1.

    Attributes:
        pq: sum of the matches' IoU / (tp + fp / 2 + fn / 2), which is sq * rq for one category.
        sq: mean IoU of the matches, 0 without any.
        rq: tp / (tp + fp / 2 + fn / 2).
        tp, fp, fn: matches, predicted segments and true segments without a match.
        n: categories with tp + fp + fn > 0, the only ones in the means; where it is 0 the other figures are 0 too.
    """

    pq: float = 0.0
    sq: float = 0.0
    rq: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class PanopticQualityResult:
    """Means over all categories, over those of things and of stuff, and every category's own figures.

    When classes do not count, `things` and `stuff` are empty (n = 0) and `per_category` holds category 1 alone.
    """

    all: Stat
    things: Stat = Stat()
    stuff: Stat = Stat()
    per_category: dict[int, Stat] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """`{"all": {"pq", "sq", "rq", "tp", "fp", "fn", "n"}, "things": .., "stuff": .., "per_category": {id: {..}}}`."""
        return asdict(self)


@dataclass(slots=True)
class _Tally:
    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou: int = 0  # in units of 2**-53

    def add(self, other: _Tally) -> None:
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        self.iou += other.iou

    def stat(self) -> Stat:
        if self.tp + self.fp + self.fn == 0:
            return Stat()
        segments = self.tp + 0.5 * self.fp + 0.5 * self.fn
        iou = self.iou / _IOU_UNIT
        return Stat(iou / segments, iou / self.tp if self.tp else 0.0, self.tp / segments, self.tp, self.fp, self.fn, 1)


class PanopticQuality:
    """PQ, SQ and RQ over a stream of images.

    A predicted and a true segment match when their categories agree and their IoU is above 0.5, where predicted pixels on the truth's
    void do not count. True crowd segments are never matched. A predicted segment without a match is forgiven when more than half of it
    lies on the truth's void and the crowd segment of its category (the last one listed, as in the reference program).

    Args:
        categories: what may occur, and which of it are things. Left out, they are collected from the segments (`isthing` unknown counts
            as a thing; a segment without a category is of category 1).
        class_agnostic: every segment counts as category 1; crowd stays crowd.
    """

    def __init__(self, categories: Iterable[Category] | None = None, class_agnostic: bool = False) -> None:
        self.class_agnostic = class_agnostic
        self.categories = None if categories is None or class_agnostic else tuple(categories)
        self._isthing: dict[int, bool | None] = {c.id: c.isthing for c in self.categories or ()}
        self._tallies: dict[int, _Tally] = {}

    def update(self, prediction: PanopticMap, target: PanopticMap) -> None:
        """Add one image.

        Raises:
            InputError: the maps differ in size, or a segment's category is not one of `categories`, or it has none.
        """
        if prediction.shape != target.shape:
            raise InputError(f"prediction: expected the target's size {target.shape} (height, width), got {prediction.shape}")
        tables = self._table(prediction.segments, "prediction"), self._table(target.segments, "target")
        self.update_overlaps(map_overlaps(prediction, target, tables))

    def update_overlaps(self, overlaps: Overlaps) -> None:
        """Add one image whose overlaps were counted elsewhere; the categories in it are taken as they are."""
        for category, tally in _tallies(overlaps):
            self._tallies.setdefault(category, _Tally()).add(tally)

    def merge(self, other: PanopticQuality) -> PanopticQuality:
        """Add what `other` has counted (another worker's images) to this one, which is returned; the order never matters.

        Raises:
            InputError: the two were made with different settings.
        """
        if (self.class_agnostic, self.categories) != (other.class_agnostic, other.categories):
            raise InputError("other: expected a PanopticQuality with the same categories and class_agnostic")
        for category, tally in other._tallies.items():
            self._tallies.setdefault(category, _Tally()).add(tally)
        for category, isthing in other._isthing.items():
            self._note(category, isthing)
        return self

    def compute(self) -> PanopticQualityResult:
        """The figures so far; a category that never occurred is listed with zeros and is in no mean."""
        known = sorted(self._tallies.keys() | self._isthing.keys())
        per_category = {c: self._tallies.get(c, _Tally()).stat() for c in known}
        if self.class_agnostic:
            return PanopticQualityResult(_mean(per_category.values()), per_category=per_category)
        things = [c for c in known if self._isthing.get(c) is not False]
        stuff = [c for c in known if self._isthing.get(c) is False]
        return PanopticQualityResult(
            all=_mean(per_category.values()),
            things=_mean(per_category[c] for c in things),
            stuff=_mean(per_category[c] for c in stuff),
            per_category=per_category,
        )

    def _table(self, segments: tuple[Segment, ...], which: str) -> SegmentTable:
        ids = np.array([s.id for s in segments], dtype=np.int64)
        crowd = np.array([s.iscrowd for s in segments], dtype=bool)
        if self.class_agnostic:
            return SegmentTable(ids, np.full(len(segments), CLASS_AGNOSTIC_ID), crowd)
        nameless = next((s.id for s in segments if s.category_id is None), None)
        if nameless is not None and self.categories is not None and set(self._isthing) != {CLASS_AGNOSTIC_ID}:
            raise InputError(f"class_agnostic: expected true for maps without categories, got false; {which}: segment {nameless} has none")
        category = [CLASS_AGNOSTIC_ID if s.category_id is None else s.category_id for s in segments]
        if self.categories is None:
            for segment, c in zip(segments, category, strict=True):
                self._note(c, segment.isthing)
        else:
            for segment, c in zip(segments, category, strict=True):
                if c not in self._isthing:
                    raise InputError(f"{which}: segment {segment.id} has category {c}, which is not one of the categories")
        return SegmentTable(ids, np.array(category, dtype=np.int64), crowd)

    def _note(self, category: int, isthing: bool | None) -> None:
        """Remember whether a category is things: a known answer beats an unknown one, "thing" beats "stuff", in any order."""
        before = self._isthing.get(category)
        self._isthing[category] = isthing if before is None else before or bool(isthing)


def _mean(stats: Iterable[Stat]) -> Stat:
    """The reference program's mean: categories that occur count the same, however many segments they have."""
    present = [s for s in stats if s.n]
    n = len(present)
    if n == 0:
        return Stat()
    pq, sq, rq = (sum(getattr(s, name) for s in present) / n for name in ("pq", "sq", "rq"))
    return Stat(pq, sq, rq, sum(s.tp for s in present), sum(s.fp for s in present), sum(s.fn for s in present), n)


def _tallies(overlaps: Overlaps) -> list[tuple[int, _Tally]]:
    """Each category's counts in one image."""
    prediction, target, pair = overlaps.prediction, overlaps.target, overlaps
    on_void = np.zeros(len(prediction), dtype=np.int64)
    of_void = (pair.target_index == ON_VOID) & (pair.prediction_index >= 0)
    on_void[pair.prediction_index[of_void]] = pair.count[of_void]

    both = (pair.target_index >= 0) & (pair.prediction_index >= 0)
    t, p, intersection = pair.target_index[both], pair.prediction_index[both], pair.count[both]
    same = target.category[t] == prediction.category[p]
    candidate = same & ~target.crowd[t]
    union = overlaps.prediction_area[p] + overlaps.target_area[t] - intersection - on_void[p]
    matched = candidate & (2 * intersection > union)
    iou = intersection[matched] / union[matched]

    # The last crowd segment of a category in the list is the one that forgives.
    last_crowd = {int(c): i for i, c in enumerate(target.category) if target.crowd[i]}
    forgiven = on_void.copy()
    if last_crowd:
        forgiving = np.array([last_crowd.get(int(c), -2) for c in prediction.category], dtype=np.intp)
        on_crowd = forgiving[p] == t
        forgiven[p[on_crowd]] += intersection[on_crowd]
    wrong = 2 * forgiven <= overlaps.prediction_area
    wrong[p[matched]] = False
    missed = ~target.crowd
    missed[t[matched]] = False

    tallies: dict[int, _Tally] = {}
    for c, value in zip(target.category[t[matched]].tolist(), (iou * _IOU_UNIT).astype(np.int64).tolist(), strict=True):
        tally = tallies.setdefault(c, _Tally())
        tally.tp += 1
        tally.iou += value
    for c in prediction.category[wrong].tolist():
        tallies.setdefault(c, _Tally()).fp += 1
    for c in target.category[missed].tolist():
        tallies.setdefault(c, _Tally()).fn += 1
    return list(tallies.items())
