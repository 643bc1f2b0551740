"""Figures of speed of whole calls: this code's stages, and beside them those of an older commit's code (`speed.py --against`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _timing import median_ms, ratio
from speed_calls import Setting
from speed_sizes import TWELVE_MEGAPIXELS, VGA, resized

import ldmseg
from ldmseg.models.loading import model_folder

ROOT = Path(__file__).resolve().parents[1]
FEW_STEPS, LARGE_STEPS = 4, 8
LARGE_PHOTOS = 8
"""Photos of 12 megapixels whose quality is compared."""


class Side:
    """One version of the code, in a process of its own."""

    def __init__(self, source: Path, setting: Setting) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        command = [sys.executable, str(ROOT / "benchmarks" / "speed_worker.py"), str(model_folder(setting.model)), str(setting.device)]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        package = Path(self._answer()["package"])
        if source not in package.parents:
            raise SystemExit(f"expected the package of {source}, got {package}")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the measuring process ended with {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def sides(setting: Setting) -> Iterator[dict[str, Side]]:
    """This code and, where one is asked for, an older commit's."""
    with ExitStack() as stack:
        sources = {"now": Path(ldmseg.__file__).resolve().parents[1]}
        if setting.against is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())).resolve()
            archive = subprocess.run(["git", "archive", setting.against, "src"], cwd=ROOT, capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
            sources["before"] = folder / "src"
        found = {name: Side(source, setting) for name, source in sources.items()}
        for side in found.values():
            stack.callback(side.close)
        yield found


def stages(setting: Setting) -> dict[str, Any]:
    """One photo of 640 x 480 at a few steps."""
    with sides(setting) as found, tempfile.TemporaryDirectory() as folder:
        figures = _timed(found, setting, Path(folder), VGA, FEW_STEPS)
        asked = {"photos": setting.photos_name, "scenes": len(setting.scenes), "seeds": setting.seeds, "steps": FEW_STEPS}
        if setting.with_quality:
            figures["pq"] = {name: side.ask("quality", **asked) for name, side in found.items()}
    return figures


def large(setting: Setting) -> dict[str, Any]:
    """Photos enlarged to 12 megapixels."""
    with sides(setting) as found, tempfile.TemporaryDirectory() as folder:
        figures = _timed(found, setting, Path(folder), TWELVE_MEGAPIXELS, LARGE_STEPS)
        asked = {"photos": setting.photos_name, "count": LARGE_PHOTOS, "size": TWELVE_MEGAPIXELS, "steps": LARGE_STEPS}
        if setting.with_quality:
            figures["pq"] = {name: side.ask("enlarged", **asked) for name, side in found.items()}
    return figures


def _timed(found: dict[str, Side], setting: Setting, folder: Path, size: tuple[int, int], steps: int) -> dict[str, Any]:
    """Each round is another photo, which both sides get; the first one warms up."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    for number in range(setting.rounds + 1):
        path = folder / "photo.npy"
        np.save(path, resized(setting.photos.image(number % len(setting.photos)), *size))
        for name, side in found.items():
            answer = side.ask("call", photo=str(path), steps=steps)
            if number:
                rounds[name].append(answer)
    figures: dict[str, Any] = {"clock": setting.clock.name, "size": list(size), "steps": steps, "rounds": setting.rounds}
    for name, rows in rounds.items():
        stages = {stage: [row[stage] for row in rows] for stage in rows[0]}
        figures[name] = {
            "milliseconds": {stage: median_ms(values) for stage, values in stages.items()},
            "borders_to_all_else": round(median(row["borders"] / (row["total"] - row["borders"]) for row in rows), 3),
        }
    if "before" in rounds:
        before, now = ([row["total"] for row in rounds[name]] for name in ("before", "now"))
        figures |= {"against": setting.against, "times_faster": ratio(before, now)}
        figures["borders_times_faster"] = ratio(*([row["borders"] for row in rounds[name]] for name in ("before", "now")))
    return figures
