"""Measure a model on photographs that no run trains on: numbers 70 to 99 of coco100, unaided and completed, beside the classical methods.

    python benchmarks/photos.py --shared ../shared

Unaided: one sample and eight votes at the model's own number of steps, and one sample at fewer. Completed: from a point in every segment,
from a stroke in every segment, and with 70 % of the photo hidden in blocks of 64 px of a photo whose longer side is 288 px, as all are
shrunk to; the random walker and the watershed fill the same partial maps. Every row has the seeds that were asked for, and their mean.
Generated scenes stand beside the photos, for what a model knew before must not be lost.

With `--metrics RUN/metrics.jsonl ..`, the files of a training's parts, only the course of the training is saved (`photos_training`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from _results import command_line, write_result
from inpainting import Shrunk

from ldmseg import LDMSegPipeline, load_dataset
from ldmseg.data.cases import Case
from ldmseg.data.datasets import PanopticDataset
from ldmseg.devices import resolve_device
from ldmseg.evaluate import evaluate, evaluate_inpainting

SIDE, BLOCK = 288, 64
CASES = {"points": Case("points", 1.0), "strokes": Case("strokes", 1.0), "blocks": Case("blocks", 0.3, BLOCK)}
BASELINES = ("watershed", "walker")


def unaided(pipe: LDMSegPipeline, data: PanopticDataset, seeds: list[int], **options: Any) -> dict[str, Any]:
    """PQ, SQ and RQ in percent of each seed, and of all."""
    rows = []
    for seed in seeds:
        report = evaluate(pipe, data, seed=seed, batch_size=10, **options)
        stat = report.quality.all
        rows.append({"seed": seed, **{name: round(100 * getattr(stat, name), 2) for name in ("pq", "sq", "rq")}})
        rows[-1]["seconds_per_image"] = round(report.seconds_per_image, 3)
        print(options, rows[-1], flush=True)
    return {"options": options, "images": len(data), "pq": round(mean(row["pq"] for row in rows), 2), "seeds": rows}


def completed(pipe: LDMSegPipeline, data: PanopticDataset, seeds: list[int], steps: int | None) -> dict[str, Any]:
    """PQ in percent of each kind of partial map, method and seed."""
    figures: dict[str, Any] = {}
    for seed in seeds:
        asked: dict[str, Any] = {"num_inference_steps": steps, "seed": seed, "batch_size": 10}
        report = evaluate_inpainting(pipe, data, cases=list(CASES.values()), methods=["condition"], baselines=BASELINES, **asked)
        for score in report.scores:
            kind = next(name for name, case in CASES.items() if case == score.case)
            row = figures.setdefault(kind, {}).setdefault(score.method, {"seeds": []})
            row["seeds"].append({"seed": seed, "pq": round(100 * score.pq, 2), "seconds_per_image": round(score.seconds_per_image, 3)})
            row["pq"] = round(mean(one["pq"] for one in row["seeds"]), 2)
            print(kind, score.method, row["seeds"][-1], flush=True)
    return figures


def training(files: list[Path], every: int = 100) -> list[dict[str, Any]]:
    """Of each part: PQ in percent at each validation, and the mean loss of every `every` steps, by step."""
    parts = []
    for file in files:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        losses: dict[int, list[float]] = {}
        for line in lines:
            if "loss" in line:
                losses.setdefault(-(-line["step"] // every) * every, []).append(line["loss"])
        validated = {str(line["step"]): round(100 * line["val_pq"], 2) for line in lines if "val_pq" in line}
        parts.append({"pq": validated, "loss": {str(step): round(mean(values), 4) for step, values in losses.items()}})
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--part", default="[70:100]", help="of the photos, in the data set's order")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4, 20], help="unaided, one sample each")
    parser.add_argument("--votes", type=int, default=8, help="samples of each photo that vote; 0 leaves the row out")
    parser.add_argument("--completion", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--scenes", type=int, default=64, help="validation scenes; 0 leaves the row out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="photos", help="of the result's file; empty writes none")
    parser.add_argument("--metrics", nargs="+", type=Path, help="metrics.jsonl of the training's parts: save these and measure nothing")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model).to(resolve_device(arguments.device))
    pipe.set_progress_bar_config(disable=True)
    if arguments.metrics:
        write_result("photos_training", {"parts": training(arguments.metrics)}, command_line(), pipe)
        return
    photos = load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017{arguments.part}")
    figures: dict[str, Any] = {"unaided": [unaided(pipe, photos, arguments.seeds, num_inference_steps=steps) for steps in arguments.steps]}
    if arguments.votes:
        figures["votes"] = unaided(pipe, photos, arguments.seeds, num_inference_steps=max(arguments.steps), ensemble_size=arguments.votes)
    if arguments.completion:
        figures["completion"] = completed(pipe, Shrunk(photos, SIDE), arguments.seeds, max(arguments.steps))
    if arguments.scenes:
        scenes = load_dataset(f"scenes:{arguments.scenes}:val", size=pipe.config["image_size"])
        figures["scenes"] = [unaided(pipe, scenes, arguments.seeds[:1], num_inference_steps=steps) for steps in arguments.steps]
    if arguments.name:
        write_result(arguments.name, figures, command_line(), pipe)


if __name__ == "__main__":
    main()
