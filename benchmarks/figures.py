"""Redraw the paper's figures that need no COCO training, with this package's models and generated scenes.

    make figures      (python benchmarks/figures.py)

| figure | here |
|---|---|
| 3 | how much of a map is still legible in its noised latents, for several scales s |
| 7 | PQ, SQ and RQ over the number of sampling steps |
| 8 | reconstruction over the weight of the KL term, with which the bundled mask autoencoder is trained on |
| 10 | the same noise with different photos |
| S4 | the clean estimate at some of the steps |

Figure 9 is `benchmarks/inpainting.py`. `--only 3 7` draws some of them. What the curves show goes to `benchmarks/results/figure_N.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from _results import command_line, write_result
from PIL import Image

from ldmseg import LDMSegPipeline, NoiseSchedule, PanopticMap, PanopticQuality, load_config, load_dataset
from ldmseg.atomic import atomic_write
from ldmseg.codes import assign_ids
from ldmseg.data.datasets import PanopticDataset
from ldmseg.evaluate import evaluate
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.visualize import color_map, contact_sheet, overlay

STEPS = (1, 2, 3, 5, 8, 12, 20, 30, 50)
SCALES = (1.0, 0.5, 0.25, 0.125)
KL_WEIGHTS = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def scale_and_noise(pipe: LDMSegPipeline, data: PanopticDataset, count: int = 24) -> dict[str, Any]:
    """Figure 3. Latents of unit deviation times s, noised to t and decoded at once: PQ against the map that went in.

    Below the SNR at which it falls, a denoiser learns nothing from the noisy latents and must look at the photo; a small s moves that point
    towards the clean end.
    """
    autoencoder, schedule = pipe.mask_autoencoder, NoiseSchedule()  # Stable Diffusion's betas, as the paper has them
    timesteps = np.unique(np.linspace(0, 999, 21).astype(int))
    maps = [data.map(index) for index in range(count)]
    ids = np.stack([m.relabel(assign_ids(m, 128, "random", np.random.default_rng(i))).ids for i, m in enumerate(maps)])
    latents = autoencoder.encode(torch.from_numpy(ids.astype(np.int64)))  # (B, C, h, w)
    deviation = latents.std()
    curves: dict[str, Any] = {"timesteps": timesteps.tolist()}
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    for scale in SCALES:
        row = []
        for t in timesteps.tolist():
            alpha = schedule.alpha_bar(t)
            x = alpha.sqrt() * latents / deviation * scale + (1 - alpha).sqrt() * noise
            best = x / (alpha.sqrt() * scale) * deviation  # the map's latents, with noise of sqrt(1 / SNR) added
            quality = PanopticQuality(class_agnostic=True)
            for index, target in enumerate(ids):
                quality.update(to_panoptic(autoencoder.decode(best[index : index + 1])[0]), PanopticMap(target))
            row.append(round(100 * quality.compute().all.pq, 2))
        snr = schedule.snr(torch.from_numpy(timesteps)) * scale**2
        curves[str(scale)] = {"pq_of_noised_latents": row, "log_snr": [round(float(v), 3) for v in snr.log()]}
        print("scale", scale, row, flush=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for scale in SCALES:
        curve = curves[str(scale)]
        left.plot(timesteps, curve["log_snr"], label=f"s = {scale:g}")
        right.plot(timesteps, curve["pq_of_noised_latents"], label=f"s = {scale:g}")
    left.set(xlabel="timestep", ylabel="log SNR of the latents")
    right.set(xlabel="timestep", ylabel="PQ of the noised latents, decoded", ylim=(0, 100))
    right.legend()
    save(figure, "figure_3_scale.png")
    return curves


def sampling_steps(pipe: LDMSegPipeline, data: PanopticDataset) -> dict[str, Any]:
    """Figure 7, with DDIM as the paper has it and with ancestral sampling."""
    curves: dict[str, Any] = {}
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharex=True)
    for sampler in ("ddim", "ddpm"):
        stats = [evaluate(pipe, data, num_inference_steps=n, sampler=sampler, batch_size=16).quality.all for n in STEPS]
        curves[sampler] = {name: [round(100 * getattr(s, name), 2) for s in stats] for name in ("pq", "sq", "rq")}
        print(sampler, curves[sampler], flush=True)
        for axis, name in zip(axes, ("pq", "sq", "rq"), strict=True):
            axis.plot(STEPS, curves[sampler][name], marker="o", markersize=3, label=sampler.upper())
            axis.set(xlabel="sampling steps", ylabel=name.upper(), xscale="log")
            axis.set_xticks(STEPS, [str(n) for n in STEPS], minor=False)
            axis.tick_params(axis="x", labelsize=7)
            axis.minorticks_off()
    axes[0].legend()
    save(figure, "figure_7_steps.png")
    return {"steps": list(STEPS), "images": len(data), **curves}


def kl_weight(steps: int) -> dict[str, Any]:
    """Figure 8: the bundled mask autoencoder, trained on for a while with five weights of the KL term."""
    curves: dict[str, Any] = {"training_steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        for weight in KL_WEIGHTS:
            overrides = [f"loss.kl={weight}", "loss.latent_noise=0", f"optim.steps={steps}", f"validation.every={steps}"]
            small = [
                "init=default",
                "data.size=64",
                "data.scene_segments=[3,8]",
                "data.val=scenes:64:val",
                "validation.samples=0",
            ]
            config = load_config("scenes-autoencoder", [*overrides, *small, f"checkpoint.every={steps}"])
            run = Path(folder) / str(weight)
            train(AutoencoderStage(config), config, run)  # type: ignore[arg-type]
            last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            validated = next(line for line in reversed(last) if "val_pq" in line)
            curves[str(weight)] = {name: round(100 * validated[f"val_{name}"], 2) for name in ("pq", "sq", "rq")}
            print("kl", weight, curves[str(weight)], flush=True)
    figure, axis = plt.subplots(figsize=(4.6, 3.2), layout="constrained")
    labels = [f"{w:g}" for w in KL_WEIGHTS]
    for name in ("pq", "sq", "rq"):
        axis.plot(labels, [curves[str(w)][name] for w in KL_WEIGHTS], marker="o", label=name.upper())
    axis.set(xlabel="weight of the KL term", ylabel="reconstruction, %")
    axis.legend()
    save(figure, "figure_8_kl.png")
    return curves


def noise_as_queries(pipe: LDMSegPipeline, data: PanopticDataset, photos: int = 5, noises: int = 4) -> dict[str, Any]:
    """Figure 10: every photo with the same few noises; beside the pictures, how often a place gets the same id."""
    shape = (1, pipe.mask_autoencoder.config["latent_channels"], *(2 * [pipe.config["image_size"] // pipe.mask_autoencoder.downscale]))
    starts = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(noises)]
    drawn = [[pipe(data.image(i), latents=start, sampler="ddim").maps[0] for start in starts] for i in range(photos)]
    rows = [[Image.fromarray(data.image(i)), *(color_map(m) for m in drawn[i])] for i in range(photos)]
    save_picture(contact_sheet(rows, titles=["photo", *(f"noise {n + 1}" for n in range(noises))]), "figure_10_noise.png")

    def same(other_photo: bool, other_noise: bool) -> float:
        """The share of pixels with the same id, over all pairs of pictures of that kind."""
        keys = [(i, n) for i in range(photos) for n in range(noises)]
        pairs = [(a, b) for a, b in combinations(keys, 2) if (a[0] != b[0], a[1] != b[1]) == (other_photo, other_noise)]
        return round(float(np.mean([(drawn[i][n].ids == drawn[j][m].ids).mean() for (i, n), (j, m) in pairs])), 4)

    return {
        "same_id_same_noise_other_photo": same(other_photo=True, other_noise=False),
        "same_id_other_noise_same_photo": same(other_photo=False, other_noise=True),
        "same_id_other_noise_other_photo": same(other_photo=True, other_noise=True),
    }


def estimates(pipe: LDMSegPipeline, data: PanopticDataset, photos: int = 5, steps: int = 20) -> dict[str, Any]:
    """Figure S4: the map that each clean estimate stands for; PQ of the estimates over more scenes in the JSON."""
    shown = [0, 1, 2, 4, 8, 13, steps - 1]
    rows, by_step = [], [PanopticQuality(class_agnostic=True) for _ in range(steps)]
    for index in range(24):
        seen: list[torch.Tensor] = []

        def keep(pipe: LDMSegPipeline, step: int, timestep: int, tensors: dict[str, Any], seen: list[torch.Tensor] = seen) -> dict:
            seen.append(tensors["estimate"])
            return {}

        image = data.image(index)
        generator = torch.Generator().manual_seed(index)
        options: dict[str, Any] = {"callback_on_step_end": keep, "callback_on_step_end_tensor_inputs": ["estimate"]}
        pipe(image, num_inference_steps=steps, generator=generator, output_type="latent", **options)
        maps = [to_panoptic(pipe.mask_autoencoder.decode(one)[0], size=image.shape[:2]) for one in seen]
        for quality, pmap in zip(by_step, maps, strict=True):
            quality.update(pmap, data.map(index))
        if index < photos:
            rows.append([Image.fromarray(image), *(overlay(image, maps[step], alpha=0.7) for step in shown)])
    save_picture(contact_sheet(rows, titles=["photo", *(f"step {step + 1}" for step in shown)]), "figure_s4_estimates.png")
    return {"steps": steps, "pq_of_the_estimate_by_step": [round(100 * q.compute().all.pq, 2) for q in by_step]}


def save(figure: Any, name: str) -> None:
    with atomic_write(IMAGES / name) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)


def save_picture(picture: Image.Image, name: str) -> None:
    with atomic_write(IMAGES / name) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="+", choices=["3", "7", "8", "10", "s4"], help="only these figures")
    parser.add_argument("--images", type=int, default=64, help="scenes of figure 7")
    parser.add_argument("--kl-steps", type=int, default=250, help="training steps with each weight of figure 8")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    data = load_dataset(f"scenes:{arguments.images}:val", size=pipe.config["image_size"])
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "3": torch.no_grad()(lambda: scale_and_noise(pipe, data)),
        "7": lambda: sampling_steps(pipe, data),
        "8": lambda: kl_weight(arguments.kl_steps),
        "10": lambda: noise_as_queries(pipe, data),
        "s4": torch.no_grad()(lambda: estimates(pipe, data)),
    }
    for name in arguments.only or makers:
        write_result(f"figure_{name}", makers[name](), command_line(), pipe)


if __name__ == "__main__":
    main()
