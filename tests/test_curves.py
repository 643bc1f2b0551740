from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_folder import train_line, val_line, write_run

from ldmseg.errors import InputError
from ldmseg.runs.curves import draw_curves, panels, running_mean
from ldmseg.runs.history import History, Series, read_history


@pytest.fixture
def history(tmp_path: Path) -> History:
    lines: list = [train_line(step, step / 10, ce=1.0 + step) for step in range(10, 101, 10)]
    lines.insert(5, val_line(50, 0.4) | {"val_ap50": 0.5})
    return read_history(write_run(tmp_path / "run", "autoencoder", lines))


def test_a_panel_for_everything_logged(history: History) -> None:
    found = {panel.title: panel for panel in panels(history)}
    assert list(found) == ["Loss", "Validation", "Validation, ap50", "Cross-entropy", "Learning rate", "Gradient norm", "Speed"]
    assert [series.name for series in found["Validation"].series] == ["PQ", "SQ", "RQ"]
    assert found["Validation"].series[0].values == (40.0,) and found["Validation"].unit == "%"
    assert found["Speed"].series[0].values == pytest.approx([10.0] * 8)  # of 9 stretches, one holds the validation
    assert not any(panel.log or panel.smooth for panel in found.values())


def test_many_noisy_points_are_smoothed_and_a_wide_range_is_logarithmic(tmp_path: Path) -> None:
    lines: list = [train_line(step, float(step), loss=1000.0 / step, lr=1.0 / step) for step in range(1, 101)]
    found = {panel.title: panel for panel in panels(read_history(write_run(tmp_path / "run", "autoencoder", lines)))}
    assert found["Loss"].log and found["Loss"].smooth
    assert not found["Learning rate"].log and not found["Learning rate"].smooth
    assert not found["Gradient norm"].log


def test_running_mean() -> None:
    flat = Series("x", tuple(range(100)), (3.0,) * 100)
    assert running_mean(flat).values == pytest.approx(flat.values)  # no bias at the beginning
    noisy = Series("x", tuple(range(1000)), tuple(float(v) for v in np.random.default_rng(0).normal(5, 1, 1000)))
    assert np.std(running_mean(noisy).values[100:]) < 0.2 and np.mean(running_mean(noisy).values) == pytest.approx(5, abs=0.2)
    short = Series("x", (1, 2), (1.0, 4.0))
    assert running_mean(short) == short


@pytest.mark.slow
def test_the_picture_shows_the_lines_and_replaces_the_older_one(history: History, tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    draw_curves(history, path, "my run")
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    for color in ((0x25, 0x63, 0xC9), (0xC2, 0x57, 0x0C), (0x0F, 0x8A, 0x6D)):  # PQ, SQ and RQ
        assert (pixels == color).all(axis=1).sum() > 5
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["curves.png"]


def test_a_picture_of_nothing(tmp_path: Path) -> None:
    draw_curves(read_history(tmp_path), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as opened:
        assert np.asarray(opened.convert("L")).min() < 200  # it says that there is nothing


def test_a_picture_that_cannot_be_written(history: History, tmp_path: Path) -> None:
    (tmp_path / "curves.png").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*curves\.png"):
        draw_curves(history, tmp_path / "curves.png")
