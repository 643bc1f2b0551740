"""What names segments in tests: the truth of a data set, and a pipeline with a classifier of random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny import build_tiny
from torch import Tensor

from ldmseg.data.datasets import PanopticDataset, SceneDataset
from ldmseg.formats.coco_json import Category
from ldmseg.images import load_images
from ldmseg.models.classifier import SegmentClassifier
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline

SCENES = SceneDataset(3, 10_000_000, size=64)
CATEGORIES = SCENES.categories
SMALL: dict[str, Any] = {"width": 8, "stem_widths": (8,), "rates": (1, 2)}


class TrueClasses:
    """The category that the truth has at most of a segment's pixels."""

    def __init__(self, data: PanopticDataset, categories: tuple[Category, ...]) -> None:
        self.data, self.categories = data, categories

    def probabilities(self, image: Tensor, pmap: PanopticMap) -> np.ndarray:
        index = next(i for i in range(len(self.data)) if torch.equal(load_images(self.data.image(i))[0], image))
        target = self.data.map(index)
        numbers = np.array([s.category_id for s in target.segments])[target.dense]
        place = {c.id: n for n, c in enumerate(self.categories)}
        found = np.zeros((len(pmap), len(self.categories)))
        for row, segment in enumerate(pmap.segments):
            found[row, place[int(np.bincount(numbers[pmap.ids == segment.id]).argmax())]] = 1
        return found


def build_named(seed: int = 0, **options: Any) -> LDMSegPipeline:
    """`build_tiny` with a classifier of the scenes' categories."""
    pipe = build_tiny(seed, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        encoder = pipe.image_encoder
        entries = [category.to_dict() for category in CATEGORIES]
        classifier = SegmentClassifier(entries, encoder.feature_channels, encoder.feature_cell, **SMALL).eval()
    pipe.register_modules(classifier=classifier)
    pipe.set_progress_bar_config(disable=True)
    return pipe
