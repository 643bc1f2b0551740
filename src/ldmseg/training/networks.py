"""The networks of both stages, from their configurations."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ldmseg.config import INFERENCE, AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig
from ldmseg.data.datasets import load_dataset
from ldmseg.diffusion.guidance import check_descriptor, check_guidance
from ldmseg.errors import InputError, quoted
from ldmseg.inference.tasks import check_tasks
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.backbones import load_backbone
from ldmseg.models.classifier import SegmentClassifier
from ldmseg.models.denoiser import Denoiser, add_cross_attention, build_denoiser, freeze_time_embedding, widen_input
from ldmseg.models.descriptors import Descriptor, build_descriptor
from ldmseg.models.image_encoder import ConvImageEncoder, ImageEncoder, load_image_encoder
from ldmseg.models.loading import BUNDLED, load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.targets import TASKS
from ldmseg.models.vae_mask_autoencoder import VaeMaskAutoencoder
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.inheritance import inherited
from ldmseg.training.naming import classifier_categories
from ldmseg.training.stages.base import fresh_weights, save_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Networks:
    """What stage 2 trains (`denoiser`, and parts of the others) and what it needs frozen; `classifier` is handed on as it is."""

    autoencoder: MaskAutoencoder
    image_encoder: ImageEncoder
    denoiser: Denoiser
    descriptor: Descriptor | None
    classifier: SegmentClassifier | None = None


@dataclass(frozen=True)
class Beginning:
    """How stage 2 begins: its networks, and its configuration with what a pipeline that is its `init` decides."""

    networks: Networks
    config: DiffusionRunConfig


@dataclass(frozen=True)
class ClassifierBeginning:
    """How the classifier's stage begins: the pipeline that it is for, frozen, the new network, and the configuration with its size."""

    pipeline: LDMSegPipeline
    classifier: SegmentClassifier
    config: ClassifierRunConfig


def mask_autoencoder(config: AutoencoderRunConfig) -> MaskAutoencoder:
    """Stage 1's network, ready to be trained.

    Raises:
        InputError: a source holds nothing usable, or keys do not fit together.
    """
    settings = config.model
    with fresh_weights(config.seed):
        if config.init is not None:
            model = load_mask_autoencoder(config.init)
        elif settings.source is not None:
            model = VaeMaskAutoencoder.from_vae(settings.source, settings.num_ids, settings.code, settings.latent_channels)
        else:
            model = MaskAutoencoder(**settings.model_dump(exclude={"source"}))
    if config.train_part == "decoder":
        model.encoder.requires_grad_(False)
    if config.optim.gradient_checkpointing:
        save_memory(model)
    return model


def begin_diffusion(config: DiffusionRunConfig) -> Beginning:
    """Stage 2's networks: those of `init`, or each from its own source with fresh weights where there is none.

    Raises:
        InputError: a source holds nothing usable, the networks do not fit together, or a key contradicts what they were trained with.
    """
    if config.init is not None:
        start = LDMSegPipeline.from_pretrained(config.init)
        config = inherited(config, start)
        autoencoder = start.mask_autoencoder if config.autoencoder == BUNDLED else load_mask_autoencoder(config.autoencoder)
        encoder, network, teller = start.image_encoder, start.unet, start.descriptor
        if len(config.tasks) > 1 and teller is None:
            width = config.descriptors.width or network.config["cross_attention_dim"]
            with fresh_weights(config.seed):
                network = add_cross_attention(network, width)
                teller = descriptor(config, network)
        if config.denoiser.freeze_time:
            freeze_time_embedding(network)
        if config.image_encoder.backbone is not None:
            with fresh_weights(config.seed):
                encoder = with_backbone(encoder, config)
            network = widen_input(network, image_channels=encoder.latent_channels)
        classifier = still_valid(start.classifier, encoder)
        networks = ready(Networks(autoencoder, encoder, network, teller, classifier), config)
        return Beginning(networks, config)
    autoencoder = load_mask_autoencoder(config.autoencoder)
    with fresh_weights(config.seed):
        encoder = image_encoder(config, autoencoder)
        network = denoiser(config, autoencoder, encoder)
        networks = ready(Networks(autoencoder, encoder, network, descriptor(config, network)), config)
        return Beginning(networks, config)


def still_valid(classifier: SegmentClassifier | None, encoder: ImageEncoder) -> SegmentClassifier | None:
    """The classifier of a pipeline that is trained further, frozen; None, with a warning, where training changes the features it reads."""
    if classifier is None:
        return None
    frozen = isinstance(encoder, BackboneImageEncoder) or not encoder.trainable
    if not frozen or not classifier.reads(encoder):
        logger.warning("the classifier is left out, because training changes the image features; ldmseg train classifier makes a new one")
        return None
    return classifier.requires_grad_(False).eval()


def image_encoder(config: DiffusionRunConfig, autoencoder: MaskAutoencoder) -> ImageEncoder:
    settings = config.image_encoder
    if settings.source is not None:
        return load_image_encoder(settings.source)
    stem = ConvImageEncoder(settings.latent_channels, settings.widths, autoencoder.downscale)
    return stem if settings.backbone is None else with_backbone(stem, config)


def with_backbone(stem: ImageEncoder, config: DiffusionRunConfig) -> BackboneImageEncoder:
    """The encoder of `image_encoder.backbone` around a stem.

    Raises:
        InputError: there is no such backbone, or the model that the run begins with has an encoder of another kind.
    """
    settings = config.image_encoder
    if not isinstance(stem, ConvImageEncoder):
        there = f"the {type(stem).__name__} of {config.init!r}"
        raise InputError(f"image_encoder.backbone: expected none beside {there}, got {quoted(settings.backbone)}")
    assert settings.backbone is not None
    return BackboneImageEncoder.around(stem, load_backbone(settings.backbone), settings.adapter_channels, settings.input_scale)


def denoiser(config: DiffusionRunConfig, autoencoder: MaskAutoencoder, encoder: ImageEncoder) -> Denoiser:
    settings, width = config.denoiser, config.descriptors.width
    return build_denoiser(
        settings.source,
        mask_channels=autoencoder.config["latent_channels"],
        image_channels=encoder.latent_channels,
        self_condition=settings.self_condition,
        partial=settings.partial,
        freeze_time=settings.freeze_time,
        cross_attention=config.descriptors.kind is not None,
        **({} if width is None else {"cross_attention_dim": width}),
    )


def descriptor(config: DiffusionRunConfig, network: Denoiser) -> Descriptor | None:
    settings = config.descriptors
    if settings.kind is None:
        return None
    width = network.config["cross_attention_dim"]
    tasks = tuple(task for task in TASKS if task in config.tasks) if len(config.tasks) > 1 else ()
    return build_descriptor(settings.kind, width, source=settings.source, patches=settings.patches, queries=settings.queries, tasks=tasks)


def ready(networks: Networks, config: DiffusionRunConfig) -> Networks:
    """The networks as they are trained: checked against each other, with frozen parts frozen and `latent_scale` in its place.

    The mask autoencoder's scaling factor is where scaling lives, and the exported pipeline keeps it. A mask autoencoder that was exported
    with a `latent_scale` has it in its factor; the run's takes its place there.

    Raises:
        InputError: they do not fit together.
    """
    autoencoder, encoder, wanted = networks.autoencoder, networks.image_encoder, config.descriptors.kind
    has = None if networks.descriptor is None else networks.descriptor.kind
    if wanted not in (None, has):
        raise InputError(f"descriptors.kind: expected {has or 'none'}, as the model in {config.init!r} has, got {wanted}")
    check_descriptor(networks.descriptor, networks.denoiser)
    check_tasks(tuple(config.tasks), networks.descriptor)
    check_guidance(networks.descriptor, INFERENCE.changed(config.inference).guidance_scale)
    if autoencoder.downscale != encoder.downscale:
        raise InputError(f"image_encoder: expected the mask autoencoder's downscale {autoencoder.downscale}, got {encoder.downscale}")
    channels = networks.denoiser.config["mask_channels"]
    if autoencoder.config["latent_channels"] != channels:
        raise InputError(
            f"autoencoder: expected {channels} latent channels, as the denoiser has, got {autoencoder.config['latent_channels']}"
        )
    within = autoencoder.config["latent_scale"]
    if within != config.latent_scale:
        scale = autoencoder.config["scaling_factor"] / within * config.latent_scale
        autoencoder.register_to_config(scaling_factor=scale, latent_scale=config.latent_scale)
    autoencoder.requires_grad_(False).eval()
    if config.optim.gradient_checkpointing:
        save_memory(networks.denoiser)
    return networks


def begin_classifier(config: ClassifierRunConfig) -> ClassifierBeginning:
    """A classifier for the features of a pipeline's image encoder, which begins with the pipeline's own where it has one.

    Raises:
        InputError: there is no such pipeline, the data set of the categories has none, or `data.size` is not the pipeline's.
    """
    pipe = LDMSegPipeline.from_pretrained(config.init)
    size = pipe.config["image_size"]
    if "size" in config.data.model_fields_set and config.data.size != size:
        drawn = f"{size}, at which the model in {config.init!r} draws (or leave it out)"
        raise InputError(f"data.size: expected {drawn}, got {config.data.size}")
    config = config.model_copy(update={"data": config.data.model_copy(update={"size": size})})
    train = config.data.train
    named = config.categories or (train if isinstance(train, str) else train[0].data)
    categories = classifier_categories(load_dataset(named, size=size).categories, named)
    encoder = pipe.image_encoder.requires_grad_(False).eval()
    with fresh_weights(config.seed):
        entries = [category.to_dict() for category in categories]
        classifier = SegmentClassifier(entries, encoder.feature_channels, encoder.feature_cell, **config.model.model_dump())
    if pipe.classifier is not None:
        classifier.begin_with(pipe.classifier)
    return ClassifierBeginning(pipe, classifier, config)
