"""Quality of the consensus of several samples beside that of one, and how well its confidence finds wrong pixels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ldmseg.atomic import atomic_write
from ldmseg.data.datasets import PanopticDataset
from ldmseg.errors import InputError
from ldmseg.images import load_images
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.finish import with_borders
from ldmseg.inference.known import KnownMap
from ldmseg.metrics.confidence import ConfidenceQuality, ConfidenceResult, right_pixels, right_segments
from ldmseg.metrics.covering import quality_matrix
from ldmseg.metrics.panoptic_quality import PanopticQuality, Stat
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.pipeline import LDMSegOutput, LDMSegPipeline

Partial = Callable[[int, PanopticMap], PanopticMap]
"""The index of an image and its true map -> what is given of it."""


@dataclass(frozen=True)
class ConsensusQuality:
    """PQ, class-agnostic, of the consensus of the first `size` samples of each image."""

    size: int
    quality: Stat


@dataclass(frozen=True)
class ConfidenceReport:
    """What K samples of each image are worth together.

    Every map that is compared has the pipeline's border step, single samples too: their difference is what the vote earns.

    Attributes:
        samples: (K,) the quality of the first sample of every image, of the second, ...
        best: of the sample of each image that has the highest PQ. It can be found only with the truth at hand.
        consensus: for 2, 4, 8, .. samples up to K.
        pixels: how well the share of samples that agree with the consensus separates right pixels from wrong ones.
        segments: the same of its segments' scores.
        alone: the same for the first sample's own scores, where each pixel has its segment's score; None where it has no scores.
        images, seconds_per_image: K samples and their consensus.
        settings: how it was measured.
    """

    samples: tuple[Stat, ...]
    best: Stat
    consensus: tuple[ConsensusQuality, ...]
    pixels: ConfidenceResult
    segments: ConfidenceResult
    alone: ConfidenceResult | None
    images: int
    seconds_per_image: float
    settings: dict[str, Any]

    @property
    def gain(self) -> float:
        """PQ of the consensus of all K samples less the mean PQ of one."""
        return self.consensus[-1].quality.pq - sum(s.pq for s in self.samples) / len(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """One JSON object; fractions in 0..1."""
        return {
            "sample_pq": [s.pq for s in self.samples],
            "sample_pq_mean": sum(s.pq for s in self.samples) / len(self.samples),
            "best_sample": asdict(self.best),
            "consensus": {str(c.size): asdict(c.quality) for c in self.consensus},
            "gain_pq": self.gain,
            "pixels": asdict(self.pixels),
            "segments": asdict(self.segments),
            "alone": None if self.alone is None else asdict(self.alone),
            "images": self.images,
            "seconds_per_image": round(self.seconds_per_image, 4),
            "settings": self.settings,
        }


def measure_confidence(
    pipe: LDMSegPipeline,
    dataset: PanopticDataset,
    *,
    ensemble_size: int = 8,
    steps: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    bins: int = 10,
    partial: Partial | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ConfidenceReport:
    """Draw K samples of every image, and compare them and their consensus with the labels.

    A pixel of the consensus is wrong when its segment does not match (IoU above 1/2) the true segment there; void in the truth is left out.

    Args:
        limit: only this many images, from the first.
        bins: of the reliability diagram.
        partial: measure completion of what this gives. The confidence is then measured where nothing was given.
        on_progress: called with (images done, images in all).
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or ensemble_size < 2:
        raise InputError(f"limit, ensemble_size: expected at least 1 and 2, got {limit} and {ensemble_size}")
    tally, seconds = _Tally(ensemble_size, bins), 0.0
    for index in range(count):
        image, target = dataset.image(index), dataset.map(index)
        given = None if partial is None else partial(index, target)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        options: dict[str, Any] = {"ensemble_size": ensemble_size, "num_inference_steps": steps, "generator": generator, "classes": "none"}
        started = time.monotonic()
        out = pipe(image, **options) if given is None else pipe.inpaint(image, given, **options)
        seconds += time.monotonic() - started
        tally.add(out, target, given, _finisher(pipe, image, given))
        if on_progress is not None:
            on_progress(index + 1, count)
    settings = {"ensemble_size": ensemble_size, "steps": pipe.options.num_inference_steps if steps is None else steps, "seed": seed}
    return tally.report(count, seconds / count, settings)


Finisher = Callable[[PanopticMap], PanopticMap]
"""A map as drawn -> with the pipeline's border step."""


def _finisher(pipe: LDMSegPipeline, image: NDArray[np.uint8], given: PanopticMap | None) -> Finisher:
    photo, known = load_images(image)[0], None if given is None else KnownMap.of(given)
    return lambda pmap: with_borders(pmap, photo, known, pipe.options)


class _Tally:
    """Everything that is counted over the images of one measurement."""

    def __init__(self, size: int, bins: int) -> None:
        self.single = [PanopticQuality(class_agnostic=True) for _ in range(size)]
        self.best = PanopticQuality(class_agnostic=True)
        self.together = {n: PanopticQuality(class_agnostic=True) for n in (2**i for i in range(1, size)) if n < size}
        self.together[size] = PanopticQuality(class_agnostic=True)
        self.pixels, self.segments, self.alone = (ConfidenceQuality(bins) for _ in range(3))
        self.scored = True

    def add(self, out: LDMSegOutput, target: PanopticMap, given: PanopticMap | None, finish: Finisher) -> None:
        """One image's ensemble."""
        assert out.samples is not None and out.confidence is not None  # an ensemble has them
        found, drawn = out.maps[0], out.samples[0]
        samples = [finish(sample) for sample in drawn]
        fixed = set() if given is None else {s.id for s in given.segments}
        counted = (target.ids != VOID) & (True if given is None else given.ids == VOID)
        for quality, sample in zip(self.single, samples, strict=True):
            quality.update(sample, target)
        self.best.update(samples[int(quality_matrix(samples, [target]).argmax())], target)
        for size, quality in self.together.items():
            quality.update(found if size == len(drawn) else finish(consensus(drawn[:size], fixed_ids=fixed).map), target)
        self.pixels.update(out.confidence[0], right_pixels(found, target), counted)
        new = [s.id not in fixed for s in found.segments]
        self.segments.update([s.score for s in found.segments], right_segments(found, target), new)
        own = [s.score for s in samples[0].segments]
        self.scored = self.scored and None not in own
        if self.scored:
            values = np.array([*own, 0.0], dtype=np.float64)[samples[0].dense]  # (H, W), 0 where void
            self.alone.update(values, right_pixels(samples[0], target), counted)

    def report(self, images: int, seconds_per_image: float, settings: dict[str, Any]) -> ConfidenceReport:
        """The figures so far."""
        return ConfidenceReport(
            tuple(q.compute().all for q in self.single),
            self.best.compute().all,
            tuple(ConsensusQuality(size, q.compute().all) for size, q in self.together.items()),
            self.pixels.compute(),
            self.segments.compute(),
            self.alone.compute() if self.scored else None,
            images,
            seconds_per_image,
            settings,
        )


def draw_reliability(results: Sequence[tuple[str, ConfidenceResult]], path: str | os.PathLike[str]) -> None:
    """Write a PNG: for each named result the accuracy in each bin against the confidence, and below it the bin's number of pixels.

    Raises:
        InputError: there is no result, or the file cannot be written.
    """
    if not results:
        raise InputError("results: expected at least one, got none")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(3.6 * len(results), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(results), squeeze=False, sharex=True, height_ratios=(3, 1))
    for (name, result), upper, lower in zip(results, *panels, strict=True):
        filled = [b for b in result.bins if b.count]
        width = 0.92 / len(result.bins)
        centres = [(b.low + b.high) / 2 for b in filled]
        upper.plot((0, 1), (0, 1), color="0.5", linestyle="--", linewidth=1)
        upper.bar(centres, [b.accuracy for b in filled], width, color="tab:blue", alpha=0.35)
        upper.plot([b.confidence for b in filled], [b.accuracy for b in filled], color="tab:blue", marker="o")
        figures = f"ECE {100 * result.ece:.1f} %" + ("" if result.auroc is None else f", AUROC {100 * result.auroc:.1f} %")
        upper.set(title=f"{name}\n{figures}", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        lower.bar(centres, [b.count / max(1, result.count) for b in filled], width, color="0.6")
        lower.set(xlabel="confidence", ylabel="share", yscale="log")
        lower.yaxis.set_minor_formatter(NullFormatter())
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
