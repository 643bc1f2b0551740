"""Run folders as training writes them, made in no time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from ldmseg.config import validate_config

CHANGED: dict[str, Any] = {"data": {"train": "scenes:12"}, "optim": {"steps": 100, "lr": 2e-3, "batch_size": 4}}


def train_line(step: int, seconds: float, **figures: float) -> dict[str, float]:
    return {"step": step, "loss": 2 * math.exp(-step / 50), "grad_norm": 1.0, "lr": 1e-3, **figures, "seconds": seconds}


def val_line(step: int, pq: float) -> dict[str, float]:
    return {"step": step, "val_pq": pq, "val_sq": 0.8, "val_rq": pq / 0.8}


def write_run(run: Path, stage: str, lines: list[dict[str, float] | str], sheets: tuple[int, ...] = (), exported: bool = False) -> Path:
    """A run folder with these lines of `metrics.jsonl`: objects, or text that stands there as it is."""
    run.mkdir(parents=True)
    values = validate_config({"stage": stage, **CHANGED}).model_dump(mode="json")
    (run / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    texts = (line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text("".join(texts), encoding="utf-8")
    for step in sheets:
        write_sheet(run / "samples" / f"step-{step:07d}.png", step)
    if exported:
        (run / "pipeline").mkdir()
    return run


def write_sheet(path: Path, number: int) -> None:
    """A picture in one colour that depends on the number."""
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (60, 40), (5 * (number % 50), 90, 160)).save(path)
