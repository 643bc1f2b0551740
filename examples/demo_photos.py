"""Write four photos that scikit-image holds, and a partial map of each: strokes as a person would paint them.

python examples/demo_photos.py --folder demo

gives demo/photos/NAME.png and demo/partial/NAME.png. All four may be shown freely: the astronaut (NASA) and the rocket (SpaceX) are in the
public domain, Chelsea the cat (Stefan van der Walt) and the coffee (Rachel Michetti) are CC0.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

from ldmseg import PanopticMap
from ldmseg.errors import InputError
from ldmseg.formats.id_png import write_id_png

Line = tuple[tuple[float, float], ...]

WIDTH = 0.02
"""Of a stroke, as a share of the photo's shorter side."""

STROKES: Mapping[str, Mapping[str, tuple[Line, ...]]] = {
    "astronaut": {
        "flag": (((0.03, 0.10), (0.09, 0.35)),),
        "wall": (((0.25, 0.05), (0.20, 0.28)), ((0.64, 0.08), (0.63, 0.45))),
        "head": (((0.36, 0.10), (0.45, 0.08), (0.44, 0.30)),),
        "suit": (((0.17, 0.55), (0.35, 0.64), (0.62, 0.62)), ((0.15, 0.70), (0.22, 0.90))),
        "helmet": (((0.60, 0.88), (0.75, 0.74), (0.90, 0.88)),),
        "shuttle": (((0.81, 0.06), (0.82, 0.48)),),
        "table": (((0.78, 0.60), (0.96, 0.63)),),
    },
    "chelsea": {
        "cat": (((0.20, 0.25), (0.48, 0.12), (0.54, 0.60), (0.42, 0.88)),),
        "left eye": (((0.35, 0.40), (0.43, 0.36)),),
        "right eye": (((0.68, 0.47), (0.73, 0.43)),),
        "nose": (((0.55, 0.79), (0.61, 0.79)),),
        "behind": (((0.95, 0.20), (0.92, 0.70)),),
    },
    "coffee": {
        "table": (((0.05, 0.70), (0.18, 0.93)), ((0.85, 0.20), (0.95, 0.80))),
        "saucer": (((0.17, 0.40), (0.20, 0.70), (0.45, 0.90)),),
        "cup": (((0.31, 0.22), (0.33, 0.45), (0.50, 0.50), (0.65, 0.36)),),
        "coffee": (((0.40, 0.36), (0.56, 0.38)),),
        "spoon": (((0.57, 0.68), (0.64, 0.70)),),
        "shade": (((0.02, 0.05), (0.12, 0.06)),),
    },
    "rocket": {
        "sky": (((0.20, 0.08), (0.42, 0.50)), ((0.62, 0.60), (0.80, 0.15))),
        "rocket": (((0.505, 0.34), (0.503, 0.92)),),
        "left tower": (((0.10, 0.04), (0.06, 0.60)),),
        "right tower": (((0.91, 0.06), (0.94, 0.65)),),
        "pad": (((0.44, 0.98), (0.57, 0.98)),),
    },
}
"""Photo -> segment -> lines in shares of width and height."""


@dataclass(frozen=True)
class ExamplePhoto:
    """A photo and strokes on some of its segments."""

    name: str
    photo: Image.Image
    partial: PanopticMap


def example_photos() -> list[ExamplePhoto]:
    """The photos in the order of their names, as scikit-image's package holds them: nothing is downloaded."""
    found = []
    for name, segments in sorted(STROKES.items()):
        photo = Image.fromarray(getattr(data, name)()).convert("RGB")
        layer = Image.new("I", photo.size, 0)
        drawing = ImageDraw.Draw(layer)
        for number, lines in enumerate(segments.values(), start=1):
            for line in lines:
                points = [(x * photo.width, y * photo.height) for x, y in line]
                drawing.line(points, fill=number, width=max(1, round(WIDTH * min(photo.size))), joint="curve")
        found.append(ExamplePhoto(name, photo, PanopticMap(np.asarray(layer))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="gets photos/ and partial/")
    folder = parser.parse_args().folder
    try:
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        for one in example_photos():
            one.photo.save(folder / "photos" / f"{one.name}.png")
            write_id_png(folder / "partial" / f"{one.name}.png", one.partial.ids)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
