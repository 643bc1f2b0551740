"""Train the classifier that names segments, on the features of a pipeline's image encoder, which stays as it is (section 4.2, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.config import ClassifierRunConfig
from ldmseg.data.datasets import load_dataset, load_mixture
from ldmseg.data.feature_cache import FeatureCache
from ldmseg.data.transforms import View, draw_color, draw_view, draw_view_number, fixed_view
from ldmseg.evaluate.classes import evaluate_names
from ldmseg.inference.naming import ClassifierClasses
from ldmseg.models.classifier import segment_means
from ldmseg.models.pooling import coverage
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.items import Items
from ldmseg.training.naming import CategoryTable
from ldmseg.training.networks import begin_classifier
from ldmseg.training.stages.base import Stage, sample_rng
from ldmseg.visualize import contact_sheet, overlay


class Taught(NamedTuple):
    """What a view of a map teaches: of each of n segments with a category of the classifier's the `covered` cells (n, h, w) and the place
    (n,) of its category."""

    covered: Tensor
    places: NDArray[np.int64]


class Prepared(NamedTuple):
    """One sample on the CPU: photo (3, s S, s S) uint8, and what its map teaches. With `data.features` the photo is (3, S, S), and
    `features` are the backbone's."""

    photo: NDArray[np.uint8] | NDArray[np.floating]
    covered: Tensor
    places: NDArray[np.int64]
    features: tuple[NDArray[np.floating], ...] = ()


@dataclass(frozen=True)
class ClassifierBatch:
    """`photos` (B, 3, s S, s S) in 0..255, or (B, 3, S, S) with `features`; `covered` (B, n, h, w) in 0..1 and `places` (B, n), -1 where an
    image has fewer than n segments."""

    photos: Tensor
    covered: Tensor
    places: Tensor
    features: tuple[Tensor, ...] = ()


class ClassifierStage(Stage):
    """The classifier and its cross-entropy; every other network of the pipeline is frozen."""

    def __init__(self, config: ClassifierRunConfig) -> None:
        super().__init__()
        start = begin_classifier(config)
        self.config = config = start.config
        self.start, self.image_encoder, self.classifier = start.pipeline, start.pipeline.image_encoder, start.classifier
        self.mixture = load_mixture(config.data.train, size=config.data.size, segments=config.data.scene_segments)
        self.train_data = self.mixture.whole
        self.val_data = load_dataset(config.data.val, size=config.data.size, segments=config.data.scene_segments)
        self.train_items = Items.of(self.mixture, config.data.on_error, "data.train")
        self.val_items = Items(len(self.val_data), config.data.on_error, "data.val")
        self.table = CategoryTable.of(self.classifier.categories, self.mixture)
        self._taught: dict[tuple[int, View], Taught] = {}
        self.features = None
        if config.data.features is not None:
            self.features = FeatureCache.open(config.data.features, self.image_encoder, self.train_data, config.data)

    def train(self, mode: bool = True) -> ClassifierStage:
        super().train(mode)
        self.image_encoder.eval()
        return self

    # ------------------------------------------------------------------------------------------------------------------ samples
    def load_sample(self, number: int) -> Prepared:
        return self.train_items.sample(self.config.seed, number, lambda item: self._sample(number, item))

    def _sample(self, number: int, item: int) -> Prepared:
        data, rng = self.config.data, sample_rng(self.config.seed, number)
        data = data.model_copy(update={"whole_rate": self.mixture.whole_rate(item, data.whole_rate)})
        fixed = draw_view_number(data, rng) if data.windows is not None or self.features is not None else None
        pmap = self.train_data.map(item) if fixed is None else None  # the same few views need no map once they are known
        view = draw_view(pmap.shape, data, rng) if pmap is not None else fixed_view(item, fixed or 0, data)
        photo: NDArray[np.uint8] | NDArray[np.floating]
        features: tuple[NDArray[np.floating], ...] = ()
        if self.features is not None:
            photo, features = self.features.read(item, fixed or 0)
        else:
            photo = view.times(self.image_encoder.input_scale).image(self.train_data.image(item), draw_color(data.color, rng))
        taught = self._taught.get((item, view)) or self._teach(item, view, pmap)
        return Prepared(photo, taught.covered, taught.places, features)

    def _teach(self, item: int, view: View, pmap: PanopticMap | None) -> Taught:
        pmap = self.train_data.map(item) if pmap is None else pmap
        seen = pmap.with_ids(view.ids(pmap.ids))
        places = self.table.places(seen, item)  # (n,) -1 where the classifier has no such category
        known = np.flatnonzero(places >= 0)
        cells = -(-self.config.data.size // self.image_encoder.feature_cell)
        taught = Taught(coverage(seen, (cells, cells))[known], places[known])
        if self.config.cache:
            self._taught[item, view] = taught
        return taught

    def collate(self, samples: Sequence[Prepared]) -> ClassifierBatch:
        most = max(1, *(len(s.places) for s in samples))
        photos = torch.from_numpy(np.stack([s.photo for s in samples]))
        covered = torch.stack([F.pad(s.covered, (0, 0, 0, 0, 0, most - len(s.places))) for s in samples])
        places = np.stack([np.pad(s.places, (0, most - len(s.places)), constant_values=-1) for s in samples])
        features = tuple(torch.from_numpy(np.stack(maps)).float() for maps in zip(*(s.features for s in samples), strict=True))
        return ClassifierBatch(photos, covered, torch.from_numpy(places), features)

    # --------------------------------------------------------------------------------------------------------------------- loss
    def forward(self, batch: ClassifierBatch) -> dict[str, Tensor]:
        loss = self.config.loss
        logits = self.classifier.of_photos(self.image_encoder, batch.photos.float() / 127.5 - 1, batch.features).float()  # (B, K, h, w)
        there = batch.places >= 0  # (B, n)
        target = F.one_hot(batch.places.clamp(min=0), logits.shape[1]).to(logits) * there[..., None]  # (B, n, K)
        smooth = (1 - loss.smoothing) * target + loss.smoothing / logits.shape[1] * there[..., None]
        means = segment_means(logits, batch.covered)  # (B, n, K)
        # Means over each image first: how a step is divided among processes then does not matter.
        segments = _mean(-(smooth * means.log_softmax(-1)).sum(-1), there)
        wanted = torch.einsum("bnk,bnhw->bkhw", target, batch.covered)  # shares of each cell's pixels
        cells = (-(wanted * logits.log_softmax(1)).sum((1, 2, 3)) / wanted.sum((1, 2, 3)).clamp(min=1e-6)).mean()
        right = _mean((means.argmax(-1) == batch.places).float(), there)
        total = loss.segments * segments + loss.cells * cells
        return {"loss": total, "segments": segments.detach(), "cells": cells.detach(), "right": right}

    # ------------------------------------------------------------------------------------------------------------------ results
    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        """PQ of the true segments under the classifier's names."""
        device = next(self.classifier.parameters()).device
        classes = ClassifierClasses(self.classifier, self.image_encoder, self.config.data.size, device)
        data, rows = self.val_items.readable(self.val_data), list[list[Image.Image]]()

        def show(image: NDArray[np.uint8], target: PanopticMap, found: PanopticMap) -> None:
            if len(rows) < self.config.validation.samples:
                maps = [overlay(image, pmap, colors="category") for pmap in (target, found)]
                rows.append([Image.fromarray(image), *maps])

        report = evaluate_names(classes, data, limit=self.config.validation.limit, on_named=show)
        stat = report.quality.all
        return {"pq": stat.pq, "sq": stat.sq, "rq": stat.rq}, contact_sheet(rows, titles=["photo", "labels", "named"]) if rows else None

    def export(self, folder: Path) -> None:
        parts = {**self.start.components, "image_encoder": self.image_encoder, "classifier": self.classifier}
        settings = {key: self.start.config[key] for key in ("image_size", "id_policy", "inference")}
        LDMSegPipeline(**parts, **settings).save_pretrained(folder)


def _mean(values: Tensor, there: Tensor) -> Tensor:
    """(B, n) -> the mean over the images of the mean over each one's segments."""
    return ((values * there).sum(1) / there.sum(1).clamp(min=1)).mean()
