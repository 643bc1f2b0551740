"""The typed models of a run's configuration: every key, its meaning, range and default."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
    kinds: tuple[Literal["blocks", "pixels", "points", "strokes", "scanlines", "boxes"], ...] = (
        "blocks",
        "pixels",
        "points",
        "strokes",
        "scanlines",
        "boxes",
    )


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
