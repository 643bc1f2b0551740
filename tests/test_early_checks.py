"""Every argument of a call is checked before a network runs: an encoder that computes for a minute must not be followed by a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import build_tiny

from ldmseg.errors import InputError
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline

PHOTO = torch.zeros(3, 24, 40)
PARTIAL = PanopticMap(np.eye(24, 40, dtype=np.int32))

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"latents": torch.zeros(1, 4, 5, 5)}, r"latents: expected shape \(1, 4, 4, 4\), got \(1, 4, 5, 5\)"),
    ({"latents": torch.zeros(1, 4, 4, 4), "ensemble_size": 2}, r"latents: expected shape \(2, 4, 4, 4\), got \(1, 4, 4, 4\)"),
    ({"sampler": "euler"}, "sampler: expected one of ddim, ddpm, renoise, got 'euler'"),
    ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1, got 0"),
    ({"num_inference_steps": 1001}, "num_inference_steps: expected 1..1000, got 1001"),
    ({"generator": [torch.Generator(), torch.Generator()]}, r"generator: expected one, or one per image \(1\), got 2"),
    ({"tile_size": 16, "tile_overlap": 1.5}, "tile_overlap: expected"),
    ({"tile_size": -1}, "tile_size: expected"),
]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> LDMSegPipeline:
    """One whose networks must not run."""
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)

    def ran(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a network ran before the arguments were checked")

    for network in (pipe.image_encoder, pipe.mask_autoencoder):
        monkeypatch.setattr(network, "encode", ran)
    monkeypatch.setattr(pipe.mask_autoencoder, "decode", ran)
    monkeypatch.setattr(pipe.unet, "forward", ran)
    return pipe


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_segmenting_checks_first(pipe: LDMSegPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(PHOTO, **arguments)


@pytest.mark.parametrize("method", ["condition", "project", "resample", "refine"])
@pytest.mark.parametrize(("arguments", "message"), WRONG[:6])
def test_completing_checks_first(pipe: LDMSegPipeline, method: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.inpaint(PHOTO, PARTIAL, method=method, **arguments)


def test_resamplings_are_checked_first(pipe: LDMSegPipeline) -> None:
    with pytest.raises(InputError, match="resamplings: expected at least 1, got 0"):
        pipe.inpaint(PHOTO, PARTIAL, method="resample", resamplings=0)
