"""Measure the bundled model (or another one): segmentation, completion and reconstruction, and draw its training curve.

    python benchmarks/model.py --shared ../shared --metrics RUN/metrics.jsonl

On 256 validation scenes: PQ with the model's own sampler and with DDIM; on a part of them PQ over sampling steps, and of completing
dropped blocks. On the photos of coco100 that no run trains on (numbers 70 to 99): PQ as it is. Reconstruction of coco100's masks at
512 px is the ceiling that the mask autoencoder sets, void ignored and without an area threshold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _results import command_line, write_result

from ldmseg import LDMSegPipeline, PanopticQuality, load_dataset
from ldmseg.evaluate import evaluate, reconstruct

STEPS = (1, 2, 4, 8, 20, 50)


def percent(stat: Any) -> dict[str, float]:
    return {name: round(100 * getattr(stat, name), 2) for name in ("pq", "sq", "rq")}


def segmentation(pipe: LDMSegPipeline, data: str, limit: int | None = None, **options: Any) -> dict[str, Any]:
    report = evaluate(pipe, load_dataset(data, size=pipe.config["image_size"]), batch_size=16, limit=limit, **options)
    figures = {**percent(report.quality.all), "images": report.images, "seconds_per_image": round(report.seconds_per_image, 3)}
    print(data, options, figures, flush=True)
    return figures


def reconstruction(pipe: LDMSegPipeline, data: str, size: int) -> dict[str, Any]:
    dataset, quality = load_dataset(data), PanopticQuality(class_agnostic=True)
    for index in range(len(dataset)):
        target = dataset.map(index).resize(size, size)
        quality.update(reconstruct(pipe.mask_autoencoder, target, seed=index), target)
    figures = {**percent(quality.compute().all), "images": len(dataset), "pixels": size}
    print("reconstruction", data, figures, flush=True)
    return figures


def draw_curve(metrics: Path, picture: Path) -> None:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    trained, validated = [x for x in lines if "loss" in x], [x for x in lines if "val_pq" in x]
    figure, left = plt.subplots(figsize=(7, 3.6), layout="constrained")
    left.plot([x["step"] for x in trained], [x["loss"] for x in trained], color="tab:blue", linewidth=1)
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    right.plot([x["step"] for x in validated], [100 * x["val_pq"] for x in validated], color="tab:red", marker="o")
    right.set(ylabel="PQ on validation scenes", ylim=(0, 110 * max(x["val_pq"] for x in validated)))
    right.yaxis.label.set_color("tab:red")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--metrics", type=Path, help="metrics.jsonl of the run, for the curve")
    parser.add_argument("--curve", type=Path, default=Path("docs/images/training.png"))
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    scenes, coco = f"scenes:{arguments.scenes}:val", f"coco-panoptic:{arguments.shared / 'data/coco100'}"
    figures = {
        "scenes": segmentation(pipe, scenes, num_inference_steps=20),
        "scenes_ddim": segmentation(pipe, scenes, num_inference_steps=20, sampler="ddim"),
        "scenes_by_steps": {str(steps): segmentation(pipe, scenes, limit=64, num_inference_steps=steps) for steps in STEPS},
        "completion_16px_blocks": {
            str(rate): segmentation(pipe, scenes, limit=64, num_inference_steps=20, drop_rate=rate, block_size=16) for rate in (0.5, 0.9)
        },
        "coco100_held_back": segmentation(pipe, f"{coco}:train2017[70:100]", num_inference_steps=20),
        "reconstruction_coco100": reconstruction(pipe, coco, 512),
    }
    if arguments.metrics:
        draw_curve(arguments.metrics, arguments.curve)
    write_result("model", figures, command_line(), pipe)


if __name__ == "__main__":
    main()
