"""Several processes: real ones, on this machine's processor, started as docs/devices.md says."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from test_training import AUTOENCODER, DIFFUSION

from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.training import checkpoint, distributed, loop
from ldmseg.training.checkpoint import Division, start_run
from ldmseg.training.stages.autoencoder import AutoencoderStage

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "accelerate"
EVERY_STEP = Path(__file__).with_name("every_step.py")
LIMIT = 240  # seconds, for the slowest machine
STEPS = 8
STAGES = {
    "autoencoder": {
        **AUTOENCODER,
        "augment": {"crop": 24, "void": 0.9},
        "optim": {**AUTOENCODER["optim"], "steps": STEPS, "batch_size": 2, "accumulate": 1},
        "checkpoint": {"every": 4, "keep": 9},
    },
    "diffusion": {
        **DIFFUSION,
        "optim": {**DIFFUSION["optim"], "steps": STEPS, "batch_size": 2},
        "checkpoint": {"every": 4, "keep": 9},
    },
}
ENDLESS = "optim.steps=1000000"


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    return {**kept, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def launch(config: str, *options: object) -> list[str]:
    """`accelerate launch --config_file configs/accelerate/CONFIG ..`."""
    words = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", CONFIGS / config, *options]
    return [str(word) for word in words]


TWO = [*launch("cpu-2.yaml"), "-m", "ldmseg"]
TWO_EVERY_STEP = [*launch("cpu-2.yaml"), str(EVERY_STEP)]
ONE_EVERY_STEP = [sys.executable, str(EVERY_STEP)]


def run(command: list[str], *args: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    words = [*command, "train", *map(str, args)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert code is None or done.returncode == code, done.stderr
    return done


def said(text: str) -> list[str]:
    """The lines that are ldmseg's own; launchers add theirs."""
    return [line for line in text.splitlines() if line.startswith("ldmseg: ")]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(found) == list(range(1, STEPS + 1))
    return list(found.values())


def cut_short(folder: Path, copy: Path) -> Path:
    """A copy of a run as if it had been stopped after its first checkpoint."""
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "pipeline")
    for later in sorted((copy / "checkpoints").iterdir())[1:]:
        shutil.rmtree(later)
    return copy


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("configs")
    paths = {name: folder / f"{name}.yaml" for name in STAGES}
    for name, values in STAGES.items():
        paths[name].write_text(yaml.safe_dump(values), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def alone(configs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of one process with batches of 4."""
    folder = tmp_path_factory.mktemp("alone")
    for stage, config in configs.items():
        run(ONE_EVERY_STEP, stage, "--config", config, "-o", folder / stage, "--device", "cpu", "--set", "optim.batch_size=4")
    return {stage: folder / stage for stage in configs}


# ------------------------------------------------------------------------------------------------------------------------- launches
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_the_configurations(path: Path) -> None:
    """Each is what its first lines say, and the command that stands in them starts it."""
    loaded = load_config_from_file(str(path))
    kind = {"single-gpu": "NO", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}.get(path.stem, "MULTI_GPU")
    assert loaded.distributed_type.value == kind
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ").rstrip("\\ ") for line in lines if line.startswith("#")]
    words = " ".join(comments[next(i for i, line in enumerate(comments) if line.startswith("accelerate launch")) :]).split()
    assert words[3] == f"configs/accelerate/{path.name}"
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(path), *words[4:]]))
    assert (args.use_fsdp, args.use_deepspeed) == (kind == "FSDP", kind == "DEEPSPEED")
    assert args.training_script_args[:1] == ["train"] and args.module
    assert args.num_processes == loaded.num_processes and args.num_machines == loaded.num_machines
    if kind != "NO":
        prepared = prepare_multi_gpu_env(args)
        assert args.nproc_per_node == str(args.num_processes // args.num_machines)
        assert kind != "FSDP" or prepared["FSDP_VERSION"] == "2"


def test_the_samples_per_step_stay(tmp_path: Path) -> None:
    config = load_config("scenes-autoencoder")
    start_run(tmp_path / "run", config, Division(processes=2, batch_size=8, accumulate=1, weights="whole"))
    start_run(tmp_path / "run", config, Division(1, 8, 2, "whole"))
    start_run(tmp_path / "run", config, Division(4, 2, 2, "whole"))
    with pytest.raises(InputError, match=r"started with 16 samples per step \(processes 4 x .*got 8 .*set optim.accumulate=2 or") as caught:
        start_run(tmp_path / "run", config, Division(1, 8, 1, "whole"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"got 24 samples .*keep the product or"):
        start_run(tmp_path / "run", config, Division(3, 8, 1, "whole"))
    with pytest.raises(InputError, match="started with weights 'whole', whose checkpoints are different, got 'fsdp'"):
        start_run(tmp_path / "run", config, Division(2, 8, 1, "fsdp"))


@pytest.mark.slow
def test_resuming_takes_another_division(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4, then 2 at a time: accelerate's own count of batches must not end a step in its middle."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    curves = {}
    for name, later in (("same", {}), ("divided", {"batch_size": 1, "accumulate": 4})):
        path = tmp_path / f"{name}.yaml"
        for optim in ({"steps": 3, "batch_size": 2, "accumulate": 2}, {"steps": STEPS, "batch_size": 2, "accumulate": 2, **later}):
            values = {**STAGES["autoencoder"], "optim": {**STAGES["autoencoder"]["optim"], "decay": "constant", **optim}}
            path.write_text(yaml.safe_dump(values), encoding="utf-8")
            config = load_config(path)
            loop.train(AutoencoderStage(config), config, tmp_path / name)
        curves[name] = losses(tmp_path / name)
    assert curves["divided"] == pytest.approx(curves["same"], abs=1e-5)


def test_processes_that_nothing_connects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setattr(distributed, "PartialState", lambda **kwargs: SimpleNamespace(num_processes=1))
    with pytest.raises(InputError, match="launch: expected 4 connected processes, got 1"):
        distributed.join()

    def unreachable(**kwargs: object) -> None:
        raise RuntimeError("The client socket\nhas timed out")

    monkeypatch.setattr(distributed, "PartialState", unreachable)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    with pytest.raises(InputError, match=r"cannot connect 4 processes at 10.0.0.1:\d+: The client socket has timed out"):
        distributed.join()


def test_a_run_folder_that_another_machine_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "broadcast_object_list", lambda given: [tmp_path / "checkpoints" / "step-0000004"])
    with pytest.raises(InputError, match="on every machine, got none here; put the run folder on a shared disk"):
        checkpoint.resume(None, tmp_path)


# ------------------------------------------------------------------------------------------------------------------------ the curve
@pytest.mark.slow
@pytest.mark.parametrize("stage", [pytest.param(stage, marks=[] if stage == "diffusion" else pytest.mark.long) for stage in STAGES])
def test_processes_change_neither_the_losses_nor_what_can_be_resumed(
    stage: str, configs: dict[str, Path], alone: dict[str, Path], tmp_path: Path
) -> None:
    expected = pytest.approx(losses(alone[stage]), abs=1e-5)
    train = (stage, "--config", configs[stage], "-o")

    run(TWO_EVERY_STEP, *train, tmp_path / "two")
    assert losses(tmp_path / "two") == expected
    run(TWO_EVERY_STEP, *train, tmp_path / "accumulated", "--set", "optim.batch_size=1", "--set", "optim.accumulate=2")
    assert losses(tmp_path / "accumulated") == expected

    fewer = cut_short(tmp_path / "two", tmp_path / "fewer")
    run(ONE_EVERY_STEP, *train, fewer, "--device", "cpu", "--set", "optim.accumulate=2")
    assert losses(fewer) == expected
    more = cut_short(alone[stage], tmp_path / "more")
    done = run(TWO_EVERY_STEP, *train, more)
    assert losses(more) == expected
    assert said(done.stderr)[0] == f"ldmseg: resuming from {more / 'checkpoints' / 'step-0000004'}"


@pytest.mark.slow
def test_two_machines(configs: dict[str, Path], alone: dict[str, Path], tmp_path: Path) -> None:
    """Two launchers, each with one process, that find each other by address and port, as on two machines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machines = [
        [*launch("multi-node.yaml", "--machine_rank", rank, "--num_processes", 2, "--main_process_ip", "127.0.0.1"), "--main_process_port"]
        for rank in (0, 1)
    ]
    args = ["train", "autoencoder", "--config", str(configs["autoencoder"]), "-o", str(tmp_path / "run"), "--device", "cpu"]
    started = [subprocess.Popen([*words, str(port), str(EVERY_STEP), *args], env=environment()) for words in machines]
    assert [process.wait(LIMIT) for process in started] == [0, 0]
    assert losses(tmp_path / "run") == pytest.approx(losses(alone["autoencoder"]), abs=1e-5)


# ------------------------------------------------------------------------------------------------------------------------- failures
@pytest.mark.slow
@pytest.mark.parametrize("victim", [pytest.param("0", marks=pytest.mark.long), "1"])
def test_a_killed_process_ends_the_run(victim: str, configs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    args = ["train", "autoencoder", "--config", str(configs["autoencoder"]), "-o", str(folder)]
    process = subprocess.Popen([*TWO, *args, "--set", ENDLESS], env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LIMIT
    while not list(folder.glob("checkpoints/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(_process(process.pid, f"RANK={victim}"), signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    (line,) = said(errors)
    newest = max(folder.glob("checkpoints/step-*"))
    assert line == f"ldmseg: error: a process of this run was ended or cannot be reached; the same command goes on from {newest}"
    more = int(newest.name.removeprefix("step-")) + 4
    done = run(ONE_EVERY_STEP, *args[1:], "--device", "cpu", "--set", "optim.accumulate=2", "--set", f"optim.steps={more}")
    assert said(done.stderr)[0] == f"ldmseg: resuming from {newest}"
    assert (folder / "pipeline").is_dir()


def _process(launcher: int, variable: str) -> int:
    """The process below a launcher that has a variable in its environment."""
    pending = [launcher]
    while pending:
        parent = pending.pop()
        for task in Path(f"/proc/{parent}/task").iterdir():
            pending += [int(child) for child in (task / "children").read_text().split()]
        if variable.encode() in Path(f"/proc/{parent}/environ").read_bytes().split(b"\0"):
            return parent
    raise AssertionError(f"no process with {variable}")


@pytest.mark.slow
def test_an_error_of_one_process_is_told_once(configs: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "ldmseg", "data", "scenes", "-o", tmp_path / "data", "--count", "8", "--size", "32"], check=True)
    broken = sorted((tmp_path / "data" / "images").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:100])
    data = ["--set", f"data.train=coco-panoptic:{tmp_path / 'data'}", "--set", "data.workers=1", "--set", "cache=false"]
    done = run(TWO, "diffusion", "--config", configs["diffusion"], "-o", tmp_path / "run", *data, code=1)
    (line,) = said(done.stderr)
    assert line.startswith("ldmseg: error: ") and broken.name in line


@pytest.mark.slow
def test_a_mistake_is_told_once(configs: dict[str, Path], tmp_path: Path) -> None:
    for args, named in (
        (["--config", configs["autoencoder"], "--sett", "a=b"], "--sett"),
        (["--config", configs["autoencoder"], "--set", "optim.lrr=1"], "'lr'"),
    ):
        done = run(TWO, "autoencoder", *args, "-o", tmp_path / "run", code=1)
        (line,) = said(done.stderr)
        assert line.startswith("ldmseg: error: ") and named in line and done.stdout == ""
        assert not (tmp_path / "run").exists()


WAITING = """
import sys, time
from datetime import timedelta
from ldmseg.training import distributed
distributed.GIVE_UP = timedelta(seconds=3)
state = distributed.join()
if sys.argv[1] == "work":
    if state.is_main_process:
        time.sleep(6)
    distributed.wait_for_main()
else:
    if state.is_main_process:
        time.sleep(20)
    try:
        state.wait_for_everyone()
    except RuntimeError as error:
        assert distributed.is_lost(error), error
        assert distributed.first_to_tell() and not distributed.first_to_tell()
        print("lost", flush=True)
        raise SystemExit(1)
state.destroy_process_group()
"""


@pytest.mark.slow
def test_work_of_one_process_is_waited_for_and_silence_is_not(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING, encoding="utf-8")
    for what, code in (("work", 0), ("silence", 1)):
        done = subprocess.run(
            [*launch("cpu-2.yaml"), str(script), what], env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == code, done.stderr
        assert ("lost" in done.stdout) == (what == "silence")


# ------------------------------------------------------------------------------------------------------------------- shared weights
@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("fsdp", marks=pytest.mark.long), "deepspeed"])
def test_shared_out_weights_give_the_same_losses(kind: str, configs: dict[str, Path], alone: dict[str, Path], tmp_path: Path) -> None:
    if kind == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    stage = "diffusion"
    expected = pytest.approx(losses(alone[stage]), abs=1e-5)
    two, one = ([*launch(f"{kind}.yaml", "--num_processes", number), str(EVERY_STEP)] for number in (2, 1))
    train = (stage, "--config", configs[stage], "-o")
    run(two, *train, tmp_path / "two")
    assert losses(tmp_path / "two") == expected
    assert _validation(tmp_path / "two") == pytest.approx(_validation(alone[stage]), abs=1e-4)
    resumed = cut_short(tmp_path / "two", tmp_path / "resumed")
    fewer = (*train, resumed, "--set", "optim.accumulate=2")
    if kind == "deepspeed":
        assert "DeepSpeed goes on with as many, got 1" in said(run(one, *fewer, code=1).stderr)[-1]
        run(two, *train, resumed)
    else:
        run(one, *fewer)
    assert losses(resumed) == expected
    done = run(ONE_EVERY_STEP, *fewer, "--device", "cpu", code=2)
    assert f"started with weights '{kind}'" in said(done.stderr)[-1]


def _validation(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {name: value for line in lines for name, value in line.items() if name.startswith("val_")}
