"""Evaluation at the paper's size: 5,000 photos of COCO's size, without a network. CPU time of one thread, and memory.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_size.py --work WORK

True maps are generated, written as a COCO panoptic set into WORK (a folder outside the repository) and read back as `evaluate` reads any.
A segmenter answers with distorted maps; its time does not count. What is left is the metric's part: reading the true maps, writing the
drawn ones with their lines, and counting. `evaluate` runs on a tenth of the photos, goes on with the rest, and is called a third time, when
everything is there. The peak of the process's memory is read after each.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from _results import command_line, write_result
from numpy.typing import NDArray
from PIL import Image

from ldmseg import PanopticMap
from ldmseg.data.datasets import load_dataset
from ldmseg.evaluate import evaluate
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic import write_coco_panoptic
from ldmseg.metrics.score import score_files
from ldmseg.panoptic import Segment

HEIGHT, WIDTH = 480, 640  # as most of COCO's photos have
SEGMENTS = (4, 24)
VOID_SHARE, CROWD_SHARE = 0.1, 0.05  # of the segments
CATEGORIES = tuple(Category(i, f"category {i}", isthing=i <= 80) for i in range(1, 134))


def generate(index: int, distortion: int) -> PanopticMap:
    """A map of cells with winding borders. Maps of one index and different distortions are alike."""
    rng = np.random.default_rng([index, 0])
    count = int(rng.integers(SEGMENTS[0], SEGMENTS[1] + 1))
    centres = rng.uniform(0, 1, (count, 2)) * (HEIGHT, WIDTH)
    void, crowd = rng.random(count) < VOID_SHARE, rng.random(count) < CROWD_SHARE
    categories = rng.integers(1, len(CATEGORIES) + 1, count)
    other = np.random.default_rng([index, distortion, 1])
    centres += other.normal(0, 8, centres.shape)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    rows, columns = rows + _waves(other), columns + _waves(other)
    best, ids = np.full((HEIGHT, WIDTH), np.inf, dtype=np.float32), np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    for number, (y, x) in enumerate(centres.astype(np.float32)):
        distance = (rows - y) ** 2 + (columns - x) ** 2
        nearer = distance < best
        best[nearer], ids[nearer] = distance[nearer], number + 1
    present = [number for number in np.unique(ids).tolist() if not (void[number - 1] and distortion == 0)]
    ids = np.where(np.isin(ids, present), ids, 0)
    segments = (Segment(n, int(categories[n - 1]), iscrowd=bool(crowd[n - 1] and distortion == 0)) for n in present)
    return PanopticMap(ids, tuple(segments))


def _waves(rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = sum(
        np.asarray(Image.fromarray(rng.normal(0, size, (HEIGHT // size, WIDTH // size)).astype(np.float32)).resize((WIDTH, HEIGHT)))
        for size in (40, 8, 4)
    )
    return np.asarray(coarse, dtype=np.float32)


@dataclass(frozen=True)
class WithoutPhotos:
    """A data set whose photos are not read."""

    source: Any

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.source.categories

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.zeros((1, 1, 3), dtype=np.uint8)

    def map(self, index: int) -> PanopticMap:
        return self.source.map(index)

    def name(self, index: int) -> str:
        return self.source.name(index)


class Distorting:
    """Answers with a map like the true one; counts its own CPU seconds. The seed of a photo is its index where that of the run is 0."""

    def __init__(self) -> None:
        self.seconds, self.maps = 0.0, 0

    def __call__(self, images: Sequence[Any], partials: None, seeds: Sequence[int], captions: None = None) -> list[PanopticMap]:
        started = time.process_time()
        found = [generate(seed, 1) for seed in seeds]
        self.seconds += time.process_time() - started
        self.maps += len(found)
        return found


def measured(run: Callable[[Distorting], Any], photos: int) -> tuple[dict[str, Any], Any]:
    segmenter = Distorting()
    started = time.process_time()
    result = run(segmenter)
    seconds = time.process_time() - started - segmenter.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    figures = {"photos": photos, "drawn": segmenter.maps, "cpu_seconds_of_the_metric": round(seconds, 1), "peak_memory_mib": round(peak)}
    print(figures, flush=True)
    return figures, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the generated set and the maps")
    parser.add_argument("--photos", type=int, default=5000)
    arguments = parser.parse_args()
    truth, out = arguments.work / "truth.json", arguments.work / "out"
    items = ((f"{index:012d}.jpg", index, generate(index, 0)) for index in range(arguments.photos))
    write_coco_panoptic(truth, items, CATEGORIES)
    data: Any = WithoutPhotos(load_dataset(f"coco-panoptic:{truth}"))
    segments = mean(len(data.map(index)) for index in range(0, len(data), 50))
    rows = []
    for limit in (arguments.photos // 10, arguments.photos, arguments.photos):
        figures, report = measured(lambda method, limit=limit: evaluate(method, data, output=out, limit=limit, class_agnostic=False), limit)
        rows.append(figures)
    scoring, scored = measured(lambda _: score_files(truth, out / "panoptic.json", workers=1), arguments.photos)
    if scored != report.quality:
        raise SystemExit("evaluate and score differ")
    figures = {
        "size": [HEIGHT, WIDTH],
        "segments_per_photo": round(segments, 1),
        "calls": dict(zip(("a tenth", "the rest", "again, everything is there"), rows, strict=True)),
        "score_files": scoring,
        "pq": report.quality.all.pq,
        "equal_to_score_files": True,
    }
    print(write_result("evaluation_size", figures, command_line()).read_text())


if __name__ == "__main__":
    main()
