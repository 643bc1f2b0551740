"""Figures of speed of whole commands and of the full-size network (`speed.py`): memory, processes, full size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _timing import extra_memory, in_turn, ratio
from diffusers import UNet2DConditionModel
from PIL import Image
from speed_calls import Setting
from speed_sizes import TWELVE_MEGAPIXELS, VGA, resized

from ldmseg.formats.label_png import write_label_png
from ldmseg.models.denoiser import Condition, build_denoiser

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "accelerate"
PRESET = "scenes-diffusion"
"""Of the training whose memory and scaling are measured."""


def run(*arguments: object, launcher: tuple[str, ...] = ("-m",)) -> None:
    words = [sys.executable, *launcher, "ldmseg", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")


# -------------------------------------------------------------------------------------------------------------------------- memory
def memory(setting: Setting) -> dict[str, Any]:
    """Each command in a process of its own, whose largest resident set is counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, size in (("photo", VGA), ("large", TWELVE_MEGAPIXELS)):
            Image.fromarray(resized(setting.photos.image(0), *size)).save(folder / f"{label}.png")
            whole = setting.photos.map(0).resize(*size)
            write_label_png(folder / f"{label}_partial.png", whole.keep(s.id for s in whole.segments[:3]))
        device: list[object] = ["--device", setting.device, "--model", setting.model]
        commands: dict[str, list[object]] = {
            "info": ["info"],
            "data scenes": ["data", "scenes", "--count", 8, "-o", folder / "scenes"],
            "evaluate, 8 scenes": ["evaluate", "--data", "scenes:8:val", *device],
            "train, 2 steps": ["train", "diffusion", "--config", PRESET, "-o", folder / "run", *_short(2)],
        }
        for title, label in (("640 x 480", "photo"), ("12 megapixels", "large")):
            photo, partial = folder / f"{label}.png", folder / f"{label}_partial.png"
            commands[f"segment, {title}"] = ["segment", photo, "-o", folder / f"{label}_map", *device]
            commands[f"inpaint, {title}"] = ["inpaint", photo, "--partial", partial, "-o", folder / f"{label}_completed", *device]
        found = {title: _peak(arguments) for title, arguments in commands.items()}
    return {"mebibytes": found}


_MEASURED = """
import sys
sys.path.insert(0, sys.argv[1])
import _timing, speed_commands
speed_commands.run(*sys.argv[2:])
print(_timing.peak_of_children())
"""


def _peak(arguments: list[object]) -> float:
    """MiB, measured by a process of its own, since a process only knows the largest of all its children."""
    words = [sys.executable, "-c", _MEASURED, str(Path(__file__).parent), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


# ----------------------------------------------------------------------------------------------------------------------- processes
def processes(setting: Setting, steps: int = 16) -> dict[str, Any]:
    """Samples per second of one and of two processes with the same batch each, in the training loop: loading is left out."""
    config = "cpu-2.yaml" if setting.device.type == "cpu" else "multi-gpu.yaml"
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(max(1, setting.rounds // 2)):
        for count, found in rates.items():
            found.append(count * 16 * steps / _training_seconds(count, steps, config))
    return {
        "preset": PRESET,
        "batch_size_of_a_process": 16,
        "cores": os.cpu_count(),
        "samples_per_second": {str(count): round(max(found), 2) for count, found in rates.items()},
        "of_linear": round(max(rates[2]) / (2 * max(rates[1])), 3),
    }


def _training_seconds(count: int, steps: int, config: str) -> float:
    launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", str(CONFIGS / config)]
    with tempfile.TemporaryDirectory() as folder:
        run(
            *("train", "diffusion", "--config", PRESET, "-o", folder, *_short(steps)),
            launcher=(*launcher, "--num_processes", str(count), "-m"),
        )
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return next(line["seconds"] for line in lines if line.get("step") == steps)


def _short(steps: int) -> list[str]:
    """A training of some steps of 16 samples without validation pictures."""
    settings = (f"optim.steps={steps}", "optim.batch_size=16", "data.workers=0", "data.train=scenes:64:train", "data.val=scenes:1:val")
    return [word for setting in settings for word in ("--set", setting)]


# ----------------------------------------------------------------------------------------------------------------------- full size
@torch.no_grad()
def full_size(setting: Setting, side: int = 64) -> dict[str, Any]:
    """One pass at 512 px (latents of 64 x 64): `Denoiser.predict` and diffusers' forward of the same module, in turn."""
    found: dict[str, Any] = {}
    denoiser: Any = None

    def build() -> None:
        nonlocal denoiser
        denoiser = build_denoiser("sd-v1").eval().to(setting.device)

    weights = extra_memory(build, setting.device)
    x, image, estimate = (torch.randn(1, 4, side, side, device=setting.device) for _ in range(3))
    inputs = torch.cat([x, image, estimate], dim=1)

    def ours() -> None:
        found["ours"] = denoiser.predict(x, 500, Condition(image), estimate)

    def bare() -> None:
        found["bare"] = UNet2DConditionModel.forward(denoiser, inputs, 500, None, return_dict=False)[0]

    times = in_turn(setting.clock, {"bare": bare, "ours": ours}, setting.rounds)
    if not torch.equal(found["ours"], found["bare"]):
        raise SystemExit("the two calls' results differ")
    return {
        "clock": setting.clock.name,
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "pixels": 8 * side,
        "rounds": setting.rounds,
        "seconds": {name: round(sorted(values)[len(values) // 2], 2) for name, values in times.items()},
        "ours_to_bare": ratio(times["ours"], times["bare"]),
        "weights_gib": round(weights / 1024, 2),
        "pass_mib": extra_memory(ours, setting.device),
    }
