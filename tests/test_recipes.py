"""The paper's recipe: presets with its values, and ablations that are one line each, as the documentation lists them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from sd_folder import make_sd_folder
from tiny import build_tiny

from ldmseg import LDMSegPipeline
from ldmseg.config import load_config, validate_config
from ldmseg.data.datasets import parse_spec
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.training.stages.diffusion import DiffusionStage

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
FAMILIES = ("coco", "cityscapes", "ade20k")


def ablations() -> list[tuple[str, str]]:
    """(preset, override) of every line in the table of ablations."""
    section = PAGE.read_text(encoding="utf-8").split("### Ablations", 1)[1].split("\n## ", 1)[0]
    rows = [row.split("|") for row in section.splitlines() if row.startswith("|") and "--set" in row]
    return [(row[2].strip(" `"), shlex.split(line)[1]) for row in rows for line in re.findall(r"`(--set [^`]+)`", row[3])]


def test_the_papers_values() -> None:
    first, second = load_config("coco-autoencoder"), load_config("coco-diffusion")
    for config in (first, second):
        assert (config.data.size, config.data.resize, config.data.flip) == (512, "square", True)
        assert (config.optim.lr, config.optim.weight_decay, config.optim.decay, config.optim.warmup) == (1e-4, 5e-2, "constant", 0)
        assert 1 <= config.optim.clip <= 3
    assert (first.optim.steps, first.optim.batch_size) == (60_000, 16)
    assert (first.model.num_ids, first.model.code, first.model.latent_channels) == (128, "bits", 4)  # type: ignore[union-attr]
    loss = first.loss
    assert (loss.points, loss.oversample, loss.importance, loss.kl) == (12544, 3, 0.75, 0)  # type: ignore[union-attr]
    assert (second.optim.steps, second.optim.batch_size * 8) == (50_000, 256)
    assert second.denoiser.model_dump() == {  # type: ignore[union-attr]
        "source": "CompVis/stable-diffusion-v1-4",
        "self_condition": True,
        "partial": False,
        "freeze_time": True,
    }
    assert second.image_encoder.source == "CompVis/stable-diffusion-v1-4"  # type: ignore[union-attr]
    assert second.schedule.model_dump() == {  # type: ignore[union-attr]
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "epsilon",
    }
    assert (second.loss.weight, second.latent_scale, second.id_policy) == ("decay", 0.18215, "random")  # type: ignore[union-attr]
    protocol = {"probability": 0.5, "min_area": 512, "overlap": 0.5, "support": 0.0}  # section 4.1
    expected = {"num_inference_steps": 50, "sampler": "ddim", "boundaries": "drawn", "thresholds": protocol}
    assert second.inference == expected  # type: ignore[union-attr]
    assert second.descriptors.kind is None  # type: ignore[union-attr]
    with torch.device("meta"):
        assert sum(p.numel() for p in MaskAutoencoder(**first.model.model_dump(exclude={"source"})).parameters()) == 2_023_208  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stages_of_a_family_belong_together(family: str) -> None:
    first, second = load_config(f"{family}-autoencoder"), load_config(f"{family}-diffusion")
    assert second.autoencoder == f"runs/{family}-autoencoder/pipeline"  # type: ignore[union-attr]  # where stage 1 puts it by default
    assert first.data.model_dump() == second.data.model_dump()
    for spec, split in ((first.data.train, "train"), (first.data.val, "val")):
        parsed = parse_spec(spec)
        assert parsed.kind == {"coco": "coco-panoptic"}.get(family, family) and str(parsed.root) == family
        assert (parsed.split or "").startswith(split)


def test_every_question_has_its_lines() -> None:
    keys = {override.partition("=")[0] for _, override in ablations()}
    wanted = {"model.code", "loss.kl", "model.source", "latent_scale", "loss.weight", "descriptors.kind", "denoiser.self_condition"}
    assert wanted <= keys and len(ablations()) >= 20


@pytest.mark.parametrize(("preset", "override"), ablations())
def test_an_ablation_is_one_line(preset: str, override: str) -> None:
    before, after = load_config(preset).model_dump(), load_config(preset, [override]).model_dump()
    changed = [".".join(path) for path in differences(before, after)]
    assert changed == [override.partition("=")[0]]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key in old:
        if isinstance(old[key], dict):
            found += [(key, *rest) for rest in differences(old[key], new[key])]
        elif old[key] != new[key]:
            found.append((key,))
    return found


# ------------------------------------------------------------------------------------------------------------ scale, memory, limits
def tiny_config(folder: Path, **settings: Any) -> Any:
    if not (folder / "autoencoder").exists():
        build_tiny().mask_autoencoder.save_pretrained(folder / "autoencoder")
    values = {
        "stage": "diffusion",
        "data": {"train": "scenes:6", "val": "scenes:5:val", "size": 32},
        "autoencoder": str(folder / "autoencoder"),
        "denoiser": {"source": "tiny", "partial": False},
        "image_encoder": {"latent_channels": 8, "widths": [8, 8]},
        "optim": {"batch_size": 2, "precision": "fp32"},
        "validation": {"samples": 0},
        "inference": {"num_inference_steps": 1},
    }
    return validate_config(values | settings)


@pytest.mark.slow
def test_latents_are_scaled_before_noise_and_the_pipeline_keeps_the_scale(tmp_path: Path) -> None:
    plain, scaled = DiffusionStage(tiny_config(tmp_path)), DiffusionStage(tiny_config(tmp_path, latent_scale=0.25))
    batch = plain.collate([plain.load_sample(n) for n in range(2)])
    torch.testing.assert_close(scaled._target(batch).latents, 0.25 * plain._target(batch).latents)
    scaled.export(tmp_path / "pipeline")
    pipe = LDMSegPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe.mask_autoencoder.config["scaling_factor"] == 0.25
    with torch.no_grad():
        latents = pipe.mask_autoencoder.encode(batch.ids)
        torch.testing.assert_close(pipe.mask_autoencoder.decode(latents), plain.autoencoder.decode(plain.autoencoder.encode(batch.ids)))
    # of a mask autoencoder with a scale of its own, the product
    plain.autoencoder.register_to_config(scaling_factor=3.0)
    plain.autoencoder.save_pretrained(tmp_path / "autoencoder")
    assert DiffusionStage(tiny_config(tmp_path, latent_scale=0.5)).autoencoder.config["scaling_factor"] == 1.5


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    make_sd_folder(tmp_path / "sd")
    gradients = []
    for saving in (False, True):
        optim = {"batch_size": 2, "precision": "fp32", "gradient_checkpointing": saving}
        config = tiny_config(tmp_path, optim=optim, denoiser={"source": str(tmp_path / "sd"), "partial": False, "freeze_time": True})
        stage = DiffusionStage(config).train()
        assert stage.denoiser.is_gradient_checkpointing is saving
        stage(stage.collate([stage.load_sample(n) for n in range(2)]))["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in stage.denoiser.parameters() if p.requires_grad]))  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_validation_stops_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = DiffusionStage(tiny_config(tmp_path, validation={"samples": 0, "limit": 3}))
    asked: list[int] = []
    real = type(stage.val_data).image
    monkeypatch.setattr(type(stage.val_data), "image", lambda self, index: asked.append(index) or real(self, index))
    stage.eval().validate()
    assert sorted(set(asked)) == [0, 1, 2]
