"""Draw one task of every image of a data set and compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch

from ldmseg.choices import Task
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.errors import InputError
from ldmseg.evaluate.segmentation import image_seeds
from ldmseg.metrics.depth import DepthError, DepthQuality
from ldmseg.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult
from ldmseg.metrics.semantic import MeanIoU, SemanticQuality
from ldmseg.models.targets import DepthCodec, SemanticCodec, TargetCodec
from ldmseg.options import InferenceKwargs
from ldmseg.pipeline import LDMSegPipeline


@dataclass(frozen=True)
class TaskReport:
    """How well a model draws one task, and how that was measured."""

    task: Task
    quality: PanopticQualityResult | SemanticQuality | DepthQuality
    images: int
    seconds_per_image: float
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: `task`, the metric's figures, then `images`, `seconds_per_image` and `settings`."""
        return {
            "task": self.task,
            **self.quality.to_dict(),
            "images": self.images,
            "seconds_per_image": round(self.seconds_per_image, 4),
            "settings": self.settings,
        }


def evaluate_task(
    pipe: LDMSegPipeline,
    dataset: PanopticDataset,
    task: Task,
    *,
    seed: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Unpack[InferenceKwargs],
) -> TaskReport:
    """Draw a task of every image and compare: PQ of segments, mIoU of categories, AbsRel and delta1 of depth.

    Args:
        pipe: a model that draws `task`.
        dataset: one that has its truth (`PanopticDataset.target`). True depths are cut to the model's range.
        limit: only this many images, from the first.
        on_progress: called with (images done, images in all).
        options: `InferenceOptions`.

    Raises:
        InputError: the model does not draw the task, the data set does not have its truth, or an option is out of range.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch_size < 1:
        raise InputError(f"limit, batch_size: expected at least 1, got {limit} and {batch_size}")
    codec = pipe.codecs[pipe.chosen_task(task)]
    metric: Any = _metric(codec, dataset)  # takes what the task draws
    chosen, seconds = pipe.options.updated(options), 0.0
    for first in range(0, count, batch_size):
        indices = range(first, min(first + batch_size, count))
        images, targets = [dataset.image(i) for i in indices], [dataset.target(i, task) for i in indices]
        captions = [dataset.captions(i)[0] for i in indices] if isinstance(dataset, CaptionedDataset) else None
        generators = [torch.Generator().manual_seed(one) for one in image_seeds(seed, indices)]
        started = time.monotonic()
        drawn = pipe(images, generator=generators, prompt=captions, task=task, **options).maps
        seconds += time.monotonic() - started
        for prediction, target in zip(drawn, targets, strict=True):
            metric.update(prediction, target)
        if on_progress is not None:
            on_progress(indices[-1] + 1, count)
    return TaskReport(task, metric.compute(), count, seconds / count, {"seed": seed, **codec.settings(), **chosen.to_dict()})


def headline(report: TaskReport) -> dict[str, float]:
    """The figures that a training's log has of a task, by name; fractions."""
    quality = report.quality
    if isinstance(quality, SemanticQuality):
        return {"miou": quality.miou}
    if isinstance(quality, DepthQuality):
        return {"abs_rel": quality.abs_rel, "delta1": quality.delta1}
    return {"pq": quality.all.pq, "sq": quality.all.sq, "rq": quality.all.rq}


def _metric(codec: TargetCodec, dataset: PanopticDataset) -> PanopticQuality | MeanIoU | DepthError:
    if isinstance(codec, SemanticCodec):
        return MeanIoU(codec.categories)
    if isinstance(codec, DepthCodec):
        return DepthError(codec.near, codec.far)
    return PanopticQuality(dataset.categories, class_agnostic=True)
