"""Typed, validated run configurations, and the presets that ship with the package.

Every key is read somewhere and checked; an unknown key is an error. YAML files may begin with `extends: PRESET_OR_FILE`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ldmseg.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AutoencoderConfig(Config):
    """The arguments of `MaskAutoencoder`."""

    num_ids: Positive = 128
    code: Literal["bits", "one-hot", "color", "positional"] = "bits"
    latent_channels: Positive = 4
    encoder_widths: tuple[Positive, ...] = (32, 64, 128, 256)
    encoder_depth: Annotated[int, Field(ge=0)] = 1
    decoder_width: Positive = 256
    norm_groups: Positive = 32


class DataConfig(Config):
    """Data sets (`FORMAT:ROOT[:SPLIT]`) and what is done to an image before the model sees it."""

    train: str = "scenes:100000:train"
    val: str = "scenes:64:val"
    size: Positive = 128  # pixels; every image is resized to a square, as the paper does
    scene_segments: tuple[Positive, Positive] = (4, 12)
    flip: bool = True
    workers: Annotated[int, Field(ge=0)] = 0


class MaskAugmentConfig(Config):
    """How stage 1 makes maps harder than the data set's: it must draw any boundary, speck or gap, not one domain's."""

    crop: Positive | None = None  # pixels of the random crop that is trained on; none: the whole map
    ragged: Annotated[float, Field(ge=0)] = 0.0  # largest displacement of a boundary, pixels
    speckle: Fraction = 0.0  # share of maps with tiny segments strewn in
    void: Fraction = 0.0  # share of maps with void regions, gaps or strokes


class OptimConfig(Config):
    steps: Positive = 60_000
    batch_size: Positive = 16  # samples per step on one process, before accumulation
    accumulate: Positive = 1
    lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 5e-2
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    decay_start: Fraction = 0.0  # share of the steps after which the decay begins
    clip: Annotated[float, Field(gt=0)] = 3.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"


class ValidationConfig(Config):
    every: Positive = 1000  # steps
    steps: Positive = 20  # sampling steps (stage 2); also the exported pipeline's default, as is the sampler
    sampler: Literal["ddim", "ddpm"] = "ddim"
    samples: Annotated[int, Field(ge=0)] = 8  # images drawn in the sample sheet


class CheckpointConfig(Config):
    every: Positive = 1000  # steps
    keep: Positive = 2  # the newest ones


class RunConfig(Config):
    seed: int = 0
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()


class ReconstructionConfig(Config):
    """The losses of stage 1 (section 3.1)."""

    points: Positive = 12544
    oversample: Annotated[float, Field(ge=1)] = 3.0
    importance: Fraction = 0.75
    cross_entropy: Annotated[float, Field(ge=0)] = 1.0
    masks: Annotated[float, Field(ge=0)] = 1.0  # weight of BCE + Dice
    kl: Annotated[float, Field(ge=0)] = 0.0  # above 1e-5 it hurts (figure 8)
    latent_noise: Annotated[float, Field(ge=0)] = 0.0  # noise on the latents while training, in their standard deviations


class AutoencoderRunConfig(RunConfig):
    """`ldmseg train autoencoder`."""

    stage: Literal["autoencoder"]
    init: str | None = None  # a pipeline folder or `default`, whose mask autoencoder is the start
    train_part: Literal["all", "decoder"] = "all"  # `decoder` keeps the latents, so that a denoiser trained on them stays valid
    model: AutoencoderConfig = AutoencoderConfig()
    augment: MaskAugmentConfig = MaskAugmentConfig()
    loss: ReconstructionConfig = ReconstructionConfig()
    latent_std: Annotated[float, Field(gt=0)] | None = None  # sets scaling_factor at the end so that latents have this deviation


class DenoiserConfig(Config):
    """The arguments of `build_denoiser`."""

    source: str = "small"  # a preset, a Stable Diffusion folder or Hub id, or a saved denoiser
    self_condition: bool = True
    partial: bool = True
    freeze_time: bool = False


class ImageEncoderConfig(Config):
    """A folder or Hub id of a frozen VAE, or none: a convolutional stem that learns with the denoiser."""

    source: str | None = None
    latent_channels: Positive = 64
    widths: tuple[Positive, ...] = (32, 64, 128)


class ScheduleConfig(Config):
    """Noise (section 3.2); names as in diffusers' DDIMScheduler."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"


class DenoisingConfig(Config):
    """The loss of stage 2."""

    weight: Literal["none", "clamped-snr", "linear", "decay", "fixed"] = "decay"
    snr_clamp: Annotated[float, Field(gt=0)] = 5.0
    self_condition_rate: Fraction = 1.0  # share of the images with a first pass for the estimate
    ignore_void: bool = True  # cells without a labelled pixel take no part
    noise_bias: Annotated[float, Field(gt=0)] = 1.0  # timesteps are T u**(1/bias): above 1 sees more noise


class PartialConfig(Config):
    """Partial maps for the extra input channels, so that one model segments and completes."""

    rate: Fraction = 0.5  # share of samples that are given one
    kinds: tuple[Literal["blocks", "pixels", "points", "strokes", "boxes"], ...] = ("blocks", "points", "strokes", "boxes")


class DiffusionRunConfig(RunConfig):
    """`ldmseg train diffusion`."""

    stage: Literal["diffusion"]
    init: str | None = None  # a pipeline folder or `default` whose networks are the start
    autoencoder: str = "default"  # a pipeline folder, a mask autoencoder's folder or `default`
    id_policy: Literal["random", "spatial"] = "random"
    denoiser: DenoiserConfig = DenoiserConfig()
    image_encoder: ImageEncoderConfig = ImageEncoderConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: DenoisingConfig = DenoisingConfig()
    partial: PartialConfig = PartialConfig()
    cache: bool = False  # keep every sample's image and latents in memory after its first use (spatial ids only)

    @model_validator(mode="after")
    def _cacheable(self) -> Self:
        if self.cache and self.id_policy == "random":
            raise ValueError("cache: expected false with id_policy random, whose latents differ each time, got true")
        return self


_RUN: TypeAdapter[AutoencoderRunConfig | DiffusionRunConfig] = TypeAdapter(
    Annotated[AutoencoderRunConfig | DiffusionRunConfig, Field(discriminator="stage")]
)


def preset_names() -> list[str]:
    """The presets that `load_config` knows by name."""
    folder = resources.files("ldmseg") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> AutoencoderRunConfig | DiffusionRunConfig:
    """Read a preset's name or a YAML file, apply `a.b=c` overrides (values are YAML), and validate.

    Raises:
        InputError: no such preset or file, not YAML, an unknown key, or a value of the wrong type or range; the key is named.
    """
    values = _read(str(source), seen=())
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InputError(f"--set: expected KEY=VALUE such as optim.lr=1e-4, got {override!r}")
        _assign(values, path.split("."), _scalar(text), override)
    return validate_config(values)


def validate_config(values: Mapping[str, Any]) -> AutoencoderRunConfig | DiffusionRunConfig:
    """Plain values -> a typed run configuration; errors as in `load_config`."""
    try:
        return _RUN.validate_python(dict(values))
    except ValidationError as error:
        raise InputError(_one_line(error)) from None


def _read(source: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if source in seen:
        raise InputError(f"extends: expected no circle, got {' -> '.join([*seen, source])}")
    if source in preset_names():
        text = (resources.files("ldmseg") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8", errors="replace")
    else:
        raise InputError(f"--config: expected a file or one of {', '.join(preset_names())}, got {source!r}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--config: expected YAML in {source!r}, got {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"--config: expected keys and values in {source!r}, got {type(values).__name__}")
    parent = values.pop("extends", None)
    return _merge(_read(str(parent), (*seen, source)), values) if parent else values


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise InputError(f"--set: {override!r} goes through {key!r}, which holds a value and no keys")
    values[path[-1]] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("autoencoder", "diffusion") or len(first["loc"]) == 1)
    if len(first["loc"]) > 1 and first["loc"][0] in ("autoencoder", "diffusion"):
        where = ".".join(str(part) for part in first["loc"][1:])
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        return f"config: {where!r} is no known key; {hint}"
    got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"config: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{got}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = {"autoencoder": AutoencoderRunConfig, "diffusion": DiffusionRunConfig}[str(loc[0])]
    for key in loc[1:-1]:
        model = model.model_fields[str(key)].annotation
    return sorted(model.model_fields)
