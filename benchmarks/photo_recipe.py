"""What each choice of the recipe for photographs earns: short trainings of equal steps from the same model, with one choice changed.

    python benchmarks/photo_recipe.py --runs RUNS --init MODEL --data DATA --backbone efficientnet_lite0.safetensors

MODEL is a pipeline without a backbone that has seen no photos; DATA is the folder of the sets that the preset `photos-128` names. Each
training is measured on numbers 70 to 99 of coco100, which none of them sees: unaided in 20 steps (three seeds of sampling), and completed
from points, strokes and 70 % holes. Trainings resume, and finished ones keep their figures in RUNS; the result holds all that are there.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from _results import command_line, model, write_result
from inpainting import Shrunk
from photos import SIDE, completed, unaided

from ldmseg import LDMSegPipeline, load_config, load_dataset
from ldmseg.atomic import write_json
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage

RESEARCH = [
    {"data": "coco-panoptic:data/bsds500:train", "weight": 10, "labelling": "dense"},
    {"data": "coco-panoptic:data/photos/msrc:train", "weight": 10, "labelling": "dense"},
    {"data": "coco-panoptic:data/photos/camvid:train", "weight": 5, "labelling": "dense"},
    {"data": "coco-panoptic:data/photos/voc44:train", "weight": 3, "labelling": "things_only"},
    {"data": "coco-panoptic:data/photos/horses:train", "weight": 3, "labelling": "figure_ground"},
    {"data": "coco-panoptic:data/photos/pennfudan:train", "weight": 3, "labelling": "things_only"},
]
"""Sets whose terms allow research alone. Weights that were trained on them are not shared."""

VARIANTS: dict[str, list[str]] = {
    "recipe": [],
    "no backbone": ["image_encoder.backbone=null"],
    "area weight": ["loss.area_power=0.5"],
    "whole photos": ["data.whole_rate=1.0"],
    "no pure noise": ["loss.pure_noise_rate=0"],
    "all kinds alike": ["partial.rate=0.4", "partial.kinds=[points, strokes, blocks, pixels, scanlines, boxes]"],
    "research sets": [],
}


def overrides(variant: str, seed: int, arguments: argparse.Namespace) -> list[str]:
    """The settings of one training."""
    given = [f"init={arguments.init.resolve()}", f"image_encoder.backbone={arguments.backbone.resolve()}", f"seed={seed}"]
    given += [f"optim.steps={arguments.steps}", f"validation.every={arguments.steps}", "validation.limit=1", "validation.samples=0"]
    if variant == "research sets":
        sets = load_config("photos-128").data.train
        assert not isinstance(sets, str)
        mixed = [one.model_dump(exclude_none=True) for one in sets] + RESEARCH
        given.append(f"data.train={yaml.safe_dump(mixed, default_flow_style=True, width=10**6).strip()}")
    return given + VARIANTS[variant]


def measured(pipe: LDMSegPipeline, data: Path) -> dict[str, Any]:
    """PQ in percent of one sample in 20 steps (its seeds' mean) and of completion."""
    photos = load_dataset(f"coco-panoptic:{data / 'coco100'}:train2017[70:100]")
    completion = completed(pipe, Shrunk(photos, SIDE), [0], 20)
    return {
        "unaided": unaided(pipe, photos, [0, 1, 2], num_inference_steps=20)["pq"],
        **{kind: rows["condition"]["pq"] for kind, rows in completion.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs; it must hold, or link to, DATA as `data`")
    parser.add_argument("--init", type=Path, required=True, help="pipeline to begin with")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--backbone", type=Path, required=True, help="weights of EfficientNet-Lite0")
    parser.add_argument("--steps", type=int, default=400, help="optimisation steps of each training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the training")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    for name in ("init", "data", "backbone"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    command = command_line()
    os.chdir(arguments.runs)
    if not Path("data").exists():
        Path("data").symlink_to(arguments.data)
    begin = LDMSegPipeline.from_pretrained(arguments.init)
    for seed in arguments.seeds:
        for variant in arguments.variants:
            run = Path(f"{variant.replace(' ', '-')}-{arguments.steps}-{seed}")
            if not (run / "figures.json").exists():
                config = load_config("photos-128", overrides(variant, seed, arguments))
                pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, run))
                pipe.set_progress_bar_config(disable=True)
                write_json(run / "figures.json", measured(pipe, arguments.data))
    figures: dict[str, Any] = {"training_steps": arguments.steps, "init": model(begin), "variants": {}}
    for variant in VARIANTS:
        files = sorted(Path().glob(f"{variant.replace(' ', '-')}-{arguments.steps}-*/figures.json"))
        rows = [{"seed": int(file.parent.name.rsplit("-", 1)[1]), **json.loads(file.read_text(encoding="utf-8"))} for file in files]
        if rows:
            keys = [key for key in rows[0] if key != "seed"]
            spread = {key: round(stdev(row[key] for row in rows), 2) for key in keys} if len(rows) > 1 else None
            means = {key: round(mean(row[key] for row in rows), 2) for key in keys}
            figures["variants"][variant] = {"settings": VARIANTS[variant], "mean": means, "deviation": spread, "seeds": rows}
            print(variant, means, spread, flush=True)
    write_result("photo_recipe", figures, command)


if __name__ == "__main__":
    main()
