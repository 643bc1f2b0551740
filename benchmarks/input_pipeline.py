"""How many training samples a core prepares for stage 2, and what takes the time.

    OMP_NUM_THREADS=1 python benchmarks/input_pipeline.py --shared ../shared

Real photos and panoptic PNGs (coco100) at the paper's 512 px, through the stage's own `load_sample` and `collate`. CPU time of one
process and one thread, the fastest of some blocks, because other programs on the machine only ever slow a block down. A stage's time
leaves out what is measured as another stage inside it; `other` is what no stage claims.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from _results import write_result

from ldmseg.config import DiffusionRunConfig, load_config
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.transforms import Color, View
from ldmseg.panoptic import PanopticMap
from ldmseg.training.stages import diffusion
from ldmseg.training.stages.diffusion import DiffusionStage

BATCH = 10
COLOR = "data.color={brightness: 0.4, contrast: 0.4, saturation: 0.4}"
VARIANTS: dict[str, list[str]] = {
    "square": [],
    "square_color": [COLOR],
    "square_partial_maps": ["denoiser.partial=true"],
    "crop": ["data.resize=crop", "data.scale_range=[1, 2]"],
    "jitter": ["data.resize=jitter"],
}


class Stopwatch:
    """CPU seconds by stage; time inside a nested stage is the nested one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def _lap(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self._lap()
            self._running.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._lap()
                self._running.pop()

        return wrapped

    def watch(self, holder: Any, name: str, stage: str) -> None:
        setattr(holder, name, self.timed(stage, getattr(holder, name)))


def watch_stages(clock: Stopwatch, data: type[PanopticDataset]) -> None:
    """Every function that a sample goes through, under the name of the stage it belongs to."""
    clock.watch(data, "image", "read_photo")
    clock.watch(data, "map", "read_map")
    clock.watch(View, "image", "resize_photo")
    clock.watch(View, "ids", "resize_map")
    clock.watch(PanopticMap, "with_ids", "resize_map")
    clock.watch(Color, "adjust", "color")
    clock.watch(diffusion, "random_partial", "partial_map")
    clock.watch(diffusion, "limit_segments", "codes")
    clock.watch(diffusion, "_coded", "codes")
    clock.watch(DiffusionStage, "collate", "batch")


def make_stage(data: str, size: int, overrides: Sequence[str]) -> DiffusionStage:
    values = {
        "stage": "diffusion",
        "data": {"train": data, "val": data, "size": size},
        "denoiser": {"source": "tiny", "partial": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        config = load_config(path, overrides)
    assert isinstance(config, DiffusionRunConfig)
    return DiffusionStage(config)


def prepare(stage: DiffusionStage, first: int, count: int) -> None:
    for number in range(first, first + count, BATCH):
        stage.collate([stage.load_sample(n) for n in range(number, number + BATCH)])


def measure(stage: DiffusionStage, clock: Stopwatch, blocks: int) -> dict[str, Any]:
    """The fastest block's rate and shares; every block is one epoch, so that each reads the same files."""
    length = len(stage.train_data) // BATCH * BATCH
    prepare(stage, 0, BATCH)
    best: dict[str, float] | None = None
    for block in range(blocks):
        clock.seconds.clear()
        clock.timed("other", prepare)(stage, block * length, length)
        if best is None or sum(clock.seconds.values()) < sum(best.values()):
            best = dict(clock.seconds)
    assert best is not None
    total = sum(best.values())
    shares = {name: round(seconds / total, 3) for name, seconds in sorted(best.items(), key=lambda item: -item[1])}
    return {"samples_per_core_second": round(length / total, 1), "share_of_time": shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = f"coco-panoptic:{arguments.shared / 'data/coco100'}"
    clock = Stopwatch()
    watch_stages(clock, type(make_stage(data, arguments.size, []).train_data))
    figures: dict[str, Any] = {"data": "coco100", "pixels": arguments.size}
    for name, overrides in VARIANTS.items():
        figures[name] = measure(make_stage(data, arguments.size, overrides), clock, arguments.blocks)
        print(name, figures[name], flush=True)
    write_result("input_pipeline", figures, "OMP_NUM_THREADS=1 python benchmarks/input_pipeline.py --shared ../shared")


if __name__ == "__main__":
    main()
