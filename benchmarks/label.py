"""Measure `ldmseg label`: photos a second, and memory and failures with archives of many small photos.

    python benchmarks/label.py rate --photos ../shared/data/photos/msrc/images/val --steps 4 --boundaries photo
    python benchmarks/label.py scaling --photos ../shared/data/photos/msrc/images/train --steps 4 --boundaries photo
    python benchmarks/label.py memory --count 100000
    python benchmarks/label.py broken --count 10000

`rate` is the bundled model's, from reading a photo to the map's file, in `--workers` processes of one thread each. CPU seconds are what a
core costs; seconds on the clock also count what other programs took. `scaling` compares two workers with one on the clock, so it needs two
idle cores. `memory` and `broken` measure the machinery with a segmenter that costs nothing and calls no network. Their photos are
generated: 100 different ones of 64 x 48 pixels, linked as often as needed.
Each part writes its own figures into the result, and keeps those of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from broken_files import broken_files
from cheap import CheapSegmenter

from ldmseg.cli.label import load_segmenter
from ldmseg.labelling.archive.run import Report, Request, label_archive


def labelled(source: Path, output: Path, make: Callable[[], Any], workers: int, **asked: Any) -> tuple[Report, float]:
    """The report of a run, and the CPU seconds of its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    request = Request((str(source),), output, workers=workers, threads=1, **asked)
    report = label_archive(request, [make])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return report, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def small_photos(folder: Path, count: int) -> Path:
    """100 different photos, under `count` names."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(min(100, count)):
        Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number:07d}.png")
    for number in range(100, count):
        os.link(folder / f"{number % 100:07d}.png", folder / f"{number:07d}.png")
    return folder


def measure_rate(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The share of a photo beyond the first: loading the model is paid for once, and is told apart."""
    alone = work / "alone.txt"
    alone.write_text(f"{sorted(arguments.photos.resolve().rglob('*.jpg'))[0]}\n", encoding="utf-8")
    options = {"num_inference_steps": arguments.steps, "boundaries": arguments.boundaries}
    make = partial(load_segmenter, "default", "cpu", options)
    _, loading = labelled(alone, work / "alone", make, 1)
    report, cpu = labelled(arguments.photos, work / "all", make, arguments.workers, shard_size=arguments.shard)
    each = (cpu - arguments.workers * loading) / (report.photos - arguments.workers)
    return {
        "folder": "/".join(arguments.photos.parts[-3:]),
        **sizes(arguments.photos),
        "workers": arguments.workers,
        "cpu_seconds_per_photo": round(each, 4),
        "core_hours_per_million": round(each * 1e6 / 3600),
        "cpu_seconds_of_the_start": round(loading, 1),
        "seconds_with_start": report.seconds,
        "load_average": round(os.getloadavg()[0], 1),
    }


def measure_scaling(work: Path, arguments: argparse.Namespace, few: int = 16, many: int = 80, rounds: int = 2) -> dict[str, Any]:
    """Photos a second of one and of two workers of one thread, each with as many photos, without what a start costs."""
    photos = sorted(arguments.photos.resolve().rglob("*.jpg"))
    if len(photos) < 2 * many:
        raise SystemExit(f"--photos: expected a folder of at least {2 * many} photos, got {len(photos)} in {arguments.photos}")
    make = partial(load_segmenter, "default", "cpu", {"num_inference_steps": arguments.steps, "boundaries": arguments.boundaries})
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds):
        for workers, found in rates.items():
            seconds = {}
            for each in (few, many):
                listed = work / f"{turn}-{workers}-{each}.txt"
                listed.write_text("".join(f"{path}\n" for path in photos[: workers * each]), encoding="utf-8")
                seconds[each] = labelled(listed, listed.with_suffix(""), make, workers, shard_size=8)[0].seconds
            found.append(workers * (many - few) / (seconds[many] - seconds[few]))
    return {
        "folder": "/".join(arguments.photos.parts[-3:]),
        "photos_of_a_worker": many - few,
        "photos_per_second": {str(workers): round(max(found), 3) for workers, found in rates.items()},
        "of_linear": round(max(rates[2]) / (2 * max(rates[1])), 3),
    }


def sizes(folder: Path) -> dict[str, Any]:
    pixels = []
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            pixels.append(image.width * image.height)
    return {"photos": len(pixels), "median_pixels": int(np.median(pixels))}


def measure_memory(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of the process that hands out shards; it loads no torch."""
    source = small_photos(work / "photos", arguments.count)
    began, before = time.perf_counter(), peak_mb()
    report, cpu = labelled(source, work / "out", CheapSegmenter, arguments.workers, batch_size=32)
    document = work / "out" / "panoptic.json"
    return {
        "photos": report.photos,
        "failed": report.failed,
        "parent_peak_mb": peak_mb(),
        "parent_before_mb": before,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds_per_photo_of_workers": round(cpu / report.photos, 5),
        "panoptic_json_mb": round(document.stat().st_size / 1e6, 1),
        "maps": sum(len(files) for _, _, files in os.walk(work / "out" / "panoptic")),
    }


def measure_broken(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One file in a hundred is broken, in twenty ways in turn."""
    source = small_photos(work / "photos", arguments.count)
    ways = broken_files()
    for number, place in enumerate(range(50, arguments.count, 100)):
        name, data = ways[number % len(ways)]
        (source / f"{place:07d}.png").unlink()
        (source / f"{place:07d}_{name}.jpg").write_bytes(data)
    report, cpu = labelled(source, work / "out", CheapSegmenter, arguments.workers, batch_size=32)
    lines = [json.loads(line) for line in (work / "out" / "failed.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "photos": report.photos,
        "maps": sum(len(files) for _, _, files in os.walk(work / "out" / "panoptic")),
        "failed": report.failed,
        "ways": len(ways),
        "different_reasons": len({line["error"].split("'")[-1] for line in lines}),
        "seconds": report.seconds,
        "cpu_seconds_per_photo_of_workers": round(cpu / report.photos, 5),
    }


def peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def save(part: str, figures: dict[str, Any]) -> None:
    from _results import RESULTS, command_line, write_result  # torch is loaded once nothing is measured any more

    from ldmseg import LDMSegPipeline

    file = RESULTS / "label.json"
    kept = json.loads(file.read_text(encoding="utf-8"))["figures"] if file.exists() else {}
    pipe = LDMSegPipeline.from_pretrained("default")
    print(write_result("label", {**kept, part: {**figures, "command": command_line()}}, command_line(), pipe))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("rate", "scaling", "memory", "broken"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos/msrc/images/val"))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--boundaries", choices=("photo", "drawn"), default="photo")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--shard", type=int, default=16)
    parser.add_argument("--count", type=int, default=10_000)
    arguments = parser.parse_args(words)
    work = Path(tempfile.mkdtemp(prefix="ldmseg-label-"))
    try:
        parts = {"rate": measure_rate, "scaling": measure_scaling, "memory": measure_memory, "broken": measure_broken}
        figures = parts[arguments.part](work, arguments)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    rate = f"rate_{arguments.steps}_steps_{arguments.boundaries}_{arguments.workers}_workers"
    save(rate if arguments.part == "rate" else arguments.part, figures)


if __name__ == "__main__":
    main()
