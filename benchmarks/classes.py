"""Measure the names that a model with a classifier gives: on true segments, and on drawn ones beside the class-agnostic figure (table 2).

    python benchmarks/classes.py --model runs/scenes-classifier/pipeline --data scenes:64:val --name classes_scenes

PQ, SQ and RQ in percent, with things and stuff apart. `share` is the class-aware PQ of drawn segments over the class-agnostic one, which
the paper has as 43.3 / 51.7. Of data sets behind --true-only nothing is drawn.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

from _results import command_line, write_result

from ldmseg import LDMSegPipeline, PanopticQuality, load_dataset
from ldmseg.data.datasets import PanopticDataset
from ldmseg.devices import resolve_device
from ldmseg.evaluate import evaluate_names
from ldmseg.evaluate.classes import Among
from ldmseg.evaluate.segmentation import image_seeds
from ldmseg.images import load_images
from ldmseg.inference.naming import named
from ldmseg.metrics.panoptic_quality import PanopticQualityResult
from ldmseg.segmenters import as_segmenter


def percent(result: PanopticQualityResult) -> dict[str, Any]:
    groups = {"all": result.all, "things": result.things, "stuff": result.stuff}
    found = {
        name: {**{key: round(100 * getattr(stat, key), 2) for key in ("pq", "sq", "rq")}, "categories": stat.n}
        for name, stat in groups.items()
        if stat.n
    }
    right = sum(stat.tp for stat in result.per_category.values())
    segments = sum(stat.tp + stat.fn for stat in result.per_category.values())
    return {**found, "matched": right, "segments": segments}


def drawn(pipe: LDMSegPipeline, data: PanopticDataset, seeds: list[int]) -> dict[str, Any]:
    """Figures of drawn segments without and with their names; each photo is drawn once for both."""
    assert pipe.own_classes is not None
    segment, classes = as_segmenter(pipe), Among(pipe.own_classes, data.categories)
    rows: dict[str, Any] = {"class_agnostic": [], "class_aware": []}
    for seed in seeds:
        agnostic, aware = PanopticQuality(class_agnostic=True), PanopticQuality(data.categories)
        for index in range(len(data)):
            image, target = data.image(index), data.map(index)
            (pmap,) = segment([image], None, image_seeds(seed, [index]))
            agnostic.update(pmap, target)
            aware.update(named(pmap, classes.probabilities(load_images(image)[0], pmap), classes.categories), target)
        for name, quality in (("class_agnostic", agnostic), ("class_aware", aware)):
            rows[name].append({"seed": seed, **percent(quality.compute())})
    return rows | {f"{name}_pq": round(mean(row["all"]["pq"] for row in of), 2) for name, of in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--true-only", nargs="*", default=[], help="further data sets, of which only true segments are named")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", required=True, help="of the result's file")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model).to(resolve_device(arguments.device))
    pipe.set_progress_bar_config(disable=True)
    classes = pipe.own_classes
    if classes is None:
        parser.error(f"--model: expected one with a classifier, got {arguments.model}")
    figures: dict[str, Any] = {"categories": len(classes.categories), "classifier_parameters": _parameters(pipe.classifier), "data": {}}
    for spec in [*arguments.data, *arguments.true_only]:
        data = load_dataset(spec, size=pipe.config["image_size"])
        report = evaluate_names(classes, data)
        rows = figures["data"][spec] = {"images": report.images, "true_masks": percent(report.quality)}
        rows["milliseconds_per_image"] = round(1000 * report.seconds_per_image, 1)
        print(spec, rows, flush=True)
        if spec in arguments.true_only:
            continue
        rows |= drawn(pipe, data, arguments.seeds)
        print(spec, rows["class_agnostic_pq"], rows["class_aware_pq"], flush=True)
        rows["share"] = round(rows["class_aware_pq"] / rows["class_agnostic_pq"], 3)
    write_result(arguments.name, figures, command_line(), pipe)


def _parameters(classifier: Any) -> int:
    return sum(p.numel() for p in classifier.parameters())


if __name__ == "__main__":
    main()
