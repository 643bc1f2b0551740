from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_folder import edit_config, make_sd_folder, rename
from torch.utils.flop_counter import FlopCounterMode

from ldmseg.errors import InputError
from ldmseg.models.image_encoder import ConvImageEncoder, FrozenImageEncoder, ImageEncoder, load_image_encoder

SMALL = {"latent_channels": 6, "widths": (8, 16), "downscale": 4}


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd_folder(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tiny_vae() -> AutoencoderTiny:
    return AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1,) * 4)


def photos(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) * 2 - 1


def assert_same(one: ImageEncoder, other: ImageEncoder) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert type(one) is type(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    images = photos(1, 3, 40, 24)
    assert torch.equal(one.encode(images), other.encode(images))


@pytest.mark.slow
def test_frozen_latents_are_the_scaled_mode(sd_folder: Path) -> None:
    encoder = load_image_encoder(sd_folder)
    vae = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    images = photos(2, 3, 64, 48)
    with torch.no_grad():
        expected = vae.encode(images).latent_dist.mode() * 0.18215
    assert torch.equal(encoder.encode(images), expected)
    assert (encoder.latent_channels, encoder.downscale, encoder.trainable) == (4, 8, False)
    assert not any("decoder" in name for name, _ in encoder.named_modules())


def test_frozen_from_the_tiny_autoencoder() -> None:
    vae = tiny_vae().eval()
    encoder = FrozenImageEncoder.from_vae(vae)
    images = photos(1, 3, 32, 24)
    with torch.no_grad():
        assert torch.equal(encoder.encode(images), vae.encode(images).latents)
    assert (encoder.latent_channels, encoder.downscale) == (4, 8)


def test_a_shift_and_a_scale_of_the_autoencoders_own(sd_folder: Path) -> None:
    vae = AutoencoderKL.from_pretrained(sd_folder / "vae").eval()
    images = photos(1, 3, 16, 16)
    mode = FrozenImageEncoder.from_vae(vae).encode(images) / 0.18215
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    torch.testing.assert_close(FrozenImageEncoder.from_vae(vae).encode(images), (mode - 0.25) * 0.5)


def test_frozen_stays_frozen(sd_folder: Path, tmp_path: Path) -> None:
    encoder = load_image_encoder(sd_folder)
    encoder.save_pretrained(tmp_path)
    for one in (encoder, load_image_encoder(tmp_path)):
        one.train()
        assert not any(module.training for module in one.modules())
        assert not any(parameter.requires_grad for parameter in one.parameters())
        assert not one.encode(photos(1, 3, 16, 16).requires_grad_()).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_saved_and_loaded_bit_for_bit(sd_folder: Path, tmp_path: Path, low_cpu_mem_usage: bool) -> None:
    encoders = {
        "frozen": load_image_encoder(sd_folder),
        "tiny": FrozenImageEncoder.from_vae(tiny_vae()),
        "conv": ConvImageEncoder(),
    }
    for name, encoder in encoders.items():
        encoder.save_pretrained(tmp_path / name)
        loaded, info = type(encoder).from_pretrained(tmp_path / name, output_loading_info=True, low_cpu_mem_usage=low_cpu_mem_usage)
        assert not any(info.values()), info
        assert_same(loaded, encoder)
        assert_same(load_image_encoder(tmp_path / name), encoder)


@pytest.mark.parametrize("kind", ["frozen", "conv"])
def test_inside_a_diffusers_pipeline(sd_folder: Path, tmp_path: Path, kind: str) -> None:
    class Pipeline(DiffusionPipeline):
        def __init__(self, image_encoder: ImageEncoder) -> None:
            super().__init__()
            self.register_modules(image_encoder=image_encoder)

    encoder = load_image_encoder(sd_folder) if kind == "frozen" else ConvImageEncoder(**SMALL)
    Pipeline(image_encoder=encoder).save_pretrained(tmp_path)
    assert_same(Pipeline.from_pretrained(tmp_path).image_encoder, encoder)
    assert_same(load_image_encoder(tmp_path), encoder)


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8, 16]), st.integers(1, 3))
def test_any_size_rounds_up(height: int, width: int, downscale: int, levels: int) -> None:
    encoder = ConvImageEncoder(latent_channels=5, widths=(8,) * levels, downscale=max(downscale, 2 ** (levels - 1)))
    latents = encoder.encode(photos(2, 3, height, width))
    assert latents.shape == (2, 5, -(-height // encoder.downscale), -(-width // encoder.downscale))
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (33, 64)])
def test_frozen_sizes_round_up(sd_folder: Path, size: tuple[int, int]) -> None:
    latents = load_image_encoder(sd_folder).encode(photos(1, 3, *size))
    assert latents.shape == (1, 4, -(-size[0] // 8), -(-size[1] // 8))


def test_conv_defaults_are_cheap_and_normalised() -> None:
    encoder = ConvImageEncoder()
    with FlopCounterMode(display=False) as counter:
        latents = encoder.encode(photos(1, 3, 128, 128))
    assert counter.get_total_flops() < 0.25e9
    assert latents.shape == (1, 64, 16, 16)
    assert latents.var().item() == pytest.approx(1, abs=0.01)
    assert (encoder.latent_channels, encoder.downscale, encoder.trainable) == (64, 8, True)


def test_conv_trains_every_parameter() -> None:
    encoder = ConvImageEncoder(**SMALL)
    encoder(photos(2, 3, 16, 16)).square().mul(torch.rand(2, 6, 4, 4)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.parameters())


def test_one_image_equals_its_place_in_a_batch(sd_folder: Path) -> None:
    images = photos(3, 3, 24, 16)
    for encoder in (load_image_encoder(sd_folder), ConvImageEncoder(**SMALL)):
        together = encoder.encode(images)
        for i in range(3):
            torch.testing.assert_close(encoder.encode(images[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_names_of_2022_load(sd_folder: Path, tmp_path: Path) -> None:
    assert_same(load_image_encoder(make_sd_folder(tmp_path, old_attention_names=True)), load_image_encoder(sd_folder))


def test_missing_weights_are_listed(tmp_path: Path) -> None:
    rename(make_sd_folder(tmp_path) / "vae", lambda key: None if key == "encoder.conv_in.weight" else key)
    with pytest.raises(
        InputError, match=r"^source: expected exactly the weights of AutoencoderKL.*1 missing keys: encoder\.conv_in\.weight$"
    ):
        load_image_encoder(tmp_path)


def test_left_over_weights_are_listed(tmp_path: Path) -> None:
    ConvImageEncoder().save_pretrained(tmp_path)
    edit_config(tmp_path, blocks=0)
    with pytest.raises(InputError, match=r"^source: expected .*weights of ConvImageEncoder"):
        load_image_encoder(tmp_path)


def test_wrong_images_are_named() -> None:
    encoder = ConvImageEncoder(**SMALL)
    for shape in ((3, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(InputError, match=r"^images: expected shape \(B, 3, H, W\), got"):
            encoder.encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"widths": ()}, "widths"), ({"widths": (8, 12)}, "widths"), ({"downscale": 2}, "downscale"), ({"downscale": 12}, "downscale")],
)
def test_sizes_that_do_not_fit_are_named(settings: dict[str, object], name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: expected"):
        ConvImageEncoder(**settings)  # type: ignore[arg-type]


def test_unknown_sources(sd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^source: expected one of FrozenImageEncoder, .*got UNet2DConditionModel"):
        load_image_encoder(sd_folder / "unet")
    with pytest.raises(InputError, match=r"^source: expected an existing folder or a Hub id"):
        load_image_encoder(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"^vae_class: expected one of AutoencoderKL"):
        FrozenImageEncoder(vae_class="VQModel", vae_config={})
