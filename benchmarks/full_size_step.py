"""One optimisation step of the paper's full-size stage 2: Stable Diffusion v1's architecture at 512 px, on a processor.

    OMP_NUM_THREADS=2 python benchmarks/full_size_step.py

The preset `coco-diffusion` with random weights in place of Stable Diffusion's and generated scenes in place of COCO: batch 1, bf16
autocast, gradient checkpointing, both passes of self-conditioning, AdamW and (unless --without-average) the average of weights. Peak memory
is the process's largest resident set, beside what `ldmseg train --dry-run` says beforehand. It takes 13 to 17 GiB; where memory runs out,
the system is asked to end this process and no other.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _results import write_result
from diffusers import AutoencoderKL

from ldmseg.config import DiffusionRunConfig, load_config
from ldmseg.models.image_encoder import SD_V1_VAE, FrozenImageEncoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.training.batches import steps
from ldmseg.training.ema import Average
from ldmseg.training.launch import autocast, clip_gradients, start_accelerator
from ldmseg.training.plan import plan
from ldmseg.training.stages.diffusion import DiffusionStage

GIB = 2**30


class Phases:
    """Wall and processor seconds of each phase, and the process's largest resident set by its end."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        wall, processor = time.monotonic(), time.process_time()
        result = work()
        self.found[name] = {
            "seconds": round(time.monotonic() - wall, 2),
            "processor_seconds": round(time.process_time() - processor, 2),
            "peak_gib": round(peak(), 3),
        }
        print(f"{name}: {self.found[name]}", file=sys.stderr)
        return result


def peak() -> float:
    """GiB; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIB


def full_size_config(folder: Path) -> DiffusionRunConfig:
    """`coco-diffusion` on random weights, which are written to `folder` where it asks for a folder."""
    FrozenImageEncoder.from_vae(AutoencoderKL(**SD_V1_VAE)).save_pretrained(folder / "image_encoder")
    MaskAutoencoder().save_pretrained(folder / "autoencoder")
    config = load_config(
        "coco-diffusion",
        [
            *("data.train=scenes:4:train", "data.val=scenes:1:val", "data.workers=0"),
            *("denoiser.source=sd-v1", f"image_encoder.source={folder / 'image_encoder'}", f"autoencoder={folder / 'autoencoder'}"),
            *("optim.steps=1", "optim.batch_size=1", "optim.precision=bf16", "optim.gradient_checkpointing=true"),
        ],
    )
    assert isinstance(config, DiffusionRunConfig)
    return config


def one_step(config: DiffusionRunConfig, with_average: bool) -> dict[str, Any]:
    phases = Phases()
    stage = phases.run("build", lambda: DiffusionStage(config).train())
    accelerator = start_accelerator(config.optim)
    trained = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    average = phases.run("average", lambda: Average(stage, config.optim.ema)) if with_average else None
    model, optimizer = accelerator.prepare(stage, optimizer)
    [batches] = phases.run("load", lambda: list(steps(stage, config, 0, accelerator)))
    before = [p.detach().flatten()[0].clone() for p in trained]

    with autocast(accelerator):
        loss = phases.run("forward", lambda: model(batches[0])["loss"])
        phases.run("backward", lambda: accelerator.backward(loss))
    norm = phases.run("clip", lambda: float(clip_gradients(accelerator, trained, config.optim.clip)))
    phases.run("step", optimizer.step)
    if average is not None:
        phases.run("average_update", average.update)
    changed = sum(bool(p.detach().flatten()[0] != old) for p, old in zip(trained, before, strict=True))
    if not math.isfinite(float(loss.detach())) or changed < 0.9 * len(trained):
        raise RuntimeError(f"no true step: loss {float(loss.detach())}, {changed} of {len(trained)} weights changed")
    took = [phase for name, phase in phases.found.items() if name not in ("build", "average")]
    return {
        "peak_gib": round(peak(), 2),
        "step_seconds": round(sum(phase["seconds"] for phase in took), 1),
        "step_processor_seconds": round(sum(phase["processor_seconds"] for phase in took), 1),
        "phases": phases.found,
        "average_of_weights": with_average,
        "loss": round(float(loss.detach()), 4),
        "gradient_norm": round(norm, 4),
        "tensors_trained": len(trained),
        "tensors_changed": changed,
    }


def expected(config: DiffusionRunConfig) -> dict[str, Any]:
    """What the dry run says of it; a first step has no moments of AdamW yet when its activations are there, a later one has both."""
    found = plan(config)
    sizes = {f"{name}_gib": round(size / GIB, 2) for name, size in dataclasses.asdict(found.memory).items()}
    return {
        "parameters": {part.name: {"all": part.parameters, "trained": part.trained} for part in found.parts},
        "dry_run": {**sizes, "total_gib": round(found.memory.total / GIB, 2)},
    }


def end_me_first() -> None:
    """Linux: when memory runs out, this process goes before any other."""
    adjust = Path("/proc/self/oom_score_adj")
    if adjust.exists():
        adjust.write_text("1000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-average", action="store_true", help="leave out the average of weights, 3 GiB")
    args = parser.parse_args()
    end_me_first()
    with tempfile.TemporaryDirectory() as folder:
        config = full_size_config(Path(folder))
        beforehand = expected(config)
        figures = {**beforehand, "before_gib": round(peak(), 2), **one_step(config, not args.without_average)}
    command = "OMP_NUM_THREADS=2 python benchmarks/full_size_step.py" + " --without-average" * args.without_average
    settings = {"size": config.data.size, "batch_size": 1, "precision": "bf16", "gradient_checkpointing": True, "weights": "random"}
    print(write_result("full_size_step", {**settings, **figures}, command))


if __name__ == "__main__":
    main()
