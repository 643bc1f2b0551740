"""The typed models of a run's configuration: every key, its meaning, range and default."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from ldmseg.choices import Code, IdPolicy, LossWeight, PartialKind, Prediction, Task
from ldmseg.errors import quoted
from ldmseg.options import InferenceOptions

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(gt=0, le=10)]
Labelling = Literal["dense", "things_only", "figure_ground"]
Weight = Annotated[float, Field(gt=0)]
Tasks = Annotated[dict[Task, Weight], Field(min_length=1)]
Tracker = Literal["tensorboard"]  # trackers of accelerate that are tested


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AutoencoderConfig(Config):
    """The arguments of `MaskAutoencoder`; with a `source`, a Stable Diffusion folder or Hub id, its VAE has the other layers."""

    source: str | None = None  # a Stable Diffusion folder or Hub id, whose VAE is the start; none: the layers below
    num_ids: Positive = 128  # N: segments that one map can hold, void among them
    code: Code = "bits"  # what the encoder reads of an id: its bits (the paper), a channel per id, a colour, or sines and cosines of it
    latent_channels: Positive = 4  # channels of the mask latents
    # channels of the encoder's convolutions; from each width to the next the size halves
    encoder_widths: tuple[Positive, ...] = (32, 64, 128, 256)
    encoder_depth: Annotated[int, Field(ge=0)] = 1  # convolutions before each one that halves the size
    decoder_width: Positive = 256  # channels of the decoder
    norm_groups: Positive = 32  # groups of the group normalization; decoder_width and the last encoder width are multiples of it

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        layers = ("encoder_widths", "encoder_depth", "decoder_width", "norm_groups")
        own = [name for name in layers if getattr(self, name) != type(self).model_fields[name].default]
        if self.source is not None and own:
            raise ValueError(f"{own[0]}: expected none beside a source, whose layers are given, got {getattr(self, own[0])}")
        return self


class ColorConfig(Config):
    """How far the photo's colours may go: each factor is drawn from 1 - x to 1 + x; 0 leaves them alone."""

    brightness: Fraction = 0.0  # 0.2: times 0.8 to 1.2
    contrast: Fraction = 0.0  # 0.2: 0.8 to 1.2 times as far from the mean gray
    saturation: Fraction = 0.0  # 0.2: 0.8 to 1.2 times as far from each pixel's gray


class MixedSet(Config):
    """One of several data sets to train on.

    `labelling` is the meaning of its void. `dense`: nearly everything is labelled. `things_only`: unlabelled pixels may be anything; the
    loss leaves them out. `figure_ground`: also, the one stuff segment is everything but the figure, and the loss takes it in only where a
    partial map shows it. Left out, it is what the data set's JSON has (`info.labelling`), or `dense`.
    """

    data: str  # the data set, `FORMAT:ROOT[:SPLIT]`
    weight: Annotated[float, Field(gt=0)] = 1.0  # samples are shared out by the weights
    labelling: Labelling | None = None  # what its void means, as above
    whole_rate: Fraction | None = None  # of this set, in place of data.whole_rate: generated scenes need no windows


Sets = Annotated[
    Annotated[str, Tag("one")] | Annotated[tuple[MixedSet, ...], Field(min_length=1), Tag("several")],
    Discriminator(lambda given: "one" if isinstance(given, str) else "several"),
]


class DataConfig(Config):
    """Data sets (`FORMAT:ROOT[:SPLIT]`), and what is done to an image before the model gets it."""

    train: Sets = "scenes:100000:train"  # one data set, or a list of several with weights
    val: str = "scenes:64:val"  # the data set of validation
    size: Positive = 128  # pixels of the square that the model gets
    # The whole image (the paper), a window of it, large-scale jitter, or the whole image and windows of its proportions by turns.
    resize: Literal["square", "crop", "jitter", "zoom"] = "square"
    # crop: times the shorter side fits (1, 1); jitter: times the whole fits (0.1, 2); zoom: times the squared whole fits (1, 2)
    scale_range: tuple[Scale, Scale] | None = None
    whole_rate: Fraction = 0.33  # zoom: share of the samples that show the whole image
    windows: Positive | None = None  # zoom: fixed windows of each photo, the same ones in every epoch; none: a new one each time
    scene_segments: tuple[Positive, Positive] = (4, 12)  # scenes only: the fewest and the most segments of a generated scene
    flip: bool = True  # mirror half of the samples, left to right
    color: ColorConfig = ColorConfig()
    latents: str | None = None  # a folder that `ldmseg data cache` made of `train`: stage 2 then reads no photo
    features: str | None = None  # a folder that `ldmseg data cache --config` made for this run: the backbone then gets no photo
    on_error: Literal["stop", "skip"] = "stop"  # what a photo or map that cannot be read does to the run
    workers: Annotated[int, Field(ge=0)] = 0  # processes that prepare samples; 0: the training itself does it. The samples are the same

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if self.scale_range is not None and self.resize == "square":
            raise ValueError(f"scale_range: expected none with resize square, got {list(self.scale_range)}")
        if self.scale_range is not None and self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range: expected the smaller scale first, got {list(self.scale_range)}")
        if self.windows is not None and self.resize != "zoom":
            raise ValueError(f"windows: expected none with resize {self.resize}, got {self.windows}")
        fixed = self.resize == "square" or self.windows is not None
        if self.features is not None and (not fixed or self.color != ColorConfig() or self.latents is not None):
            what = "latents" if self.latents is not None else "color" if fixed else f"resize {self.resize}"
            raise ValueError(f"features: expected resize square or zoom with windows, no color and no latents, got {what}")
        if self.latents is not None and (self.resize != "square" or self.color != ColorConfig()):
            what = f"resize {self.resize}" if self.resize != "square" else "color"
            raise ValueError(f"latents: expected resize square and no color, since a cache holds whole photos as they are, got {what}")
        return self


class MaskAugmentConfig(Config):
    """How stage 1 makes maps harder than the data set's: it must draw any boundary, speck or gap, not one domain's."""

    crop: Positive | None = None  # pixels of the random crop that is trained on; none: the whole map
    ragged: Annotated[float, Field(ge=0)] = 0.0  # largest displacement of a boundary, pixels
    speckle: Fraction = 0.0  # share of maps with tiny segments strewn in
    void: Fraction = 0.0  # share of maps with void regions, gaps or strokes


class OptimConfig(Config):
    steps: Positive = 60_000  # optimizer steps of the whole run
    batch_size: Positive = 16  # samples per step on one process, before accumulation
    accumulate: Positive = 1  # batches whose gradients are added up for one step
    lr: Annotated[float, Field(gt=0)] = 1e-4  # AdamW's learning rate after the warmup
    weight_decay: Annotated[float, Field(ge=0)] = 5e-2  # AdamW's
    warmup: Annotated[int, Field(ge=0)] = 0  # steps in which the learning rate rises from 0, in a line
    decay: Literal["constant", "linear", "cosine"] = "constant"  # how the learning rate falls to 0 at the last step; constant: it does not
    decay_start: Fraction = 0.0  # share of the steps after which the decay begins
    clip: Annotated[float, Field(gt=0)] = 3.0  # largest norm of the gradient; a longer one is shortened to it
    # decay of the moving average of the weights, which is validated and exported; 0: no average
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    gradient_checkpointing: bool = False  # drop activations and compute them again in the backward pass: less memory, more time
    # number type of the forward pass; auto: bf16 on a GPU that has it, fp32 elsewhere
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"


class ValidationConfig(Config):
    every: Positive = 1000  # steps
    limit: Positive | None = None  # only this many images of data.val, from the first
    samples: Annotated[int, Field(ge=0)] = 8  # images drawn in the sample sheet


class CheckpointConfig(Config):
    every: Positive = 1000  # steps
    keep: Positive = 2  # the newest ones


class RunConfig(Config):
    seed: int = 0  # of weights, samples and noise: each sample is a function of (seed, its number)
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    # where figures and samples are also shown (docs/training.md); metrics.jsonl has them always
    trackers: Annotated[tuple[Tracker, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)] = ()


class ReconstructionConfig(Config):
    """The losses of stage 1 (section 3.1)."""

    points: Positive = 12544  # points of a map at which the losses are taken, for each mask anew (112 x 112)
    oversample: Annotated[float, Field(ge=1)] = 3.0  # times `points` candidates are drawn, of which the most uncertain are kept
    importance: Fraction = 0.75  # share of the points chosen by uncertainty; the others are random
    cross_entropy: Annotated[float, Field(ge=0)] = 1.0  # weight of the cross-entropy per pixel
    masks: Annotated[float, Field(ge=0)] = 1.0  # weight of BCE + Dice
    kl: Annotated[float, Field(ge=0)] = 0.0  # above 1e-5 it hurts (figure 8)
    latent_noise: Annotated[float, Field(ge=0)] = 0.0  # noise on the latents while training, in their standard deviations


class AutoencoderRunConfig(RunConfig):
    """`ldmseg train autoencoder`."""

    stage: Literal["autoencoder"]  # which training it is
    init: str | None = None  # a pipeline folder or `default`, whose mask autoencoder is the start
    train_part: Literal["all", "decoder"] = "all"  # `decoder` keeps the latents, so that a denoiser trained on them stays valid
    model: AutoencoderConfig = AutoencoderConfig()
    augment: MaskAugmentConfig = MaskAugmentConfig()
    loss: ReconstructionConfig = ReconstructionConfig()
    latent_std: Annotated[float, Field(gt=0)] | None = None  # sets scaling_factor at the end so that latents have this deviation

    @model_validator(mode="after")
    def _photoless(self) -> Self:
        keys = (key for key in ("latents", "features") if getattr(self.data, key) is not None)
        key = next(keys, "color" if self.data.color != ColorConfig() else None)
        if key is not None:
            raise ValueError(f"data.{key}: expected none in stage 1, which uses no photos")
        return self


class DenoiserConfig(Config):
    """The arguments of `build_denoiser`."""

    source: str = "small"  # a preset, a Stable Diffusion folder or Hub id, or a saved denoiser
    self_condition: bool = True  # the estimate of the step before is an input
    partial: bool = True  # a partial map is an input, so that the model also completes
    freeze_time: bool = False  # do not train the time embedding, as the authors do from Stable Diffusion


class DescriptorsConfig(Config):
    """What the denoiser's cross-attention gets of a photo (`ldmseg.models.descriptors`). Without a kind there is no cross-attention."""

    # CLIP of the photo, CLIP of its caption, or learned tokens that are the same for all photos
    kind: Literal["clip-image", "clip-text", "learned"] | None = None
    source: str = "openai/clip-vit-large-patch14"  # CLIP's folder or Hub id
    patches: bool = False  # clip-image: a token of each patch, in place of one of the photo
    captions: tuple[str, ...] = ()  # clip-text: JSON files, {file name: caption} or COCO's, of data.train and data.val
    queries: Positive = 8  # learned: tokens
    width: Positive | None = None  # numbers of a token in a denoiser from scratch, none for its preset's
    drop_rate: Fraction = 0.1  # share of samples trained with the empty descriptor, which guidance needs; none with several tasks

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if (self.kind == "clip-text") != bool(self.captions):
            expected = "files of captions for clip-text" if self.kind == "clip-text" else f"none for kind {self.kind}"
            raise ValueError(f"captions: expected {expected}, got {list(self.captions)}")
        return self


class ImageEncoderConfig(Config):
    """A folder or Hub id of a frozen VAE, or none: a convolutional stem that is trained with the denoiser."""

    source: str | None = None  # a folder or Hub id of a frozen VAE; none: the stem, and the backbone where one is named
    latent_channels: Positive = 64  # channels that the stem gives the denoiser
    widths: tuple[Positive, ...] = (32, 64, 128)  # channels of the stem's levels, multiples of 8; each one after the first halves the size
    # A pretrained, frozen network beside the stem, with a trained adapter: a .safetensors file of EfficientNet-Lite0, or a folder or
    # Hub id that transformers has a backbone for. With `init`, it is put beside that model's stem.
    backbone: str | None = None
    adapter_channels: Positive = 96  # channels that the adapter gives the denoiser, beside the stem's
    input_scale: Positive = 2  # pixels of the backbone's photo per pixel of the map
    adapter_lr: Annotated[float, Field(gt=0)] = 1.0  # times optim.lr

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.source is not None and self.backbone is not None:
            raise ValueError(f"backbone: expected none beside a source, which is a whole encoder, got {quoted(self.backbone)}")
        return self


class ScheduleConfig(Config):
    """Noise (section 3.2); names as in diffusers' DDIMScheduler."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"  # how the noise grows over the timesteps
    beta_start: float = 0.00085  # noise of the first timestep; squaredcos_cap_v2 does not use it
    beta_end: float = 0.012  # noise of the last timestep; squaredcos_cap_v2 does not use it
    # what the network predicts: the noise (epsilon), the clean latents (sample), or a mixture (v_prediction)
    prediction_type: Prediction = "epsilon"


class DenoisingConfig(Config):
    """The loss of stage 2."""

    weight: LossWeight = "decay"  # weight of the squared error by the timestep; decay (the paper): less for the 25 % with the least noise
    snr_clamp: Annotated[float, Field(gt=0)] = 5.0  # clamped-snr: weights are min(SNR, this) / SNR
    self_condition_rate: Fraction = 1.0  # share of the images with a first pass for the estimate
    ignore_void: bool = True  # cells without a labelled pixel take no part
    area_power: Fraction = 0.0  # a cell's weight is its segment's area to minus this power: 0.5 makes small segments count for more
    noise_bias: Annotated[float, Field(gt=0)] = 1.0  # timesteps are T u**(1/bias): above 1 gives more noise
    pure_noise_rate: Fraction = 0.0  # share of the samples at the last timestep, where sampling begins: good for few steps

    @model_validator(mode="after")
    def _weighted(self) -> Self:
        if self.area_power and not self.ignore_void:
            raise ValueError(f"area_power: expected 0 without ignore_void, since it weighs the labelled cells, got {self.area_power}")
        return self


class PartialConfig(Config):
    """Partial maps for the extra input channels, so that one model segments and completes."""

    rate: Fraction = 0.5  # share of samples that are given one
    kinds: tuple[PartialKind, ...] = get_args(PartialKind)  # kinds of partial maps, of which each sample draws one


INFERENCE = InferenceOptions(num_inference_steps=20)
"""The options of a run without `init`, where its `inference` names no others."""


def _checked_inference(values: dict[str, Any]) -> dict[str, Any]:
    INFERENCE.changed(values)
    return values


Inference = Annotated[dict[str, Any], AfterValidator(_checked_inference)]


class DepthConfig(Config):
    """How the task depth writes a depth map: in bins that are equally wide in the logarithm (`ldmseg.models.targets.DepthCodec`)."""

    near: Annotated[float, Field(gt=0)] = 0.5  # in units of the data set's depth; what is nearer has this depth
    far: Annotated[float, Field(gt=0)] = 16.0  # what is further away has this depth
    bins: Annotated[int, Field(ge=2)] = 32  # at most one less than the mask autoencoder has ids

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.near >= self.far:
            raise ValueError(f"far: expected above near ({self.near}), got {self.far}")
        return self


class DiffusionRunConfig(RunConfig):
    """`ldmseg train diffusion`."""

    stage: Literal["diffusion"]  # which training it is
    init: str | None = None  # a pipeline folder or `default` whose networks are the start; other keys are as in that pipeline
    autoencoder: str = "default"  # a pipeline folder, a mask autoencoder's folder or `default`, which beside `init` is that model's own
    latent_scale: Annotated[float, Field(gt=0)] = 1.0  # s of figure 3: mask latents times this are noised; less makes the photo count more
    # how segments get their ids: random, a new one at every step (the paper), or spatial, by their place in the image
    id_policy: IdPolicy = "random"
    # What the model learns to draw, and the weights by which samples are shared out. Several tasks need `descriptors.kind: learned`. Left
    # open beside `init`, they are that model's, with equal weights.
    tasks: Tasks = {"panoptic": 1.0}
    inference: Inference = {}  # options of validation and of the exported pipeline, where they are not those of `init` or INFERENCE
    denoiser: DenoiserConfig = DenoiserConfig()
    image_encoder: ImageEncoderConfig = ImageEncoderConfig()
    descriptors: DescriptorsConfig = DescriptorsConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: DenoisingConfig = DenoisingConfig()
    partial: PartialConfig = PartialConfig()
    depth: DepthConfig = DepthConfig()
    cache: bool = False  # keep every sample's image and latents in memory after its first use (spatial ids only)

    @model_validator(mode="after")
    def _cacheable(self) -> Self:
        inherits = self.init is not None and "id_policy" not in self.model_fields_set
        if self.cache and self.id_policy == "random" and not inherits:
            raise ValueError("cache: expected false with id_policy random, whose latents differ each time, got true")
        return self

    @model_validator(mode="after")
    def _telling_tasks_apart(self) -> Self:
        if len(self.tasks) > 1 and self.descriptors.kind != "learned":
            names = ", ".join(self.tasks)
            raise ValueError(f"descriptors.kind: expected learned with several tasks ({names}), got {self.descriptors.kind}")
        return self

    @model_validator(mode="after")
    def _seeing(self) -> Self:
        cached = next((key for key in ("latents", "features") if getattr(self.data, key) is not None), None)
        if self.descriptors.kind == "clip-image" and cached is not None:
            raise ValueError(f"data.{cached}: expected none with descriptors.kind clip-image, which needs the photos")
        return self


class ClassifierConfig(Config):
    """The arguments of `SegmentClassifier`."""

    width: Positive = 96  # channels of each branch of the pyramid
    stem_widths: tuple[Positive, ...] = (32, 64)  # of the small stem beside the features; an empty list leaves it out
    rates: tuple[Positive, ...] = (6, 12, 18)  # of the pyramid's 3 x 3 convolutions, in cells


class NamingConfig(Config):
    """The loss of the classifier: cross-entropy. Segments and cells without a category of the classifier teach nothing."""

    segments: Annotated[float, Field(ge=0)] = 1.0  # weight of the segments' mean logits, each segment the same
    cells: Annotated[float, Field(ge=0)] = 1.0  # weight of the logits of single cells, each labelled pixel the same
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of a segment's target that goes to all categories alike


class ClassifierRunConfig(RunConfig):
    """`ldmseg train classifier`."""

    stage: Literal["classifier"]  # which training it is
    # A pipeline folder or `default`, whose image encoder is read, and which is exported with the classifier. A classifier that it has is
    # the start; where it has other categories, all but its last layer.
    init: str = "default"
    categories: str | None = None  # a data set that has the categories, none for the first of data.train; others are matched by name
    model: ClassifierConfig = ClassifierConfig()
    loss: NamingConfig = NamingConfig()
    cache: bool = False  # keep what the map of every view teaches in memory after its first use: for some thousand photos in fixed views

    @model_validator(mode="after")
    def _seeing(self) -> Self:
        if self.data.latents is not None:
            raise ValueError("data.latents: expected none with stage classifier, which needs the photos")
        if not self.loss.segments and not self.loss.cells:
            raise ValueError("loss: expected segments or cells above 0, got both 0")
        return self
