"""EfficientNet-Lite0 against outputs of the converter's own network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldmseg.errors import InputError
from ldmseg.models.efficientnet import STAGES, STRIDES, EfficientNetLite0, load_efficientnet

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"


@pytest.mark.skipif(not (WEIGHTS / "efficientnet_lite0_io.safetensors").is_file(), reason="shared/weights is not beside the checkout")
def test_every_stage_agrees_with_the_converter() -> None:
    known = load_file(WEIGHTS / "efficientnet_lite0_io.safetensors")
    network = load_efficientnet(WEIGHTS / "efficientnet_lite0_fp16.safetensors", classifier=True)
    with torch.no_grad():
        outputs = network(known["pixels"])
        logits = network.logits(outputs[-1])
    for number, output in enumerate(outputs):
        torch.testing.assert_close(output, known[f"stage{number}"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(logits, known["logits"], atol=1e-3, rtol=1e-3)


def test_sizes_are_rounded_up() -> None:
    with torch.no_grad():
        outputs = EfficientNetLite0().eval()(torch.zeros(2, 3, 50, 33))
    expected = [(2, stage[-1], -(-50 // stride), -(-33 // stride)) for stage, stride in zip(STAGES, STRIDES, strict=True)]
    assert [tuple(output.shape) for output in outputs] == expected


@pytest.mark.slow
def test_the_head_may_be_in_the_file_or_not(tmp_path: Path) -> None:
    whole = EfficientNetLite0(classifier=True)
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    features = load_efficientnet(tmp_path / "whole.safetensors")
    assert not features.training and set(features.state_dict()) < set(whole.state_dict())
    save_file(features.state_dict(), tmp_path / "features.safetensors")
    load_efficientnet(tmp_path / "features.safetensors")
    with pytest.raises(InputError, match="backbone: expected the weights of EfficientNet-Lite0"):
        load_efficientnet(tmp_path / "features.safetensors", classifier=True)


def test_what_is_no_file_of_weights_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("text.safetensors", "none.safetensors"):
        with pytest.raises(InputError, match="backbone: expected a safetensors file"):
            load_efficientnet(tmp_path / name)
