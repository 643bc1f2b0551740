from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from command import Result, done, files_in, refused, run

from ldmseg.config import load_config
from ldmseg.training import loop

CONFIG = {
    "stage": "autoencoder",
    "data": {"train": "scenes:12", "val": "scenes:2:val", "size": 32},
    "model": {"num_ids": 16, "encoder_widths": [8, 8, 8, 16], "decoder_width": 16, "norm_groups": 8},
    "loss": {"points": 64},
    "optim": {"steps": 40, "batch_size": 2, "accumulate": 2, "precision": "fp32"},
    "validation": {"every": 40, "samples": 1},
    "checkpoint": {"every": 20},
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the command changes for accelerate is undone, and `runs/` lies apart."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return path


def train(capsys: pytest.CaptureFixture[str], config: Path, *args: object) -> Result:
    return done(capsys, "train", "autoencoder", "--config", config, "--device", "cpu", *args)


@pytest.mark.slow
def test_dry_run_prints_a_config_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
    result = train(capsys, config, "--dry-run", "--set", "optim.lr=3e-4", "--set", "optim.steps=6")
    shown = tmp_path / "shown.yaml"
    shown.write_text(result.out, encoding="utf-8")
    assert load_config(shown) == load_config(config, ["optim.lr=3e-4", "optim.steps=6"])
    assert "12 samples, 3.0 steps per epoch, 2.0 epochs" in result.out
    assert "parameters" in result.out and result.err == ""

    facts = train(capsys, config, "--dry-run", "--json").json()
    assert facts["steps_per_epoch"] == 3 and facts["parameters"]["model"]["trained"] == facts["parameters"]["model"]["parameters"] > 0
    assert facts["config"]["optim"]["lr"] == 1e-4
    memory, trained = facts["memory_bytes"], 4 * facts["parameters"]["model"]["trained"]
    assert (memory["weights"], memory["gradients"], memory["optimizer"], memory["average"]) == (trained, trained, 2 * trained, trained)
    assert memory["total"] == 5 * trained + memory["activations"] and memory["activations"] > 0 and memory["precision"] == "fp32"
    assert "memory of one process (2 x 32 px, fp32): about" in result.out
    assert files_in(tmp_path) == {"tiny.yaml", "shown.yaml"}


@pytest.mark.slow
def test_a_dry_run_says_what_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
    missing = ["--set", "data.train=coco-panoptic:nowhere:train2017", "--set", "model.source=CompVis/stable-diffusion-v1-4"]
    plain = ["--set", "model.encoder_widths=[32, 64, 128, 256]", "--set", "model.decoder_width=256", "--set", "model.norm_groups=32"]
    shown = train(capsys, config, "--dry-run", *missing, *plain).out
    assert "160 samples are seen; steps per epoch are unknown without data.train" in shown
    assert "# note: data.train: 'nowhere' is not on this machine" in shown
    assert "# note: model.source: 'CompVis/stable-diffusion-v1-4' is not on this machine" in shown
    facts = train(capsys, config, "--dry-run", "--json", *missing[:2]).json()
    assert facts["samples"] is None and facts["steps_per_epoch"] is None
    assert "data.train: 'nowhere' is not on this machine" in facts["notes"]
    assert "'nowhere'" in refused(capsys, "train", "autoencoder", "--config", config, *missing[:2])
    assert files_in(tmp_path) == {"tiny.yaml"}


@pytest.mark.slow  # the full-size network, without its values
def test_a_dry_run_of_the_papers_stage_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["train", "diffusion", "--config", "coco-diffusion", "--dry-run", "--json", "--set", "optim.precision=bf16"]
    facts = done(capsys, *args).json()
    assert facts["parameters"]["denoiser"] == {"parameters": 815_556_484, "trained": 813_505_924}
    gib = {name: size / 2**30 for name, size in facts["memory_bytes"].items() if name != "precision"}
    assert 3.1 < gib["weights"] < 3.2 and 23 < gib["activations"] < 25 and 38 < gib["total"] < 40  # as docs/training.md has it
    assert len([note for note in facts["notes"] if "counted as" in note]) == 3 and files_in(tmp_path) == set()


@pytest.mark.slow
def test_trains_resumes_and_exports(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    real = loop.MetricsLog.write

    def interrupted(self: loop.MetricsLog, line: dict) -> None:
        steps.append(line["step"])
        if len(steps) == 2:
            raise KeyboardInterrupt
        real(self, line)

    args = ["train", "autoencoder", "--config", config, "--device", "cpu"]
    monkeypatch.setattr(loop.MetricsLog, "write", interrupted)
    stopped = run(capsys, *args)
    run_folder = tmp_path / "runs" / "tiny"
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1].startswith("ldmseg: interrupted; the same command resumes") and "runs" in stopped.err
    assert not (run_folder / "pipeline").exists() and [p.name for p in (run_folder / "checkpoints").iterdir()] == ["step-0000020"]

    monkeypatch.setattr(loop.MetricsLog, "write", real)
    result = done(capsys, *args)
    assert "resuming" in result.err and "exported to" in result.err and result.out == ""
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [20, 40]
    assert (run_folder / "pipeline" / "mask_autoencoder" / "config.json").is_file()

    refusal = refused(capsys, *args, "--set", "optim.lr=1e-3")
    assert "optim.lr" in refusal and "another run folder" in refusal


@pytest.mark.slow
def test_json_tells_where_the_result_is(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
    result = train(capsys, config, "-o", tmp_path / "run", "--set", "optim.steps=1", "--json")
    assert result.json()["pipeline"] == str(tmp_path / "run" / "pipeline")
    assert result.json()["step"] == 1 and result.json()["loss"] > 0
    assert os.environ["ACCELERATE_USE_CPU"] == "true"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--set", "optim.lrr=1"], "'lr'"),
        (["--set", "optim.lr=fast"], "optim.lr"),
        (["--set", "optim.lr"], "--set"),
        (["--set", "data.train=scenes"], "data"),
        (["--device", "cuda"], "--device"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path, args: list[str], named: str) -> None:
    assert named in refused(capsys, "train", "autoencoder", "--config", config, *args)
    assert files_in(tmp_path) == {"tiny.yaml"}


@pytest.mark.slow
def test_wrong_configs(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
    assert "scenes-autoencoder" in refused(capsys, "train", "autoencoder", "--config", "no-such")
    assert "stage diffusion" in refused(capsys, "train", "diffusion", "--config", config)
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    assert "bad.yaml" in refused(capsys, "train", "autoencoder", "--config", tmp_path / "bad.yaml")
    assert "--output" in refused(capsys, "train", "autoencoder", "--config", config, "-o", config)
    assert files_in(tmp_path) == {"tiny.yaml", "bad.yaml"}
