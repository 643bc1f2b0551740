"""Several people drew every photo of BSDS500: do K samples of the model cover what they drew, and against what?

    python benchmarks/ambiguity.py --shared ../shared
    python benchmarks/ambiguity.py --page

The first command measures all 300 photos (val, then train) against every annotator: K samples of the model, their consensus and its
confidence; K scales of felzenszwalb and of SLIC (scikit-image); and the people among themselves. What is done is kept in `out/ambiguity`,
photo by photo, so that the same command goes on where it stopped; what the model has no part in is computed once for all models. The second
command puts the result's figures into docs/confidence.md. The bundled model never saw a photo of BSDS500.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from _results import command_line, commit, fill, model, of_an_earlier_model, read_result, write_result
from numpy.typing import NDArray

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.atomic import atomic_write
from ldmseg.data.datasets import AnnotatedDataset
from ldmseg.evaluate import ambiguity
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
from ldmseg.evaluate.reliability import draw_reliability
from ldmseg.images import load_images
from ldmseg.inference.finish import with_borders
from ldmseg.metrics import covering
from ldmseg.metrics.confidence import ConfidenceQuality, ConfidenceResult, right_pixels, right_segments

SPLITS = ("val", "train")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "confidence.md"
PICTURES = Path("docs/images")
CLASSICAL = ("felzenszwalb", "slic")

Photo = NDArray[np.uint8]
People = tuple[PanopticMap, ...]
Record = dict[str, Any]
"""One photo's answers under their names, with what else is counted; JSON."""


@dataclass(frozen=True)
class Method:
    """Answers to a photo; `key` is everything that they depend on."""

    name: str
    key: str
    answer: Callable[[int, Photo, People], Record]

    def kept(self, folder: Path) -> Path:
        return folder / f"{self.name}-{hashlib.sha256(self.key.encode()).hexdigest()[:12]}.jsonl"


def of_model(pipe: LDMSegPipeline, samples: int, steps: int | None) -> Method:
    def answer(index: int, image: Photo, people: People) -> Record:
        began = time.process_time()
        out = pipe(image, ensemble_size=samples, num_inference_steps=steps, generator=torch.Generator().manual_seed(index))
        seconds = time.process_time() - began
        assert out.samples is not None and out.confidence is not None  # an ensemble has them
        pixels, segments = ConfidenceQuality(), ConfidenceQuality()
        for person in people:
            pixels.update(out.confidence[0], right_pixels(out.maps[0], person), person.ids != 0)
            segments.update([s.score for s in out.maps[0].segments], right_segments(out.maps[0], person))
        photo = load_images(image)[0]
        drawn = [with_borders(sample, photo, None, pipe.options) for sample in out.samples[0]]  # as the consensus is
        answers = {"model": compare_answers(drawn, people), "model_consensus": compare_answers(out.maps, people)}
        return {"answers": _told(answers), "pixels": pixels.to_dict(), "segments": segments.to_dict(), "cpu_seconds": seconds}

    return Method("model", json.dumps([commit(), model(pipe), samples, steps, torch.__version__], sort_keys=True), answer)


def of_others() -> Method:
    def answer(_: int, image: Photo, people: People) -> Record:
        ways = {"felzenszwalb": felzenszwalb_answers, "slic": slic_answers}
        answers = {name: compare_answers(way(image), people) for name, way in ways.items()}
        return {"answers": _told({**answers, "people": compare_people(people)})}

    sources = [inspect.getsource(module) for module in (ambiguity, covering)]
    return Method("others", json.dumps([sources, skimage.__version__, np.__version__]), answer)


def _told(answers: Mapping[str, ImageAnswers]) -> Record:
    return {name: found.to_dict() for name, found in answers.items()}


def measure(datasets: list[AnnotatedDataset], limit: int | None, method: Method, folder: Path) -> dict[str, Record]:
    """The record of each photo, the kept ones from the file."""
    file = method.kept(folder)
    records = {one["photo"]: one for one in _kept(file)}
    photos = [(data, index) for data in datasets for index in range(len(data))][:limit]
    for number, (data, index) in enumerate(photos):
        name = data.name(index)
        if name not in records:
            records[name] = {"photo": name, **method.answer(number, data.image(index), data.annotators(index))}
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(records[name]) + "\n")
            print(f"{method.name} {number + 1}/{len(photos)} {name}", flush=True)
    return {data.name(index): records[data.name(index)] for data, index in photos}


def _kept(file: Path) -> list[Record]:
    """The whole lines; the last one may be of a process that was killed, and is taken off."""
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def figures_of(records: dict[str, Record], others: dict[str, Record], steps: int) -> tuple[dict[str, Any], dict[str, list[ImageAnswers]]]:
    images: dict[str, list[ImageAnswers]] = {}
    for name, record in records.items():
        for method, found in {**record["answers"], **others[name]["answers"]}.items():
            images.setdefault(method, []).append(ImageAnswers.from_dict(found))
    correlations = {name: agreement_of_spreads(images[name], images["people"]) for name in ("model", *CLASSICAL)}
    figures = {
        "steps": steps,
        "cpu_seconds_per_photo": round(float(np.mean([record["cpu_seconds"] for record in records.values()])), 3),
        **{name: percent(summarize(found)) for name, found in images.items()},
        "confidence_of_pixels": confidence(_counted(records, "pixels")),
        "confidence_of_segments": confidence(_counted(records, "segments")),
        "rank_correlation_of_spreads_with_people": {k: None if v is None else round(v, 3) for k, v in correlations.items()},
        "per_image": [_line(name, number, images) for number, name in enumerate(records)],
    }
    return figures, images


def _counted(records: dict[str, Record], what: str) -> ConfidenceResult:
    total = ConfidenceQuality()
    for record in records.values():
        total.merge(ConfidenceQuality.from_dict(record[what]))
    return total.compute()


def _line(name: str, number: int, images: dict[str, list[ImageAnswers]]) -> dict[str, Any]:
    return {
        "image": name,
        "people": images["people"][number].covering.shape[0],
        "people_spread": round(100 * images["people"][number].spread, 1),
        "model_spread": round(100 * images["model"][number].spread, 1),
        **{
            f"{method}_best_covering": round(100 * float(images[method][number].covering.max(0).mean()), 1)
            for method in ("model", *CLASSICAL)
        },
        **{f"{method}_best_pq": round(100 * float(images[method][number].pq.max(0).mean()), 1) for method in ("model", *CLASSICAL)},
    }


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


def confidence(result: ConfidenceResult) -> dict[str, Any]:
    values = {name: round(100 * getattr(result, name), 2) for name in ("accuracy", "confidence", "ece")}
    auroc = None if result.auroc is None else round(100 * result.auroc, 2)
    return {"auroc": auroc, **values, "count": result.count, "bins": [asdict(one) for one in result.bins if one.count]}


# --------------------------------------------------------------------------------------------------------------------- what is shown
def page_text(result: Mapping[str, Any]) -> str:
    """The part of docs/confidence.md that is made of the result."""
    found = result["figures"]
    ours, theirs, people = found["model"], found["felzenszwalb"], found["people"]
    samples = f"{ours['answers']:.0f} samples" + (f" of {found['steps']} steps" if "steps" in found else "")
    rows = [
        ("the model", ours, "covering_one", "pq_one"),
        (f"the model, consensus of {ours['answers']:.0f}", found["model_consensus"], "covering_one", "pq_one"),
        ("felzenszwalb, best fixed scale", theirs, "covering_fixed", "pq_fixed"),
        ("SLIC, best fixed scale", found["slic"], "covering_fixed", "pq_fixed"),
        ("other people", people, "covering_one", "pq_one"),
    ]
    lines = [
        f"{ours['images']} photos, {ours['people']} maps of people, {samples}, in percent:",
        "",
        "| | covering by one | covering by the best of all | PQ of one | PQ of the best of all |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, of, by_one, pq_of_one in rows:
        best = (f"{of['covering_best']:.1f}", f"{of['pq_best']:.1f}") if of["answers"] > 1 else ("", "")
        lines.append(f"| {name} | {of[by_one]:.1f} | {best[0]} | {of[pq_of_one]:.1f} | {best[1]} |".replace("|  |", "| |"))
    correlation = found["rank_correlation_of_spreads_with_people"]["model"]
    lines += [
        "",
        f"- In covering, the best sample is {_beside(ours['covering_best'], theirs['covering_best'])} the best scale of felzenszwalb; "
        f"in PQ, which counts whole segments, it is {_beside(ours['pq_best'], theirs['pq_best'])} it.",
        f"- People agree with each other at PQ {people['pq_one']:.1f}, and with the consensus at {found['model_consensus']['pq_one']:.1f}.",
    ]
    if correlation is not None:
        lines.append(f"- The rank correlation of the samples' spread with the people's is {correlation:.2f}, over the photos.")
    if "confidence_of_pixels" in found:
        lines += ["", *_confidence_table(found)]
    lines += of_an_earlier_model(result) if "model" in result else []
    return "\n".join(lines)


def _confidence_table(found: Mapping[str, Any]) -> list[str]:
    pixels, segments = found["confidence_of_pixels"], found["confidence_of_segments"]
    names = {
        "accuracy": "right, as the mean person sees it",
        "confidence": "mean confidence",
        "auroc": "AUROC of finding wrong ones",
        "ece": "ECE",
    }
    rows = [f"| {name} | {pixels[key]:.1f} | {segments[key]:.1f} |" for key, name in names.items()]
    return ["The confidence of the consensus, against each person's map:", "", "| percent | pixels | segments |", "|---|---:|---:|", *rows]


def _beside(ours: float, theirs: float) -> str:
    word = "ahead of" if ours > theirs else "behind" if ours < theirs else "equal to"
    return f"{abs(ours - theirs):.1f} points {word}" if ours != theirs else word


def draw(images: dict[str, list[ImageAnswers]], correlation: float | None, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    covered, growing, spreads = figure.subplots(1, 3)
    names = {"people": "other people", "model": "model", "felzenszwalb": "felzenszwalb", "slic": "SLIC"}
    colors = {"people": "black", "model": "tab:blue", "felzenszwalb": "tab:orange", "slic": "tab:green"}
    for name, label in names.items():
        summary = summarize(images[name])
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
    parser.add_argument("--kept", type=Path, default=Path("out/ambiguity"), help="folder of what is done")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder")
    parser.add_argument("--name", default="ambiguity", help="of the result")
    parser.add_argument("--page", action="store_true", help="measure nothing; put the committed result into docs/confidence.md")
    arguments = parser.parse_args()
    if arguments.page:
        fill(PAGE, "ambiguity", page_text(read_result(arguments.name)))
        return
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    datasets = [load_dataset(f"bsds500:{arguments.shared / 'data/bsds500'}:{split}") for split in SPLITS]
    annotated = [data for data in datasets if isinstance(data, AnnotatedDataset)]
    others = measure(annotated, arguments.limit, of_others(), arguments.kept)
    records = measure(annotated, arguments.limit, of_model(pipe, arguments.samples, arguments.steps), arguments.kept)
    figures, images = figures_of(records, others, arguments.steps or pipe.options.num_inference_steps)
    print(page_text({"figures": figures}))
    draw(images, figures["rank_correlation_of_spreads_with_people"]["model"], arguments.pictures / "ambiguity.png")
    draw_reliability([("photos, against people", _counted(records, "pixels"))], arguments.pictures / "reliability_people.png")
    write_result(arguments.name, figures, command_line(), pipe)


if __name__ == "__main__":
    main()
