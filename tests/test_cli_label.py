"""`ldmseg label`: what is said, exit codes, and the maps of `ldmseg segment`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from archives import HereEngine, failed, label_here, make_photos, photo_bytes, results
from command import done, files_in, refused, run
from PIL import Image
from tiny import build_tiny, tiny_pipeline

from ldmseg.cli.label import duration, told
from ldmseg.formats.id_png import write_id_png
from ldmseg.labelling.archive import run as archive_run
from ldmseg.labelling.archive.progress import State
from ldmseg.labelling.archive.shard import Beside
from ldmseg.labelling.archive.speed import Division, best, divided
from ldmseg.labelling.archive.work import Work
from ldmseg.segmenters.diffusion import PipelineSegmenter
from ldmseg.segmenters.drawing import DrawingSegmenter


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The local engine without other processes; how many it would have started."""
    started: list[int] = []

    def engine(makes: Any, finishers: int = 0) -> HereEngine:
        started.append(len(makes))
        return HereEngine(makes[0]())

    monkeypatch.setattr(archive_run, "LocalEngine", engine)
    return started


@pytest.mark.slow
def test_the_maps_are_those_of_segment(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, here: list[int]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        (photos / f"{number}.png").write_bytes(photo_bytes(number, (40 + number, 24)))
    options = ["--model", model, "--device", "cpu", "--steps", 3, "--seed", 5]
    report = done(capsys, "label", photos, "-o", tmp_path / "out", "--shard-size", 2, "--workers", 2, "--json", *options).json()
    done(capsys, "segment", photos, "-o", tmp_path / "segmented", "--no-overlay", *options)
    for number in range(5):
        assert (tmp_path / "out" / "panoptic" / f"{number}.png").read_bytes() == (tmp_path / "segmented" / f"{number}.png").read_bytes()
    ours, theirs = (json.loads((tmp_path / name / "panoptic.json").read_text()) for name in ("out", "segmented"))
    assert (ours["images"], ours["annotations"], ours["categories"]) == (theirs["images"], theirs["annotations"], theirs["categories"])
    assert ours["info"]["description"] == "ldmseg label" and "date_created" not in ours["info"]
    assert ours["info"]["inference"] == theirs["info"]["inference"] and ours["info"]["model_sha256"] == theirs["info"]["model_sha256"]
    assert (report["photos"], report["failed"], report["shards"], report["workers"], report["threads"]) == (5, 0, 3, 2, 1)
    assert report["panoptic"] == str(tmp_path / "out" / "panoptic.json") and here == [2]


@pytest.mark.slow
def test_exit_codes_and_what_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, here: list[int]) -> None:
    photos, options = make_photos(tmp_path / "photos", 3), ["--model", model, "--device", "cpu", "--workers", 1]
    result = run(capsys, "label", photos, "-o", tmp_path / "good", *options)
    assert result.code == 0 and result.out == "" and result.err.startswith("3 of 3 photos labelled (") and result.err.count("\n") == 1
    (photos / "0" / "bad.jpg").write_text("x")
    result = run(capsys, "label", photos, "-o", tmp_path / "out", *options)
    assert result.code == 3 and "1 photo failed; the reasons are in" in result.err and list(failed(tmp_path / "out")) == ["0/bad.jpg"]
    result = run(capsys, "label", photos, "-o", tmp_path / "out", "--json", *options)
    assert result.code == 3 and result.json()["failed"] == 1 and result.err == ""
    result = run(capsys, "label", photos, "-o", tmp_path / "few", "--max-failures", 0, *options)
    assert result.code == 1 and result.err.count("\n") == 1 and "--max-failures allows 0" in result.err


@pytest.mark.slow
def test_partial_maps_are_completed(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, here: list[int]) -> None:
    import numpy as np

    photos, options = make_photos(tmp_path / "photos", 2), ["--model", model, "--device", "cpu", "--workers", 1]
    partial = np.zeros((16, 24), dtype=np.int32)
    partial[:4, :4] = 9
    for name in ("0/00000", "1/00001"):
        write_id_png(tmp_path / "given" / f"{name}.png", partial)
    done(capsys, "label", photos, "--partial", tmp_path / "given", "-o", tmp_path / "out", *options)
    done(capsys, "inpaint", photos / "0", "--partial", tmp_path / "given" / "0", "-o", tmp_path / "one", *options[:-2], "--no-overlay")
    assert (tmp_path / "out" / "panoptic" / "0" / "00000.png").read_bytes() == (tmp_path / "one" / "00000.png").read_bytes()


@pytest.mark.slow
def test_a_users_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, here: list[int]) -> None:
    photos, options = make_photos(tmp_path / "photos", 1), ["--model", model, "--device", "cpu", "-o", tmp_path / "out"]
    for wrong, name in (
        ([tmp_path / "nowhere"], "SOURCE"),
        ([photos, "--partial", tmp_path / "nowhere"], "--partial"),
        ([photos, "--method", "refine"], "--method"),
        ([photos, "--strength", 0.5, "--partial", photos], "--strength"),
        ([photos, "--unknown", "white"], "--unknown"),
        ([photos, "--address", "auto"], "--address"),
        ([photos, "--to", "zip"], "--to"),
        ([photos, "--shard-size", 0], "--shard-size"),
    ):
        assert name in refused(capsys, "label", *wrong, *options)
    assert "--model" in refused(capsys, "label", photos, "-o", tmp_path / "out", "--model", tmp_path / "nowhere")
    assert files_in(tmp_path / "out") == set() and not here


def test_the_number_of_threads_that_does_most_is_taken() -> None:
    assert best({1: 1.0, 2: 0.9}, cores=4) == 1
    assert best({1: 1.0, 2: 0.4}, cores=4) == 2
    assert best({1: 1.0, 2: 0.5, 4: 0.25}, cores=4) == 1  # of equal ones the smaller
    assert best({1: 1.0, 2: 0.45, 4: 0.3}, cores=6) == 2  # with four threads, two cores would be idle


def test_what_is_given_is_not_measured(tmp_path: Path) -> None:
    work: Work = None  # type: ignore[assignment]  # nothing is measured
    one: Any = [lambda: None]
    assert divided(None, 2, one, work, None, cores=8) == Division(4, 2)
    assert divided(3, 1, one, work, None, cores=8) == Division(3, 1)
    assert divided(None, None, one, work, None, cores=8) == Division(8, 1)
    assert divided(None, None, one * 2, work, None, cores=8) == Division(2, 1)  # devices


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (7500, "2 h 05 min"), (273600, "3 days 4 h")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_progress_in_words() -> None:
    assert told(State(10, 100, 0, 2.5, 36.0)) == "2.5 photos/s, 36 s left"
    assert told(State(10, 100, 3, 0.0, None)) == "0 photos/s, 3 failed"


@pytest.mark.slow
def test_borders_beside_the_network_give_the_same_files(tmp_path: Path) -> None:
    """As on a GPU, with threads in place of processes."""
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    whole = PipelineSegmenter(pipe, boundaries="photo")
    photos = make_photos(tmp_path / "photos", 9)
    (photos / "1" / "bad.jpg").write_text("x")
    label_here(tmp_path / "one", photos, engine=HereEngine(whole))
    with ThreadPoolExecutor(2) as pool:
        label_here(tmp_path / "two", photos, engine=HereEngine(Beside(DrawingSegmenter(whole), pool)))
    assert results(tmp_path / "one") == results(tmp_path / "two") and len(results(tmp_path / "two")) == 11


@pytest.mark.slow
def test_processes_give_the_bytes_of_one(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    """Real processes with a real pipeline; and borders in processes beside it, as on a GPU."""
    from functools import partial

    from ldmseg.cli.label import load_segmenter
    from ldmseg.labelling.archive.local import LocalEngine
    from ldmseg.labelling.archive.run import Request, label_archive

    photos = make_photos(tmp_path / "photos", 12)
    asked = {"num_inference_steps": 2, "boundaries": "photo"}
    found = []
    for workers, finishers in ((1, 0), (2, 0), (1, 2)):
        out = tmp_path / f"{workers}-{finishers}"
        request = Request((str(photos),), out, workers=workers, threads=1, shard_size=3)
        make = partial(load_segmenter, str(model), "cpu", asked)
        label_archive(request, [make], make_engine=lambda d, m=make, f=finishers: LocalEngine([m] * d.workers, f))  # type: ignore[misc]
        found.append(results(out))
    assert found[0] == found[1] == found[2] and len(found[0]) == 13


@pytest.mark.slow
def test_the_command_measures_threads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmseg.labelling.archive import speed

    monkeypatch.setattr(speed, "WORTH_MEASURING", 1)
    monkeypatch.setattr(speed, "usable_cores", lambda: 2)
    photos = make_photos(tmp_path / "photos", 8)
    report = done(capsys, "label", photos, "-o", tmp_path / "out", "--model", model, "--device", "cpu", "--json").json()
    assert (report["workers"], report["threads"]) in ((2, 1), (1, 2)) and report["labelled_now"] == 8
    with Image.open(tmp_path / "out" / "panoptic" / "0" / "00000.png") as picture:
        assert picture.size == (24, 16)
