"""Strokes that a scripted annotator needs until a photo's map has a panoptic quality of 80 or 90 %.

    OMP_NUM_THREADS=1 python benchmarks/strokes.py --shared ../shared

The annotator knows the truth. In each round it looks for the largest connected region of a true segment that the map gives to something
else, and paints a straight stroke through the middle of it. `annotator` is the loop of `ldmseg annotate`: the proposal, and its completion
around the strokes, by the same functions. `walker` and `watershed` begin with nothing and fill the photo from the strokes alone. All
are given strokes by the same rule and on the same pictures: photos of coco100 that no run trains on, the first ones of the part that have
at most `--segments` segments, and generated scenes. Segments of less than a thousandth of a picture are left out of the truth. Quality is
that of one picture, without classes. A picture that needs more than `--most` strokes counts as needing one more than that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from _results import command_line, write_result
from inpainting import Shrunk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.measure import label

from ldmseg import LDMSegPipeline, load_dataset
from ldmseg.annotate.answer import Answers, Seen
from ldmseg.annotate.cells import ids_of
from ldmseg.annotate.completion import Edits, question, taken_over
from ldmseg.annotate.operations import Paint, State, fresh_ids
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.segmenters.baselines import complete

GOALS = (0.8, 0.9)
LEAST = 0.001
"""Share of the picture that a true segment covers at least."""
BRUSH = 1 / 60
"""Radius of the brush, as a share of the shorter side; less where a region is narrow."""
AWAY = 1 / 16
"""Pixels farther from a stroke than this share of the shorter side are away from it."""
ANGLES = np.arange(0, 180, 15)

Ids = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo (H, W, 3) and its true map (H, W)."""

    name: str
    image: NDArray[np.uint8]
    truth: PanopticMap


# ------------------------------------------------------------------------------------------------------------------------- the tools
@dataclass(eq=False)
class Annotator:
    """The loop of the annotator, without a server."""

    answers: Answers
    name: str = ""
    seen: Seen | None = None
    state: State = field(default_factory=lambda: State(np.zeros((1, 1), dtype=np.uint16)))

    def begin(self, picture: Picture) -> Ids:
        self.name, self.seen = picture.name, self.answers.seen(picture.image)
        self.state = State(np.zeros(picture.truth.shape, dtype=np.uint16))
        return self._answered(replace(Edits.none(self.state.shape), whole=True))

    def paint(self, segment: int, mask: NDArray[np.bool_]) -> Ids:
        before, stroke = self.state, Paint(segment or fresh_ids(self.state, 1)[0], mask)
        self.state = stroke(before)
        return self._answered(Edits.none(before.shape).followed_by(stroke, before, self.state))

    def _answered(self, edits: Edits) -> Ids:
        asked = question(self.state, edits, self.answers.most)
        if asked is not None and self.seen is not None:
            drawn = self.answers.drawn(self.seen, asked, self.name)
            self.state = taken_over(self.state, edits, asked, self.answers.bordered(self.seen, asked, drawn))
        return ids_of(self.state.cells).astype(np.int32)


@dataclass(eq=False)
class Filled:
    """Strokes, and the rest filled from them by a classical method."""

    method: Any
    image: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((1, 1, 3), dtype=np.uint8))
    strokes: Ids = field(default_factory=lambda: np.zeros((1, 1), dtype=np.int32))

    def begin(self, picture: Picture) -> Ids:
        self.image, self.strokes = picture.image, np.full(picture.truth.shape, VOID, dtype=np.int32)
        return self.strokes

    def paint(self, segment: int, mask: NDArray[np.bool_]) -> Ids:
        self.strokes = np.where(mask, segment or self.strokes.max() + 1, self.strokes).astype(np.int32)
        return complete(self.method, self.image, PanopticMap(self.strokes)).ids


# --------------------------------------------------------------------------------------------------------------- the scripted annotator
def quality(ids: Ids, truth: PanopticMap) -> float:
    measure = PanopticQuality(class_agnostic=True)
    measure.update(PanopticMap(ids.astype(np.int32)), truth)
    return measure.compute().all.pq


def names(ids: Ids, truth: Ids, mine: dict[int, int]) -> dict[int, int]:
    """True segment -> the map's, one to one: those that were painted as they were painted, the rest by what they share."""
    free = [int(i) for i in np.unique(ids) if i != VOID and i not in mine.values()]
    left = [int(i) for i in np.unique(truth) if i != VOID and i not in mine]
    shared = np.array([[np.count_nonzero((truth == t) & (ids == i)) for i in free] for t in left]).reshape(len(left), len(free))
    pairs = {left[r]: free[c] for r, c in zip(*linear_sum_assignment(-shared), strict=True) if shared[r, c]}
    return {**mine, **pairs}


def stroke(region: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """(H, W) a straight stroke through the innermost pixel of a region, along which it is longest; never beyond the region."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    radius = min(radius, max(0.5, depth[y, x] / 3))
    core = depth > max(radius, depth[y, x] / 3)
    best: tuple[list[int], list[int]] = ([], [])
    for angle in np.deg2rad(ANGLES):
        rows, columns = [int(y)], [int(x)]
        for sign in (1, -1):
            for step in range(1, sum(region.shape)):
                at = round(y + sign * step * np.sin(angle)), round(x + sign * step * np.cos(angle))
                if not (0 <= at[0] < region.shape[0] and 0 <= at[1] < region.shape[1] and core[at]):
                    break
                rows.append(at[0])
                columns.append(at[1])
        best = max(best, (rows, columns), key=lambda line: len(line[0]))
    line = np.ones(region.shape, dtype=bool)
    line[best] = False
    return (ndimage.distance_transform_edt(line) <= radius) & region


@dataclass(frozen=True)
class Course:
    """Quality of the map at the beginning and after each stroke, and the share of pixels away from each that kept their segment."""

    quality: list[float]
    kept: list[float]


def worked(tool: Any, picture: Picture, most: int) -> Course:
    """The annotator's work, until the highest goal is reached."""
    truth, mine = picture.truth.ids, dict[int, int]()
    ids = tool.begin(picture)
    course = Course([quality(ids, picture.truth)], [])
    while course.quality[-1] < max(GOALS) and len(course.kept) < most:
        named = names(ids, truth, mine)
        right = np.logical_or.reduce([truth == VOID, *((truth == t) & (ids == i) for t, i in named.items())])
        wrong = np.where(right, 0, truth)
        pieces = label(wrong, connectivity=1)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        if not sizes.any():
            break
        region = pieces == sizes.argmax()
        segment = int(truth[region][0])
        mask = stroke(region, BRUSH * min(truth.shape))
        other = named.get(segment, 0)
        if segment not in mine and other and np.count_nonzero((ids == other) & (truth == segment)) * 2 < np.count_nonzero(ids == other):
            other = 0  # what shares most with it is mostly something else
        before, ids = ids, tool.paint(other, mask)
        mine[segment] = int(ids[mask][0])
        course.quality.append(quality(ids, picture.truth))
        away = ndimage.distance_transform_edt(~mask) > AWAY * min(truth.shape)
        course.kept.append(float((before == ids)[away].mean()))
    return course


# --------------------------------------------------------------------------------------------------------------------------- figures
def pictures(source: Any, segments: int, count: int) -> Iterator[Picture]:
    found = 0
    for index in range(len(source)):
        pmap = source.map(index)
        kept = [s for s in pmap.segments if np.count_nonzero(pmap.ids == s.id) >= LEAST * pmap.ids.size]
        if not 2 <= len(kept) <= segments:
            continue
        truth = PanopticMap(np.where(np.isin(pmap.ids, [s.id for s in kept]), pmap.ids, VOID), tuple(kept))
        yield Picture(str(source.name(index)), source.image(index), truth)
        found += 1
        if found == count:
            return


def summary(courses: list[Course], seconds: float, most: int) -> dict[str, Any]:
    needed = {goal: [next((n for n, pq in enumerate(c.quality) if pq >= goal), most + 1) for c in courses] for goal in GOALS}
    kept = [share for course in courses for share in course.kept]
    goals = {
        f"to_{round(100 * goal)}": {
            "median": median(strokes),
            "mean": round(mean(strokes), 2),
            "reached": sum(number <= most for number in strokes),
            "of": len(strokes),
        }
        for goal, strokes in needed.items()
    }
    return {
        "begins_at_pq": round(100 * mean(course.quality[0] for course in courses), 1),
        **goals,
        "kept_away_from_the_stroke": {"mean": round(mean(kept), 4), "median": round(median(kept), 4)} if kept else None,
        "cpu_seconds_per_stroke": round(seconds / max(1, len(kept)), 3),
        "courses": [[round(100 * pq, 1) for pq in course.quality] for course in courses],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/coco100")
    parser.add_argument("--part", default="[70:100]", help="of the photos, in the data set's order")
    parser.add_argument("--count", type=int, default=20, help="photos, and scenes")
    parser.add_argument("--side", type=int, default=256, help="longer side of the pictures in pixels")
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--steps", type=int, nargs="+", default=[8], help="sampling steps of the annotator; a row each")
    parser.add_argument("--only", nargs="+", choices=("annotator", "walker", "watershed"), default=["annotator", "walker", "watershed"])
    parser.add_argument("--name", default="strokes", help="of the result's file; empty writes none")
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    tools: dict[str, Any] = {f"annotator, {steps} steps": Annotator(Answers(pipe, steps)) for steps in arguments.steps}
    tools |= {method: Filled(method) for method in ("walker", "watershed")}
    sources = {
        "photos": Shrunk(load_dataset(f"coco-panoptic:{arguments.shared / 'data/coco100'}:train2017{arguments.part}"), arguments.side),
        "scenes": Shrunk(load_dataset(f"scenes:{2 * arguments.count}:val", size=arguments.side), arguments.side),
    }
    figures: dict[str, Any] = {"side": arguments.side, "most": arguments.most, "segments": arguments.segments}
    for kind, source in sources.items():
        chosen = list(pictures(source, arguments.segments, arguments.count))
        figures[kind] = {"pictures": [p.name for p in chosen], "segments_mean": round(mean(len(p.truth) for p in chosen), 1)}
        for name, tool in tools.items():
            if name.split(",")[0] not in arguments.only:
                continue
            began = time.process_time()
            courses = [worked(tool, picture, arguments.most) for picture in chosen]
            figures[kind][name] = summary(courses, time.process_time() - began, arguments.most)
            print(kind, name, {key: value for key, value in figures[kind][name].items() if key != "courses"}, flush=True)
    if arguments.name:
        print(write_result(arguments.name, figures, command_line(), pipe))


if __name__ == "__main__":
    main()
