"""Time the random walker beside scikit-image's, on the same photos and labels, in one process.

    python benchmarks/walker.py --shared ../shared

Both solve the same system exactly (`mode="bf"` is sparse LU); the largest difference of their probabilities is recorded with the times.
`refine` is the whole border step, with the labels' nearest neighbours as the drawing.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _results import command_line, write_result
from inpainting import Shrunk
from skimage.color import rgb2lab
from skimage.segmentation import random_walker

from ldmseg import PanopticMap, load_dataset
from ldmseg.data.cases import Case
from ldmseg.inference.boundaries import BoundarySettings, refine_boundaries
from ldmseg.inference.walker import random_walk
from ldmseg.segmenters import Photo
from ldmseg.segmenters.baselines import complete

CASES = (Case("points", 1.0), Case("strokes", 1.0), Case("pixels", 0.1))
CONTRAST = BoundarySettings().contrast


def scikit_image(photo: Photo, partial: PanopticMap) -> np.ndarray:
    """(H, W, K) probabilities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of probabilities that miss 0..1 by rounding
        labels = partial.dense + 1
        found = random_walker(rgb2lab(photo), labels, beta=CONTRAST, mode="bf", channel_axis=-1, return_full_prob=True)
    return np.moveaxis(found, 0, -1)


def own(photo: Photo, partial: PanopticMap) -> np.ndarray:
    return random_walk(photo, partial.dense, len(partial), contrast=CONTRAST)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def measure(data: Shrunk, count: int, case: Case) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"scikit_image": [], "own": [], "refine": []}
    pixels, segments, difference = [], [], 0.0
    for index in range(count):
        photo, partial = data.image(index), case.make(data.map(index), 0, index)
        if len(partial) < 2:
            continue
        slow, expected = timed(lambda: scikit_image(photo, partial))  # noqa: B023  # called at once
        fast, found = timed(lambda: own(photo, partial))  # noqa: B023
        drawn = complete("nearest", photo, partial)
        whole, _ = timed(lambda: refine_boundaries(drawn, photo, partial.ids))  # noqa: B023
        for name, value in zip(seconds, (slow, fast, whole), strict=True):
            seconds[name].append(value)
        difference = max(difference, float(np.abs(found - expected).max()))
        pixels.append(photo.shape[0] * photo.shape[1])
        segments.append(len(partial))
    times = {f"{name}_ms": round(1000 * median(values), 1) for name, values in seconds.items()}
    ratio = round(median(a / b for a, b in zip(seconds["scikit_image"], seconds["own"], strict=True)), 2)
    return {"pixels": median(pixels), "segments": median(segments), **times, "ratio": ratio, "largest_difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 192, 256, 296])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    source = load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}")
    figures: dict[str, Any] = {}
    for side in arguments.sizes:
        for case in CASES:
            figures[f"{side}_{case.kind}"] = found = measure(Shrunk(source, side), arguments.photos, case)
            print(side, case.what, found, flush=True)
    write_result("walker", figures, command_line())


if __name__ == "__main__":
    main()
