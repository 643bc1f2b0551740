"""Answers `speed_against.py`: times calls of the code that PYTHONPATH names, and measures its quality; one JSON object a line.

It is started once for each of two versions of the code, so that they take turns in one run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _timing import Clock
from speed_sizes import enlarged_map, resized

import ldmseg
from ldmseg import LDMSegPipeline, load_dataset, pipeline
from ldmseg.inference import draw, finish
from ldmseg.metrics.panoptic_quality import PanopticQuality

STAGES = {"encode": (draw, "encode_photos"), "draw": (draw, "draw_latents"), "decode": (draw, "decode"), "borders": (finish, "_bordered")}


class Worker:
    def __init__(self, model: str, device: str) -> None:
        self.device = torch.device(device)
        self.clock = Clock(self.device)
        self.pipe = LDMSegPipeline.from_pretrained(model).to(self.device)
        self.pipe.set_progress_bar_config(disable=True)
        self.spent = dict.fromkeys((*STAGES, "load"), 0.0)
        for stage, (module, name) in STAGES.items():
            self._watch(stage, module, name)
        self._watch("load", pipeline, "load_images")

    def _watch(self, stage: str, module: Any, name: str) -> None:
        """Count the seconds that a function of a module takes."""
        function: Callable[..., Any] = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            began = self.clock()
            try:
                return function(*arguments, **options)
            finally:
                self.spent[stage] += self.clock() - began

        setattr(module, name, counted)

    def call(self, photo: str, steps: int) -> dict[str, float]:
        """Seconds of a call, and of each stage of it."""
        picture = np.load(photo)
        self.spent = dict.fromkeys(self.spent, 0.0)
        total = self.clock.seconds(lambda: self.pipe(picture, generator=torch.Generator().manual_seed(0), num_inference_steps=steps))
        spent = dict(self.spent)
        spent["denoise"] = spent.pop("draw") - spent["encode"]
        return {"total": total, **spent, "rest": total - sum(spent.values())}

    def quality(self, photos: str, scenes: int, seeds: list[int], steps: int) -> dict[str, float]:
        """PQ in percent."""
        from photos import unaided  # with much that timing alone does not need

        generated = load_dataset(f"scenes:{scenes}:val", size=self.pipe.config["image_size"])
        return {
            "photos": unaided(self.pipe, load_dataset(photos), seeds, num_inference_steps=steps)["pq"],
            "scenes": unaided(self.pipe, generated, seeds[:1], num_inference_steps=steps)["pq"],
        }

    def enlarged(self, photos: str, count: int, size: list[int], steps: int) -> dict[str, float]:
        """PQ in percent of photos and labels enlarged to a size."""
        data, quality = load_dataset(photos), PanopticQuality(class_agnostic=True)
        for index in range(min(count, len(data))):
            photo = resized(data.image(index), *size)
            pmap = self.pipe(photo, generator=torch.Generator().manual_seed(index), num_inference_steps=steps).maps[0]
            quality.update(pmap, enlarged_map(data.map(index), *size))
        return {"photos": round(100 * quality.compute().all.pq, 2)}


def main() -> None:
    model, device = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what else is printed stays out of the answers
    worker = Worker(model, device)
    print(json.dumps({"package": ldmseg.__file__}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(worker, request.pop("do"))(**request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
