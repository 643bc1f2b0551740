"""Every figure of speed, as a ratio of two sides that take turns in one run.

    OMP_NUM_THREADS=1 python benchmarks/speed.py --shared ../shared --figures stages large --against b2546ea

| figure | compares |
|---|---|
| stages | one photo of 640 x 480, 4 steps: each stage's share; with --against, the older code, and the quality of both |
| large | a photo of 12 megapixels, 8 steps, likewise |
| decode | decoder and post-processing of all ids at 640 x 480 against resize, softmax and argmax of all |
| batch | 8 photos in one call against 8 calls, and whether the maps are equal |
| precision | bf16, channels_last and torch.compile against float32 as it is; on a GPU fp16 and CUDA graphs too |
| steps | panoptic quality and seconds at 1, 2, 4 and 20 steps |
| memory | the largest resident set of each command |
| processes | training in two processes against one, on two idle cores or GPUs |
| full_size | one pass of the full-size denoiser (Stable Diffusion v1's layout) against the same weights called as diffusers' own UNet |

Each figure is saved in a file of its own, `speed_<figure>.json`. Quality that needs a threshold of its own is in `photos.py`; caches are in
`feature_cache.py` and `latent_cache.py`, panoptic quality itself in `panoptic_quality.py`. `--device cuda` measures on a GPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import speed_against
import speed_calls
import speed_commands
from _results import command_line, write_result
from speed_calls import Setting

from ldmseg import LDMSegPipeline, load_dataset
from ldmseg.devices import resolve_device

FIGURES: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "stages": speed_against.stages,
    "large": speed_against.large,
    "decode": speed_calls.decode,
    "batch": speed_calls.batch,
    "precision": speed_calls.precision,
    "steps": speed_calls.steps,
    "memory": speed_commands.memory,
    "processes": speed_commands.processes,
    "full_size": speed_commands.full_size,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--part", default="[70:100]", help="of its photos, in the data set's order")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the rows with quality")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", help="a commit whose code is measured beside this one's (stages, large)")
    parser.add_argument("--quality", action=argparse.BooleanOptionalAction, default=True, help="of stages and large: also their PQ")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    pipe = LDMSegPipeline.from_pretrained(arguments.model).to(device)
    pipe.set_progress_bar_config(disable=True)
    setting = Setting(
        pipe=pipe,
        model=arguments.model,
        photos=load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017{arguments.part}"),
        scenes=load_dataset(f"scenes:{arguments.scenes}:val", size=pipe.config["image_size"]),
        photos_name=f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017{arguments.part}",
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        against=arguments.against,
        with_quality=arguments.quality,
        device=device,
    )
    for name in arguments.figures:
        figures = {"device": str(device), **FIGURES[name](setting)}
        print(name, json.dumps(figures, indent=2), flush=True)
        suffix = "" if device.type == "cpu" else f"_{device.type}"
        write_result(f"speed_{name}{suffix}", figures, command_line(), None if name in ("full_size", "processes") else pipe)


if __name__ == "__main__":
    main()
