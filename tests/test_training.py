from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file

from ldmseg.config import OptimConfig, load_config
from ldmseg.errors import InputError
from ldmseg.locking import locked
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.runs.history import checkpoints
from ldmseg.training import loop
from ldmseg.training.checkpoint import newest_checkpoint
from ldmseg.training.loop import MetricsLog, learning_rate, train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.base import sample_generators, shuffled_index
from ldmseg.training.stages.diffusion import DiffusionStage

AUTOENCODER = {
    "stage": "autoencoder",
    "data": {"train": "scenes:12:train", "val": "scenes:2:val", "size": 32, "scene_segments": [2, 4]},
    "model": {"num_ids": 16, "encoder_widths": [8, 8, 8, 16], "decoder_width": 16, "norm_groups": 8},
    "augment": {"crop": 24, "ragged": 2.0, "speckle": 0.5, "void": 0.5},
    "loss": {"points": 32, "kl": 1e-6, "latent_noise": 0.1},
    "latent_std": 0.5,
    "optim": {"steps": 8, "batch_size": 2, "accumulate": 2, "lr": 1e-3, "precision": "fp32", "warmup": 2, "decay": "linear"},
    "validation": {"every": 8, "samples": 1},
    "checkpoint": {"every": 3},
}
DIFFUSION = {
    "stage": "diffusion",
    "id_policy": "spatial",
    "cache": True,
    "data": {"train": "scenes:6:train", "val": "scenes:2:val", "size": 32, "scene_segments": [2, 4]},
    "denoiser": {"source": "tiny"},
    "image_encoder": {"latent_channels": 8, "widths": [8, 16]},
    "schedule": {"prediction_type": "sample"},
    "loss": {"self_condition_rate": 0.5},
    "optim": {"steps": 8, "batch_size": 3, "lr": 1e-3, "precision": "fp32"},
    "validation": {"every": 8, "steps": 2, "samples": 1},
    "checkpoint": {"every": 3},
}


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    config = load_config(_write(folder, AUTOENCODER))
    return train(AutoencoderStage(config), config, folder / "run")


def _write(folder: Path, values: dict, name: str = "config.yaml", **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def _run(values: dict, folder: Path, **optim: object) -> Path:
    config = load_config(_write(folder, {**values, "optim": {**values["optim"], **optim}}))
    stage = AutoencoderStage(config) if config.stage == "autoencoder" else DiffusionStage(config)
    return train(stage, config, folder / "run")


def _weights(exported: Path) -> dict[str, torch.Tensor]:
    files = sorted(exported.rglob("*.safetensors"))
    return {f"{file.parent.name}/{key}": value for file in files for key, value in load_file(file).items()}


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_a_run_leaves_what_it_says(autoencoder: Path) -> None:
    run = autoencoder.parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "ce", "bce", "dice", "kl", "grad_norm", "lr"} <= lines[0].keys()
    assert {"val_pq", "val_sq", "val_rq"} <= lines[-1].keys()
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["step-0000006", "step-0000008"]
    assert (run / "samples" / "step-0000008.png").stat().st_size > 0
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["num_ids"] == 16
    config = json.loads((autoencoder / "mask_autoencoder" / "config.json").read_text())
    assert config["scaling_factor"] != 1.0


@pytest.mark.slow
def test_maps_of_more_segments_than_ids_are_trained_on_and_exported(tmp_path: Path) -> None:
    data = {**AUTOENCODER["data"], "scene_segments": [20, 24]}
    exported = _run({**AUTOENCODER, "data": data}, tmp_path, steps=1)
    assert json.loads((exported / "mask_autoencoder" / "config.json").read_text())["scaling_factor"] != 1.0


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path: Path) -> None:
    config = load_config(
        _write(tmp_path, {**AUTOENCODER, "augment": {}, "optim": {**AUTOENCODER["optim"], "steps": 120, "lr": 1e-2, "decay": "constant"}})
    )
    seen: list[float] = []
    train(AutoencoderStage(config), config, tmp_path / "run", lambda step, figures: seen.append(figures["ce"]))
    assert seen[-1] < 0.93 * seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_resuming_changes_no_bit(stage: str, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 5)
    values = AUTOENCODER if stage == "autoencoder" else {**DIFFUSION, "autoencoder": str(autoencoder)}
    whole = _weights(_run(values, tmp_path / "whole"))
    run = tmp_path / "again"
    values = {**values, "checkpoint": {"every": 3, "keep": 9}}
    _run(values, run)
    for later in ("step-0000006", "step-0000008"):  # as if killed between steps 3 and 6, with a line at 5
        shutil.rmtree(run / "run" / "checkpoints" / later)
    shutil.rmtree(run / "run" / "pipeline")
    resumed = _weights(_run(values, run))
    assert _equal(whole, resumed)
    uninterrupted, lines = (
        [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in path.read_text().splitlines()]
        for path in (tmp_path / "whole" / "run" / "metrics.jsonl", run / "run" / "metrics.jsonl")
    )
    assert lines == uninterrupted  # also the first one after the resume, which is of steps before and after it
    assert [line["step"] for line in lines] == [5, 8, 8]  # one line of validation, none of the first time


@pytest.mark.parametrize("processes", [1, 2])
def test_values_that_are_not_logged_yet_are_kept(processes: int) -> None:
    class Process:
        process_index, num_processes, device = processes - 1, processes, torch.device("cpu")

        def gather(self, values: torch.Tensor) -> torch.Tensor:
            return torch.cat([values - n for n in reversed(range(processes))])  # this is the last process

        def reduce(self, values: torch.Tensor, reduction: str) -> torch.Tensor:
            return values

    before = loop.Averages(Process())  # type: ignore[arg-type]
    for values in ([1.0, 3.0], [5.0, 5.0], [6.0]):
        for value in values:
            before.add({"loss": torch.tensor(value)})
        before.end_step()
    state = before.state_dict()
    assert state["loss"].shape == (processes, 3)
    after = loop.Averages(Process())  # type: ignore[arg-type]
    after.load_state_dict(state)
    assert after.take() == before.take() == {"loss": pytest.approx(13 / 3)}
    after.load_state_dict({"loss": torch.tensor([[1.0], [2.0], [6.0]])})  # of three processes
    assert after.take() == {"loss": 3.0}


def test_a_checkpoint_without_values_is_one_of_an_older_version() -> None:
    progress = loop.Progress(loop.Averages(Accelerator(cpu=True)))
    progress.load_state_dict({"step": 7})
    assert progress.step == 7 and progress.averages.steps == {}


@pytest.mark.slow
def test_sigkill_and_restart_end_with_the_same_weights(autoencoder: Path, tmp_path: Path) -> None:
    values = {**DIFFUSION, "autoencoder": str(autoencoder), "optim": {**DIFFUSION["optim"], "steps": 60}, "checkpoint": {"every": 5}}
    path = _write(tmp_path, values)

    def start(run: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "ldmseg", "train", "diffusion", "--config", str(path), "-o", str(tmp_path / run)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole = start("whole")
    killed = start("killed")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed" / "checkpoints").glob("step-*")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.001 * (os.getpid() % 400))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "pipeline").exists()
    again = start("killed")
    for process in (whole, again):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    assert _equal(_weights(tmp_path / "whole" / "pipeline"), _weights(tmp_path / "killed" / "pipeline"))


@pytest.mark.slow
def test_stage_two_ends_with_a_pipeline_that_segments(autoencoder: Path, tmp_path: Path) -> None:
    exported = _run({**DIFFUSION, "autoencoder": str(autoencoder)}, tmp_path)
    pipe = LDMSegPipeline.from_pretrained(exported)
    pipe.set_progress_bar_config(disable=True)
    result = pipe(torch.rand(3, 20, 30), generator=torch.Generator().manual_seed(0)).maps[0]
    assert result.shape == (20, 30)
    assert (result.ids > 0).all()
    assert pipe.config["id_policy"] == "spatial"
    again = _run({**DIFFUSION, "autoencoder": str(autoencoder), "init": str(exported)}, tmp_path / "finetune", steps=2)
    assert LDMSegPipeline.from_pretrained(again).unet.config["mask_channels"] == 4


@pytest.mark.slow
def test_random_ids_cannot_be_cached(autoencoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cache: expected false with id_policy random"):
        load_config(_write(tmp_path, DIFFUSION, id_policy="random"))
    values = {**DIFFUSION, "autoencoder": str(autoencoder), "id_policy": "random", "cache": False}
    config = load_config(_write(tmp_path, values))
    stage = DiffusionStage(config)
    first, second = stage.load_sample(0), stage.load_sample(6)
    assert first.number == 0 and second.number == 6
    assert torch.isfinite(stage(stage.collate([first, second]))["loss"])


@pytest.mark.slow
def test_only_the_decoder_moves(autoencoder: Path, tmp_path: Path) -> None:
    before = _weights(autoencoder)
    after = _weights(_run({**AUTOENCODER, "init": str(autoencoder), "train_part": "decoder"}, tmp_path, steps=2))
    assert all(torch.equal(before[key], after[key]) == ("encoder." in key) for key in before if key.endswith("weight"))


def test_checkpoints_are_ordered_by_their_steps(tmp_path: Path) -> None:
    """As names, 10000000 comes before 9999999."""
    names = ["step-0000100", "step-9999999", "step-10000000", "step-12000000"]
    for name in [*names, ".step-99999999", "step-x", "step-"]:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert [path.name for path in checkpoints(tmp_path)] == names
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-12000000"
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_another_configuration_is_another_run(autoencoder: Path) -> None:
    folder = autoencoder.parent.parent
    changed = load_config(_write(folder, AUTOENCODER, "other.yaml", seed=7))
    with pytest.raises(InputError, match="was started with seed=0, got 7"):
        train(AutoencoderStage(changed), changed, folder / "run")


@pytest.mark.parametrize("text", ["a: [", "[1]", "a: &a 1\nb: *a", "\0"])
def test_a_damaged_configuration_of_a_run_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"output: '.*run/config.yaml' is damaged .*; choose another run folder"):
        _run(AUTOENCODER, tmp_path)


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    """Both went on: lines doubled, and one deleted the other's checkpoint in the making."""
    _run(AUTOENCODER, tmp_path)
    (tmp_path / "run" / "checkpoints" / ".step-0000009").mkdir()
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with locked(tmp_path / "run"), pytest.raises(InputError, match=r"output: .*run' is in use by process"):
        _run(AUTOENCODER, tmp_path, steps=9)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    assert (tmp_path / "run" / "checkpoints" / ".step-0000009").is_dir()
    _run(AUTOENCODER, tmp_path, steps=9)
    assert not (tmp_path / "run" / ".ldmseg.lock").exists()


@pytest.mark.slow
def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    _run(AUTOENCODER, tmp_path)
    file = tmp_path / "run" / "checkpoints" / "step-0000008" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match=r"checkpoint: .*step-0000008.* is damaged"):
        _run(AUTOENCODER, tmp_path, steps=9)


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Accelerator, folder: str, **kwargs: object) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Accelerator, "save_state", full)
    with pytest.raises(InputError, match="No space left on device"):
        _run(AUTOENCODER, tmp_path)
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_learning_rate_is_a_function_of_the_step() -> None:
    optim = OptimConfig(steps=100, lr=1.0, warmup=10, decay="linear", decay_start=0.5)
    assert [learning_rate(s, optim) for s in (0, 9, 30, 49)] == [0.1, 1.0, 1.0, 1.0]
    assert learning_rate(75, optim) == pytest.approx(0.5)
    assert learning_rate(99, optim) == pytest.approx(0.02)
    cosine = optim.model_copy(update={"decay": "cosine"})
    assert learning_rate(75, cosine) == pytest.approx(0.5)
    assert learning_rate(99, optim.model_copy(update={"decay": "constant"})) == 1.0


def test_the_data_order_is_a_permutation_each_epoch() -> None:
    first, second = ([shuffled_index(3, n, 10) for n in range(start, start + 10)] for start in (0, 10))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_a_samples_randomness_is_its_own() -> None:
    alone = torch.randn(3, generator=sample_generators(5, [8])[0])
    assert torch.equal(alone, torch.randn(3, generator=sample_generators(5, [7, 8])[1]))
    assert not torch.equal(alone, torch.randn(3, generator=sample_generators(6, [8])[0]))


def test_the_log_outlives_a_damaged_line(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", enabled=True)
    for step in (1, 2, 3):
        log.write({"step": step})
    with log.path.open("a", encoding="utf-8") as file:
        file.write('\0\0\0\n[4]\n{"step": 2')
    log.keep_until(2)
    assert [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()] == [{"step": 1}, {"step": 2}]
