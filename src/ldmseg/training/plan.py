"""What a run will need, computed before it starts and without its weights: parameters, memory, steps per epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from ldmseg.codes import code_channels
from ldmseg.config import AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig, RunConfig
from ldmseg.data.datasets import load_dataset, parse_spec
from ldmseg.errors import InputError
from ldmseg.models.denoiser import Condition
from ldmseg.models.descriptors import CLIP_TEXT, CLIP_VISION, ClipImageDescriptor, ClipTextDescriptor, Descriptor
from ldmseg.models.image_encoder import SD_V1_VAE, FrozenImageEncoder
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.pretrained import is_hub_id
from ldmseg.models.vae_mask_autoencoder import VaeMaskAutoencoder
from ldmseg.training import networks as build
from ldmseg.training.memory import FLOAT, Memory, peak_of
from ldmseg.training.precision import resolve_precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One network: its name in the stage, all of its parameters, and those that are trained."""

    name: str
    parameters: int
    trained: int


@dataclass(frozen=True)
class Plan:
    """What `plan` found out.

    Attributes:
        config: the one given, with the settings of a pipeline that is its `init` where they were left open.
        memory: of one process for `optim.batch_size` samples.
        precision: of the run on this machine: `fp32`, `bf16` or `fp16`.
        samples: of `data.train`; None where it is not on this machine.
        notes: what was not there, and what was used instead.
    """

    config: RunConfig
    parts: tuple[Part, ...]
    memory: Memory
    precision: str
    samples: int | None
    notes: tuple[str, ...]


@dataclass
class _Run:
    """The networks of a run by their names in the stage, and a step with them."""

    config: RunConfig
    networks: dict[str, nn.Module]
    step: Callable[[], Tensor]
    notes: list[str] = field(default_factory=list)


def plan(config: AutoencoderRunConfig | DiffusionRunConfig | ClassifierRunConfig, processes: int = 1) -> Plan:
    """Build the networks without weights and run a step without values; nothing is downloaded, written or trained.

    Where a Hub id is not on this machine, Stable Diffusion v1's (or CLIP's) sizes are counted; where stage 1 has not been trained yet, the
    paper's mask autoencoder; a data set that is not there leaves `samples` open. `notes` names both.

    Raises:
        InputError: the configuration cannot be run, here or anywhere.
    """
    if isinstance(config, ClassifierRunConfig):
        run = _classifier_run(config)
    else:
        run = _autoencoder_run(config) if isinstance(config, AutoencoderRunConfig) else _diffusion_run(config)
    samples = _samples(run.config, run.notes)
    precision = {"no": "fp32"}.get(kind := resolve_precision(config.optim.precision), kind)
    parts = tuple(_part(name, network) for name, network in run.networks.items())
    return Plan(run.config, parts, _memory(run, parts, config, precision, processes), precision, samples, tuple(run.notes))


def _part(name: str, network: nn.Module) -> Part:
    counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return Part(name, sum(count for count, _ in counts), sum(count for count, trained in counts if trained))


def _memory(run: _Run, parts: tuple[Part, ...], config: RunConfig, precision: str, processes: int) -> Memory:
    weights, trained = sum(p.parameters for p in parts) * FLOAT, sum(p.trained for p in parts) * FLOAT
    gradients = trained * (2 if processes > 1 else 1)
    activations: int | None
    try:
        activations = peak_of(run.networks.values(), run.step, narrow=precision != "fp32")
        if config.optim.accumulate == 1:
            activations = max(0, activations - trained)  # the peak's own gradients; those of earlier pieces are there beside it
    except Exception as error:  # torch may not support tensors without values here; the plan then lacks this line
        logger.debug("no step without values", exc_info=True)
        run.notes.append(f"activations could not be estimated ({type(error).__name__})")
        activations = None
    return Memory(weights, gradients, 2 * trained, trained, activations)


def _samples(config: RunConfig, notes: list[str]) -> int | None:
    counts: list[int | None] = []
    train = config.data.train
    sets = [train] if isinstance(train, str) else [one.data for one in train]
    for key, spec in (*(("data.train", spec) for spec in sets), ("data.val", config.data.val)):
        parsed = parse_spec(spec)
        if parsed.kind != "scenes" and not parsed.root.exists():
            notes.append(f"{key}: {str(parsed.root)!r} is not on this machine")
            counts.append(None)
        else:
            counts.append(len(load_dataset(spec, size=config.data.size, segments=config.data.scene_segments)))
    known = [count for count in counts[: len(sets)] if count is not None]
    return sum(known) if len(known) == len(sets) else None


# ---------------------------------------------------------------------------------------------------------------------- the stages
def _autoencoder_run(config: AutoencoderRunConfig) -> _Run:
    notes: list[str] = []
    settings = config.model

    def sd_v1() -> MaskAutoencoder:
        model = VaeMaskAutoencoder(_vae_config(), settings.num_ids, settings.code, settings.latent_channels)
        if config.optim.gradient_checkpointing:
            model.enable_gradient_checkpointing()
        return model

    with torch.device("meta"):
        source = config.init or settings.source
        model = _or_else(lambda: build.mask_autoencoder(config), sd_v1, "model.source", source if config.init is None else None, notes)
    size = config.augment.crop or config.data.size

    def step() -> Tensor:
        codes = torch.zeros(config.optim.batch_size, code_channels(model.config["num_ids"], model.config["code"]), size, size)
        return model.coarse_logits(model.moments(codes).mean).float().square().mean()

    notes.append("the losses on points take some memory more")
    return _Run(config, {"model": model}, step, notes)


def _diffusion_run(config: DiffusionRunConfig) -> _Run:
    notes: list[str] = []
    start = _with_init(config) if config.init is not None else build.Beginning(_from_sources(config, notes), config)
    parts, config = start.networks, start.config
    batch, size = config.optim.batch_size, config.data.size
    autoencoder, encoder, denoiser, descriptor = parts.autoencoder, parts.image_encoder, parts.denoiser, parts.descriptor
    cells = -(-size // autoencoder.downscale)
    if config.data.latents is not None:
        notes.append("data.latents is compared with the image encoder when training begins")

    def step() -> Tensor:
        with torch.no_grad():
            autoencoder.moments(torch.zeros(batch, code_channels(autoencoder.config["num_ids"], autoencoder.config["code"]), size, size))
        image = torch.zeros(batch, encoder.latent_channels, cells, cells)
        if config.data.latents is None:
            image = encoder.encode(torch.zeros(batch, 3, size * encoder.input_scale, size * encoder.input_scale))
        x = torch.zeros(batch, autoencoder.config["latent_channels"], cells, cells)
        condition = Condition(image, tokens=_tokens(descriptor, batch, size))
        return denoiser(x, torch.zeros(batch, dtype=torch.long), condition=condition, estimate=x).float().square().mean()

    networks: dict[str, Any] = {"autoencoder": autoencoder, "image_encoder": encoder, "denoiser": denoiser, "descriptor": descriptor}
    networks["classifier"] = parts.classifier
    return _Run(config, {name: network for name, network in networks.items() if network is not None}, step, notes)


def _classifier_run(config: ClassifierRunConfig) -> _Run:
    begun = build.begin_classifier(config)
    encoder, classifier, config = begun.pipeline.image_encoder.to("meta"), begun.classifier.to("meta"), begun.config  # type: ignore[arg-type]  # diffusers wraps `to`

    def step() -> Tensor:
        side = config.data.size * encoder.input_scale
        return classifier.of_photos(encoder, torch.zeros(config.optim.batch_size, 3, side, side)).float().square().mean()

    return _Run(config, {"image_encoder": encoder, "classifier": classifier}, step)


def _tokens(descriptor: Descriptor | None, batch: int, size: int) -> Tensor | None:
    if descriptor is None:
        return None
    if descriptor.sees == "caption":  # needs captions, and next to no memory
        return torch.zeros(batch, descriptor.length, descriptor.width)
    return descriptor(batch, torch.zeros(batch, 3, size, size), tasks=descriptor.tasks[:1] * batch)


def _with_init(config: DiffusionRunConfig) -> build.Beginning:
    start = build.begin_diffusion(config)
    for network in vars(start.networks).values():
        if network is not None:
            network.to("meta")
    return start


def _from_sources(config: DiffusionRunConfig, notes: list[str]) -> build.Networks:
    settings = config.descriptors
    with torch.device("meta"):
        autoencoder = _or_else(lambda: load_mask_autoencoder(config.autoencoder), MaskAutoencoder, "autoencoder", config.autoencoder, notes)
        encoder = _or_else(
            lambda: build.image_encoder(config, autoencoder),
            lambda: FrozenImageEncoder.from_vae(AutoencoderKL(**_vae_config())),
            "image_encoder.source",
            config.image_encoder.source,
            notes,
        )
        as_v1 = config.model_copy(update={"denoiser": config.denoiser.model_copy(update={"source": "sd-v1"})})
        denoiser = _or_else(
            lambda: build.denoiser(config, autoencoder, encoder),
            lambda: build.denoiser(as_v1, autoencoder, encoder),
            "denoiser.source",
            config.denoiser.source,
            notes,
        )
        descriptor = _or_else(
            lambda: build.descriptor(config, denoiser),
            lambda: _clip(config, denoiser.config["cross_attention_dim"]),
            "descriptors.source",
            settings.source if settings.kind != "learned" else None,
            notes,
        )
        return build.ready(build.Networks(autoencoder, encoder, denoiser, descriptor), config)


def _clip(config: DiffusionRunConfig, width: int) -> Descriptor:
    if config.descriptors.kind == "clip-image":
        return ClipImageDescriptor(CLIP_VISION, width, config.descriptors.patches)
    from tokenizers import Tokenizer, models

    return ClipTextDescriptor(CLIP_TEXT, Tokenizer(models.BPE()).to_str(), width)


def _vae_config() -> dict[str, Any]:
    return {"latent_channels": 4, **SD_V1_VAE}


def _or_else(wanted: Callable[[], Any], stand_in: Callable[[], Any], key: str, source: str | None, notes: list[str]) -> Any:
    """`wanted`, or `stand_in` where `source` is not on this machine and would have to be downloaded or trained first."""
    try:
        return wanted()
    except InputError:
        untrained = key == "autoencoder" and not Path(source or "").exists()
        if source is None or not (is_hub_id(source) or untrained):
            raise
        what = "the paper's mask autoencoder" if key == "autoencoder" else "CLIP ViT-L/14" if "descr" in key else "Stable Diffusion v1's"
        notes.append(f"{key}: {source!r} is not on this machine, and a dry run downloads nothing; counted as {what}")
        return stand_in()
