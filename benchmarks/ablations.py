"""The paper's ablations at a small size: each study varies one thing, at equal steps, from the start.

    python benchmarks/ablations.py --study finer --runs RUNS --data coco-panoptic:DIR:val
    python benchmarks/ablations.py --study kl --runs RUNS

| study | varies | measured |
|---|---|---|
| finer | pixels and cells: 128 px and 256 px at f = 8, 128 px at f = 4 | reconstruction at the photos' own size, cost |
| kl | the weight of the KL term (figure 8) | reconstruction, the latents' deviation, PQ of a short stage 2 |
| codes | how an id is written: bits, colour, one-hot, positional | reconstruction |
| scale | s of figure 3 | PQ of a short stage 2 |
| weights | how the loss of stage 2 is weighted by the timestep | PQ of a short stage 2 |

Every training resumes where it was interrupted, and finished ones are not repeated. The result is `benchmarks/results/ablation_STUDY.json`.

A KL term may be a sum over an image's latent numbers or their mean. A sum of weight w is a mean of weight w times their number; the result
lists both weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import command_line, write_result

from ldmseg import LDMSegPipeline, PanopticMap, PanopticQuality, load_config, load_dataset
from ldmseg.codes import assign_ids, limit_segments
from ldmseg.data.datasets import PanopticDataset
from ldmseg.evaluate import evaluate
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.models.denoiser import Condition, build_denoiser
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.diffusion import DiffusionStage

F4 = "model={num_ids: 128, latent_channels: 8, encoder_widths: [32, 64, 256]}"


@dataclass(frozen=True)
class Variant:
    """One row of a study: overrides of `scenes-autoencoder`, and of `scenes-diffusion`; `bundled` takes the bundled mask autoencoder."""

    stage1: list[str] = field(default_factory=list)
    stage2: list[str] = field(default_factory=list)
    size: int = 128
    bundled: bool = False


KL_WEIGHTS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
STUDIES: dict[str, dict[str, Variant]] = {
    "finer": {
        "128 px, f = 8, bundled": Variant(bundled=True),
        "256 px, f = 8, bundled": Variant(bundled=True, size=256),
        "128 px, f = 8": Variant(),
        "256 px, f = 8": Variant(size=256),
        "128 px, f = 4": Variant([F4]),
    },
    "kl": {
        **{f"mean {weight:g}": Variant([f"loss.kl={weight!r}", "loss.latent_noise=0"]) for weight in KL_WEIGHTS},
        **{f"sum {weight:g}": Variant([f"loss.kl=sum:{weight!r}", "loss.latent_noise=0"]) for weight in KL_WEIGHTS[1:]},
    },
    "codes": {code: Variant([f"model.code={code}"]) for code in ("bits", "color", "one-hot", "positional")},
    "scale": {f"s = {scale}": Variant(bundled=True, stage2=[f"latent_scale={scale}"]) for scale in (1.0, 0.5, 0.25)},
    "weights": {
        kind: Variant(bundled=True, stage2=[f"loss.weight={kind}"]) for kind in ("none", "clamped-snr", "linear", "decay", "fixed")
    },
}
WITH_STAGE_2 = ("kl", "scale", "weights")


def autoencoder_of(name: str, variant: Variant, arguments: argparse.Namespace) -> tuple[str, MaskAutoencoder]:
    """Where the mask autoencoder lies, and itself: the bundled one, or one that is trained from the start."""
    if variant.bundled:
        return "default", load_mask_autoencoder("default").eval()
    shared = [f"optim.steps={arguments.steps}", f"validation.every={arguments.steps}", "validation.samples=0", *arguments.stage1]
    overrides = [_meant(one, arguments) for one in variant.stage1]
    config = load_config("scenes-autoencoder", [*shared, *overrides])
    folder = train(AutoencoderStage(config), config, arguments.runs / "stage1" / _file(name))
    return str(folder), load_mask_autoencoder(folder).eval()


def _meant(override: str, arguments: argparse.Namespace) -> str:
    """`loss.kl=sum:w` as the weight of a mean: times the latent numbers of a training crop."""
    key, _, value = override.partition("=")
    if not value.startswith("sum:"):
        return override
    return f"{key}={float(value.removeprefix('sum:')) * latent_numbers(arguments)!r}"


def latent_numbers(arguments: argparse.Namespace) -> int:
    """Of one training crop: C h w."""
    config = load_config("scenes-autoencoder", arguments.stage1)
    f = 2 ** (len(config.model.encoder_widths) - 1)
    return config.model.latent_channels * (config.augment.crop // f) ** 2


@torch.no_grad()
def reconstruction(autoencoder: MaskAutoencoder, data: PanopticDataset, size: int, limit: int) -> dict[str, Any]:
    """PQ of maps that are squeezed to a square, encoded, decoded and brought back to their own size; and what that costs."""
    quality, latents, seconds = PanopticQuality(class_agnostic=True), [], 0.0
    num_ids = autoencoder.config["num_ids"]
    for index in range(min(limit, len(data))):
        target = limit_segments(data.map(index), num_ids)
        assigned = assign_ids(target, num_ids, "random", np.random.default_rng(index))
        square = target.relabel(assigned).resize(size, size)
        started = time.process_time()
        z = autoencoder.encode(torch.from_numpy(square.ids.astype(np.int64))[None])
        logits = autoencoder.decode(z)[0]
        seconds += time.process_time() - started
        drawn = to_panoptic(logits, size=target.shape)
        own = {code: segment_id for segment_id, code in assigned.items()}
        quality.update(PanopticMap(drawn.ids).relabel({s.id: own.get(s.id, s.id + 2**20) for s in drawn.segments}), target)
        latents.append((z / autoencoder.config["scaling_factor"]).flatten())
    stat = quality.compute().all
    values = torch.cat(latents)
    return {
        "pq": round(100 * stat.pq, 2),
        "sq": round(100 * stat.sq, 2),
        "rq": round(100 * stat.rq, 2),
        "images": min(limit, len(data)),
        "latents": list(z.shape[1:]),
        "latent_std": round(float(values.std()), 4),
        "cpu_seconds_per_map": round(seconds / min(limit, len(data)), 4),
    }


@torch.no_grad()
def step_cost(shape: list[int]) -> float:
    """CPU seconds of one pass of the small denoiser over latents of this shape, the best of three."""
    denoiser = build_denoiser("small", mask_channels=shape[0], image_channels=64).eval()
    x, condition = torch.zeros(1, *shape), Condition(torch.zeros(1, 64, *shape[1:]))
    found = []
    for _ in range(4):
        started = time.process_time()
        denoiser.predict(x, 500, condition)
        found.append(time.process_time() - started)
    return round(min(found[1:]), 4)


def stage_2(name: str, folder: str, variant: Variant, arguments: argparse.Namespace) -> dict[str, Any]:
    """PQ of a denoiser that is trained for a while on a mask autoencoder's latents, with borders as drawn."""
    shared = [f"autoencoder={folder}", f"optim.steps={arguments.steps2}", f"validation.every={arguments.steps2}", "validation.samples=0"]
    config = load_config("scenes-diffusion", [*shared, "inference.boundaries=drawn", *arguments.stage2, *variant.stage2])
    pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, arguments.runs / "stage2" / _file(name)))
    pipe.set_progress_bar_config(disable=True)
    data = load_dataset(f"scenes:{arguments.limit}:val", size=config.data.size, segments=config.data.scene_segments)
    return {str(steps): round(100 * evaluate(pipe, data, num_inference_steps=steps).quality.all.pq, 2) for steps in (4, 20)}


def row_of(study: str, name: str, variant: Variant, arguments: argparse.Namespace) -> dict[str, Any]:
    folder, autoencoder = autoencoder_of(f"{study} {name}", variant, arguments)
    data = load_dataset(arguments.data, size=variant.size)
    row = reconstruction(autoencoder, data, variant.size, arguments.limit)
    if study == "finer":
        row["denoiser_cpu_seconds"] = step_cost(row["latents"])
    if study == "kl":
        kind, _, weight = name.partition(" ")
        numbers = latent_numbers(arguments)
        mean = float(weight) * (numbers if kind == "sum" else 1)
        row |= {"kl_as_mean": mean, "kl_as_sum": mean / numbers}
    if study in WITH_STAGE_2 and arguments.steps2:
        row["stage2_pq_by_sampling_steps"] = stage_2(f"{study} {name}", folder, variant, arguments)
    return row


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in name)


def measured(study: str, arguments: argparse.Namespace, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Every row of a study by its name."""
    rows = {}
    for name, variant in STUDIES[study].items():
        if arguments.only is None or name in arguments.only:
            rows[name] = row_of(study, name, variant, arguments)
            tell(f"{name}: {rows[name]}")
    return {"steps": arguments.steps, "steps2": arguments.steps2, "data": arguments.data.rpartition("/")[2], "rows": rows}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--study", choices=list(STUDIES), required=True)
    found.add_argument("--runs", type=Path, required=True, help="folder for the trainings")
    found.add_argument("--data", default="scenes:64:val", help="whose maps are reconstructed")
    found.add_argument("--limit", type=int, default=64, help="maps, and scenes of stage 2")
    found.add_argument("--steps", type=int, default=600, help="of each stage 1")
    found.add_argument("--steps2", type=int, default=0, help="of each stage 2; 0 leaves it out")
    found.add_argument("--only", nargs="+", help="rows by name")
    found.add_argument("--stage1", action="append", default=[], metavar="KEY=VALUE", help="a key of every stage 1")
    found.add_argument("--stage2", action="append", default=[], metavar="KEY=VALUE", help="a key of every stage 2")
    return found


def main() -> None:
    arguments = parser().parse_args()
    figures = measured(arguments.study, arguments)
    write_result(f"ablation_{arguments.study}", figures, command_line())


if __name__ == "__main__":
    main()
