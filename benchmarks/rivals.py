"""The diffusion model beside a set-prediction rival and classical segmenters: same photos, same encoder, same CPU time.

    python benchmarks/rivals.py prepare --shared ../shared --work WORK --minutes 4
    python benchmarks/rivals.py train diffusion 0 --shared ../shared --work WORK          (and rival; for each seed)
    python benchmarks/rivals.py overfit --shared ../shared --work WORK
    python benchmarks/rivals.py measure --shared ../shared --work WORK

`prepare` caches the features of a frozen EfficientNet-Lite0, and measures how many steps of each model take the CPU time of a training.
`overfit` checks that the rival can fit 8 scenes. `train` trains one model from fresh weights, but for that frozen backbone and for the
bundled mask autoencoder, which was trained before. The rival (benchmarks/_set_decoder.py) gets the samples, the partial maps and the
partial-map latents of the diffusion model. `measure` draws maps of validation scenes and of photos that no run trains on, unaided and from
a point in every segment; every method has the pipeline's border step. WORK is a folder outside the repository.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _results import command_line, write_result
from _set_decoder import EVERY, RivalSegmenter, RivalStage
from inpainting import Shrunk
from safetensors.torch import load_file

from ldmseg import LDMSegPipeline, load_dataset
from ldmseg.atomic import write_json
from ldmseg.config import DiffusionRunConfig, load_config
from ldmseg.data.cases import Case
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.feature_writer import FeatureSettings, build_feature_cache
from ldmseg.evaluate import evaluate, evaluate_inpainting
from ldmseg.inference.boundaries import refine_boundaries
from ldmseg.metrics.panoptic_quality import PanopticQuality, Stat
from ldmseg.segmenters import RegionSegmenter
from ldmseg.segmenters.queries import PUBLISHED
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage

MODELS: dict[str, type[DiffusionStage]] = {"diffusion": DiffusionStage, "rival": RivalStage}
LEARNING_RATES = {"diffusion": 6e-4, "rival": 5e-4}
CASES = {"points": Case("points", 1.0)}
SIDE = 288
OVERFIT_STEPS = 1500
TIMED_STEPS = 8


def configuration(arguments: argparse.Namespace, model: str, seed: int, steps: int, *more: str) -> DiffusionRunConfig:
    """The run of one model: the recipe of the preset `scenes-diffusion` with a frozen backbone, on scenes and photos."""
    photos = f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017"
    stuff = f"coco-panoptic:{arguments.shared / 'data/photos/coco_stuff21'}:train"
    sets = [(f"scenes:60000-{60000 + arguments.scenes}:train", 50), (f"{photos}[0:70]", 40), (stuff, 10)]
    listed = ", ".join(f'{{data: "{spec}", weight: {weight}, labelling: dense}}' for spec, weight in sets)
    config = load_config(
        "scenes-diffusion",
        [
            f"seed={seed}",
            "cache=false",
            f"data.train=[{listed}]",
            "data.val=scenes:1:val",
            "data.resize=zoom",
            "data.windows=2",
            "data.whole_rate=0.5",
            f"data.features={arguments.work / 'features'}",
            f"image_encoder.backbone={arguments.shared / 'weights/efficientnet_lite0_fp16.safetensors'}",
            "partial.rate=0.5",
            f"optim.steps={steps}",
            "optim.batch_size=8",
            f"optim.lr={LEARNING_RATES[model]}",
            "optim.warmup=40",
            "optim.ema=0.99",
            f"validation.every={EVERY}",
            "validation.limit=1",
            "validation.samples=0",
            f"checkpoint.every={EVERY}",
            *more,
        ],
    )
    assert isinstance(config, DiffusionRunConfig)
    return config


def cache_features(config: DiffusionRunConfig) -> None:
    folder = config.data.features
    without = config.model_copy(update={"data": config.data.model_copy(update={"features": None})})
    stage = DiffusionStage(without)
    assert folder is not None
    build_feature_cache(folder, stage.train_data, "the trainings' sets", stage.image_encoder, without.data, FeatureSettings("fp16"))


def prepare(arguments: argparse.Namespace) -> None:
    cache_features(configuration(arguments, "diffusion", 0, 1))
    plan: dict[str, Any] = {"cpu_minutes": arguments.minutes, "steps": {}, "seconds_per_step": {}, "trained_parameters": {}}
    for model, kind in MODELS.items():
        stage = kind(configuration(arguments, model, 0, 1)).train()
        plan["trained_parameters"][model] = sum(weight.numel() for weight in stage.parameters() if weight.requires_grad)
        seconds = plan["seconds_per_step"][model] = round(seconds_per_step(stage), 4)
        plan["steps"][model] = round(60 * arguments.minutes / seconds)
    print(plan, flush=True)
    write_json(arguments.work / "plan.json", plan, indent=2)


def seconds_per_step(stage: DiffusionStage) -> float:
    """CPU seconds of a step, loading included, over all but the first two."""
    optimizer = torch.optim.AdamW([weight for weight in stage.parameters() if weight.requires_grad], lr=1e-5)
    started = 0.0
    for step in range(TIMED_STEPS + 2):
        started = time.process_time() if step == 2 else started
        batch = stage.collate([stage.load_sample(8 * step + number) for number in range(8)])
        stage(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - started) / TIMED_STEPS


def overfit(arguments: argparse.Namespace) -> None:
    """The rival on 8 scenes, without partial maps and mirroring: it must be able to draw what it has seen.

    Beside it the true masks as its 32 x 32 cells can hold them: the most that a drawing and the border step after it can reach.
    """
    run, count = arguments.work / "overfit", 8
    fixed = (
        f"data.train=scenes:{count}:train",
        f"data.val=scenes:{count}:train",
        "data.resize=square",
        "data.windows=null",
        "data.flip=false",
    )
    alone = (*fixed, "partial.rate=0", f"data.features={arguments.work / 'overfit-features'}")
    config = configuration(arguments, "rival", 0, OVERFIT_STEPS, *alone)
    cache_features(config)
    stage = RivalStage(config)
    train(stage, stage.config, run, on_step=lambda step, line: print("overfit", step, round(line["loss"], 4), flush=True))
    figures: dict[str, Any] = {"scenes": count, "steps": OVERFIT_STEPS}
    for boundaries in ("drawn", "photo"):
        rival = evaluate(stage.segmenter(boundaries=boundaries), stage.val_data).quality.all
        true = true_cells(stage.val_data, boundaries)
        figures[f"boundaries {boundaries}"] = {"rival": round(100 * rival.pq, 2), "true masks in cells": round(100 * true.pq, 2)}
    print(figures, flush=True)
    write_result("rival_overfit", figures, command_line())


def true_cells(data: PanopticDataset, boundaries: str, cells: int = 32) -> Stat:
    """Quality of the true masks of which each of cells x cells holds a share, as the rival's mask features do."""
    quality = PanopticQuality()
    for index in range(len(data)):
        truth = data.map(index)
        masks = torch.from_numpy(truth.ids == np.array([s.id for s in truth.segments])[:, None, None])[None].float()
        shares = F.interpolate(F.adaptive_avg_pool2d(masks, cells), masks.shape[-2:], mode="bilinear")[0]
        drawn = truth.with_ids(np.array([s.id for s in truth.segments])[shares.argmax(0).numpy()])
        quality.update(drawn if boundaries == "drawn" else refine_boundaries(drawn, data.image(index), np.zeros_like(drawn.ids)), truth)
    return quality.compute().all


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def train_one(arguments: argparse.Namespace) -> None:
    plan = read(arguments.work / "plan.json")
    model, run = arguments.model, arguments.work / f"{arguments.model}-{arguments.seed}"
    stage = MODELS[model](configuration(arguments, model, arguments.seed, plan["steps"][model]))
    started = time.process_time()
    train(stage, stage.config, run, on_step=lambda step, line: print(model, arguments.seed, step, round(line["loss"], 4), flush=True))
    write_json(run / "cost.json", {"cpu_seconds": round(time.process_time() - started, 1), "steps": plan["steps"][model]})


# -------------------------------------------------------------------------------------------------------------------------- measuring
def percent(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows of all seeds and their mean PQ."""
    return {"pq": round(mean(row["pq"] for row in rows), 2), "seeds": list(rows)}


def unaided(model: Any, data: PanopticDataset, seed: int, **options: Any) -> dict[str, Any]:
    report = evaluate(model, data, seed=seed, batch_size=10, **options)
    stat = report.quality.all
    figures = {name: round(100 * getattr(stat, name), 2) for name in ("pq", "sq", "rq")}
    return {"seed": seed, **figures, "seconds_per_image": round(report.seconds_per_image, 3)}


def measure_seed(arguments: argparse.Namespace, seed: int, sets: dict[str, PanopticDataset]) -> None:
    """Save the figures of one seed's two models."""
    work, rows = arguments.work, []
    pipe = LDMSegPipeline.from_pretrained(work / f"diffusion-{seed}" / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    rival = load_rival(arguments, seed)
    for name, data in sets.items():
        for steps in arguments.steps:
            rows.append(["unaided", name, f"diffusion, {steps} steps", unaided(pipe, data, seed, num_inference_steps=steps)])
        rows.append(["unaided", name, "rival", unaided(rival, data, seed)])
        rows.append(["unaided", name, "rival, Mask2Former's thresholds", unaided(RivalSegmenter(rival.stage, PUBLISHED), data, seed)])
        for steps in arguments.steps:
            first = steps == arguments.steps[0]
            asked: dict[str, Any] = {"num_inference_steps": steps, "seed": seed, "batch_size": 10, "methods": ["condition"]}
            others = {"rival": rival} if first else {}
            baselines = ("walker",) if first else ()
            report = evaluate_inpainting(pipe, data, cases=list(CASES.values()), baselines=baselines, others=others, **asked)
            for score in report.scores:
                kind = next(kind for kind, case in CASES.items() if case == score.case)
                method = f"diffusion, {steps} steps" if score.method == "condition" else score.method
                figures = {"seed": seed, "pq": round(100 * score.pq, 2), "seconds_per_image": round(score.seconds_per_image, 3)}
                rows.append([kind, name, method, figures])
        print(*rows, sep="\n", flush=True)
    write_json(work / f"figures-{seed}.json", rows)


def load_rival(arguments: argparse.Namespace, seed: int) -> RivalSegmenter:
    stage = RivalStage(configuration(arguments, "rival", seed, 1))
    state = load_file(arguments.work / f"rival-{seed}" / "pipeline" / "rival.safetensors")
    strange = stage.load_state_dict(state, strict=False).unexpected_keys
    missing = {name for name, weight in stage.named_parameters() if weight.requires_grad} - set(state)
    if strange or missing:
        raise SystemExit(f"rival-{seed}: {len(missing)} weights are missing and {len(strange)} are unknown")
    return stage.segmenter()


def measure(arguments: argparse.Namespace) -> None:
    photos = load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017{arguments.part}")
    sets: dict[str, PanopticDataset] = {"scenes": load_dataset(f"scenes:{arguments.validation}:val"), "photos": Shrunk(photos, SIDE)}
    work = arguments.work
    for seed in arguments.seeds:
        if not (work / f"figures-{seed}.json").is_file():
            measure_seed(arguments, seed, sets)
    for name, data in sets.items():
        file = work / f"classical-{name}.json"
        if not file.is_file():
            write_json(file, {method: unaided(RegionSegmenter(method), data, 0) for method in ("felzenszwalb", "slic")})
    classical = {name: read(work / f"classical-{name}.json") for name in sets}
    table: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for seed in arguments.seeds:
        for task, name, method, row in read(work / f"figures-{seed}.json"):
            table.setdefault(task, {}).setdefault(name, {}).setdefault(method, []).append(row)
    figures = {
        "plan": read(work / "plan.json"),
        "trainings": {model: [read(work / f"{model}-{seed}" / "cost.json") for seed in arguments.seeds] for model in MODELS},
        "training_scenes": arguments.scenes,
        "images": {name: len(data) for name, data in sets.items()},
        "photos": f"coco100{arguments.part}, the longer side reduced to {SIDE} px",
        "table": {t: {n: {m: percent(rows) for m, rows in ms.items()} for n, ms in names.items()} for t, names in table.items()},
        "classical": classical,
    }
    write_result("rivals", figures, command_line())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["prepare", "overfit", "train", "measure"])
    parser.add_argument("model", nargs="?", choices=list(MODELS), help="train")
    parser.add_argument("seed", nargs="?", type=int, help="train")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and weights/")
    parser.add_argument("--work", type=Path, required=True, help="folder for features and runs")
    parser.add_argument("--minutes", type=float, default=4, help="prepare: CPU minutes of a training")
    parser.add_argument("--scenes", type=int, default=400, help="training scenes")
    parser.add_argument("--validation", type=int, default=24, help="measure: scenes")
    parser.add_argument("--part", default="[70:100]", help="measure: of coco100's photos")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 20], help="measure: of the diffusion model")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="measure")
    arguments = parser.parse_args()
    if arguments.do == "train" and None in (arguments.model, arguments.seed):
        parser.error("train needs a model and a seed")
    {"prepare": prepare, "overfit": overfit, "train": train_one, "measure": measure}[arguments.do](arguments)


if __name__ == "__main__":
    main()
