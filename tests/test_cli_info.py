from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from command import done, refused
from tiny import IMAGE_SIZE, NUM_IDS, build_tiny, tiny_pipeline

from ldmseg import __version__
from ldmseg.errors import InputError


@pytest.mark.slow
def test_what_a_model_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    facts = done(capsys, "info", folder, "--json").json()
    assert facts["versions"]["ldmseg"] == __version__ and facts["versions"]["numpy"] == numpy.__version__
    assert facts["device"]["auto"]
    model = facts["model"]
    assert model["components"]["unet"]["parameters"] == sum(p.numel() for p in build_tiny().unet.parameters())
    assert model["components"]["image_encoder"]["class"] == "ConvImageEncoder"
    assert (model["num_ids"], model["image_size"], model["latents"]) == (NUM_IDS, IMAGE_SIZE, [4, 4, 4])
    assert model["partial"] is True
    assert model["defaults"]["num_inference_steps"] == 2

    text = done(capsys, "info", folder).out
    for word in ("MaskAutoencoder", "Denoiser", "4 x 4 x 4", "16 as bits", "partial maps yes", __version__):
        assert word in text


def test_without_a_bundled_model_the_rest_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: str, device: str) -> None:
        raise InputError("--model: no bundled model")

    monkeypatch.setattr("ldmseg.cli.models.load_pipeline", missing)
    assert "no bundled model" in done(capsys, "info").out
    facts = done(capsys, "info", "--json").json()
    assert facts["model"] is None and facts["versions"]["python"]
    assert refused(capsys, "info", "default") == "--model: no bundled model"


def test_no_such_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nowhere" in refused(capsys, "info", tmp_path / "nowhere")
