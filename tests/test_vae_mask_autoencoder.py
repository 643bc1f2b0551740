from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from sd_folder import edit_config, make_sd_folder, rename
from tiny import build_tiny

from ldmseg import LDMSegPipeline, VaeMaskAutoencoder
from ldmseg.codes import code_channels
from ldmseg.config import load_config, validate_config
from ldmseg.errors import InputError
from ldmseg.models.image_encoder import SD_V1_VAE
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.training.stages.autoencoder import AutoencoderStage

NUM_IDS = 16


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd_folder(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(sd_folder: Path, code: str = "bits") -> VaeMaskAutoencoder:
    return VaeMaskAutoencoder.from_vae(sd_folder, NUM_IDS, code).eval()  # type: ignore[arg-type]


def random_ids(height: int = 24, width: int = 16, count: int = 2) -> torch.Tensor:
    return torch.randint(NUM_IDS, (count, height, width), generator=torch.Generator().manual_seed(0))


def run_config(sd_folder: Path, **optim: object) -> dict:
    return {
        "stage": "autoencoder",
        "data": {"train": "scenes:6", "val": "scenes:2:val", "size": 32},
        "model": {"source": str(sd_folder), "num_ids": NUM_IDS},
        "loss": {"points": 64},
        "optim": {"batch_size": 2, "precision": "fp32", **optim},
    }


@pytest.mark.slow
@torch.no_grad()
def test_it_is_the_vae_between_two_other_convolutions(sd_folder: Path) -> None:
    model, vae = small(sd_folder), AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    own, given = model.encoder[0].state_dict(), vae.encoder.state_dict()
    assert {key for key in own if key not in given or not torch.equal(own[key], given[key])} == {"conv_in.weight", "conv_in.bias"}
    codes = torch.randn(2, code_channels(NUM_IDS), 16, 16)
    vae.encoder.conv_in, vae.decoder.conv_out = model.encoder[0].conv_in, model.decoder[1].conv_out
    posterior = vae.encode(codes).latent_dist
    moments = model.moments(codes)
    torch.testing.assert_close(moments.mean, posterior.mean)
    torch.testing.assert_close(moments.log_variance, posterior.logvar)
    torch.testing.assert_close(model.coarse_logits(moments.mean), vae.decode(moments.mean).sample)


@torch.no_grad()
@pytest.mark.parametrize("code", ["bits", "one-hot", "color", "positional"])
def test_the_interface_is_the_shallow_autoencoders(sd_folder: Path, code: str) -> None:
    model = small(sd_folder, code)
    assert isinstance(model, MaskAutoencoder) and model.downscale == 8
    model.register_to_config(scaling_factor=0.5)
    latents = model.encode(random_ids(21, 16))
    assert latents.shape == (2, 4, 3, 2)  # padded to a multiple of 8
    logits = model.decode(latents)
    assert logits.shape == (2, NUM_IDS, 24, 16)
    torch.testing.assert_close(logits, model.coarse_logits(latents / 0.5))  # already at full resolution
    with pytest.raises(InputError, match=r"^latents: expected \(B, 4, h, w\)"):
        model.decode(latents[:, :3])


@pytest.mark.slow
@torch.no_grad()
def test_saved_loaded_and_in_a_pipeline(sd_folder: Path, tmp_path: Path) -> None:
    model, ids = small(sd_folder), random_ids()
    model.save_pretrained(tmp_path / "alone")
    again = load_mask_autoencoder(tmp_path / "alone")
    assert type(again) is VaeMaskAutoencoder
    torch.testing.assert_close(again.encode(ids), model.encode(ids))
    tiny = build_tiny()
    parts = {"image_encoder": tiny.image_encoder, "unet": tiny.unet, "scheduler": tiny.scheduler}
    made = LDMSegPipeline(mask_autoencoder=model, **parts, image_size=32, inference={"num_inference_steps": 1})
    made.save_pretrained(tmp_path / "pipeline")
    pipe = LDMSegPipeline.from_pretrained(tmp_path / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.mask_autoencoder) is VaeMaskAutoencoder and type(load_mask_autoencoder(tmp_path / "pipeline")) is VaeMaskAutoencoder
    assert pipe(np.zeros((20, 30, 3), np.uint8)).maps[0].shape == (20, 30)


@pytest.mark.slow
def test_sources_that_do_not_fit(sd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^source: expected AutoencoderKL in .*unet, got UNet2DConditionModel"):
        VaeMaskAutoencoder.from_vae(sd_folder / "unet", NUM_IDS)
    with pytest.raises(InputError, match=r"^latent_channels: expected 4, as the autoencoder has, got 8"):
        VaeMaskAutoencoder.from_vae(sd_folder, NUM_IDS, latent_channels=8)
    vae = make_sd_folder(tmp_path) / "vae"
    rename(vae, lambda key: None if key.startswith("decoder.conv_norm_out.w") else key)
    with pytest.raises(InputError, match=r"1 missing keys: decoder\.conv_norm_out\.weight$"):
        VaeMaskAutoencoder.from_vae(tmp_path, NUM_IDS)
    edit_config(vae, use_quant_conv=False, use_post_quant_conv=False)
    rename(vae, lambda key: None if "quant_conv" in key else key)
    with pytest.raises(InputError, match="got"):
        VaeMaskAutoencoder.from_vae(tmp_path, NUM_IDS)
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "Other"}')
    with pytest.raises(InputError, match=r"expected one of MaskAutoencoder, VaeMaskAutoencoder .*got Other"):
        load_mask_autoencoder(tmp_path / "vae")
    with pytest.raises(InputError, match=r"model: decoder_width: expected none beside a source, .* got 64"):
        load_config("coco-autoencoder", ["model.source=somewhere", "model.decoder_width=64"])


@pytest.mark.slow
def test_stage_1_fine_tunes_it(sd_folder: Path, tmp_path: Path) -> None:
    stage = AutoencoderStage(validate_config(run_config(sd_folder)))  # type: ignore[arg-type]
    again = AutoencoderStage(validate_config(run_config(sd_folder)))  # type: ignore[arg-type]
    assert torch.equal(stage.model.encoder[0].conv_in.weight, again.model.encoder[0].conv_in.weight)  # fresh layers follow the seed
    batch = stage.collate([stage.load_sample(n) for n in range(2)])
    stage(batch)["loss"].backward()
    idle = {name for name, p in stage.model.named_parameters() if p.grad is None or not p.grad.any()}
    # a moment's log-variance has no gradient without a KL term, and a shift before a softmax over keys none at all
    assert not {name for name in idle if not name.endswith("to_k.bias")}, idle
    stage.export(tmp_path)
    assert type(load_mask_autoencoder(tmp_path)) is VaeMaskAutoencoder


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_gradient(sd_folder: Path) -> None:
    gradients = []
    for saving in (False, True):
        stage = AutoencoderStage(validate_config(run_config(sd_folder, gradient_checkpointing=saving))).train()  # type: ignore[arg-type]
        assert stage.model.is_gradient_checkpointing is saving
        stage(stage.collate([stage.load_sample(n) for n in range(2)]))["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in stage.model.parameters()]))  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_the_shallow_one_has_nothing_to_checkpoint() -> None:
    values = run_config(Path(), gradient_checkpointing=True) | {"model": {"num_ids": NUM_IDS}}
    with pytest.raises(InputError, match=r"^optim.gradient_checkpointing: expected false for a MaskAutoencoder"):
        AutoencoderStage(validate_config(values))  # type: ignore[arg-type]


def test_stable_diffusions_has_84_million_parameters() -> None:
    with torch.device("meta"):
        model = VaeMaskAutoencoder({"latent_channels": 4, **SD_V1_VAE})
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 84
