from __future__ import annotations

from pathlib import Path

import pytest
from command import done, files_in, refused
from run_folder import train_line, val_line, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [train_line(20, 4.0), train_line(40, 8.0), val_line(40, 0.25), train_line(60, 12.0), val_line(60, 0.5)]
    return write_run(tmp_path / "mine", "diffusion", lines, sheets=(40, 60))


def test_the_page_lies_in_the_run_folder_or_where_it_is_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path) -> None:
    before = files_in(folder)
    result = done(capsys, "report", folder)
    assert result.out == "" and result.err == f"{folder / 'report.html'} written; open it in a browser\n"
    assert files_in(folder) == before | {"report.html"}
    done(capsys, "report", folder, "-o", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("damaged\n")
    result = done(capsys, "report", folder, "--json")
    facts = result.json()
    assert facts["report"] == str(folder / "report.html") and facts["stage"] == "diffusion" and not facts["finished"]
    assert (facts["step"], facts["steps"], facts["seconds"], facts["resumptions"]) == (60, 100, 12.0, 0)
    assert facts["best"] == {"step": 60, "pq": 0.5, "sq": 0.8, "rq": 0.625}
    assert facts["samples_per_second"] is None and facts["parameters"] is None
    assert facts["notes"] == ["1 damaged line of metrics.jsonl left out (line 6)"]
    assert result.err == f"note: {facts['notes'][0]}\n"


def test_a_run_without_validation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "autoencoder", [train_line(20, 4.0)])
    assert done(capsys, "report", run, "--json").json()["best"] is None


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(capsys, "report", tmp_path / "empty").startswith("RUN: expected a run folder of 'ldmseg train'")
    assert "not there" in refused(capsys, "report", tmp_path / "nowhere")
    assert "--output" in refused(capsys, "report", folder, "-o", tmp_path / "empty")
    assert "RUN" in refused(capsys, "report")
    assert files_in(tmp_path / "empty") == set() and "report.html" not in files_in(folder)
