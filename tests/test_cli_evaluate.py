from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import done, files_in, refused
from tiny import tiny_pipeline

GROUPS = {"all", "things", "stuff", "per_category"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


def test_prints_and_saves_the_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    report = tmp_path / "new" / "report.json"
    args = ["evaluate", "--data", "scenes:3:val", "--model", model, "--device", "cpu", "--report", report]
    result = done(capsys, *args, "--json", "--limit", 2, "--steps", 1, "--seed", 3)
    figures = result.json()
    assert result.err == ""
    assert set(figures) >= GROUPS and figures["images"] == 2
    expected = {"steps": 1, "sampler": "ddim", "seed": 3, "class_agnostic": True}
    assert {key: figures["settings"][key] for key in expected} == expected
    assert 0 <= figures["all"]["pq"] <= 1 and figures["all"]["tp"] + figures["all"]["fn"] >= 8
    assert json.loads(report.read_text(encoding="utf-8")) == figures

    result = done(capsys, *args, "--limit", 1)
    assert "PQ" in result.out and "all" in result.out
    assert str(report) in result.err and "1 images" in result.err


def test_the_batch_size_does_not_matter(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:3:val", "--model", model, "--device", "cpu", "--json", "--batch-size"]
    one, three = (done(capsys, *args, size).json() for size in (1, 3))
    assert one["all"] == three["all"]


def test_drop_rate_measures_completion(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--model", model, "--device", "cpu", "--json", "--block-size", 32, "--drop-rate"]
    little, much = (done(capsys, *args, rate).json() for rate in (0.0, 0.9))
    assert little["settings"]["block_size"] == 32
    assert little["all"]["pq"] == 1  # nothing is dropped
    assert much["all"]["pq"] < 1


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    scenes = ["evaluate", "--model", model, "--device", "cpu", "--data", "scenes:1:val"]
    assert "--block-size" in refused(capsys, *scenes, "--block-size", 8)
    assert "--drop-rate" in refused(capsys, *scenes, "--drop-rate", 2)
    assert "--report" in refused(capsys, *scenes, "--report", tmp_path)
    assert "--model" in refused(capsys, "evaluate", "--data", "scenes:1:val", "--model", tmp_path)
    assert "data" in refused(capsys, "evaluate", "--data", "scenes", "--model", model)
    assert "nowhere" in refused(capsys, "evaluate", "--data", f"coco-panoptic:{tmp_path / 'nowhere'}", "--model", model)
    assert files_in(tmp_path) == set()
