"""Training from cached image latents against encoding every photo on the fly.

    OMP_NUM_THREADS=1 python benchmarks/latent_cache.py --shared ../shared

The `small` denoiser at 256 px on real photos (some of coco100), with an encoder of Stable Diffusion v1's size and random weights: what it
computes is noise, how long it takes is what the real one takes. Both sides load, collate and step through the same samples in turn, in
one process; CPU time of one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from _results import write_result

from ldmseg.config import DiffusionRunConfig, load_config
from ldmseg.data.datasets import load_dataset
from ldmseg.data.latent_writer import CacheSettings, build_latent_cache
from ldmseg.models.image_encoder import FrozenImageEncoder
from ldmseg.training.stages.diffusion import DiffusionStage

SD_V1_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "shift_factor": None,
}


def some_photos(coco: Path, folder: Path, count: int) -> str:
    """The first `count` images of a COCO data set as a data set of their own, by links."""
    values = json.loads((coco / "annotations" / "panoptic_train2017.json").read_text())
    values["annotations"] = values["annotations"][:count]
    kept = {annotation["image_id"] for annotation in values["annotations"]}
    values["images"] = [image for image in values["images"] if image["id"] in kept]
    folder.mkdir()
    (folder / "panoptic.json").write_text(json.dumps(values))
    (folder / "panoptic").symlink_to((coco / "annotations" / "panoptic_train2017").resolve())
    (folder / "images").symlink_to((coco / "train2017").resolve())
    return f"coco-panoptic:{folder}"


def make_stage(folder: Path, data: str, size: int, latents: Path | None) -> DiffusionStage:
    values = {
        "stage": "diffusion",
        "data": {"train": data, "val": data, "size": size, "latents": None if latents is None else str(latents)},
        "denoiser": {"source": "small", "partial": False},
        "image_encoder": {"source": str(folder / "encoder")},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    assert isinstance(config, DiffusionRunConfig)
    return DiffusionStage(config)


class Training:
    """A stage with its optimizer, and the fastest of its steps."""

    def __init__(self, stage: DiffusionStage, batch_size: int) -> None:
        self.stage, self.batch_size, self.number = stage, batch_size, 0
        self.optimizer = torch.optim.AdamW([p for p in stage.parameters() if p.requires_grad], lr=1e-4)
        self.losses: list[float] = []
        self.fastest = float("inf")

    def step(self, measured: bool = True) -> None:
        started = time.process_time()
        batch = self.stage.collate([self.stage.load_sample(self.number + i) for i in range(self.batch_size)])
        loss = self.stage(batch)["loss"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.number += self.batch_size
        self.losses.append(float(loss.detach()))
        if measured:
            self.fastest = min(self.fastest, time.process_time() - started)

    @property
    def samples_per_second(self) -> float:
        return self.batch_size / self.fastest


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    data = some_photos(arguments.shared / "data/coco100", folder / "photos", arguments.photos)
    encoder = FrozenImageEncoder("AutoencoderKL", SD_V1_VAE)
    encoder.save_pretrained(folder / "encoder")
    started = time.process_time()
    build_latent_cache(folder / "cache", load_dataset(data), data, encoder, CacheSettings(arguments.size, batch_size=arguments.batch_size))
    building = (time.process_time() - started) / arguments.photos
    stored = sum(file.stat().st_size for file in (folder / "cache").glob("*.safetensors"))
    sides = [Training(make_stage(folder, data, arguments.size, latents), arguments.batch_size) for latents in (None, folder / "cache")]
    for step in range(arguments.steps + 1):
        for side in sides:
            side.step(measured=step > 0)
    photos, latents = sides
    largest = max(abs(a - b) for a, b in zip(photos.losses, latents.losses, strict=True))
    if largest > 1e-5:
        raise SystemExit(f"the two sides' losses differ by {largest}")
    return {
        "denoiser": "small",
        "denoiser_parameters": sum(p.numel() for p in photos.stage.denoiser.parameters()),
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "pixels": arguments.size,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "samples_per_core_second_on_the_fly": round(photos.samples_per_second, 3),
        "samples_per_core_second_from_the_cache": round(latents.samples_per_second, 3),
        "speedup": round(latents.samples_per_second / photos.samples_per_second, 1),
        "largest_difference_of_losses": largest,
        "core_seconds_per_photo_to_build": round(building, 2),
        "bytes_per_photo": round(stored / arguments.photos),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments)
    print(figures)
    write_result("latent_cache", figures, "OMP_NUM_THREADS=1 python benchmarks/latent_cache.py --shared ../shared")


if __name__ == "__main__":
    main()
