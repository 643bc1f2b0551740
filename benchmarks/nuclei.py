"""Nuclei: a fine-tuned model beside Otsu's threshold with a watershed, and beside the bundled model as it is.

    python benchmarks/nuclei.py --shared ../shared --model runs/nuclei/pipeline

On the validation split of the Data Science Bowl's nuclei (CC0). The watershed's settings are chosen on a part of the training split, by
the same PQ. The models draw segments without classes: the largest one of an image is taken for the background, for all methods alike.

`pq`, `sq`, `rq` are of the nuclei; `pq_agnostic` is what `ldmseg evaluate` says, where the background counts as one more segment of each
image. `ap50` is TP / (TP + FP + FN) at an IoU of 0.5 of each image, mean over images, `ap` its mean over 0.5, 0.55, .., 0.95 (the measure
of the Data Science Bowl); `coco_ap50` and `coco_ap` are COCO's, for methods that give scores.

`ceiling` is the PQ, without classes, of what a model's mask autoencoder gives back of the true maps at some sizes, compared at that size,
on a few images evenly spread over the split.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from _results import write_result
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from ldmseg import LDMSegPipeline, PanopticMap, PanopticQuality, load_dataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.evaluate import reconstruct
from ldmseg.metrics.average_precision import AveragePrecision
from ldmseg.visualize import contact_sheet, overlay

BACKGROUND, NUCLEUS = 1, 2
BATCH = 8
SIZES = (128, 256, 512)
# Images in the picture.
SHOWN = 5

Photo = NDArray[np.uint8]
Method = Callable[[Sequence[Photo], Sequence[int]], list[PanopticMap]]


@dataclass(frozen=True)
class Watershed:
    """Settings of the baseline.

    Attributes:
        smooth: deviation of the Gaussian before Otsu's threshold, pixels.
        distance_smooth: that of the one on the distance transform.
        reach: pixels that maxima of the distance, of which each is one nucleus, lie apart at least.
        min_area: pixels; what is smaller is a speck.
    """

    smooth: float = 1.0
    distance_smooth: float = 1.0
    reach: int = 5
    min_area: int = 20

    def segment(self, photo: Photo) -> PanopticMap:
        """Threshold, fill, split at the maxima of the distance to the background."""
        gray = ndimage.gaussian_filter(photo.astype(np.float32).mean(axis=2), self.smooth)  # (H, W)
        inside = gray > threshold_otsu(gray) if gray.min() < gray.max() else np.zeros(gray.shape, dtype=bool)
        if inside.mean() > 0.5:  # a bright background: the nuclei are what is dark
            inside = ~inside
        inside = _without_specks(ndimage.binary_fill_holes(inside), self.min_area)
        distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), self.distance_smooth)
        pieces, _ = ndimage.label(inside)
        markers = np.zeros(gray.shape, dtype=np.int32)
        peaks = peak_local_max(distance, min_distance=self.reach, labels=pieces, exclude_border=False)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels = watershed(-distance, markers, mask=inside)
        return PanopticMap(np.where(labels > 0, labels + 1, BACKGROUND).astype(np.int32))


def _without_specks(mask: NDArray[np.bool_], min_area: int) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    return mask & (areas >= min_area)[pieces]


def tune(data: PanopticDataset, images: int) -> tuple[Watershed, dict[str, Any]]:
    """The settings with the best PQ of nuclei on evenly spread training images."""
    indices = _spread(len(data), images)
    photos, targets = [data.image(i) for i in indices], [data.map(i) for i in indices]
    tried: list[tuple[float, Watershed]] = []
    for values in itertools.product((1.0, 2.0), (1.0, 2.0), (3, 5, 7, 10), (20, 40)):
        settings = Watershed(*values)
        quality = PanopticQuality(data.categories)
        for photo, target in zip(photos, targets, strict=True):
            quality.update(_named(settings.segment(photo)), target)
        tried.append((quality.compute().things.pq, settings))
    score, best = max(tried, key=lambda found: found[0])
    return best, {**asdict(best), "tried": len(tried), "tuning_images": len(indices), "tuning_pq": round(100 * score, 2)}


def of_model(source: str, steps: int | None, ensemble_size: int, pool: Pool) -> Method:
    """Each photo by itself, several at once where there are several processes."""

    def segment(photos: Sequence[Photo], indices: Sequence[int]) -> list[PanopticMap]:
        tasks = [(source, photo, index, steps, ensemble_size) for photo, index in zip(photos, indices, strict=True)]
        return pool.starmap(_segment, tasks, chunksize=1)

    return segment


def _segment(source: str, photo: Photo, index: int, steps: int | None, ensemble_size: int) -> PanopticMap:
    import torch

    generator = torch.Generator().manual_seed(index)
    return _loaded(source)(photo, generator=generator, num_inference_steps=steps, ensemble_size=ensemble_size).maps[0]


@lru_cache
def _loaded(source: str) -> LDMSegPipeline:
    pipe = LDMSegPipeline.from_pretrained(source)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def measure(method: Method, data: PanopticDataset) -> tuple[dict[str, Any], list[PanopticMap]]:
    """Figures on all images, and the maps."""
    quality, agnostic, precision = PanopticQuality(data.categories), PanopticQuality(class_agnostic=True), AveragePrecision()
    maps: list[PanopticMap] = []
    seconds = 0.0
    for indices in _batches(len(data)):
        photos = [data.image(i) for i in indices]
        started = time.monotonic()
        found = method(photos, indices)
        seconds += time.monotonic() - started
        for index, one in zip(indices, found, strict=True):
            named, target = _named(one), data.map(index)
            quality.update(named, target)
            agnostic.update(named, target)
            precision.update(named, target)
            maps.append(named)
    things, ap = quality.compute().things, precision.compute()
    figures: dict[str, Any] = {name: round(100 * getattr(things, name), 2) for name in ("pq", "sq", "rq")}
    figures["pq_agnostic"] = round(100 * agnostic.compute().all.pq, 2)
    figures |= {"ap50": round(100 * float(ap.dsb[0]), 2), "ap": round(100 * float(ap.dsb.mean()), 2)}
    if ap.coco is not None:
        figures |= {"coco_ap50": round(100 * float(ap.coco[0]), 2), "coco_ap": round(100 * float(ap.coco.mean()), 2)}
    figures |= {"tp": int(ap.tp[0]), "fp": int(ap.fp[0]), "fn": int(ap.fn[0])}
    return {**figures, "images": len(maps), "seconds_per_image": round(seconds / len(maps), 3)}, maps


def ceiling(pipe: LDMSegPipeline, data: PanopticDataset, images: int) -> dict[str, float]:
    found = {}
    for size in SIZES:
        quality = PanopticQuality(class_agnostic=True)
        for index in _spread(len(data), images):
            target = data.map(index).resize(size, size)
            quality.update(reconstruct(pipe.mask_autoencoder, target, seed=index), target)
        found[str(size)] = round(100 * quality.compute().all.pq, 2)
    return found


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, wanted).astype(int)).tolist()


def _batches(count: int) -> Iterator[range]:
    yield from (range(first, min(first + BATCH, count)) for first in range(0, count, BATCH))


def _named(pmap: PanopticMap) -> PanopticMap:
    """The largest segment is the background, all others are nuclei."""
    largest = pmap.segments[int(pmap.areas.argmax())].id
    segments = (
        replace(s, category_id=BACKGROUND if s.id == largest else NUCLEUS, isthing=s.id != largest, iscrowd=False) for s in pmap.segments
    )
    return PanopticMap(pmap.ids, tuple(segments))


def draw(data: PanopticDataset, columns: dict[str, list[PanopticMap]], path: Path) -> None:
    """A few images, evenly spread over how bright they are, with the truth and each method's nuclei."""
    brightness = [float(data.image(i).mean()) for i in range(len(data))]
    chosen = np.argsort(brightness)[np.linspace(0, len(data) - 1, SHOWN).astype(int)].tolist()
    rows = []
    for index in chosen:
        photo = data.image(index)
        maps = [data.map(index), *(maps[index] for maps in columns.values())]
        drawn = [overlay(photo, m.keep(s.id for s in m.segments if s.isthing is not False)) for m in maps]
        rows.append([picture.resize((256, 256), Image.Resampling.BILINEAR) for picture in (Image.fromarray(photo), *drawn)])
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, titles=["photo", "labels", *columns]).save(path, optimize=True)


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    names = ("pq", "sq", "rq", "pq_agnostic", "ap50", "ap", "seconds_per_image")
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {method} | {' | '.join(str(found[n]) for n in names)} |" for method, found in figures.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="pipeline folder of a fine-tuned model; left out, only the two others are measured")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/dsb2018")
    parser.add_argument("--steps", type=int, help="sampling steps (the models' own by default)")
    parser.add_argument("--votes", type=int, nargs="*", default=[4, 8], help="samples of the fine-tuned model that vote, a row for each")
    parser.add_argument("--processes", type=int, default=1, help="photos that are segmented at once; the seconds are those of the clock")
    parser.add_argument("--tuning-images", type=int, default=20, help="training images on which the watershed's settings are chosen")
    parser.add_argument("--ceiling-images", type=int, default=6, help="validation images on which the mask autoencoders are measured")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/nuclei.png"))
    arguments = parser.parse_args()
    spec = f"coco-panoptic:{arguments.shared / 'data/dsb2018'}"
    val = load_dataset(f"{spec}:val")
    settings, chosen = tune(load_dataset(f"{spec}:train"), arguments.tuning_images)
    print("watershed", chosen, flush=True)
    models = {"bundled": "default"} | ({"fine-tuned": arguments.model} if arguments.model else {})
    figures, maps = {}, {}
    with get_context("spawn").Pool(arguments.processes) as pool:
        methods: dict[str, Method] = {"watershed": lambda photos, _: [settings.segment(p) for p in photos]}
        methods |= {name: of_model(source, arguments.steps, 1, pool) for name, source in models.items()}
        for votes in arguments.votes if arguments.model else ():
            methods[f"fine-tuned, {votes} votes"] = of_model(arguments.model, arguments.steps, votes, pool)
        for name, method in methods.items():
            figures[name], maps[name] = measure(method, val)
            print(name, figures[name], flush=True)
    print(table(figures))
    ceilings = {name: ceiling(_loaded(source), val, arguments.ceiling_images) for name, source in models.items()}
    print("ceiling", ceilings, flush=True)
    shown = list(maps)[-1]
    draw(val, {"watershed": maps["watershed"], shown: maps[shown]}, arguments.picture)
    votes = " ".join(map(str, arguments.votes))
    command = f"python benchmarks/nuclei.py --processes {arguments.processes}" + (
        f" --model RUN/pipeline --votes {votes}" if arguments.model else ""
    )
    figures["processes"] = arguments.processes
    record = {**figures, "ceiling": {"images": arguments.ceiling_images, **ceilings}, "watershed_settings": chosen}
    write_result("nuclei", record, command, _loaded(arguments.model or "default"))


if __name__ == "__main__":
    main()
