from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import yaml

from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.runs.history import read_starts
from ldmseg.runs.report import read_run, write_report
from ldmseg.training import loop, trackers
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.trackers import check_trackers

CONFIG = {
    "stage": "autoencoder",
    "data": {"train": "scenes:6", "val": "scenes:2:val", "size": 32, "scene_segments": [2, 4]},
    "model": {"num_ids": 16, "encoder_widths": [8, 8, 8, 16], "decoder_width": 16, "norm_groups": 8},
    "loss": {"points": 32},
    "optim": {"steps": 4, "batch_size": 1, "precision": "fp32"},
    "validation": {"every": 2, "samples": 1},
    "checkpoint": {"every": 2},
    "trackers": ["tensorboard"],
}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 2)


def start(folder: Path, **changes: object) -> Path:
    """Train in `folder/run`."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}), encoding="utf-8")
    config = load_config(path)
    train(AutoencoderStage(config), config, folder / "run")
    return folder / "run"


def logged(run: Path, kind: str) -> list[dict[str, float]]:
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if kind in line]


@pytest.mark.slow
def test_a_run_can_be_followed(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed")
    run = start(tmp_path)

    # TensorBoard has what metrics.jsonl has, and the sheets.
    events = accumulator.EventAccumulator(str(run / "trackers" / "ldmseg")).Reload()
    assert {"train/loss", "train/ce", "train/lr", "train/grad_norm", "val/pq", "val/sq", "val/rq"} <= set(events.Tags()["scalars"])
    assert not {"train/step", "train/seconds"} & set(events.Tags()["scalars"])
    for tag, kind in (("train/loss", "loss"), ("val/pq", "val_pq")):
        seen = [(event.step, event.value) for event in events.Scalars(tag)]
        assert seen == [(line["step"], pytest.approx(line[kind], rel=1e-5)) for line in logged(run, kind)] and len(seen) == 2
    assert [event.step for event in events.Images("samples")] == [2, 4]
    assert next((run / "trackers").rglob("hparams.yml")).read_text(encoding="utf-8").count("optim.lr: 0.0001") == 1

    # The folder itself has the curves, and who trained it.
    assert (run / "curves.png").stat().st_size > 10_000
    (first,) = read_starts(run)
    assert (first.step, first.processes, first.samples_per_step, first.device, first.precision) == (0, 1, 1, "cpu", "fp32")
    assert "torch" in str(first.versions) and first.machine
    (model,) = first.networks
    assert model.name == "model" and model.parameters == model.trained == sum(
        p.numel() for p in AutoencoderStage(load_config(tmp_path / "config.yaml")).parameters()
    )
    record = read_run(run)
    assert record.finished and record.networks == (model,) and len(record.sheets) == 2
    assert write_report(record, tmp_path / "page.html") == ()

    # As if killed after step 2: what was logged after the checkpoint is logged anew, and counts once.
    shutil.rmtree(run / "checkpoints" / "step-0000004")
    start(tmp_path)
    events = accumulator.EventAccumulator(str(run / "trackers" / "ldmseg"), purge_orphaned_data=True).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4]
    assert [s.step for s in read_starts(run)] == [0, 2]
    assert read_run(run).resumptions == 1


@pytest.mark.slow
def test_without_trackers_the_folder_still_has_curves(tmp_path: Path) -> None:
    run = start(tmp_path, trackers=[])
    assert (run / "curves.png").is_file() and not (run / "trackers").exists()


@pytest.mark.slow
def test_trackers_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    start(tmp_path, trackers=[])
    run = start(tmp_path, optim={**CONFIG["optim"], "steps": 6})  # type: ignore[dict-item]
    assert list((run / "trackers").rglob("events.*"))


def test_a_package_that_is_missing_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers(["tensorboard"])
    monkeypatch.setattr(trackers, "get_available_trackers", list)
    with pytest.raises(InputError, match="trackers: expected installed packages, got 'tensorboard', which is not; pip install tensorboard"):
        start(tmp_path, trackers=["tensorboard"])
    assert not (tmp_path / "run").exists()


def test_a_name_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config: trackers.*'tensorboard'.*got 'tensorbored'"):
        start(tmp_path, trackers="tensorbored")
    assert load_config(tmp_path / "config.yaml", ["trackers=tensorboard"]).trackers == ("tensorboard",)
    assert load_config(tmp_path / "config.yaml", ["trackers=[]"]).trackers == ()


@pytest.mark.slow
def test_a_tracker_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from accelerate.tracking import TensorBoardTracker

    calls = []

    def broken(self: TensorBoardTracker, values: dict, step: int, **kwargs: object) -> None:
        calls.append(step)
        raise ConnectionError("the site\nis down")

    monkeypatch.setattr(TensorBoardTracker, "log", broken)
    monkeypatch.setattr(logging.getLogger("ldmseg"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="ldmseg"):
        run = start(tmp_path)
    assert calls == [2]
    said = "tracker tensorboard failed and is left out from now on: the site is down"
    # a record counts once, though it may pass caplog's handler twice: other tests leave handlers of their own
    assert len({id(record) for record in caplog.records if record.getMessage() == said}) == 1
    assert len(logged(run, "loss")) == 2 and (run / "pipeline").is_dir()


def test_a_tracker_that_cannot_start_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from accelerate.tracking import TensorBoardTracker

    def refuse(self: TensorBoardTracker) -> None:
        raise PermissionError("no\nkey")

    monkeypatch.setattr(TensorBoardTracker, "start", refuse)
    with pytest.raises(InputError, match="trackers: cannot start tensorboard: no key"):
        start(tmp_path)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_curves_that_cannot_be_written_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "curves.png").mkdir(parents=True)
    monkeypatch.setattr(logging.getLogger("ldmseg"), "propagate", True)
    with caplog.at_level(logging.WARNING, logger="ldmseg"):
        run = start(tmp_path, trackers=[])
    assert "curves.png" in caplog.text and (run / "pipeline").is_dir()
