from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import build_tiny

from ldmseg.config import validate_config
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.options import InferenceOptions, Thresholds
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.loop import train
from ldmseg.training.plan import plan
from ldmseg.training.stages.diffusion import DiffusionStage

OWN = {"image_size": 48, "id_policy": "spatial"}
OPTIONS = InferenceOptions(
    num_inference_steps=7,
    sampler="renoise",
    thresholds=Thresholds(0.1, 3, 0.2, 0.3),
    boundaries="drawn",
    ensemble_size=2,
    tile_size=0.5,
    min_component_area=11,
    ensemble_flips="both",
)
SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "beta_start": 0.001, "beta_end": 0.02, "prediction_type": "v_prediction"}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A pipeline none of whose settings is a default."""
    pipe = build_tiny()
    pipe.register_modules(scheduler=NoiseSchedule(**SCHEDULE))
    pipe.register_to_config(**OWN, inference=OPTIONS.to_dict())
    pipe.mask_autoencoder.register_to_config(scaling_factor=0.6, latent_scale=0.2)
    pipe.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def fine_tuning(start: Path, **settings: Any) -> Any:
    values = {
        "stage": "diffusion",
        "init": str(start),
        "data": {"train": "scenes:4", "val": "scenes:2:val"},
        "optim": {"batch_size": 2, "steps": 1, "precision": "fp32"},
        "validation": {"samples": 0, "limit": 1},
    }
    return validate_config(values | settings)


@pytest.mark.slow
def test_a_fine_tuned_pipeline_has_the_settings_of_the_one_it_began_with(start: Path, tmp_path: Path) -> None:
    stage = DiffusionStage(fine_tuning(start))
    pipe = LDMSegPipeline.from_pretrained(train(stage, stage.config, tmp_path / "run"))
    assert {key: pipe.config[key] for key in OWN} == OWN
    assert pipe.options == OPTIONS
    assert {key: pipe.scheduler.config[key] for key in SCHEDULE} == SCHEDULE
    assert stage.schedule.config["prediction_type"] == "v_prediction"  # what it is trained with
    assert stage.load_sample(0).ids.shape == (48, 48)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["schedule"] == SCHEDULE and written["data"]["size"] == 48 and written["inference"]["min_component_area"] == 11
    # the resolved configuration is one that `--config` takes, and says the same
    assert DiffusionStage(validate_config(written)).config.model_dump() == stage.config.model_dump()


@pytest.mark.slow
def test_latents_are_not_scaled_again(start: Path) -> None:
    for settings in ({}, {"latent_scale": 0.2}):
        autoencoder = DiffusionStage(fine_tuning(start, **settings)).autoencoder
        assert (autoencoder.config["scaling_factor"], autoencoder.config["latent_scale"]) == (0.6, 0.2)
    named = DiffusionStage(fine_tuning(start, autoencoder=str(start), latent_scale=0.2))
    assert named.autoencoder.config["scaling_factor"] == 0.6


def test_another_autoencoder_gets_the_scale_that_the_denoiser_knows(start: Path, tmp_path: Path) -> None:
    build_tiny().mask_autoencoder.save_pretrained(tmp_path / "other")
    config = DiffusionStage(fine_tuning(start, autoencoder=str(tmp_path / "other"))).autoencoder.config
    assert (config["scaling_factor"], config["latent_scale"]) == (0.2, 0.2)


def test_a_scale_in_an_autoencoder_is_replaced_where_stage_two_begins_anew(start: Path) -> None:
    fresh = {"denoiser": {"source": "tiny"}, "image_encoder": {"latent_channels": 8, "widths": [8, 8]}}
    settings = {"init": None, "autoencoder": str(start), **fresh}
    assert DiffusionStage(fine_tuning(start, **settings, latent_scale=0.2)).autoencoder.config["scaling_factor"] == 0.6
    assert DiffusionStage(fine_tuning(start, **settings)).autoencoder.config["scaling_factor"] == pytest.approx(3.0)


def test_what_is_free_can_be_set(start: Path) -> None:
    inference = {"num_inference_steps": 3, "min_component_area": None}
    settings = {"data": {"train": "scenes:4", "val": "scenes:2:val", "size": 32}, "inference": inference}
    pipe = DiffusionStage(fine_tuning(start, **settings)).pipeline()
    assert pipe.config["image_size"] == 32
    assert pipe.options == replace(OPTIONS, num_inference_steps=3, min_component_area=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": {"prediction_type": "epsilon"}}, "schedule.prediction_type: expected v_prediction, which .*, got epsilon"),
        ({"schedule": {"beta_end": 0.012}}, "schedule.beta_end: expected 0.02, .*, got 0.012"),
        ({"id_policy": "random"}, "id_policy: expected spatial, .*, got random"),
        ({"latent_scale": 1.0}, "latent_scale: expected 0.2, .*, got 1.0"),
        ({"denoiser": {"partial": False}}, r"denoiser.partial: expected true, .*\(or leave it out\), got false"),
    ],
)
def test_what_the_networks_were_not_trained_with_is_refused(start: Path, settings: dict[str, Any], message: str) -> None:
    for attempt in (DiffusionStage, plan):
        with pytest.raises(InputError, match=message):
            attempt(fine_tuning(start, **settings))


@pytest.mark.slow
def test_a_cache_needs_no_word_on_ids_that_the_pipeline_has(start: Path) -> None:
    assert DiffusionStage(fine_tuning(start, cache=True)).config.id_policy == "spatial"
    pipe = LDMSegPipeline.from_pretrained(start)
    pipe.register_to_config(id_policy="random")
    pipe.save_pretrained(start)
    with pytest.raises(InputError, match="cache: expected false with id_policy random"):
        DiffusionStage(fine_tuning(start, cache=True))


@pytest.mark.slow
def test_a_dry_run_shows_the_inherited_settings(start: Path) -> None:
    found = plan(fine_tuning(start))
    assert found.config.model_dump()["schedule"] == SCHEDULE
    assert found.parts == plan(found.config).parts  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_frozen_time_embedding_is_frozen_in_a_model_that_goes_on_too(start: Path) -> None:
    for frozen in (False, True):
        stage = DiffusionStage(fine_tuning(start, denoiser={"freeze_time": frozen}))
        learns = {p.requires_grad for p in stage.denoiser.time_embedding.parameters()}
        assert learns == {not frozen}
