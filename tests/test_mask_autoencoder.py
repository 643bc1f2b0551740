from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ldmseg.codes import encode_ids
from ldmseg.errors import InputError
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.official import convert_autoencoder_keys


def small(**overrides: object) -> MaskAutoencoder:
    torch.manual_seed(0)
    config = {"num_ids": 16, "encoder_widths": (8, 8, 16), "decoder_width": 16, "norm_groups": 8, **overrides}
    return MaskAutoencoder(**config).eval()


@pytest.mark.slow
@torch.no_grad()
def test_reproduces_the_release(shared: Path) -> None:
    model = MaskAutoencoder().eval()
    weights = load_file(shared / "reference" / "autoencoder_weights.safetensors")
    model.load_state_dict(convert_autoencoder_keys({f"module.{k}": v.float() for k, v in weights.items()}), strict=True)
    expected = load_file(shared / "reference" / "autoencoder_io.safetensors")
    ids = expected["ids"].long()

    codes = encode_ids(ids)
    assert torch.equal(codes, expected["bits"].float())
    moments = model.moments(codes)
    assert torch.allclose(torch.cat([moments.mean, moments.log_variance], 1), expected["moments"], atol=1e-4)
    latents = model.encode(ids)
    assert torch.allclose(latents, expected["latents"], atol=1e-4)
    coarse = model.coarse_logits(latents)
    assert torch.allclose(coarse[:, ::8], expected["logits"], atol=1e-4)
    assert (coarse.argmax(1) == expected["logits_argmax"]).float().mean() > 0.999
    assert (model.decode(latents).argmax(1) == expected["upsampled_argmax"]).float().mean() > 0.999


def test_size_of_the_paper() -> None:
    assert sum(p.numel() for p in MaskAutoencoder().parameters()) / 1e6 == pytest.approx(2.02, abs=0.005)


def test_unknown_keys_are_listed() -> None:
    with pytest.raises(InputError, match=r"encoder\.1\.weight"):
        convert_autoencoder_keys({"encoder.1.weight": torch.zeros(1)})


@pytest.mark.parametrize(("widths", "f"), [((8, 8, 16), 4), ((8, 8, 8, 16), 8)])
def test_shapes_and_padding(widths: tuple[int, ...], f: int) -> None:
    model = small(encoder_widths=widths, latent_channels=3)
    assert model.downscale == f
    latents = model.encode(torch.randint(0, 16, (2, 13, 9)))
    assert latents.shape == (2, 3, -(-13 // f), -(-9 // f))
    assert model.decode(latents).shape == (2, 16, -(-13 // f) * f, -(-9 // f) * f)


@torch.no_grad()
def test_scaling_lives_inside() -> None:
    plain, scaled = small(), small(scaling_factor=0.25)
    ids = torch.randint(0, 16, (1, 16, 16))
    assert torch.allclose(scaled.encode(ids), plain.encode(ids) * 0.25)
    assert torch.allclose(scaled.decode(scaled.encode(ids)), plain.decode(plain.encode(ids)), atol=1e-5)


def test_save_and_load(tmp_path: Path) -> None:
    model = small(code="one-hot", scaling_factor=0.5)
    model.save_pretrained(tmp_path)
    again = MaskAutoencoder.from_pretrained(tmp_path)
    assert again.config.scaling_factor == 0.5
    assert again.downscale == 4
    ids = torch.randint(0, 16, (1, 16, 16))
    assert torch.equal(again.eval().encode(ids), model.encode(ids))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="ids: expected"):
        small().encode(torch.full((1, 8, 8), 16))
    with pytest.raises(InputError, match="latents: expected"):
        small().decode(torch.zeros(1, 7, 2, 2))
    with pytest.raises(InputError, match="decoder_width"):
        small(decoder_width=20)


@pytest.mark.parametrize("damage", [{"encoder_depth": 10**9}, {"encoder_depth": -1}, {"encoder_widths": (8,) * 10**6}])
def test_a_damaged_depth_is_refused_before_anything_is_built(damage: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="encoder_depth, encoder_widths: expected 0 to 64"):
        small(**damage)
