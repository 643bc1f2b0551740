"""How long an answer of the annotator takes after a stroke, and how much of the map stays as it was.

    OMP_NUM_THREADS=1 python benchmarks/annotate.py

Generated scenes at the sizes of photos, the bundled model, one thread. A stroke of a new segment is painted somewhere, the engine answers;
CPU time of the process from the stroke to the first answer (as drawn) and to the final one (with borders), median over the strokes. What
the browser adds (sending the stroke, loading the map) is not in it. Stable are the pixels more than a sixteenth of the shorter side away
from the stroke that belong to the same segment afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _results import command_line, write_result
from PIL import Image
from scipy import ndimage

from ldmseg import LDMSegPipeline
from ldmseg.annotate.cells import ids_of
from ldmseg.annotate.engine import Engine
from ldmseg.annotate.operations import Label, Paint, fresh_ids
from ldmseg.annotate.photos import find_photos
from ldmseg.annotate.project import Project
from ldmseg.data.scenes import generate_scene

SIZES = ((320, 240), (640, 480), (1600, 1200), (4000, 3000))
FIRST_SCENE = 10_000_500


class Clock:
    """CPU time at which the engine told its stages."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        self.final = threading.Event()

    def __call__(self, key: str, stage: str) -> None:
        self.told[stage] = time.process_time()
        if stage == "final":
            self.final.set()

    def restart(self) -> float:
        self.told.clear()
        self.final.clear()
        return time.process_time()


def measured(pipe: LDMSegPipeline, size: tuple[int, int], strokes: int, steps: int) -> dict[str, Any]:
    width, height = size
    clock, dice = Clock(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        scene = Image.fromarray(generate_scene(FIRST_SCENE, min(width, 640)).image)
        scene.resize(size, Image.Resampling.BICUBIC).save(Path(folder) / "scene.png")
        project = Project(Path(folder) / "project", find_photos([Path(folder) / "scene.png"]))
        key = next(iter(project.photos))
        engine = Engine(lambda: pipe, project, clock, steps=steps)
        session = project.session(key)
        engine.start()
        engine.ask(key)
        clock.final.wait()
        first, final, stable = [], [], []
        for _ in range(strokes):
            mask = stroke(session.state.shape, dice)
            before = ids_of(session.state.cells)
            (new,) = fresh_ids(session.state, 1)
            began = clock.restart()
            session.act(Paint(new, mask, over=False, label=Label(color=new)), session.revision)
            engine.ask(key)
            clock.final.wait()
            first.append(clock.told["first"] - began)
            final.append(clock.told["final"] - began)
            away = ndimage.distance_transform_edt(~mask) > min(mask.shape) / 16
            stable.append(float((before == ids_of(session.state.cells))[away].mean()))
        began = time.process_time()
        project.full_map(project.photo(key), session.state)
        saving = time.process_time() - began
        engine.stop()
        edited = session.state.shape
    return {
        "photo": f"{width}x{height}",
        "edited_at": f"{edited[1]}x{edited[0]}",
        "first_ms": round(1000 * statistics.median(first)),
        "final_ms": round(1000 * statistics.median(final)),
        "stable_share_mean": round(statistics.mean(stable), 4),
        "stable_share_least": round(min(stable), 4),
        "full_size_ms": round(1000 * saving),
    }


def stroke(shape: tuple[int, int], dice: np.random.Generator) -> np.ndarray:
    """(H, W) a straight stroke, a fifth of the shorter side long."""
    height, width = shape
    unit = min(shape)
    y, x, angle = dice.uniform(0.2, 0.8) * height, dice.uniform(0.2, 0.8) * width, dice.uniform(0, np.pi)
    along = np.linspace(-unit / 10, unit / 10, 200)
    mask = np.zeros(shape, dtype=bool)
    mask[np.clip(y + along * np.sin(angle), 0, height - 1).astype(int), np.clip(x + along * np.cos(angle), 0, width - 1).astype(int)] = True
    return ndimage.distance_transform_edt(~mask) <= unit / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    pipe = LDMSegPipeline.from_pretrained("default")
    pipe.set_progress_bar_config(disable=True)
    rows = [measured(pipe, size, arguments.strokes, arguments.steps) for size in SIZES]
    for row in rows:
        print(row)
    figures = {"steps": arguments.steps, "strokes": arguments.strokes, "sizes": rows}
    print(write_result("annotate", figures, command_line(), pipe))


if __name__ == "__main__":
    main()
