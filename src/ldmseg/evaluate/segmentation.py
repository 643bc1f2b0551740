"""Segment, or complete, every image of a data set and compare with its labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from ldmseg import __version__
from ldmseg.atomic import write_json
from ldmseg.codes import assign_ids, limit_segments
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.partial import drop_blocks
from ldmseg.errors import InputError
from ldmseg.evaluate.classes import Among
from ldmseg.evaluate.predictions import Predictions, open_predictions
from ldmseg.evaluate.report import EvaluationReport
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters import Photo, Segmenter, as_segmenter

REPORT = "report.json"


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
    output: str | PathLike[str] | None = None,
    origin: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Unpack[InferenceKwargs],
) -> EvaluationReport:
    """Segment every image, or complete its partial map, and compare with the labels.

    Photos are read, segmented and compared in batches. Of a finished photo only counts are kept in memory and, with `output`, the place of
    its line.

    Args:
        model: a pipeline, or any other segmenter.
        dataset: a `CaptionedDataset` for a model whose descriptor reads captions; of several captions the first counts.
        limit: only this many images, from the first.
        drop_rate: measure completion: this share of the labels' blocks is dropped and filled in again (figure 9).
        block_size: side of those blocks in pixels.
        class_agnostic: every segment counts as one class, and a pipeline's segments get no names. Otherwise its classifier names them, and
            it chooses among the data set's categories, which are matched by name.
        output: a folder for the maps (`Predictions`): `panoptic.json` with its PNGs, COCO's panoptic format, and `report.json`. A call with
            the same arguments continues where an earlier one ended. Its `limit` may be another.
        origin: what else the maps depend on and the folder must agree in, in plain values: the names of model and data set, a checksum.
        on_progress: called with (images done, images in all).
        options: of a pipeline (`InferenceOptions`).

    Raises:
        InputError: `limit` or `batch_size` is below 1, an option is out of range, `output` holds the maps of another evaluation, or
            categories count and a segment has none, or the data set has none of the model's.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch_size < 1:
        raise InputError(f"limit, batch_size: expected at least 1, got {limit} and {batch_size}")
    own = model.own_classes if isinstance(model, LDMSegPipeline) and not class_agnostic else None
    segment = as_segmenter(model, classes="none" if own is None else Among(own, dataset.categories), **options)
    completion = {} if drop_rate is None else {"drop_rate": drop_rate, "block_size": block_size}
    settings = {"seed": seed, "class_agnostic": class_agnostic, **completion, **getattr(segment, "settings", {})}
    quality, seconds = PanopticQuality(dataset.categories, class_agnostic=class_agnostic), 0.0

    def draw(indices: Sequence[int]) -> Iterator[tuple[int, PanopticMap, float]]:
        if indices:
            each = _inputs(dataset, indices, seed, drop_rate, block_size)
            started = time.monotonic()
            maps = segment(each.images, each.partials, image_seeds(seed, indices), each.captions)
            share = (time.monotonic() - started) / len(indices)
            yield from ((index, pmap, share) for index, pmap in zip(indices, maps, strict=True))

    header = {"origin": dict(origin or {}), "settings": settings}
    opened = nullcontext() if output is None else open_predictions(Path(output), dataset, header, class_agnostic=class_agnostic)
    with opened as predictions:
        for first in range(0, count, batch_size):
            indices = range(first, min(first + batch_size, count))
            for index, pmap, spent in _each_map(indices, draw, predictions):
                quality.update(pmap, dataset.map(index))
                seconds += spent
            if on_progress is not None:
                on_progress(indices[-1] + 1, count)
        report = EvaluationReport(quality.compute(), count, seconds / count, settings)
        if predictions is not None:
            info = {"description": "ldmseg evaluate", "version": __version__, **header}
            predictions.write_json(count, info)
            write_json(predictions.folder / REPORT, report.to_dict(), indent=2)
    return report


@dataclass(frozen=True)
class _Inputs:
    """What a segmenter gets of a batch."""

    images: list[Photo]
    partials: list[PanopticMap] | None
    captions: list[str] | None


def _inputs(dataset: PanopticDataset, indices: Sequence[int], seed: int, drop_rate: float | None, block_size: int) -> _Inputs:
    captions = [dataset.captions(i)[0] for i in indices] if isinstance(dataset, CaptionedDataset) else None
    partials = None
    if drop_rate is not None:
        partials = [drop_blocks(dataset.map(i), drop_rate, block_size, np.random.default_rng([seed, i])) for i in indices]
    return _Inputs([dataset.image(i) for i in indices], partials, captions)


def _each_map(
    indices: Sequence[int],
    draw: Callable[[Sequence[int]], Iterator[tuple[int, PanopticMap, float]]],
    predictions: Predictions | None,
) -> Iterator[tuple[int, PanopticMap, float]]:
    """The map of each image, with the segmenter's seconds: from the folder where it is there, else drawn, and then saved."""
    there = [] if predictions is None else [index for index in indices if index in predictions]
    for index in there:
        assert predictions is not None
        yield (index, *predictions.read(index))
    for index, pmap, spent in draw([index for index in indices if index not in there]):
        if predictions is not None:
            predictions.add(index, pmap, spent)
        yield index, pmap, spent


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
