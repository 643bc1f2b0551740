"""Time PQ against the published algorithm of COCO's reference program: on maps in memory and on files, one thread, CPU time.

    python benchmarks/panoptic_quality.py --shared ../shared

Both run alternately in one process on the same 40 pairs of maps; the medians of the rounds are compared, and the figures must agree.
In memory, each is given what it works on: `PanopticMap`s here, arrays of ids and parsed JSON there. On files, each starts from the paths:
once with imagecodecs installed (the extra `fast`), once as without it; the time that Pillow needs to decode the PNGs is given beside.
Where hotcoco is installed (`pip install hotcoco`), its evaluation of the same files takes turns with ours, each with one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from _results import command_line, write_result
from numpy.typing import NDArray
from PIL import Image

from ldmseg.formats.coco_panoptic import CocoPanoptic
from ldmseg.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult
from ldmseg.metrics.score import score_files

VOID = 0
OFFSET = 256**3


class PublishedAlgorithm:
    """What the reference program computes, step by step as it is published, with its integer types and its loops over labels."""

    def __init__(self, categories: dict[int, bool]) -> None:
        self.categories = categories
        self.tp: dict[int, int] = defaultdict(int)
        self.fp: dict[int, int] = defaultdict(int)
        self.fn: dict[int, int] = defaultdict(int)
        self.iou: dict[int, float] = defaultdict(float)

    def update(self, truth: NDArray[np.uint32], predicted: NDArray[np.uint32], truth_segments: list, predicted_segments: list) -> None:
        """Add one image: (H, W) ids and the segments_info of each."""
        true_info = {entry["id"]: entry for entry in truth_segments}
        predicted_info = {entry["id"]: dict(entry) for entry in predicted_segments}
        without_pixels = set(predicted_info)
        labels, counts = np.unique(predicted, return_counts=True)
        for label, count in zip(labels, counts, strict=True):
            if label not in predicted_info:
                if label == VOID:
                    continue
                raise KeyError(f"segment {label} is not listed")
            predicted_info[label]["area"] = count
            without_pixels.remove(label)
            if predicted_info[label]["category_id"] not in self.categories:
                raise KeyError(f"segment {label} has an unknown category")
        if without_pixels:
            raise KeyError(f"segments {without_pixels} have no pixel")

        combined = truth.astype(np.uint64) * OFFSET + predicted.astype(np.uint64)
        shared: dict[tuple[int, int], int] = {}
        labels, counts = np.unique(combined, return_counts=True)
        for label, count in zip(labels, counts, strict=True):
            shared[(label // OFFSET, label % OFFSET)] = count

        matched_true, matched_predicted = set(), set()
        for (true_label, predicted_label), count in shared.items():
            if true_label not in true_info or predicted_label not in predicted_info:
                continue
            true, found = true_info[true_label], predicted_info[predicted_label]
            if true["iscrowd"] == 1 or true["category_id"] != found["category_id"]:
                continue
            union = found["area"] + true["area"] - count - shared.get((VOID, predicted_label), 0)
            iou = count / union
            if iou > 0.5:
                self.tp[true["category_id"]] += 1
                self.iou[true["category_id"]] += iou
                matched_true.add(true_label)
                matched_predicted.add(predicted_label)
        self._count_unmatched(true_info, predicted_info, shared, matched_true, matched_predicted)

    def _count_unmatched(self, true_info: dict, predicted_info: dict, shared: dict, matched_true: set, matched_predicted: set) -> None:
        crowd_of_category = {}
        for label, info in true_info.items():
            if label in matched_true:
                continue
            if info["iscrowd"] == 1:
                crowd_of_category[info["category_id"]] = label
                continue
            self.fn[info["category_id"]] += 1
        for label, info in predicted_info.items():
            if label in matched_predicted:
                continue
            excused = shared.get((VOID, label), 0)
            if info["category_id"] in crowd_of_category:
                excused += shared.get((crowd_of_category[info["category_id"]], label), 0)
            if excused / info["area"] > 0.5:
                continue
            self.fp[info["category_id"]] += 1

    def means(self, isthing: bool | None = None) -> tuple[float, float, float, int]:
        """PQ, SQ, RQ and the number of categories, over all or over things or stuff."""
        figures = []
        for category, thing in self.categories.items():
            tp, fp, fn = self.tp[category], self.fp[category], self.fn[category]
            if tp + fp + fn == 0 or (isthing is not None and thing != isthing):
                continue
            segments = tp + 0.5 * fp + 0.5 * fn
            figures.append((self.iou[category] / segments, self.iou[category] / tp if tp else 0.0, tp / segments))
        pq, sq, rq = (sum(column) / len(figures) for column in zip(*figures, strict=True))
        return pq, sq, rq, len(figures)


def read_ids(path: Path) -> NDArray[np.uint32]:
    """(H, W) ids of a PNG: decoded by Pillow, then put together with 32-bit arithmetic, as the reference program does."""
    color = np.array(Image.open(path), dtype=np.uint32)
    return color[:, :, 0] + 256 * color[:, :, 1] + 256 * 256 * color[:, :, 2]


def decode(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def alternate(ours: Callable[[], PanopticQualityResult], theirs: Callable[[], PublishedAlgorithm], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each and the median of the rounds' ratios; the first round warms up and does not count."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        ours_s, result = cpu_seconds(ours)
        theirs_s, published = cpu_seconds(theirs)
        times.append((ours_s, theirs_s))
        check(result, published)
    return {
        "published_s": round(statistics.median(t for _, t in times[1:]), 4),
        "ldmseg_s": round(statistics.median(t for t, _ in times[1:]), 4),
        "times_faster": round(statistics.median(t / o for o, t in times[1:]), 2),
    }


def beside_hotcoco(ours: Callable[[], PanopticQualityResult], files: tuple[Path, ...], rounds: int) -> dict[str, Any] | None:
    """Medians of CPU seconds on files, and of the rounds' ratios; None where hotcoco is not installed."""
    try:
        from hotcoco.panoptic import PanopticEval
    except ImportError:
        return None
    truth_json, predicted_json, truth_dir, predicted_dir = map(str, files)
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        ours_s, result = cpu_seconds(ours)

        def evaluate() -> dict[str, Any]:
            evaluation = PanopticEval(truth_json, predicted_json, gt_folder=truth_dir, pred_folder=predicted_dir)
            evaluation.evaluate()
            return evaluation.results()

        theirs_s, theirs = cpu_seconds(evaluate)
        times.append((ours_s, theirs_s))
        difference = max(abs(theirs["All"][name] - getattr(result.all, name)) for name in ("pq", "sq", "rq"))
        if difference > 1e-9:
            raise SystemExit(f"the figures differ by {difference} from hotcoco's")
    return {
        "version": metadata.version("hotcoco"),
        "hotcoco_s": round(statistics.median(t for _, t in times[1:]), 4),
        "ldmseg_s": round(statistics.median(t for t, _ in times[1:]), 4),
        "times_faster": round(statistics.median(t / o for o, t in times[1:]), 2),
    }


@contextmanager
def without_imagecodecs() -> Iterator[None]:
    """Importing the optional decoder fails, as where it is not installed."""
    found = sys.modules.get("imagecodecs")
    sys.modules["imagecodecs"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["imagecodecs"]
        if found is not None:
            sys.modules["imagecodecs"] = found


def check(result: PanopticQualityResult, published: PublishedAlgorithm) -> None:
    """Stop unless both found the same figures to 1e-12."""
    for group, isthing in ((result.all, None), (result.things, True), (result.stuff, False)):
        difference = max(abs(a - b) for a, b in zip((group.pq, group.sq, group.rq, group.n), published.means(isthing), strict=True))
        if difference > 1e-12:
            raise SystemExit(f"the figures differ by {difference}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with reference/pq_case* and data/coco100")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    reference = arguments.shared / "reference"
    truth_json, predicted_json = reference / "pq_case_gt.json", reference / "pq_case_pred.json"
    truth_dir, predicted_dir = arguments.shared / "data/coco100/annotations/panoptic_train2017", reference / "pq_case"

    truth_maps = [record.read_map() for record in CocoPanoptic.open(truth_json, truth_dir)]
    predictions = CocoPanoptic.open(predicted_json, predicted_dir)
    predicted_maps = [record.read_map() for record in predictions]
    truth_info, predicted_info = json.loads(truth_json.read_text()), json.loads(predicted_json.read_text())
    categories = {c["id"]: bool(c["isthing"]) for c in truth_info["categories"]}
    by_image = {a["image_id"]: a for a in predicted_info["annotations"]}
    pairs = [(a, by_image[a["image_id"]]) for a in truth_info["annotations"]]
    arrays = [(read_ids(truth_dir / t["file_name"]), read_ids(predicted_dir / p["file_name"])) for t, p in pairs]

    def ours_in_memory() -> PanopticQualityResult:
        quality = PanopticQuality(predictions.categories)
        for predicted, truth in zip(predicted_maps, truth_maps, strict=True):
            quality.update(predicted, truth)
        return quality.compute()

    def published_in_memory() -> PublishedAlgorithm:
        published = PublishedAlgorithm(categories)
        for (truth, predicted), (t, p) in zip(arrays, pairs, strict=True):
            published.update(truth, predicted, t["segments_info"], p["segments_info"])
        return published

    def ours_on_files() -> PanopticQualityResult:
        return score_files(truth_json, predicted_json, truth_dir, predicted_dir, workers=1)

    def published_on_files() -> PublishedAlgorithm:
        truth_json_again, predicted_json_again = json.loads(truth_json.read_text()), json.loads(predicted_json.read_text())
        found = {a["image_id"]: a for a in predicted_json_again["annotations"]}
        published = PublishedAlgorithm(categories)
        for t in truth_json_again["annotations"]:
            p = found[t["image_id"]]
            ids = read_ids(truth_dir / t["file_name"]), read_ids(predicted_dir / p["file_name"])
            published.update(*ids, t["segments_info"], p["segments_info"])
        return published

    in_memory = alternate(ours_in_memory, published_in_memory, arguments.rounds)
    on_files = alternate(ours_on_files, published_on_files, arguments.rounds)
    with without_imagecodecs():
        with_pillow = alternate(ours_on_files, published_on_files, arguments.rounds)
    with_hotcoco = beside_hotcoco(ours_on_files, (truth_json, predicted_json, truth_dir, predicted_dir), arguments.rounds)
    png_paths = [path for t, p in pairs for path in (truth_dir / t["file_name"], predicted_dir / p["file_name"])]
    decoding = [cpu_seconds(lambda: [decode(path) for path in png_paths])[0] for _ in range(arguments.rounds)]
    figures = {
        "images": len(pairs),
        "rounds": arguments.rounds,
        "threads": 1,
        "clock": "CPU time of the process",
        "results_agree_to": 1e-12,
        "in_memory": in_memory,
        "on_files": on_files,
        "on_files_beside_hotcoco": with_hotcoco,
        "on_files_with_pillow_alone": with_pillow | {"decoding_alone_s": round(statistics.median(decoding), 4)},
    }
    path = write_result("panoptic_quality", figures, command_line())
    print(path.read_text())


if __name__ == "__main__":
    main()
