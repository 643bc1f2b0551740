"""PQ of two COCO panoptic files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, shortened
from ldmseg.formats.coco_json import AnnotationEntry, CocoPanopticJson, read_coco_json
from ldmseg.formats.coco_panoptic import find_png_dir, named_folder
from ldmseg.formats.id_png import MAX_RGB_ID, read_id_codes
from ldmseg.formats.inside import path_inside
from ldmseg.metrics.overlaps import UNLISTED, Overlaps, SegmentTable, count_overlaps
from ldmseg.metrics.panoptic_quality import CLASS_AGNOSTIC_ID, PanopticQuality, PanopticQualityResult
from ldmseg.panoptic import VOID, Segment

Progress = Callable[[int, int], None]


def score_files(
    gt_json: str | os.PathLike[str],
    pred_json: str | os.PathLike[str],
    gt_dir: str | os.PathLike[str] | None = None,
    pred_dir: str | os.PathLike[str] | None = None,
    class_agnostic: bool = False,
    allow_missing: bool = False,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> PanopticQualityResult:
    """Score predictions against a ground truth, as COCO's reference program (`pq_compute`) does.

    Categories and the images that count are the ground truth's; of the predictions only `annotations` is read. Ids in a ground truth's
    PNG that its JSON does not list are no segments and not void either, as in the reference program; areas are counted in the PNGs.

    Args:
        gt_dir: the folder of the true PNGs; None looks for it beside the JSON.
        pred_dir: the folder of the predicted PNGs; None looks for it beside the JSON.
        class_agnostic: every segment counts as category 1.
        allow_missing: an image without a prediction, or whose predicted PNG is missing or cannot be read, counts as predicted all void
            (every true segment is missed).
        workers: threads; as many as processors by default. Decoding PNGs, most of the work, runs in parallel.
        on_progress: called with the number of images done and of all.

    Raises:
        InputError: a file is missing or broken, an image has no prediction, sizes differ, or a prediction's PNG and JSON disagree.
    """
    truth = read_coco_json(gt_json)
    predictions = read_coco_json(pred_json, predictions=True, categories=() if class_agnostic else truth.categories)
    jobs = _jobs(truth, predictions, named_folder(gt_dir, "gt_dir"), named_folder(pred_dir, "pred_dir"), class_agnostic, allow_missing)
    quality = PanopticQuality(truth.categories, class_agnostic)
    for done, overlaps in enumerate(_run(jobs, workers), start=1):
        quality.update_overlaps(overlaps)
        if on_progress is not None:
            on_progress(done, len(jobs))
    return quality.compute()


@dataclass(frozen=True, slots=True)
class _Job:
    """One image to compare; `prediction` is None where it is missing and may be."""

    truth: AnnotationEntry
    truth_png: Path
    prediction: AnnotationEntry | None
    prediction_png: Path | None
    class_agnostic: bool
    allow_missing: bool

    def overlaps(self) -> Overlaps:
        where = f"of image {shortened(self.truth.image_id)}"
        target_codes = read_id_codes(self.truth_png, f"ground truth {where}")
        target = _table(self.truth.segments, self.class_agnostic)
        if self.prediction is None or self.prediction_png is None:
            return _nothing_predicted(target_codes, target)
        try:
            codes = read_id_codes(self.prediction_png, f"prediction {where}")
        except InputError:
            if self.allow_missing:
                return _nothing_predicted(target_codes, target)
            raise
        if codes.shape != target_codes.shape:
            raise InputError(
                f"prediction {where}: '{self.prediction_png}': expected the ground truth's size {target_codes.shape} (height, width), "
                f"got {codes.shape}"
            )
        overlaps = count_overlaps(codes, target_codes, _table(self.prediction.segments, self.class_agnostic), target, MAX_RGB_ID)
        self._check_listed(overlaps, codes, where)
        return overlaps

    def _check_listed(self, overlaps: Overlaps, codes: NDArray[np.uint32], where: str) -> None:
        if (overlaps.prediction_index == UNLISTED).any():
            unlisted = np.setdiff1d(codes & np.uint32(MAX_RGB_ID), [VOID, *overlaps.prediction.ids])
            raise InputError(f"prediction {where}: '{self.prediction_png}' holds id {unlisted[0]}, which segments_info does not list")
        empty = overlaps.prediction.ids[overlaps.prediction_area == 0]
        if empty.size:
            raise InputError(f"prediction {where}: segments_info lists id {empty[0]}, of which '{self.prediction_png}' has no pixel")


def _jobs(
    truth: CocoPanopticJson,
    predictions: CocoPanopticJson,
    truth_dir: Path | None,
    prediction_dir: Path | None,
    class_agnostic: bool,
    allow_missing: bool,
) -> list[_Job]:
    if not truth.annotations:
        raise InputError(f"gt: '{truth.path}': annotations: expected at least one")
    truth_dir = truth_dir or find_png_dir(truth.path, [a.png_name for a in truth.annotations])
    by_image = {a.image_id: a for a in predictions.annotations}
    missing = [a.image_id for a in truth.annotations if a.image_id not in by_image]
    if missing and not allow_missing:
        raise InputError(f"pred: '{predictions.path}': image {shortened(missing[0])} has no annotation ({len(missing)} images have none)")
    wanted = [by_image[a.image_id].png_name for a in truth.annotations if a.image_id in by_image]
    if prediction_dir is None and wanted:
        prediction_dir = _prediction_dir(predictions.path, wanted, allow_missing)
    jobs = []
    for annotation in truth.annotations:
        found = by_image.get(annotation.image_id)
        png = None if found is None or prediction_dir is None else path_inside(prediction_dir, found.png_name)
        jobs.append(_Job(annotation, path_inside(truth_dir, annotation.png_name), found, png, class_agnostic, allow_missing))
    return jobs


def _prediction_dir(json_path: Path, png_names: Sequence[str], allow_missing: bool) -> Path | None:
    try:
        return find_png_dir(json_path, png_names)
    except InputError:
        if allow_missing:
            return None
        raise


def _run(jobs: Sequence[_Job], workers: int | None) -> Iterator[Overlaps]:
    """Every job's overlaps, in order."""
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if workers is not None and workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    if count == 1:
        yield from (job.overlaps() for job in jobs)
        return
    with ThreadPoolExecutor(count) as pool:
        try:
            yield from pool.map(_Job.overlaps, jobs)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # one broken file ends the run at once


def _table(segments: Sequence[Segment], class_agnostic: bool) -> SegmentTable:
    return SegmentTable(
        np.array([s.id for s in segments], dtype=np.int64),
        np.array([CLASS_AGNOSTIC_ID if class_agnostic else s.category_id for s in segments], dtype=np.int64),
        np.array([s.iscrowd for s in segments], dtype=bool),
    )


def _nothing_predicted(target_codes: NDArray[np.uint32], target: SegmentTable) -> Overlaps:
    return count_overlaps(np.zeros_like(target_codes), target_codes, _table((), False), target, MAX_RGB_ID)
