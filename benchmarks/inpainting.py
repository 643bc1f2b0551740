"""Measure completion of partial maps: every kind, method and baseline on generated scenes and on photos, with curves.

    python benchmarks/inpainting.py --shared ../shared
    python benchmarks/inpainting.py --page

The block sizes are figure 9's, 16 to 256 px of an image of 512, in proportion: 4 to 64 px of a scene of 128, 8 to 128 px of a photo whose
longer side is 256; the bundled model sees them at 128 x 128. The baseline `walker` is the border step without a network: what a method
has above it, the network has earned; `--also-drawn` shows every method without that step. Part of it: `--data scenes`,
`--methods condition`. The second command puts the committed results into docs/completion.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from _results import RESULTS, command_line, fill, of_an_earlier_model, read_result, write_result
from numpy.typing import NDArray
from PIL import Image

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.choices import Boundaries
from ldmseg.data.cases import KINDS, make_cases
from ldmseg.data.datasets import PanopticDataset
from ldmseg.devices import resolve_device
from ldmseg.evaluate import InpaintingReport, evaluate_inpainting
from ldmseg.evaluate.plots import draw_curves
from ldmseg.formats.coco_json import Category
from ldmseg.segmenters.baselines import Baseline

PAGE = RESULTS.parents[1] / "docs" / "completion.md"
FIGURE_9 = (16, 32, 64, 128, 256)  # px of 512
PHOTO_SIDE = 256


@dataclass(frozen=True)
class Shrunk:
    """Photos whose longer side is `side` pixels at most, and their maps."""

    source: PanopticDataset
    side: int

    @property
    def categories(self) -> tuple[Category, ...]:
        return self.source.categories

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> NDArray[np.uint8]:
        photo = Image.fromarray(self.source.image(index))
        return np.asarray(photo.resize(self._size(photo.height, photo.width)[::-1], Image.Resampling.LANCZOS))

    def map(self, index: int) -> PanopticMap:
        pmap = self.source.map(index)
        return pmap.resize(*self._size(*pmap.shape))

    def name(self, index: int) -> str:
        return self.source.name(index)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        scale = min(1.0, self.side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))


def measure(pipe: LDMSegPipeline, name: str, data: PanopticDataset, side: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The report on one data set as JSON; its curves are drawn beside."""
    cases = make_cases(arguments.kinds, block_sizes=[size * side // 512 for size in arguments.block_sizes])
    said = time.monotonic()

    def on_progress(done: int, total: int, what: str) -> None:
        nonlocal said
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"{name} {done}/{total}  {what}", flush=True)

    report = evaluate_inpainting(
        pipe,
        data,
        cases=cases,
        methods=arguments.methods,
        also_drawn=arguments.also_drawn,
        num_inference_steps=arguments.steps,
        boundaries=arguments.boundaries,
        ensemble_size=arguments.ensemble_size,
        limit=arguments.limit,
        batch_size=16,
        on_progress=on_progress,
    )
    tell(name, report)
    draw_curves(report, arguments.pictures / f"inpainting_{name}.png", f"PQ of completed maps: {name}, {report.images} images")
    return {**report.to_dict(), "pixels_of_the_longer_side": side}


def tell(name: str, report: InpaintingReport) -> None:
    """Where a baseline is better than every method."""
    baselines = [m for m in report.methods if m in get_args(Baseline)]
    for case in report.cases:
        pq = {s.method: s.pq for s in report.scores if s.case == case}
        learned = [m for m in pq if m not in baselines]
        best = max(pq, key=lambda m: pq[m])
        if learned and best in baselines:
            own = max(learned, key=lambda m: pq[m])
            print(f"{name}, {case.what}, {case.density}: {best} {100 * pq[best]:.1f} is above {own} {100 * pq[own]:.1f}", flush=True)


# ------------------------------------------------------------------------------------------------------------------------- the page
DATA = {"scenes": "generated scenes", "coco100": "photos of COCO"}
COLUMNS = {
    "condition, as drawn": "the network, borders as drawn",
    "condition": "the network, with borders",
    "walker": "walker alone",
    "watershed": "watershed",
    "nearest": "nearest",
}
"""Methods that the page shows, and how it calls them."""


def page_text(result: Mapping[str, Any]) -> str:
    """A table of the only data set of a result: PQ of every case, the best of each row bold."""
    ((name, found),) = result["figures"].items()
    rows: dict[str, dict[str, float]] = {}
    for score in found["scores"]:
        rows.setdefault(_given(score), {})[score["method"]] = 100 * score["pq"]
    lines = [
        f"{found['images']} {DATA[name]} whose longer side is {found['pixels_of_the_longer_side']} pixels, one seed, PQ in percent:",
        "",
        f"| given | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    for given, by_method in rows.items():
        shown = [f"{by_method[method]:.1f}" for method in COLUMNS]
        best = max(shown, key=float)
        lines.append(f"| {given} | {' | '.join(f'**{figure}**' if figure == best else figure for figure in shown)} |")
    return "\n".join([*lines, *of_an_earlier_model(result)])


def _given(score: Mapping[str, Any]) -> str:
    kind, percent = score["kind"], round(100 * score.get("share", score.get("drop_rate", 0)))
    if kind == "blocks":
        return f"blocks of {score['block_size']} px, {percent} % dropped"
    if kind in ("points", "strokes"):
        return f"a {kind[:-1]} in {'every segment' if percent == 100 else f'{percent} % of the segments'}"
    return f"{kind}, {percent} % of the {'image' if kind == 'boxes' else 'rows' if kind == 'scanlines' else kind}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--data", nargs="+", choices=("scenes", "coco100"), default=["scenes", "coco100"])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--limit", type=int, help="only the first so many images of each, to try it")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--block-sizes", nargs="+", type=int, default=list(FIGURE_9), help="px of 512")
    parser.add_argument("--methods", nargs="+", help="default: all that the model has")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ensemble-size", type=int, default=1, help="samples of each image that every method draws and votes on")
    parser.add_argument("--boundaries", choices=get_args(Boundaries), help="drawn: as in the paper; default: as the model has it")
    parser.add_argument("--also-drawn", action="store_true", help="every method once more with its borders as drawn, beside them")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pictures", type=Path, default=RESULTS.parents[1] / "docs" / "images")
    parser.add_argument("--name", default="inpainting", help="of the result's file")
    parser.add_argument("--page", action="store_true", help="measure nothing; put the committed results into docs/completion.md")
    arguments = parser.parse_args()
    if arguments.page:
        for name in ("inpainting", "inpainting_photos"):
            fill(PAGE, name, page_text(read_result(name)))
        return
    pipe = LDMSegPipeline.from_pretrained(arguments.model).to(resolve_device(arguments.device))
    pipe.set_progress_bar_config(disable=True)
    figures: dict[str, Any] = {}
    if "scenes" in arguments.data:
        side = pipe.config["image_size"]
        figures["scenes"] = measure(pipe, "scenes", load_dataset(f"scenes:{arguments.scenes}:val", size=side), side, arguments)
    if "coco100" in arguments.data:
        held_back = load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017[70:100]")  # no run trains on them
        photos = Shrunk(held_back, PHOTO_SIDE)
        figures["coco100"] = measure(pipe, "coco100", photos, PHOTO_SIDE, arguments)
    write_result(arguments.name, figures, command_line(), pipe)


if __name__ == "__main__":
    main()
