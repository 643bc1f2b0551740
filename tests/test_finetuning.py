from __future__ import annotations

from pathlib import Path

import pytest
import torch
from coco_set import make_coco_set
from tiny import build_tiny, tiny_pipeline

from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.diffusion import DiffusionStage

QUICK = ["data.size=32", "optim.steps=2", "optim.batch_size=2", "optim.warmup=0", "optim.precision=fp32", "inference.num_inference_steps=2"]
TINY = ["model.num_ids=16", "model.decoder_width=16", "model.norm_groups=8", "model.latent_channels=4", "loss.points=32", "augment.crop=24"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A data set of one's own, as overrides."""
    data = make_coco_set(tmp_path_factory.mktemp("own") / "data", count=4)
    return [f"data.train={data}", f"data.val={data}"]


def _moved(before: torch.nn.Module, after: torch.nn.Module) -> bool:
    pairs = zip(before.state_dict().values(), after.state_dict().values(), strict=True)
    return not all(torch.equal(mine, other) for mine, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["finetune", "nuclei"])
def test_a_model_goes_on_with_ones_own_photos(preset: str, own: list[str], tmp_path: Path) -> None:
    start = tiny_pipeline(tmp_path / "start")
    config = load_config(preset, [*own, *QUICK, f"init={start}", "validation.samples=1"])
    assert config.data.resize == "crop" and config.data.color.contrast > 0  # few photos: they are varied
    stage = DiffusionStage(config)
    result = LDMSegPipeline.from_pretrained(train(stage, stage.config, tmp_path / "run"))
    before = build_tiny()
    assert _moved(before.unet, result.unet) and _moved(before.image_encoder, result.image_encoder)
    assert not _moved(before.mask_autoencoder, result.mask_autoencoder)
    assert result.config["id_policy"] == before.config["id_policy"]


def test_without_data_of_ones_own_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="data"):
        DiffusionStage(load_config("finetune", [f"init={tiny_pipeline(tmp_path / 'start')}"]))


@pytest.mark.slow
def test_a_better_decoder_takes_the_place_of_the_models_own(own: list[str], tmp_path: Path) -> None:
    start = tiny_pipeline(tmp_path / "start")
    config = load_config("nuclei-autoencoder", [*own, *QUICK[:-1], f"init={start}", "loss.points=32", "augment.crop=24"])
    better = train(AutoencoderStage(config), config, tmp_path / "stage1")
    stage = DiffusionStage(load_config("nuclei", [*own, *QUICK, f"init={start}", f"autoencoder={better}"]))
    before = build_tiny().mask_autoencoder
    assert _moved(before.decoder, stage.autoencoder.decoder) and not _moved(before.encoder, stage.autoencoder.encoder)
    assert stage.autoencoder.config["scaling_factor"] == before.config["scaling_factor"]


def test_an_autoencoder_with_other_latents_is_refused(own: list[str], tmp_path: Path) -> None:
    start = tiny_pipeline(tmp_path / "start")
    other = MaskAutoencoder(num_ids=16, latent_channels=6, encoder_widths=(8, 8, 8, 16), decoder_width=16, norm_groups=8)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="autoencoder: expected 4 latent channels, as the denoiser has, got 6"):
        DiffusionStage(load_config("nuclei", [*own, *QUICK, f"init={start}", f"autoencoder={tmp_path / 'other'}"]))


@pytest.mark.slow
def test_finer_latents_are_a_setting(own: list[str], tmp_path: Path) -> None:
    """f = 4: one width less in stage 1; stage 2 follows."""
    fresh = ["init=null", "train_part=all", "model.encoder_widths=[8, 8, 16]", *TINY]
    config = load_config("nuclei-autoencoder", [*own, *QUICK[:-1], *fresh])
    autoencoder = train(AutoencoderStage(config), config, tmp_path / "stage1")
    networks = ["init=null", f"autoencoder={autoencoder}", "denoiser.source=tiny", "image_encoder.widths=[8, 16]"]
    config = load_config("nuclei", [*own, *QUICK, *networks])
    pipe = LDMSegPipeline.from_pretrained(train(DiffusionStage(config), config, tmp_path / "stage2"))
    pipe.set_progress_bar_config(disable=True)
    assert pipe.mask_autoencoder.downscale == pipe.image_encoder.downscale == 4
    assert pipe(torch.rand(3, 32, 32), output_type="latent", tile_size=0).maps[0].shape == (4, 8, 8)
    assert (pipe.options.tile_size, pipe.options.min_component_area, pipe.options.ensemble_flips) == (0.25, 40, "both")
