"""Training from cached features of a frozen backbone against computing them on the fly.

    OMP_NUM_THREADS=1 python benchmarks/feature_cache.py --shared ../shared

The networks of the preset `photos-128` (the bundled model's, with EfficientNet-Lite0 at 256 px) on some photos of coco100,
with windows that stay the same. Both sides load, collate and step through the same samples in turn, in one process, in bfloat16; CPU time
of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from _results import command_line, write_result
from latent_cache import Training

from ldmseg.config import DiffusionRunConfig, load_config
from ldmseg.data.feature_writer import FeatureSettings, build_feature_cache
from ldmseg.training.stages.diffusion import DiffusionStage


def make_stage(arguments: argparse.Namespace, features: Path | None) -> DiffusionStage:
    photos = f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017[0:{arguments.photos}]"
    overrides = [f"data.train={photos}", "data.val=scenes:1:val", f"data.windows={arguments.windows}", "data.color={}"]
    config = load_config("photos-128", [*overrides, f"init={arguments.init}", f"data.features={'null' if features is None else features}"])
    assert isinstance(config, DiffusionRunConfig)
    return DiffusionStage(config)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    on_the_fly = make_stage(arguments, None)
    data = on_the_fly.config.data
    build_feature_cache(folder, on_the_fly.train_data, str(data.train), on_the_fly.image_encoder, data, FeatureSettings("fp16"))
    sides = [Training(stage, arguments.batch_size) for stage in (on_the_fly, make_stage(arguments, folder))]
    with torch.autocast("cpu", torch.bfloat16):
        for step in range(arguments.steps + 1):
            for side in sides:
                side.step(measured=step > 0)
    photos, features = sides
    return {
        "pixels": data.size,
        "pixels_for_the_backbone": data.size * on_the_fly.image_encoder.input_scale,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "samples_per_core_second_on_the_fly": round(photos.samples_per_second, 2),
        "samples_per_core_second_from_the_cache": round(features.samples_per_second, 2),
        "speedup": round(features.samples_per_second / photos.samples_per_second, 2),
        "largest_relative_difference_of_losses": max(abs(a / b - 1) for a, b in zip(photos.losses, features.losses, strict=True)),
        "bytes_per_photo": round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / arguments.photos),
        "views_per_photo": 2 + arguments.windows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--init", default="default", help="a model with a backbone")
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments)
    print(figures)
    write_result("feature_cache", figures, command_line())


if __name__ == "__main__":
    main()
