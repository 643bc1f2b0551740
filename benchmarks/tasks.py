"""Several tasks in one model against segments alone, at equal steps: PQ, mIoU, AbsRel and delta1, and the same with the tokens exchanged.

    ldmseg data cache --config scenes-tasks --dtype fp16 -o FEATURES
    python benchmarks/tasks.py --runs RUNS --features FEATURES

Both runs begin with the bundled model and see the same scenes in the same order (the preset `scenes-tasks`). They resume; `--only` makes
one of them. Validation scenes are never trained on. Exchanged tokens: every task gets those of the next one.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from _results import command_line, write_result
from PIL import Image

from ldmseg import LDMSegPipeline, load_config, load_dataset
from ldmseg.evaluate.tasks import evaluate_task, headline
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage
from ldmseg.visualize import contact_sheet, target_picture

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "tasks.png"
RUNS: dict[str, list[str]] = {"several": [], "segments": ["tasks={panoptic: 1}"]}
"""Overrides of the preset. One task needs no tokens, and no other difference is made."""


def trained(name: str, arguments: argparse.Namespace) -> LDMSegPipeline:
    features = [] if arguments.features is None else [f"data.features={arguments.features}"]
    overrides = [f"optim.steps={arguments.steps}", f"validation.every={arguments.steps}", *features, *RUNS[name], *arguments.set]
    config = load_config("scenes-tasks", overrides)
    if len(config.tasks) == 1:
        config = load_config("scenes-tasks", [*overrides, "descriptors={}"])
    pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, arguments.runs / name))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def exchanged(pipe: LDMSegPipeline) -> LDMSegPipeline:
    """The same model, in which each task has the tokens of the next."""
    other = copy.deepcopy(pipe.descriptor)
    with torch.no_grad():
        other.query_tokens.copy_(pipe.descriptor.query_tokens.roll(-1, 0))
    parts = {**pipe.components, "descriptor": other}
    config = {name: pipe.config[name] for name in ("image_size", "id_policy", "inference", "tasks")}
    swapped = LDMSegPipeline(**parts, **config)
    swapped.set_progress_bar_config(disable=True)
    return swapped


def figures_of(pipe: LDMSegPipeline, arguments: argparse.Namespace) -> dict[str, Any]:
    data = load_dataset(f"scenes:{arguments.images}:val", size=pipe.config["image_size"])
    found = {}
    for task in pipe.tasks:
        report = evaluate_task(pipe, data, task, batch_size=32, num_inference_steps=arguments.sampling_steps)
        numbers = {key: value for key, value in report.quality.to_dict().items() if isinstance(value, float)}
        found[task] = {key: round(value, 4) for key, value in {**numbers, **headline(report)}.items()}
        print(task, found[task], flush=True)
    return found


def draw(pipe: LDMSegPipeline, arguments: argparse.Namespace, count: int = 4) -> None:
    data = load_dataset(f"scenes:{count}:val", size=pipe.config["image_size"])
    rows = []
    for index in range(count):
        photo = data.image(index)
        row = [Image.fromarray(photo)]
        for task in pipe.tasks:
            generator = torch.Generator().manual_seed(index)
            drawn = pipe(photo, task=task, generator=generator, num_inference_steps=arguments.sampling_steps).maps[0]
            row += [target_picture(photo, data.target(index, task)), target_picture(photo, drawn)]
        rows.append(row)
    titles = ["photo", *(title for task in pipe.tasks for title in (task, "drawn"))]
    contact_sheet(rows, titles=titles).save(PICTURE, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--features", type=Path, help="the backbone's features of the training scenes; none computes them each time")
    parser.add_argument("--steps", type=int, default=1000, help="optimisation steps of each run")
    parser.add_argument("--only", choices=list(RUNS), help="train this one and measure nothing")
    parser.add_argument("--images", type=int, default=128, help="validation scenes")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of both runs' configuration")
    arguments = parser.parse_args()
    if arguments.only is not None:
        trained(arguments.only, arguments)
        return
    several, segments = trained("several", arguments), trained("segments", arguments)
    figures = {
        "training_steps": arguments.steps,
        "batch_size": 16,
        "images": arguments.images,
        "sampling_steps": arguments.sampling_steps,
        "bundled": figures_of(LDMSegPipeline.from_pretrained("default"), arguments),
        "segments_alone": figures_of(segments, arguments),
        "several_tasks": figures_of(several, arguments),
        "tokens_exchanged": figures_of(exchanged(several), arguments),
    }
    draw(several, arguments)
    write_result("tasks", figures, command_line(), several)


if __name__ == "__main__":
    main()
