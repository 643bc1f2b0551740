"""The completion protocol: kinds of partial maps x densities x methods, with baselines, on the same partial maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack, get_args

import numpy as np

from ldmseg.choices import InpaintMethod
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.cases import Case, make_cases
from ldmseg.data.datasets import PanopticDataset
from ldmseg.errors import InputError, quoted
from ldmseg.evaluate.segmentation import image_seeds
from ldmseg.metrics.iou import pair_iou
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.segmenters import Baseline, BaselineSegmenter, PipelineSegmenter, Segmenter

AS_DRAWN = ", as drawn"
"""What a row's method is called after whose borders were left as the network drew them."""


@dataclass(frozen=True)
class CompletionScore:
    """One row of the table: one method on one kind of partial maps. Fractions in 0..1; None where there was nothing to measure.

    A pixel is *unknown* where the partial map is void, and *known* where it gives the true id: everywhere else, except in a noisy label.

    Attributes:
        case, method: what was given, and who completed it (a method of the pipeline, or a baseline).
        pq, sq, rq: panoptic quality of the whole map, class-agnostic.
        pq_unknown: PQ on the unknown pixels. All others are void in the truth *and* in the result, so that they count for nothing:
            neither for an IoU, nor for the area by which an unmatched segment is forgiven for lying on void.
        miou_given: IoU between a given id's segment in the result and the true segment of that id, the mean over all given ids. The truth's
            void does not count.
        fidelity: share of the known pixels that the result left unchanged. 1 unless the case is noisy, or something is broken.
        ids_kept: share of the given ids that occur in the result.
        seconds_per_image: of completing alone.
    """

    case: Case
    method: str
    pq: float
    sq: float
    rq: float
    pq_unknown: float | None
    miou_given: float | None
    fidelity: float | None
    ids_kept: float | None
    seconds_per_image: float

    def to_dict(self) -> dict[str, Any]:
        """The case's fields, then the method's figures, in one object."""
        names = ("method", "pq", "sq", "rq", "pq_unknown", "miou_given", "fidelity", "ids_kept")
        return {
            **self.case.to_dict(),
            **{name: getattr(self, name) for name in names},
            "seconds_per_image": round(self.seconds_per_image, 4),
        }


@dataclass(frozen=True)
class InpaintingReport:
    """The table, and how it was measured."""

    scores: tuple[CompletionScore, ...]
    images: int
    settings: dict[str, Any]

    @property
    def cases(self) -> tuple[Case, ...]:
        """In the order of the table, each once."""
        return tuple(dict.fromkeys(s.case for s in self.scores))

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.method for s in self.scores))

    def score(self, case: Case, method: str) -> CompletionScore | None:
        """None where the method was not tried on that case."""
        return next((s for s in self.scores if (s.case, s.method) == (case, method)), None)

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: `scores` (a list, one object per row), `images` and `settings`."""
        return {"scores": [s.to_dict() for s in self.scores], "images": self.images, "settings": self.settings}


def evaluate_inpainting(
    pipe: LDMSegPipeline,
    dataset: PanopticDataset,
    *,
    cases: Sequence[Case] | None = None,
    methods: Sequence[InpaintMethod] | None = None,
    baselines: Sequence[Baseline] = get_args(Baseline),
    others: Mapping[str, Segmenter] | None = None,
    also_drawn: bool = False,
    seed: int = 0,
    batch_size: int = 8,
    limit: int | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    **options: Unpack[InferenceKwargs],
) -> InpaintingReport:
    """Complete the partial maps of every case by every method and baseline, and compare with the labels.

    An image's partial map (`Case.make`) and its noise are functions of `seed` and the image's index: every method completes the same
    maps, and of a map with more segments than the model has ids every method gets the largest.

    Args:
        dataset: a `CaptionedDataset` for a model whose descriptor reads captions; of several captions the first counts.
        cases: what is given; left out, every kind that is right where it is (`make_cases`).
        methods: each is tried on every case. Left out: those that this model has and that the case is for (`default_methods`).
        baselines: see `ldmseg.segmenters.baselines`; () for none.
        others: further segmenters, each tried on every case under its name.
        also_drawn: every method is tried once more with borders as it drew them (`AS_DRAWN` after its name): what the network does alone.
        limit: only the first so many images.
        on_progress: called with (maps completed, maps in all, what is being done).
        options: of the pipeline (`InferenceOptions`), for every method.

    Raises:
        InputError: an unknown method or baseline, `limit` or `batch_size` below 1, nothing to run, an option out of range.
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1 or batch_size < 1:
        raise InputError(f"limit, batch_size: expected at least 1, got {limit} and {batch_size}")
    for method in methods or ():
        if method not in get_args(InpaintMethod):
            raise InputError(f"methods: expected some of {', '.join(get_args(InpaintMethod))}, got {quoted(method)}")
    run: dict[str, Segmenter] = {m: PipelineSegmenter(pipe, **{**options, "method": m}) for m in get_args(InpaintMethod)}
    run |= {m + AS_DRAWN: PipelineSegmenter(pipe, **{**options, "method": m, "boundaries": "drawn"}) for m in get_args(InpaintMethod)}
    run |= {name: BaselineSegmenter(name) for name in baselines} | dict(others or {})
    endings = ("", AS_DRAWN) if also_drawn else ("",)
    tallies = {}
    for case in cases or make_cases():
        learned = [m + ending for m in (default_methods(pipe, case) if methods is None else methods) for ending in endings]
        tallies[case] = {name: _Tally() for name in [*learned, *baselines, *(others or {})]}
    rows = sum(len(by_name) for by_name in tallies.values())
    if not rows:
        raise InputError("methods, baselines: expected at least one, got none")
    most, done = pipe.mask_autoencoder.config["num_ids"] - 1, 0
    for first in range(0, count, batch_size):
        indices = range(first, min(first + batch_size, count))
        images, targets = [dataset.image(i) for i in indices], [dataset.map(i) for i in indices]
        captions = [dataset.captions(i)[0] for i in indices] if isinstance(dataset, CaptionedDataset) else None
        for case, by_name in tallies.items():
            given = [case.make(t, seed, i).largest(most) for t, i in zip(targets, indices, strict=True)]
            for name, tally in by_name.items():
                started = time.monotonic()
                results = run[name](images, given, image_seeds(seed, indices), captions)
                tally.seconds += time.monotonic() - started
                for result, partial, target in zip(results, given, targets, strict=True):
                    tally.add(result, partial, target)
                done += len(indices)
                if on_progress is not None:
                    on_progress(done, count * rows, f"{name}, {case.what}, {case.density}")
    scores = tuple(tally.score(case, name) for case, by_name in tallies.items() for name, tally in by_name.items())
    settings = {"seed": seed, **PipelineSegmenter(pipe, **options).settings}
    return InpaintingReport(scores, count, {name: value for name, value in settings.items() if name != "method"})


def default_methods(pipe: LDMSegPipeline, case: Case) -> tuple[str, ...]:
    """`refine` for a noisy label; for the others what this model can, `auto` left out because it is one of them."""
    if case.noisy:
        return tuple(m for m in get_args(InpaintMethod) if m == "refine")
    left_out = ("auto", "refine") if pipe.unet.config["partial"] else ("auto", "refine", "condition")
    return tuple(m for m in get_args(InpaintMethod) if m not in left_out)


# ---------------------------------------------------------------------------------------------------------------------------- counting
def _quality() -> PanopticQuality:
    return PanopticQuality(class_agnostic=True)


@dataclass
class _Tally:
    """Sums over images."""

    quality: PanopticQuality = field(default_factory=_quality)
    unknown: PanopticQuality = field(default_factory=_quality)
    iou: float = 0.0
    given: int = 0
    kept: int = 0
    known: int = 0
    unchanged: int = 0
    images: int = 0
    seconds: float = 0.0

    def add(self, result: PanopticMap, partial: PanopticMap, target: PanopticMap) -> None:
        unknown = partial.ids == VOID
        known = ~unknown & (partial.ids == target.ids)
        self.quality.update(result, target)
        self.unknown.update(result.with_ids(np.where(unknown, result.ids, VOID)), target.with_ids(np.where(unknown, target.ids, VOID)))
        given = {s.id for s in partial.segments}
        self.iou += _sum_of_ious(result, target, given)
        self.given += len(given)
        self.kept += len(given & {s.id for s in result.segments})
        self.known += int(known.sum())
        self.unchanged += int((result.ids == partial.ids)[known].sum())
        self.images += 1

    def score(self, case: Case, method: str) -> CompletionScore:
        whole, unknown = self.quality.compute().all, self.unknown.compute().all
        return CompletionScore(
            case=case,
            method=method,
            pq=whole.pq,
            sq=whole.sq,
            rq=whole.rq,
            pq_unknown=unknown.pq if unknown.n else None,
            miou_given=self.iou / self.given if self.given else None,
            fidelity=self.unchanged / self.known if self.known else None,
            ids_kept=self.kept / self.given if self.given else None,
            seconds_per_image=self.seconds / self.images,
        )


def _sum_of_ious(result: PanopticMap, target: PanopticMap, ids: set[int]) -> float:
    """Over the named ids, of the segments that have one id in both maps; 0 for an id that one of them lacks."""
    pairs = pair_iou(result, target)
    drawn = np.array([s.id for s in result.segments])[pairs.prediction]
    true = np.array([s.id for s in target.segments])[pairs.target]
    return float(pairs.iou[(drawn == true) & np.isin(true, list(ids))].sum())
