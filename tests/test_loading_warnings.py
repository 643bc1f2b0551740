from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from diffusers.utils.logging import is_progress_bar_enabled
from tiny import build_tiny

from ldmseg.models.denoiser import Denoiser
from ldmseg.pipeline import LDMSegPipeline


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    """The command line, in tests before these, makes diffusers silent."""
    caplog.set_level(logging.WARNING, logger="diffusers")


@pytest.mark.slow
def test_loading_a_pipeline_warns_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LDMSegPipeline.from_pretrained("default")
    assert caplog.messages == []
    pipe = build_tiny()
    thresholds = {"probability": 0, "min_area": 0, "overlap": 0, "support": 0}
    pipe.register_to_config(inference={"tile_size": 0, "guidance_scale": 1, "thresholds": thresholds})  # as JSON has whole numbers
    pipe.save_pretrained(tmp_path)
    LDMSegPipeline.from_pretrained(tmp_path)
    assert caplog.messages == []


@pytest.mark.slow
def test_loading_and_casting_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    build_tiny().save_pretrained(tmp_path)
    bars = is_progress_bar_enabled()
    capfd.readouterr()
    LDMSegPipeline.from_pretrained(tmp_path).to(torch.float16).to(dtype=torch.bfloat16)
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")
    assert is_progress_bar_enabled() == bars


def test_a_module_that_should_stay_in_float32_is_still_named(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Denoiser, "_keep_in_fp32_modules", ["norm"])
    build_tiny().unet.to(torch.float16)
    assert "should be kept in float32: ['norm']" in caplog.text


@pytest.mark.slow
def test_what_deserves_a_warning_still_gets_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = build_tiny()
    pipe.register_to_config(image_size="wide")
    pipe.save_pretrained(tmp_path)
    LDMSegPipeline.from_pretrained(tmp_path)
    assert "Expected types for image_size" in caplog.text
