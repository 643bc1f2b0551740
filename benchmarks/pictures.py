"""Draw the README's pictures with the bundled model (or another one): what it makes of validation scenes.

    python benchmarks/pictures.py

The scenes are the first ones, and nothing is chosen among samples: this is what the model draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.choices import PartialKind
from ldmseg.data.partial import make_partial
from ldmseg.visualize import confidence_map, contact_sheet, overlay

TEASER = (("strokes", 0.8), ("blocks", 0.5), ("strokes", 0.8), ("boxes", 0.5))
COMPLETION = 3  # scenes
VOTES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    scenes = load_dataset(f"scenes:{len(TEASER) + COMPLETION}:val", size=pipe.config["image_size"])

    def seed(index: int) -> torch.Generator:
        return torch.Generator().manual_seed(index)

    def given(index: int, kind: PartialKind, share: float) -> PanopticMap:
        return make_partial(scenes.map(index), kind, share, np.random.default_rng(index))

    rows: list[list[Image.Image | None]] = []
    for index, (kind, share) in enumerate(TEASER):
        photo, partial = Image.fromarray(scenes.image(index)), given(index, kind, share)
        maps = [pipe(photo, generator=seed(index)).maps[0], partial, pipe.inpaint(photo, partial, generator=seed(index)).maps[0]]
        rows.append([photo, *(overlay(photo, pmap, alpha=0.85 if pmap is partial else 0.5) for pmap in maps)])
    contact_sheet(rows, titles=["photo", "segmented", "given", "completed"], tile=192).save(arguments.folder / "teaser.png", optimize=True)

    rows = []
    for index in range(len(TEASER), len(TEASER) + COMPLETION):
        photo, partial = Image.fromarray(scenes.image(index)), given(index, "strokes", 0.8)
        out = pipe.inpaint(photo, partial, generator=seed(index), ensemble_size=VOTES)
        assert out.confidence is not None
        drawn = [overlay(photo, partial, alpha=0.85), overlay(photo, out.maps[0]), confidence_map(out.confidence[0])]
        rows.append([photo, *drawn])
    titles = ["photo", "given", "map", "confidence (bright: sure)"]
    contact_sheet(rows, titles=titles, tile=240).save(arguments.folder / "completion.png", optimize=True)


if __name__ == "__main__":
    main()
