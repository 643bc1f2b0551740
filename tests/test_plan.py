from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clip_folder import make_clip_folder
from sd_folder import make_sd_folder
from tiny import build_tiny
from torch import nn

from ldmseg.config import load_config, validate_config
from ldmseg.errors import InputError
from ldmseg.models.descriptors import ClipImageDescriptor, ClipTextDescriptor
from ldmseg.models.image_encoder import load_image_encoder
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.training import plan as module
from ldmseg.training.memory import peak_of
from ldmseg.training.plan import Plan, plan
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.diffusion import DiffusionStage

FLOAT = 4
DATA = {"train": "scenes:6", "val": "scenes:2:val", "size": 32}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small Stable Diffusion, CLIP, a mask autoencoder for each of the two, and a whole pipeline."""
    folder = tmp_path_factory.mktemp("sources")
    make_sd_folder(folder / "sd")
    make_clip_folder(folder / "clip")
    build_tiny().save_pretrained(folder / "pipeline")
    return folder


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of weights is read, and nothing goes to the Hub."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"weights or the network were asked for: {args}")

    for name in ("diffusers.models.modeling_utils.load_state_dict", "socket.socket.connect", "safetensors.torch.load_file"):
        monkeypatch.setattr(name, refuse)


def diffusion_config(sources: Path, **settings: Any) -> Any:
    values = {
        "stage": "diffusion",
        "data": DATA,
        "autoencoder": str(sources / "pipeline"),
        "denoiser": {"source": "tiny", "partial": False},
        "image_encoder": {"latent_channels": 8, "widths": [8, 8]},
        "optim": {"batch_size": 2, "precision": "fp32"},
    }
    return validate_config(values | settings)


def counts(stage: nn.Module) -> dict[str, tuple[int, int]]:
    return {
        name: (sum(p.numel() for p in part.parameters()), sum(p.numel() for p in part.parameters() if p.requires_grad))
        for name, part in stage.named_children()
    }


def planned(found: Plan) -> dict[str, tuple[int, int]]:
    return {part.name: (part.parameters, part.trained) for part in found.parts}


def from_sd(sources: Path, **settings: Any) -> Any:
    sd = {"source": str(sources / "sd")}
    return diffusion_config(sources, denoiser=sd | {"partial": True, "freeze_time": True}, image_encoder=sd, **settings)


# -------------------------------------------------------------------------------------------------------------- as the run itself
@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        diffusion_config,
        from_sd,
        pytest.param(
            lambda folder: from_sd(folder, descriptors={"kind": "clip-image", "source": str(folder / "clip"), "patches": True}),
            marks=pytest.mark.slow,
        ),
        lambda folder: diffusion_config(folder, descriptors={"kind": "learned", "width": 10}),
        lambda folder: diffusion_config(folder, init=str(folder / "pipeline"), denoiser={}),
        lambda folder: diffusion_config(folder, optim={"batch_size": 2, "gradient_checkpointing": True}),
    ],
)
def test_the_plan_of_stage_2_counts_what_is_built(sources: Path, build: Any) -> None:
    config = build(sources)
    found = plan(config)
    assert planned(found) == counts(DiffusionStage(config))
    assert found.samples == 6 and found.memory.activations is not None and found.memory.activations > 0
    assert not [note for note in found.notes if "counted as" in note]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"train_part": "decoder", "init": "default"}, {"model": {"source": "sd", "num_ids": 16}}])
def test_the_plan_of_stage_1_counts_what_is_built(sources: Path, settings: dict[str, Any]) -> None:
    if "model" in settings:
        settings = {"model": settings["model"] | {"source": str(sources / "sd")}}
    config: Any = validate_config({"stage": "autoencoder", "data": DATA, "optim": {"batch_size": 2, "precision": "fp32"}, **settings})
    found = plan(config)
    assert planned(found) == counts(AutoencoderStage(config))


@pytest.mark.slow
def test_a_plan_reads_no_weights(sources: Path, no_weights: None) -> None:
    assert sum(part.parameters for part in plan(from_sd(sources)).parts) > 0
    with pytest.raises(InputError, match="weights or the network were asked for"):
        load_image_encoder(sources / "sd")  # the trap works


def test_shapes_only_reads_what_it_has_to(sources: Path) -> None:
    with torch.device("meta"):
        text = ClipTextDescriptor.from_clip(str(sources / "clip"), 16)
        image = ClipImageDescriptor.from_clip(str(sources / "clip"), 16)
        autoencoder = load_mask_autoencoder(sources / "pipeline")
    assert {p.device.type for m in (text, image, autoencoder) for p in m.parameters()} == {"meta"}
    assert text.length == 7 and image.length == 1 and autoencoder.downscale == 8


# -------------------------------------------------------------------------------------------------------------------- the paper's
@pytest.mark.parametrize(
    ("name", "overrides", "expected", "trained"),
    [
        ("coco-autoencoder", [], {"model": 2_023_208}, 2_023_208),
        (
            "coco-autoencoder",
            ["model.source=CompVis/stable-diffusion-v1-4"],
            {"model": 83_653_863 + (7 - 3) * 128 * 9 + (128 - 3) * (128 * 9 + 1)},
            None,
        ),
        (
            "coco-diffusion",
            [],
            {"autoencoder": 2_023_208, "image_encoder": 34_163_664, "denoiser": 815_556_484},
            815_556_484 - 2_050_560,  # the frozen time embedding
        ),
    ],
)
def test_the_papers_presets_are_planned_without_weights_data_or_a_network(
    name: str, overrides: list[str], expected: dict[str, int], trained: int | None, no_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "peak_of", lambda *_, **__: 10**12)  # minutes saved; it has tests of its own
    found = plan(load_config(name, overrides))  # type: ignore[arg-type]
    assert {part.name: part.parameters for part in found.parts} == expected
    assert trained is None or sum(part.trained for part in found.parts) == trained
    assert found.samples is None and "data.train: 'coco' is not on this machine" in found.notes
    keys = {note.split(":")[0] for note in found.notes if "counted as" in note}
    wanted = (
        {"autoencoder", "image_encoder.source", "denoiser.source"} if name == "coco-diffusion" else {"model.source"} if overrides else set()
    )
    assert keys == wanted


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "millions"), [("clip-image", 303), ("clip-text", 123)])
def test_clip_is_counted_where_it_is_not_there(kind: str, millions: int, no_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peak_of", lambda *_, **__: 10**12)
    overrides = [f"descriptors.kind={kind}", *(["descriptors.captions=[captions.json]"] if kind == "clip-text" else [])]
    found = {part.name: part for part in plan(load_config("coco-diffusion", overrides)).parts}  # type: ignore[arg-type]
    assert found["denoiser"].parameters == 859_520_964 + 8 * 320 * 9
    assert found["descriptor"].parameters // 10**6 == millions and found["descriptor"].trained == 0


def test_what_is_wrong_everywhere_is_an_error(sources: Path) -> None:
    for settings, message in (
        ({"denoiser": {"source": "/no/such/folder"}}, "^source: expected one of"),
        ({"data": DATA | {"train": "nothing:folder"}}, "^data: expected FORMAT"),
        ({"image_encoder": {"widths": [8, 9]}}, "^widths: "),
        ({"inference": {"guidance_scale": 2.0}}, "^guidance_scale: expected 1"),
        ({"autoencoder": str(sources / "sd")}, "^autoencoder: expected a mask autoencoder"),
    ):
        with pytest.raises(InputError, match=message):
            plan(diffusion_config(sources, **settings))


# ------------------------------------------------------------------------------------------------------------------------- memory
def test_the_peak_of_three_exponentials() -> None:
    """Each keeps its result for the way back, where at first the third's gradient joins the three results."""
    n = 10_000
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.empty(n, device="meta"))

    def step() -> torch.Tensor:
        return holder.weight.exp().exp().exp().sum()

    peak = peak_of([holder], step, narrow=False)
    assert 4 * n * FLOAT <= peak <= 4 * n * FLOAT + 64  # and some scalars


@pytest.mark.slow  # five steps
def test_the_peak_follows_batch_precision_and_checkpointing(sources: Path) -> None:
    def activations(build: Any = diffusion_config, **optim: Any) -> int:
        return plan(build(sources, optim={"batch_size": 8, "precision": "fp32", **optim})).memory.activations or 0

    base = activations(batch_size=512)
    assert activations(batch_size=1024) > 1.9 * base
    assert activations(batch_size=512, precision="bf16") < 0.9 * base
    assert activations(from_sd, gradient_checkpointing=True) < 0.9 * activations(from_sd)


@pytest.mark.slow
def test_the_sum_is_told_per_process(sources: Path) -> None:
    config = diffusion_config(sources)
    one, two = plan(config).memory, plan(config, processes=2).memory
    trained = sum(part.trained for part in plan(config).parts) * FLOAT
    assert (one.gradients, one.optimizer, one.average) == (trained, 2 * trained, trained)
    assert two.gradients == 2 * one.gradients and two.total == one.total + trained
    assert one.total == one.weights + 4 * trained + (one.activations or 0)
    pieces = plan(diffusion_config(sources, optim={"batch_size": 2, "accumulate": 2, "precision": "fp32"})).memory
    assert pieces.activations == (one.activations or 0) + trained  # earlier pieces' gradients are there beside the peak's own


def test_a_plan_survives_a_torch_that_cannot_run_without_values(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise NotImplementedError

    monkeypatch.setattr(module, "peak_of", fail)
    found = plan(diffusion_config(sources))
    assert found.memory.activations is None and "activations could not be estimated (NotImplementedError)" in found.notes
    assert found.memory.total == found.memory.weights + found.memory.gradients + found.memory.optimizer + found.memory.average
