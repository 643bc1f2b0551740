"""Choose the constants of the border step (`BoundarySettings`) for a model: PQ over contrast and trust, for each density of labels.

    python benchmarks/walker_constants.py --shared ../shared

On scenes that are in neither split (seeds from 210,000), and on the training photos of coco100 (numbers 0 to 69 by name) whose longer
side is shrunk to several sizes. Every map is drawn once, with its borders as drawn, and divided anew with each setting; trust 0 is the
random walker on what is given alone. Constants that are good for one model need not be good for another: pass it as `--model`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _results import command_line, write_result
from inpainting import Shrunk

from ldmseg import VOID, LDMSegPipeline, PanopticMap, PanopticQuality, load_dataset
from ldmseg.data.cases import Case
from ldmseg.data.datasets import PanopticDataset, SceneDataset
from ldmseg.devices import resolve_device
from ldmseg.inference.boundaries import BoundarySettings, refine_boundaries
from ldmseg.segmenters import Photo, PipelineSegmenter

FIRST_SCENE = 210_000
TRAINING_PHOTOS = 70
SETTINGS = BoundarySettings()


@dataclass(frozen=True)
class Drawing:
    """One photo as the model drew it; `given` is VOID everywhere where it segmented the photo unaided."""

    photo: Photo
    truth: PanopticMap
    given: PanopticMap
    drawn: PanopticMap


def cases(side: int) -> dict[str, Case | None]:
    """What is given, None for nothing; blocks of 4, 16 and 64 px of 128."""
    found: dict[str, Case | None] = {"nothing": None}
    for size, rate in ((4, 0.9), (16, 0.9), (64, 0.5), (64, 0.9)):
        found[f"blocks, a {128 // size}th of the side, {100 * rate:.0f} % dropped"] = Case("blocks", round(1 - rate, 9), size * side // 128)
    for kind, share in (("pixels", 0.1), ("pixels", 0.01), ("points", 1.0), ("points", 0.7), ("strokes", 1.0), ("strokes", 0.7)):
        case = Case(kind, share)
        found[f"{case.what}, {case.density}"] = case
    return found


def drawings(model: PipelineSegmenter, data: PanopticDataset, count: int, case: Case | None) -> Iterator[Drawing]:
    for index in range(min(count, len(data))):
        photo, truth = data.image(index), data.map(index)
        nothing = PanopticMap(np.full(truth.shape, VOID))
        given = nothing if case is None else case.make(truth, 0, index).largest(model.pipe.mask_autoencoder.config["num_ids"] - 1)
        (drawn,) = model([photo], None if case is None else [given], [index])
        yield Drawing(photo, truth, given, drawn)


def quality(found: Sequence[Drawing], settings: BoundarySettings | None) -> float:
    """PQ in percent; None leaves borders as drawn."""
    quality = PanopticQuality(class_agnostic=True)
    for one in found:
        pmap = one.drawn if settings is None else refine_boundaries(one.drawn, one.photo, one.given.ids, settings=settings)
        quality.update(pmap, one.truth)
    return round(100 * quality.compute().all.pq, 2)


def measure(
    model: PipelineSegmenter, data: PanopticDataset, count: int, side: int, grid: Sequence[BoundarySettings]
) -> list[dict[str, Any]]:
    rows = []
    for name, case in cases(side).items():
        found = list(drawings(model, data, count, case))
        row: dict[str, Any] = {"given": name, "as_drawn": quality(found, None), "settings": []}
        for settings in grid:
            if settings.trust or case is not None:
                row["settings"].append({**asdict(settings), "pq": quality(found, settings)})
        rows.append(row)
        told = "  ".join(f"{s['contrast']:g}/{s['trust']:g}/{s['near']:.3f} {s['pq']:.1f}" for s in row["settings"])
        print(f"{name}: as drawn {row['as_drawn']:.1f}  {told}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--photos", type=int, default=24, help=f"of {TRAINING_PHOTOS}")
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 256, 512], help="px of the photos' longer side")
    parser.add_argument("--contrasts", type=float, nargs="+", default=[25, 50, 100])
    parser.add_argument("--trusts", type=float, nargs="+", default=[0, 50, 500, 5000])
    parser.add_argument("--nears", type=float, nargs="+", default=[SETTINGS.near])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default="walker_constants", help="of the result's file")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model).to(resolve_device(arguments.device))
    pipe.set_progress_bar_config(disable=True)
    model = PipelineSegmenter(pipe, boundaries="drawn")
    grid = [replace(SETTINGS, contrast=c, trust=t, near=n) for c, t, n in product(arguments.contrasts, arguments.trusts, arguments.nears)]
    figures: dict[str, Any] = {}
    if arguments.scenes:
        side = pipe.config["image_size"]
        figures["scenes"] = measure(model, SceneDataset(arguments.scenes, FIRST_SCENE, size=side), arguments.scenes, side, grid)
    source = load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}") if arguments.sizes else None
    for side in arguments.sizes:
        print(f"photos of {side} px", flush=True)
        figures[f"photos_{side}"] = measure(model, Shrunk(source, side), min(arguments.photos, TRAINING_PHOTOS), side, grid)
    write_result(arguments.name, figures, command_line())


if __name__ == "__main__":
    main()
