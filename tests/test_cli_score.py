from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import done, refused

from ldmseg.formats.coco_panoptic import Category, CocoPanopticWriter
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(1, "cat", True), Category(2, "sky", False))


def write(folder: Path, *maps: PanopticMap) -> Path:
    with CocoPanopticWriter(folder, CATEGORIES) as writer:
        for number, pmap in enumerate(maps, start=1):
            writer.add(f"{number}.jpg", number, pmap)
    return folder / "panoptic.json"


@pytest.fixture
def truth() -> PanopticMap:
    ids = np.full((10, 10), 1)
    ids[:, 5:] = 2
    return PanopticMap(ids, (Segment(1, 1, True), Segment(2, 2, False)))


@pytest.fixture
def prediction(truth: PanopticMap) -> PanopticMap:
    """One column of the sky is given to the cat: IoU 50/60 and 40/50."""
    ids = truth.ids.copy()
    ids[:, 5] = 1
    return truth.with_ids(ids)


def test_known_answer(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap, prediction: PanopticMap) -> None:
    gt, pred = write(tmp_path / "gt", truth), write(tmp_path / "pred", prediction)
    result = done(capsys, "score", "--gt", gt, "--pred", pred, "--json")
    assert result.err == ""
    figures = result.json()
    assert figures["things"]["pq"] == pytest.approx(50 / 60)
    assert figures["stuff"]["pq"] == pytest.approx(40 / 50)
    assert figures["all"] == pytest.approx(
        {"pq": (50 / 60 + 0.8) / 2, "sq": (50 / 60 + 0.8) / 2, "rq": 1, "tp": 2, "fp": 0, "fn": 0, "n": 2}
    )
    assert set(figures) == {"all", "things", "stuff", "per_category"} and set(figures["per_category"]) == {"1", "2"}

    table = done(capsys, "score", "--gt", gt, "--pred", pred).out
    rows = {cells[0]: cells[1:] for line in table.splitlines() if (cells := [c.strip() for c in line.strip("│ ").split("│")])}
    assert rows["things"] == ["83.3", "83.3", "100.0", "1", "0", "0", "1"]
    assert rows["all"] == ["81.7", "81.7", "100.0", "2", "0", "0", "2"]


def test_class_agnostic_forgives_a_wrong_class(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap) -> None:
    swapped = PanopticMap(truth.ids, tuple(replace(s, category_id=3 - s.category_id) for s in truth.segments if s.category_id))
    gt, pred = write(tmp_path / "gt", truth), write(tmp_path / "pred", swapped)
    assert done(capsys, "score", "--gt", gt, "--pred", pred, "--json").json()["all"]["pq"] == 0
    assert done(capsys, "score", "--gt", gt, "--pred", pred, "--json", "--class-agnostic").json()["all"]["pq"] == 1
    assert "things" not in done(capsys, "score", "--gt", gt, "--pred", pred, "--class-agnostic").out


def test_missing_predictions_are_refused_or_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap) -> None:
    gt, pred = write(tmp_path / "gt", truth, truth), write(tmp_path / "pred", truth)
    assert "image 2" in refused(capsys, "score", "--gt", gt, "--pred", pred)
    figures = done(capsys, "score", "--gt", gt, "--pred", pred, "--json", "--allow-missing").json()
    assert (figures["all"]["tp"], figures["all"]["fn"]) == (2, 2)


def test_folders_of_pngs_can_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap) -> None:
    gt, pred = write(tmp_path / "gt", truth), write(tmp_path / "pred", truth)
    (tmp_path / "gt" / "panoptic").rename(tmp_path / "here")
    (tmp_path / "pred" / "panoptic").rename(tmp_path / "there")
    assert "png_dir" in refused(capsys, "score", "--gt", gt, "--pred", pred)
    folders = ["--gt-dir", tmp_path / "here", "--pred-dir", tmp_path / "there"]
    assert done(capsys, "score", "--gt", gt, "--pred", pred, *folders, "--json").json()["all"]["pq"] == 1


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap) -> None:
    gt = write(tmp_path / "gt", truth)
    (tmp_path / "text.json").write_text("{", encoding="utf-8")
    assert "nowhere.json" in refused(capsys, "score", "--gt", gt, "--pred", tmp_path / "nowhere.json")
    assert "text.json" in refused(capsys, "score", "--gt", tmp_path / "text.json", "--pred", gt)
    assert "gt_dir" in refused(capsys, "score", "--gt", gt, "--pred", gt, "--gt-dir", tmp_path / "nowhere")


def test_only_predicted(capsys: pytest.CaptureFixture[str], tmp_path: Path, truth: PanopticMap, prediction: PanopticMap) -> None:
    gt, pred = write(tmp_path / "gt", truth, truth), write(tmp_path / "pred", prediction)
    assert "--allow-missing" in refused(capsys, "score", "--gt", gt, "--pred", pred)
    assert done(capsys, "score", "--gt", gt, "--pred", pred, "--only-predicted", "--json").json()["all"]["fn"] == 0
    assert done(capsys, "score", "--gt", gt, "--pred", pred, "--allow-missing", "--json").json()["all"]["fn"] == 2
    assert "both" in refused(capsys, "score", "--gt", gt, "--pred", pred, "--only-predicted", "--allow-missing")
