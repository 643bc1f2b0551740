"""PQ of two COCO panoptic files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import AnnotationEntry, CocoPanopticJson, ImageId, read_coco_json
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
    only_predicted: bool = False,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> PanopticQualityResult:
    """Score predictions against a ground truth, as COCO's reference program (`pq_compute`) does.

    Categories and the images that count are the ground truth's. Ids in a ground truth's PNG that its JSON does not list are no segments and
    not void either, as in the reference program; areas are counted in the PNGs.

    An image's prediction is the one with its id. Where the predictions' ids were counted up, or belong to other files, the one for the
    file of the same name counts, without folder and suffix: whichever way finds more.

    Args:
        gt_dir: the folder of the true PNGs; None looks for it beside the JSON.
        pred_dir: the folder of the predicted PNGs; None looks for it beside the JSON.
        class_agnostic: every segment counts as category 1.
        allow_missing: an image without a prediction, or whose predicted PNG is missing or cannot be read, counts as predicted all void
            (every true segment is missed).
        only_predicted: images without a prediction do not count.
        workers: threads; as many as processors by default. Decoding PNGs, most of the work, runs in parallel.
        on_progress: called with the number of images done and of all.

    Raises:
        InputError: a file is missing or broken, an image has no prediction, sizes differ, or a prediction's PNG and JSON disagree.
    """
    if allow_missing and only_predicted:
        raise InputError("allow_missing, only_predicted: expected one of them, got both")
    truth = read_coco_json(gt_json)
    predictions = read_coco_json(pred_json, predictions=True, categories=() if class_agnostic else truth.categories)
    found = match_predictions(truth, predictions)
    if only_predicted:
        truth = replace(truth, annotations=tuple(a for a in truth.annotations if a.image_id in found))
    _check_all_found(truth, predictions, found, allow_missing or only_predicted)
    folders = named_folder(gt_dir, "gt_dir"), named_folder(pred_dir, "pred_dir")
    jobs = _jobs(truth, predictions.path, found, *folders, class_agnostic, allow_missing)
    quality = PanopticQuality(truth.categories, class_agnostic)
    for done, overlaps in enumerate(_run(jobs, workers), start=1):
        quality.update_overlaps(overlaps)
        if on_progress is not None:
            on_progress(done, len(jobs))
    return quality.compute()


def match_predictions(truth: CocoPanopticJson, predictions: CocoPanopticJson) -> dict[ImageId, AnnotationEntry]:
    """The annotation that was predicted for each image of the ground truth, by the image's id or its file's name; see `score_files`."""
    by_id = {a.image_id: a for a in predictions.annotations}
    same_id = {a.image_id: by_id[a.image_id] for a in truth.annotations if a.image_id in by_id}
    names = {a.image_id: _stem(truth, a) for a in truth.annotations}
    by_name = {_stem(predictions, a): a for a in predictions.annotations}
    if len(by_name) < len(predictions.annotations) or len(set(names.values())) < len(names):
        return same_id  # names in different folders, which tell nothing
    same_name = {image: by_name[name] for image, name in names.items() if name in by_name}
    agreeing = sum(a.image_id not in predictions.images or _stem(predictions, a) == names[image] for image, a in same_id.items())
    return same_name if len(same_name) > agreeing else same_id


def _stem(file: CocoPanopticJson, annotation: AnnotationEntry) -> str:
    """The name of the photo without folder and suffix; the PNG's where no photo is listed."""
    listed = file.images.get(annotation.image_id)
    return PurePosixPath(annotation.png_name if listed is None else listed.file_name).stem


def _check_all_found(truth: CocoPanopticJson, predictions: CocoPanopticJson, found: Collection[ImageId], allowed: bool) -> None:
    if not truth.annotations:
        none = f"pred: '{predictions.path}': expected a prediction of at least one image of the ground truth, got none"
        raise InputError(none if allowed else f"gt: '{truth.path}': annotations: expected at least one")
    missing = [a for a in truth.annotations if a.image_id not in found]
    if missing and not allowed:
        name = quoted(_stem(truth, missing[0]))
        told = f"image {shortened(missing[0].image_id)} ({name}) has no annotation ({len(missing)} images have none)"
        raise InputError(f"pred: '{predictions.path}': {told}; --allow-missing counts them as void, --only-predicted leaves them out")


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
    pred_json: Path,
    predicted: Mapping[ImageId, AnnotationEntry],
    truth_dir: Path | None,
    prediction_dir: Path | None,
    class_agnostic: bool,
    allow_missing: bool,
) -> list[_Job]:
    truth_dir = truth_dir or find_png_dir(truth.path, [a.png_name for a in truth.annotations])
    wanted = [found.png_name for found in predicted.values()]
    if prediction_dir is None and wanted:
        prediction_dir = _prediction_dir(pred_json, wanted, allow_missing)
    jobs = []
    for annotation in truth.annotations:
        found = predicted.get(annotation.image_id)
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
