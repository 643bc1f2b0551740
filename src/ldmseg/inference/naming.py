"""Names for the segments of a map: a category and a score for each, and one segment for all stuff of a category."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import Task
from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.images import image_batch
from ldmseg.models.classifier import SegmentClassifier, segment_means
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.pooling import coverage
from ldmseg.panoptic import PanopticMap, Segment


@runtime_checkable
class Classes(Protocol):
    """What can tell of which category the segments of a map are.

    Attributes:
        categories: what they may be.
    """

    @property
    def categories(self) -> tuple[Category, ...]: ...

    def probabilities(self, image: Tensor, pmap: PanopticMap) -> NDArray[np.floating]:
        """(len(pmap), len(categories)) of each segment, each row with a sum of 1.

        Args:
            image: (3, H, W) the photo, uint8 or floats in 0..1.
            pmap: (H, W).
        """
        ...


ClassesInput = Classes | Literal["own", "none"]
"""`own`: those of the model's classifier where it has one. `none`: segments get no names."""


class ClassifierClasses:
    """A pipeline's classifier on the features of its image encoder.

    Args:
        size: pixels of the map's square, which photos are scaled to.
        device: where both networks are.
    """

    def __init__(self, classifier: SegmentClassifier, encoder: ImageEncoder, size: int, device: torch.device) -> None:
        self.classifier, self.encoder, self.size, self.device = classifier, encoder, size, device

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.classifier.categories

    @torch.no_grad()
    def probabilities(self, image: Tensor, pmap: PanopticMap) -> NDArray[np.floating]:
        photos = image_batch([image], self.size * self.encoder.input_scale)  # (1, 3, s S, s S)
        logits = self.classifier.of_photos(self.encoder, photos.to(self.device, self.encoder.dtype))[0].float()  # (K, h, w)
        covered = coverage(pmap, (logits.shape[-2], logits.shape[-1])).to(self.device)
        return segment_means(logits, covered).softmax(-1).cpu().numpy()


def named(
    pmap: PanopticMap, probabilities: NDArray[np.floating], categories: Sequence[Category], given: Collection[int] = ()
) -> PanopticMap:
    """The map with each segment's most probable category, and stuff of one category as one segment.

    A segment's score becomes its score as drawn times the probability of its category (Cheng et al. 2022, Mask2Former); where several
    become one, the mean over their pixels.

    Args:
        pmap: (H, W).
        probabilities: (len(pmap), len(categories)).
        given: ids of segments that were given. They keep their pixels and ids, and a category that they have. New stuff joins them.

    Raises:
        InputError: `probabilities` is of another shape.
    """
    if probabilities.shape != (len(pmap), len(categories)):
        raise InputError(f"probabilities: expected shape {(len(pmap), len(categories))}, got {probabilities.shape}")
    best = probabilities.argmax(1) if len(pmap) else []
    labelled = []
    for segment, row, index in zip(pmap.segments, probabilities, best, strict=True):
        if segment.id in given and segment.category_id is not None:
            labelled.append(segment)
            continue
        sure = float(row[index]) * (1.0 if segment.score is None else segment.score)
        found = categories[index]
        labelled.append(replace(segment, category_id=found.id, isthing=found.isthing, score=round(sure, 4)))
    return _with_stuff_joined(PanopticMap(pmap.ids, tuple(labelled)), given)


def _with_stuff_joined(pmap: PanopticMap, given: Collection[int]) -> PanopticMap:
    areas = dict(zip((s.id for s in pmap.segments), pmap.areas.tolist(), strict=True))
    groups: dict[int | None, list[Segment]] = {}
    for segment in pmap.segments:
        if segment.isthing is False and not segment.iscrowd:
            groups.setdefault(segment.category_id, []).append(segment)
    becomes, joined = dict[int, int](), {s.id: s for s in pmap.segments}
    for group in groups.values():
        kept = max(group, key=lambda s: (s.id in given, areas[s.id], -s.id))
        gone = [s for s in group if s.id != kept.id and s.id not in given]
        if not gone:
            continue
        becomes |= {s.id: kept.id for s in gone}
        if kept.id not in given:
            scores = [(s.score or 0.0) * areas[s.id] for s in (kept, *gone)]
            joined[kept.id] = replace(kept, score=round(sum(scores) / sum(areas[s.id] for s in (kept, *gone)), 4))
        for segment in gone:
            del joined[segment.id]
    if not becomes:
        return pmap
    table = np.array([*(becomes.get(s.id, s.id) for s in pmap.segments), 0])  # the last entry serves dense == -1
    return PanopticMap(table[pmap.dense], tuple(joined.values()))


def chosen_classes(classes: ClassesInput, own: Classes | None, task: Task = "panoptic") -> Classes | None:
    """What names the segments of a call; None where nothing does, as with every task but segments.

    Raises:
        InputError: `classes` is none of what it may be, or names segments where the task draws none.
    """
    if isinstance(classes, str):
        if classes not in ("own", "none"):
            raise InputError(f"classes: expected own, none or an OpenVocabulary, got {quoted(classes)}")
        return own if classes == "own" and task == "panoptic" else None
    if not isinstance(classes, Classes):
        raise InputError(f"classes: expected own, none or an OpenVocabulary, got {type(classes).__name__}")
    if task != "panoptic":
        raise InputError(f"classes: expected none with task {task}, because it is about segments, got {type(classes).__name__}")
    return classes
