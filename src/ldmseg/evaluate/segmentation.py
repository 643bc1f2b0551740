"""Segment, or complete, every image of a data set and compare with its labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ldmseg.choices import EnsembleFlips, Sampler
from ldmseg.codes import assign_ids, limit_segments
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.partial import drop_blocks
from ldmseg.errors import InputError
from ldmseg.inference.postprocess import Thresholds, to_panoptic
from ldmseg.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline


@dataclass(frozen=True)
class EvaluationReport:
    """Quality over a data set, and how it was measured."""

    quality: PanopticQualityResult
    images: int
    seconds_per_image: float
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: the metric's groups, then `images`, `seconds_per_image` and `settings`."""
        return {
            **self.quality.to_dict(),
            "images": self.images,
            "seconds_per_image": round(self.seconds_per_image, 4),
            "settings": self.settings,
        }


def evaluate(
    pipe: LDMSegPipeline,
    dataset: PanopticDataset,
    *,
    steps: int | None = None,
    sampler: Sampler | None = None,
    ensemble_size: int = 1,
    tile_size: float | None = None,
    tile_overlap: float = 0.25,
    min_piece: int | None = None,
    ensemble_flips: EnsembleFlips | None = None,
    seed: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    thresholds: Thresholds | None = None,
    class_agnostic: bool = True,
    drop_rate: float | None = None,
    block_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Segment every image, or complete its partial map, and compare with the labels.

    Args:
        dataset: a `CaptionedDataset` for a model whose descriptor reads captions; of several captions the first counts.
        ensemble_size: draw so many samples of each image, and take what they agree on.
        tile_size, tile_overlap, min_piece, ensemble_flips: as in the pipeline.
        limit: only the first so many images.
        drop_rate: measure completion: this share of the labels' blocks is dropped and filled in again (figure 9).
        block_size: side of those blocks in pixels.
        class_agnostic: every segment counts as one class; the models draw segments without classes.
        on_progress: called with (images done, images in all).
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch_size < 1:
        raise InputError(f"limit, batch_size: expected at least 1, got {limit} and {batch_size}")
    quality, seconds = PanopticQuality(dataset.categories, class_agnostic=class_agnostic), 0.0
    for first in range(0, count, batch_size):
        indices = range(first, min(first + batch_size, count))
        images, targets = [dataset.image(i) for i in indices], [dataset.map(i) for i in indices]
        prompt = [dataset.captions(i)[0] for i in indices] if isinstance(dataset, CaptionedDataset) else None
        asked: dict[str, Any] = {"num_inference_steps": steps, "sampler": sampler, "thresholds": thresholds, "prompt": prompt}
        asked |= {"ensemble_size": ensemble_size, "ensemble_flips": ensemble_flips}
        asked |= {"tile_size": tile_size, "tile_overlap": tile_overlap, "min_piece": min_piece}
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in indices]
        started = time.monotonic()
        if drop_rate is None:
            maps = pipe(images, generator=generators, **asked).maps
        else:
            given = [drop_blocks(t, drop_rate, block_size, np.random.default_rng([seed, i])) for t, i in zip(targets, indices, strict=True)]
            maps = pipe.inpaint(images, given, generator=generators, **asked).maps
        seconds += time.monotonic() - started
        for prediction, target in zip(maps, targets, strict=True):
            quality.update(prediction, target)
        if on_progress is not None:
            on_progress(indices[-1] + 1, count)
    settings = {
        "steps": steps if steps is not None else pipe.config["num_inference_steps"],
        "sampler": sampler if sampler is not None else pipe.config["sampler"],
        "seed": seed,
        "class_agnostic": class_agnostic,
        **({"ensemble_size": ensemble_size} if ensemble_size > 1 else {}),
        **({"tile_size": tile_size, "tile_overlap": tile_overlap} if tile_size is not None else {}),
        **{k: v for k, v in {"min_piece": min_piece, "ensemble_flips": ensemble_flips}.items() if v is not None},
        **({} if drop_rate is None else {"drop_rate": drop_rate, "block_size": block_size}),
    }
    return EvaluationReport(quality.compute(), count, seconds / count, settings)


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
