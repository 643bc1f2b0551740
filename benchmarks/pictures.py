"""Draw the README's pictures with the bundled model (or another one): what it makes of example photos and validation scenes.

    python benchmarks/pictures.py

The photos are all of `examples/demo_photos.py`, the scenes the first ones, and the seeds their numbers: nothing is chosen among samples.
The settings are the model's own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.data.partial import make_partial
from ldmseg.visualize import confidence_map, contact_sheet, overlay

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))

from demo_photos import example_photos

COMPLETION = 2  # photos, and as many scenes
VOTES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    photos = [(one.photo, one.partial) for one in example_photos()]
    scenes = load_dataset(f"scenes:{COMPLETION}:val", size=pipe.config["image_size"])
    strokes = [make_partial(scenes.map(index), "strokes", 0.8, np.random.default_rng(index)) for index in range(COMPLETION)]
    drawn_scenes = [(Image.fromarray(scenes.image(index)), partial) for index, partial in enumerate(strokes)]

    def seed(index: int) -> torch.Generator:
        return torch.Generator().manual_seed(index)

    def shown(photo: Image.Image, *maps: PanopticMap) -> list[Image.Image | None]:
        return [overlay(photo, pmap) for pmap in maps]

    rows: list[list[Image.Image | None]] = []
    for index, (photo, partial) in enumerate(photos):
        alone = pipe(photo, generator=seed(index)).maps[0]
        completed = pipe.inpaint(photo, partial, generator=seed(index)).maps[0]
        rows.append([photo, *shown(photo, alone), overlay(photo, partial, alpha=0.85), *shown(photo, completed)])
    contact_sheet(rows, titles=["photo", "segmented", "given", "completed"], tile=240).save(arguments.folder / "teaser.png", optimize=True)

    rows = []
    for index, (photo, partial) in enumerate([*photos[:COMPLETION], *drawn_scenes]):
        out = pipe.inpaint(photo, partial, generator=seed(index), ensemble_size=VOTES)
        assert out.confidence is not None
        rows.append([photo, overlay(photo, partial, alpha=0.85), *shown(photo, out.maps[0]), confidence_map(out.confidence[0])])
    titles = ["photo", "given", "map", "confidence (bright: sure)"]
    contact_sheet(rows, titles=titles, tile=240).save(arguments.folder / "completion.png", optimize=True)


if __name__ == "__main__":
    main()
