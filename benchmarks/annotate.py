"""How long an answer of the annotator takes after a stroke, in a real browser, and how much of the map stays as it was.

    taskset -c 0 env OMP_NUM_THREADS=1 python benchmarks/annotate.py

Generated scenes at the sizes of photos, the bundled model, one thread; Chromium draws in software. Server and browser share what the
command is bound to: with `taskset -c 0` one core. Strokes of new segments are painted with the mouse at random places, each after the
answer to the one before. The page's clock runs from the moment when the stroke is sent to the frame that shows the first answer (as
drawn), and to the one that shows the final answer (with borders); medians over the strokes. Stable are the pixels more than a sixteenth
of the shorter side away from the stroke that belong to the same segment, in the same colour, afterwards. `save_ms` is the server's time
for a finished photo, its map at the photo's own size included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _browser import Window, chromium, process, window
from _results import command_line, write_result
from PIL import Image

from ldmseg import LDMSegPipeline
from ldmseg.annotate.cells import ids_of
from ldmseg.data.scenes import generate_scene

SIZES = ((320, 240), (640, 480), (1600, 1200), (4000, 3000))
FIRST_SCENE = 10_000_500
CLOCK = """() => {
  const { editor } = ldmseg;
  const [act, take] = [editor.act.bind(editor), editor.take.bind(editor)];
  const shown = (name, at) => requestAnimationFrame(() => { window.clock[name] = performance.now() - at; });
  editor.act = (operation) => {
    window.clock = { sent: performance.now() };
    act(operation);
  };
  editor.take = (told, cells) => {
    take(told, cells);
    const { clock } = window;
    if (!clock || told.undo !== "model") return;
    if (!clock.seen) shown("first", clock.sent);
    clock.seen = true;
    if (!told.awaits) shown("final", clock.sent);
  };
}"""


def measured(browser: Any, size: tuple[int, int], strokes: int, options: list[str]) -> dict[str, Any]:
    width, height = size
    dice = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        scene = Image.fromarray(generate_scene(FIRST_SCENE, min(width, 640)).image)
        scene.resize(size, Image.Resampling.BICUBIC).save(photos / "scene.png")
        with process(photos, Path(folder) / "project", "default", *options) as server, window(browser, server) as page:
            page.run(CLOCK)
            rows = [stroke(page, dice) for _ in range(strokes)]
            saving = page.run(
                "async () => { const began = performance.now(); await ldmseg.editor.finish(true); return performance.now() - began; }"
            )
            edited = page.cells().shape
    first, final, stable = zip(*rows, strict=True)
    return {
        "photo": f"{width}x{height}",
        "edited_at": f"{edited[1]}x{edited[0]}",
        "first_ms": round(statistics.median(first)),
        "final_ms": round(statistics.median(final)),
        "final_ms_slowest": round(max(final)),
        "stable_share_mean": round(statistics.mean(stable), 4),
        "stable_share_least": round(min(stable), 4),
        "save_ms": round(saving),
    }


def stroke(page: Window, dice: np.random.Generator) -> tuple[float, float, float]:
    """Paint a new segment with a stroke of a fifth of the shorter side: milliseconds to the first and the final answer, stable share."""
    before = page.cells()
    colors = page.run("() => ldmseg.editor.told.labels")
    height, width = before.shape
    y, x, angle = dice.uniform(0.2, 0.8) * height, dice.uniform(0.2, 0.8) * width, dice.uniform(0, np.pi)
    half = min(height, width) / 10
    ends = [(x + sign * half * np.cos(angle), y + sign * half * np.sin(angle)) for sign in (-1, 1)]
    page.press("b", "n")
    page.drag(*ends)
    page.page.wait_for_function(
        "() => window.clock && window.clock.final !== undefined || !ldmseg.editor.told.awaits && !window.clock.seen"
    )
    clock = page.run("() => window.clock")
    after, kept = page.cells(), page.run("() => ldmseg.editor.told.labels")
    rows, columns = np.indices(before.shape)
    along = np.clip((columns - x) * np.cos(angle) + (rows - y) * np.sin(angle), -half, half)
    away = np.hypot(columns - x - along * np.cos(angle), rows - y - along * np.sin(angle)) > min(before.shape) / 16
    recoloured = [int(i) for i, (_, color) in colors.items() if i in kept and kept[i][1] != color]
    stays = (ids_of(before) == ids_of(after)) & ~np.isin(ids_of(before), recoloured)
    return clock.get("first", clock.get("final", 0.0)), clock.get("final", 0.0), float(stays[away].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strokes", type=int, default=9)
    parser.add_argument("--steps", type=int, nargs="+", default=[8], help="sampling steps of an answer; each is measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=range(len(SIZES)), help="numbers of the sizes")
    parser.add_argument("--name", default="annotate", help="of the result's file; empty writes none")
    arguments = parser.parse_args()
    rows = []
    with chromium() as browser:
        for steps in arguments.steps:
            for number in arguments.sizes:
                rows.append({"steps": steps, **measured(browser, SIZES[number], arguments.strokes, ["--steps", str(steps)])})
                print(rows[-1], flush=True)
    if arguments.name:
        pipe = LDMSegPipeline.from_pretrained("default")
        print(write_result(arguments.name, {"strokes": arguments.strokes, "sizes": rows}, command_line(), pipe))


if __name__ == "__main__":
    main()
