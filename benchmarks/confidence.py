"""What several samples of an image are worth together: PQ of their consensus, and whether their agreement tells right from wrong.

    python benchmarks/confidence.py
    python benchmarks/confidence.py --page

On validation scenes, segmented and (with half of their 16 px blocks hidden) completed. Writes two pictures: a reliability diagram, and a
few scenes with their consensus, its confidence and what is wrong. The second command puts the result's figures into docs/confidence.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import command_line, fill, of_an_earlier_model, read_result, write_result
from PIL import Image

from ldmseg import VOID, LDMSegPipeline, PanopticMap, PanopticQuality, load_dataset
from ldmseg.atomic import atomic_write
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.partial import drop_blocks
from ldmseg.evaluate.reliability import ConfidenceReport, draw_reliability, measure_confidence
from ldmseg.inference.ensemble import consensus
from ldmseg.metrics.confidence import ConfidenceResult, right_pixels
from ldmseg.metrics.covering import quality_matrix
from ldmseg.pipeline import LDMSegOutput
from ldmseg.visualize import confidence_map, contact_sheet, overlay

PAGE = Path(__file__).resolve().parents[1] / "docs" / "confidence.md"
SUPPORTS = (0.0, 1 / 4, 1 / 3, 1 / 2)


class Recording:
    """The pipeline, and the samples that it drew, so that other rules can be tried on the same ones."""

    def __init__(self, pipe: LDMSegPipeline) -> None:
        self.pipe, self.options = pipe, pipe.options
        self.samples: list[Sequence[PanopticMap]] = []

    def __call__(self, image: Any, **options: Any) -> LDMSegOutput:
        out = self.pipe(image, **options)
        assert out.samples is not None  # an ensemble has them
        self.samples.append(out.samples[0])
        return out


def medoid(samples: Sequence[PanopticMap]) -> PanopticMap:
    """The sample with the highest mean PQ against the others."""
    return samples[int(quality_matrix(samples, samples).mean(1).argmax())]


def rules(dataset: PanopticDataset, samples: Sequence[Sequence[PanopticMap]]) -> dict[str, float]:
    """PQ of other ways to make one map of an image's samples."""
    ways: dict[str, Callable[[Sequence[PanopticMap]], PanopticMap]] = {"medoid": medoid}
    for support in SUPPORTS:
        ways[f"min_support {support:.2f}"] = lambda drawn, support=support: consensus(drawn, min_support=support).map
    found = {}
    for name, way in ways.items():
        quality = PanopticQuality(class_agnostic=True)
        for index, drawn in enumerate(samples):
            quality.update(way(drawn), dataset.map(index))
        found[name] = round(100 * quality.compute().all.pq, 2)
    return found


def half_hidden(index: int, target: PanopticMap) -> PanopticMap:
    return drop_blocks(target, 0.5, 16, np.random.default_rng(index))


def percent(report: ConfidenceReport) -> dict[str, Any]:
    def confidence(result: ConfidenceResult | None) -> dict[str, Any] | None:
        if result is None:
            return None
        figures = {name: round(100 * getattr(result, name), 2) for name in ("accuracy", "confidence", "ece")}
        auroc = None if result.auroc is None else round(100 * result.auroc, 2)
        bins = [{k: round(v, 4) for k, v in asdict(b).items()} for b in result.bins if b.count]
        return {"auroc": auroc, **figures, "count": result.count, "bins": bins}

    single = [100 * s.pq for s in report.samples]
    return {
        "images": report.images,
        "samples": len(single),
        "pq_one_sample_mean": round(float(np.mean(single)), 2),
        "pq_one_sample_std": round(float(np.std(single)), 2),
        "pq_one_sample_best_run": round(max(single), 2),
        "pq_best_sample_of_each_image": round(100 * report.best.pq, 2),
        "pq_consensus_by_samples": {str(c.size): round(100 * c.quality.pq, 2) for c in report.consensus},
        "pq_gain": round(100 * report.gain, 2),
        "pixels": confidence(report.pixels),
        "segments": confidence(report.segments),
        "one_samples_own_scores": confidence(report.alone),
        "seconds_per_image": round(report.seconds_per_image, 3),
        "settings": report.settings,
    }


def draw_examples(pipe: LDMSegPipeline, dataset: PanopticDataset, count: int, size: int, path: Path) -> None:
    """Photo, one sample, the consensus, its confidence and its wrong pixels, scene by scene."""
    rows = []
    for index in range(count):
        photo, target = dataset.image(index), dataset.map(index)
        out = pipe(photo, ensemble_size=size, generator=torch.Generator().manual_seed(index))
        wrong = ~right_pixels(out.maps[0], target) & (target.ids != VOID)
        marked = Image.fromarray(np.where(wrong[..., None], np.uint8((230, 60, 50)), np.uint8(photo // 2)))
        shown = [overlay(photo, out.samples[0][0]), overlay(photo, out.maps[0]), confidence_map(out.confidence[0])]
        rows.append([Image.fromarray(photo), overlay(photo, target), *shown, marked])
    titles = ["photo", "truth", "one sample", f"consensus of {size}", "confidence", "wrong"]
    with atomic_write(path) as temporary:
        contact_sheet(rows, titles=titles, tile=192).save(temporary)


def page_text(result: Mapping[str, Any]) -> str:
    """The part of docs/confidence.md that is made of the result."""
    segmentation, completion = (result["figures"][name] for name in ("segmentation", "completion"))
    sizes = list(segmentation["pq_consensus_by_samples"])

    def row(name: str, figure: Callable[[Mapping[str, Any]], str]) -> str:
        return f"| {name} | {figure(segmentation)} | {figure(completion)} |"

    head = f"{segmentation['images']} scenes, {segmentation['samples']} samples of {segmentation['settings']['steps']} steps, percent"
    return "\n".join(
        [
            f"| {head} | segmentation | completion |",
            "|---|---:|---:|",
            row("PQ of one sample", lambda found: f"{found['pq_one_sample_mean']:.1f}"),
            row(
                f"PQ of the consensus of {', '.join(sizes)}",
                lambda found: ", ".join(f"{found['pq_consensus_by_samples'][size]:.1f}" for size in sizes),
            ),
            row("AUROC of finding wrong pixels", lambda found: f"{found['pixels']['auroc']:.1f}"),
            row("ECE of pixels", lambda found: f"{found['pixels']['ece']:.1f}"),
            *of_an_earlier_model(result),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="K")
    parser.add_argument("--steps", type=int, help="sampling steps; the model's own by default")
    parser.add_argument("--examples", type=int, default=4, help="scenes in the picture")
    parser.add_argument("--pictures", type=Path, default=Path("docs/images"), help="folder")
    parser.add_argument("--name", default="confidence", help="of the result")
    parser.add_argument("--page", action="store_true", help="measure nothing; put the committed result into docs/confidence.md")
    arguments = parser.parse_args()
    if arguments.page:
        fill(PAGE, "confidence", page_text(read_result(arguments.name)))
        return
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    scenes = load_dataset(f"scenes:{arguments.images}:val", size=pipe.config["image_size"])
    options: dict[str, Any] = {"ensemble_size": arguments.samples, "steps": arguments.steps}
    recording = Recording(pipe)
    reports = {
        "segmentation": measure_confidence(recording, scenes, **options),  # type: ignore[arg-type]
        "completion": measure_confidence(pipe, scenes, partial=half_hidden, **options),
    }
    figures = {name: percent(report) for name, report in reports.items()}
    figures["segmentation"]["pq_other_rules"] = rules(scenes, recording.samples)
    for name, found in figures.items():
        pixels = {k: found["pixels"][k] for k in ("auroc", "ece", "accuracy")}
        print(name, found["pq_one_sample_mean"], "->", found["pq_consensus_by_samples"], pixels, flush=True)
    draw_reliability([(name, report.pixels) for name, report in reports.items()], arguments.pictures / "reliability.png")
    draw_examples(pipe, scenes, min(arguments.examples, arguments.images), arguments.samples, arguments.pictures / "confidence.png")
    write_result(arguments.name, figures, command_line(), pipe)


if __name__ == "__main__":
    main()
