"""Weights between two models': the ends are the models, and a backbone that came later does not matter."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from tiny import build_tiny

from ldmseg import LDMSegPipeline
from ldmseg.errors import InputError
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.backbones import EfficientNetBackbone
from ldmseg.models.blending import blend_denoisers, blend_encoders
from ldmseg.models.denoiser import Condition, widen_input
from ldmseg.models.image_encoder import ConvImageEncoder

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "blend_weights.py"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_weight_lies_between(share: float) -> None:
    new, old = build_tiny(0), build_tiny(1)
    wanted = {name: (1 - share) * value + share * old.unet.state_dict()[name] for name, value in new.unet.state_dict().items()}
    blended = blend_denoisers(new.unet, old.unet, share)
    for name, value in blended.state_dict().items():
        torch.testing.assert_close(value, wanted[name])


def test_what_the_old_model_did_not_see_counts_as_zero() -> None:
    old = build_tiny(1).unet.eval()
    new = widen_input(build_tiny(0).unet, image_channels=8 + 16).eval()
    torch.nn.init.normal_(new.conv_in.weight)
    blend_denoisers(new, old, 1.0)
    x, image = torch.randn(1, 4, 4, 4), torch.randn(1, 24, 4, 4)
    with torch.no_grad():
        drawn = new.predict(x, 500, Condition(image))
        torch.testing.assert_close(drawn, old.predict(x, 500, Condition(image[:, :8])), atol=1e-5, rtol=1e-5)
    assert old.config["image_channels"] == 8  # left as it was


def with_backbone(stem: ConvImageEncoder) -> BackboneImageEncoder:
    return BackboneImageEncoder.around(stem, EfficientNetBackbone(), adapter_channels=8)


def test_of_an_encoder_that_got_a_backbone_the_stem_is_blended() -> None:
    torch.manual_seed(0)
    old, stem = ConvImageEncoder(8, (8, 8)), ConvImageEncoder(8, (8, 8))
    new = with_backbone(stem)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    blend_encoders(new, old, 1.0)
    for name, value in new.state_dict().items():
        own = name.removeprefix("stem.")
        torch.testing.assert_close(value, old.state_dict()[own] if own != name else before[name])
    other = with_backbone(stem)
    blend_encoders(new, other, 0.5)
    torch.testing.assert_close(new.adapter.join[2].weight, 0.5 * (before["adapter.join.2.weight"] + other.adapter.join[2].weight))


def test_models_of_different_kinds_are_refused() -> None:
    pipe = build_tiny()
    with pytest.raises(InputError, match=r"share: expected 0\.\.1, got 1\.5"):
        blend_denoisers(pipe.unet, build_tiny(1).unet, 1.5)
    with pytest.raises(InputError, match="got one with more inputs"):
        blend_denoisers(pipe.unet, widen_input(build_tiny(1).unet, image_channels=9), 0.5)
    with pytest.raises(InputError, match="before: expected a ConvImageEncoder of the same architecture"):
        blend_encoders(pipe.image_encoder, ConvImageEncoder(8, (8, 16)), 0.5)


@pytest.mark.slow
def test_the_script_saves_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    new, old, other = build_tiny(0), build_tiny(0), build_tiny(1)
    torch.nn.init.zeros_(old.unet.conv_in.weight)
    for name, pipe in (("new", new), ("old", old), ("other", other)):
        pipe.save_pretrained(tmp_path / name)
    spec = importlib.util.spec_from_file_location("blend_weights", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def call(before: str, *more: str) -> None:
        models = ["--model", str(tmp_path / "new"), "--before", str(tmp_path / before)]
        monkeypatch.setattr(sys, "argv", ["blend_weights.py", *models, "--share", "0.25", "-o", str(tmp_path / "out"), *more])
        script.main()

    call("old", "--dtype", "fp16")
    saved = LDMSegPipeline.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(saved.unet.conv_in.weight, 0.75 * new.unet.conv_in.weight, atol=1e-3, rtol=1e-3)
    with pytest.raises(SystemExit):
        call("other")
    assert "--before: expected the mask autoencoder of --model" in capsys.readouterr().err
