"""The script that trains in chunks: it goes on where its packed file ends, and the result is that of one run."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_pipeline

from ldmseg.training import loop

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "gpu_chunks.py"


@pytest.fixture
def chunk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[str, float], dict[str, Any]]:
    """Calls the script with a run of 12 steps that logs every four; what it prints."""
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    spec = importlib.util.spec_from_file_location("gpu_chunks", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    values = [
        f"init={tiny_pipeline(tmp_path / 'tiny')}",
        "data={train: 'scenes:8', val: 'scenes:1:val', size: 32, resize: square}",
        "optim={steps: 12, batch_size: 1, precision: fp32}",
        "validation={every: 12, samples: 1}",
        "inference={num_inference_steps: 1}",
        "checkpoint={every: 2}",
    ]
    sets = [argument for value in values for argument in ("--set", value)]

    def call(name: str, minutes: float) -> dict[str, Any]:
        packed = ["--packed", str(tmp_path / name), "--minutes", str(minutes)]
        monkeypatch.setattr(sys, "argv", ["gpu_chunks.py", "--config", "finetune", *packed, *sets])
        script.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.slow
def test_chunks_come_to_what_one_run_comes_to(chunk: Callable[[str, float], dict[str, Any]], tmp_path: Path) -> None:
    first = chunk("parts.tar", 0)
    assert first["step"] == 4 and first["kept"] == 2 and not first["finished"]  # logged at 4, before that step's checkpoint
    for path in sorted((tmp_path / "parts").rglob("*"), reverse=True):  # another machine: only the packed file is carried
        path.unlink() if path.is_file() else path.rmdir()
    assert chunk("parts.tar", 0)["kept"] == 6  # at step 4 there was no newer checkpoint yet
    last = chunk("parts.tar", 10)
    assert last["finished"] and last["step"] == 12 and chunk("whole.tar", 10)["finished"]
    weights = [load_file(tmp_path / run / "pipeline/unet/diffusion_pytorch_model.safetensors") for run in ("parts", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
