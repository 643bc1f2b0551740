"""Segment, or complete, every image of a data set and compare with its labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Unpack

import numpy as np
import torch

from ldmseg.codes import assign_ids, limit_segments
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.partial import drop_blocks
from ldmseg.errors import InputError
from ldmseg.evaluate.classes import Among
from ldmseg.evaluate.report import EvaluationReport
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters import Segmenter, as_segmenter


def evaluate(
    model: LDMSegPipeline | Segmenter,
    dataset: PanopticDataset,
    *,
    seed: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    class_agnostic: bool = True,
    drop_rate: float | None = None,
    block_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Unpack[InferenceKwargs],
) -> EvaluationReport:
    """Segment every image, or complete its partial map, and compare with the labels.

    Args:
        model: a pipeline, or any other segmenter.
        dataset: a `CaptionedDataset` for a model whose descriptor reads captions; of several captions the first counts.
        limit: only this many images, from the first.
        drop_rate: measure completion: this share of the labels' blocks is dropped and filled in again (figure 9).
        block_size: side of those blocks in pixels.
        class_agnostic: every segment counts as one class, and a pipeline's segments get no names. Otherwise its classifier names them, and
            it chooses among the data set's categories, which are matched by name.
        on_progress: called with (images done, images in all).
        options: of a pipeline (`InferenceOptions`).

    Raises:
        InputError: `limit` or `batch_size` is below 1, an option is out of range, or categories count and a segment has none, or the data
            set has none of the model's.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch_size < 1:
        raise InputError(f"limit, batch_size: expected at least 1, got {limit} and {batch_size}")
    own = model.own_classes if isinstance(model, LDMSegPipeline) and not class_agnostic else None
    segment = as_segmenter(model, classes="none" if own is None else Among(own, dataset.categories), **options)
    quality, seconds = PanopticQuality(dataset.categories, class_agnostic=class_agnostic), 0.0
    for first in range(0, count, batch_size):
        indices = range(first, min(first + batch_size, count))
        images, targets = [dataset.image(i) for i in indices], [dataset.map(i) for i in indices]
        captions = [dataset.captions(i)[0] for i in indices] if isinstance(dataset, CaptionedDataset) else None
        partials = None
        if drop_rate is not None:
            each = zip(targets, indices, strict=True)
            partials = [drop_blocks(target, drop_rate, block_size, np.random.default_rng([seed, i])) for target, i in each]
        started = time.monotonic()
        maps = segment(images, partials, image_seeds(seed, indices), captions)
        seconds += time.monotonic() - started
        for prediction, target in zip(maps, targets, strict=True):
            quality.update(prediction, target)
        if on_progress is not None:
            on_progress(indices[-1] + 1, count)
    completion = {} if drop_rate is None else {"drop_rate": drop_rate, "block_size": block_size}
    settings = {"seed": seed, "class_agnostic": class_agnostic, **completion, **getattr(segment, "settings", {})}
    return EvaluationReport(quality.compute(), count, seconds / count, settings)


def image_seeds(seed: int, indices: Iterable[int]) -> list[int]:
    """The seed of each of a data set's images."""
    return [seed * 1_000_003 + index for index in indices]


@torch.no_grad()
def reconstruct(autoencoder: MaskAutoencoder, pmap: PanopticMap, seed: int = 0) -> PanopticMap:
    """Encode and decode a map with random ids; the result has the map's own ids and no void (the ceiling of stage 2)."""
    num_ids, device = autoencoder.config["num_ids"], next(autoencoder.parameters()).device
    kept = limit_segments(pmap, num_ids)
    assigned = assign_ids(kept, num_ids, "random", np.random.default_rng(seed))
    coded = kept.relabel(assigned)
    height, width = pmap.shape
    logits = autoencoder.decode(autoencoder.encode(torch.from_numpy(coded.ids.astype(np.int64))[None].to(device)))
    drawn = to_panoptic(logits[0, :, :height, :width])
    own_id = {code: segment_id for segment_id, code in assigned.items()}
    spare = (i for i in range(1, num_ids + len(own_id)) if i not in assigned)
    return drawn.relabel({s.id: own_id[s.id] if s.id in own_id else next(spare) for s in drawn.segments})
