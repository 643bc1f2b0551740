"""Several people drew every photo of BSDS500: do K samples of the model cover what they drew, and against what?

    python benchmarks/ambiguity.py --shared ../shared

Against K scales of felzenszwalb and of SLIC (scikit-image, the extra `baselines`), the consensus of the samples, and the people among
themselves. The model never saw a photo; whatever comes out is written down.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import command_line, write_result
from numpy.typing import NDArray

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.atomic import atomic_write
from ldmseg.data.datasets import AnnotatedDataset
from ldmseg.evaluate.ambiguity import (
    COVERED,
    AmbiguitySummary,
    ImageAnswers,
    agreement_of_spreads,
    compare_answers,
    compare_people,
    felzenszwalb_answers,
    slic_answers,
    summarize,
)


def measure(
    dataset: AnnotatedDataset, count: int, methods: dict[str, Callable[[int, NDArray[np.uint8]], dict[str, Sequence[PanopticMap]]]]
) -> dict[str, list[ImageAnswers]]:
    """Every method's answers to every image; a method may give several lists of answers (its samples, and their consensus)."""
    found: dict[str, list[ImageAnswers]] = {}
    for index in range(count):
        image, people = dataset.image(index), dataset.annotators(index)
        for method in methods.values():
            for name, answers in method(index, image).items():
                found.setdefault(name, []).append(compare_answers(answers, people))
        found.setdefault("people", []).append(compare_people(people))
        print(f"{index + 1}/{count} {dataset.name(index)}", flush=True)
    return found


def ensemble(pipe: LDMSegPipeline, samples: int, steps: int | None) -> Callable[[int, NDArray[np.uint8]], dict[str, Sequence[PanopticMap]]]:
    def answer(index: int, image: NDArray[np.uint8]) -> dict[str, Sequence[PanopticMap]]:
        out = pipe(image, ensemble_size=samples, num_inference_steps=steps, generator=torch.Generator().manual_seed(index))
        assert out.samples is not None  # an ensemble has them
        return {"model": out.samples[0], "model_consensus": out.maps}

    return answer


def percent(summary: AmbiguitySummary) -> dict[str, Any]:
    def scaled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: scaled(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [scaled(v) for v in value]
        return None if value is None else round(100 * value, 2)

    found = summary.to_dict()
    counts = {key: round(found.pop(key), 2) for key in ("images", "people", "answers")}
    return {**counts, **scaled(found)}


def draw(summaries: dict[str, AmbiguitySummary], images: dict[str, list[ImageAnswers]], correlation: float | None, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    covered, growing, spreads = figure.subplots(1, 3)
    names = {"people": "other people", "model": "model", "felzenszwalb": "felzenszwalb", "slic": "SLIC"}
    colors = {"people": "black", "model": "tab:blue", "felzenszwalb": "tab:orange", "slic": "tab:green"}
    for name, label in names.items():
        summary = summaries[name]
        covered.plot(COVERED, [100 * share for share in summary.covered], marker="o", color=colors[name], label=label)
        growing.plot(range(1, len(summary.by_count) + 1), [100 * v for v in summary.by_count], marker="o", color=colors[name], label=label)
    covered.set(xlabel="covering of at least", ylabel="people covered by some answer (%)", ylim=(0, 102))
    growing.set(xlabel="answers", ylabel="best covering of a person (%)", ylim=(0, 100))
    growing.legend(fontsize=8)
    theirs, ours = ([100 * i.spread for i in images[name]] for name in ("people", "model"))
    spreads.scatter(theirs, ours, s=14, color="tab:blue", alpha=0.7)
    spreads.set(xlabel="spread of the people (%)", ylabel="spread of the model's samples (%)")
    spreads.set_title("" if correlation is None else f"rank correlation {correlation:.2f}", fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/bsds500")
    parser.add_argument("--samples", type=int, default=8, help="K")
    parser.add_argument("--steps", type=int, help="sampling steps; the model's own by default")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/ambiguity.png"))
    parser.add_argument("--name", default="ambiguity", help="of the result")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    dataset = load_dataset(f"bsds500:{arguments.shared / 'data/bsds500'}:val")
    assert isinstance(dataset, AnnotatedDataset)
    count = len(dataset) if arguments.limit is None else min(arguments.limit, len(dataset))
    images = measure(
        dataset,
        count,
        {
            "model": ensemble(pipe, arguments.samples, arguments.steps),
            "felzenszwalb": lambda index, image: {"felzenszwalb": felzenszwalb_answers(image)},
            "slic": lambda index, image: {"slic": slic_answers(image)},
        },
    )
    summaries = {name: summarize(found) for name, found in images.items()}
    correlations = {name: agreement_of_spreads(images[name], images["people"]) for name in ("model", "felzenszwalb", "slic")}
    per_image = [
        {
            "image": dataset.name(index),
            "people": images["people"][index].covering.shape[0],
            "people_spread": round(100 * images["people"][index].spread, 1),
            "model_spread": round(100 * images["model"][index].spread, 1),
            **{f"{name}_best_covering": round(100 * float(images[name][index].covering.max(0).mean()), 1) for name in correlations},
            **{f"{name}_best_pq": round(100 * float(images[name][index].pq.max(0).mean()), 1) for name in correlations},
        }
        for index in range(count)
    ]
    figures = {
        **{name: percent(summary) for name, summary in summaries.items()},
        "rank_correlation_of_spreads_with_people": {k: None if v is None else round(v, 3) for k, v in correlations.items()},
        "per_image": per_image,
    }
    for name, summary in summaries.items():
        one, best, pq = 100 * summary.covering_one, 100 * summary.covering_best, 100 * summary.pq_best
        print(f"{name}: covering by one {one:.1f}, best {best:.1f}; best PQ {pq:.1f}; spread {100 * summary.spread:.1f}")
    draw(summaries, images, correlations["model"], arguments.picture)
    write_result(arguments.name, figures, command_line(), pipe)


if __name__ == "__main__":
    main()
