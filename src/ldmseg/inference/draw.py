"""From samples to drawn maps: photos and known maps are encoded, noise is denoised, latents are decoded (algorithms 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ldmseg.choices import IdPolicy, Task
from ldmseg.dense import Target
from ldmseg.diffusion.guidance import guided
from ldmseg.diffusion.sampler import Project, image_noise, resampled, sample
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.images import image_batch
from ldmseg.inference.cells import KnownCells, known_cells
from ldmseg.inference.known import CodedMap, complete, in_model_ids
from ldmseg.inference.samples import Sample
from ldmseg.models.denoiser import Condition, Denoiser
from ldmseg.models.descriptors import Descriptor
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.targets import TargetCodec
from ldmseg.options import InferenceOptions
from ldmseg.panoptic import PanopticMap

T = TypeVar("T")
OnStep = Callable[[int, int, Tensor, Tensor], Tensor]
"""(step, timestep, x, clean estimate) -> x for the next step."""

RESAMPLE_JUMP = 2
"""Steps of a stretch that `resample` repeats."""


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline, the side S of the square that photos are scaled to, the policy of the model's ids, and the codec of each
    task."""

    mask_autoencoder: MaskAutoencoder
    image_encoder: ImageEncoder
    unet: Denoiser
    scheduler: NoiseSchedule
    descriptor: Descriptor | None
    image_size: int
    id_policy: IdPolicy
    device: torch.device
    codecs: Mapping[Task, TargetCodec]

    @property
    def num_ids(self) -> int:
        return self.mask_autoencoder.config["num_ids"]

    @property
    def mask_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one map's latents."""
        side = -(-self.image_size // self.mask_autoencoder.downscale)
        return self.mask_autoencoder.config["latent_channels"], side, side

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one photo's latents."""
        return self.image_encoder.latent_channels, *self.mask_shape[1:]


def sampling_steps(scheduler: NoiseSchedule, options: InferenceOptions, completes: bool) -> list[int]:
    """The timesteps of the sampling loop, in order. `resample` repeats stretches of them, and `refine` leaves out the first ones.

    Raises:
        InputError: more steps than the schedule has.
    """
    timesteps = scheduler.trailing_timesteps(options.num_inference_steps)
    if completes and options.method == "resample":
        return resampled(timesteps, RESAMPLE_JUMP, options.resamplings)
    if completes and options.method == "refine":
        return timesteps[-max(1, round(options.strength * len(timesteps))) :]
    return timesteps


def encode_photos(networks: Networks, images: Sequence[Tensor]) -> Tensor:
    """(3, H, W) each, uint8 or floats in 0..1 -> (B, C, h, w) image latents."""
    size = networks.image_size * networks.image_encoder.input_scale
    return networks.image_encoder.encode(image_batch(images, size).to(networks.device, networks.unet.dtype))


def draw_latents(
    networks: Networks,
    samples: Sequence[Sample],
    options: InferenceOptions,
    coded: Sequence[CodedMap] | None = None,
    noise: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Draw the mask latents of all samples in one batch.

    Args:
        coded: what is known of each sample's map; None segments.
        noise: (S, C, h, w) to start from, in place of drawn noise.

    Returns:
        (S, C, h, w).
    """
    device, dtype = networks.device, networks.unet.dtype
    generators = [s.generator for s in samples]
    timesteps = sampling_steps(networks.scheduler, options, coded is not None)
    tokens, empty = _tokens(networks, samples, options.guidance_scale)
    condition = Condition(_image_latents(networks, samples), tokens=tokens)
    x = image_noise(torch.empty(len(samples), *networks.mask_shape), generators) if noise is None else noise
    x = x.to(device, dtype)
    project: Project | None = None
    estimate = None
    if coded is not None:
        certain = _cells(networks, coded, lambda c: c.certain_ids)
        if networks.unet.config["partial"] and options.method in ("condition", "refine"):
            condition = replace(condition, partial=certain.latents, validity=certain.validity)
        if options.method != "condition" and bool(certain.validity.any()):

            def project(clean: Tensor) -> Tensor:
                return certain.put_back(clean, networks.mask_autoencoder)

        if options.method == "refine":
            estimate = _cells(networks, coded, lambda c: c.ids).latents
            x = networks.scheduler.noised(estimate, x, torch.full((len(x),), timesteps[0], device=device))
    return sample(
        guided(networks.unet, condition, empty, options.guidance_scale),
        x,
        timesteps,
        networks.scheduler,
        project=project,
        sampler=options.sampler,
        generators=generators,
        estimate=estimate,
        callback=on_step,
    )


def code_known(networks: Networks, samples: Sequence[Sample]) -> list[CodedMap] | None:
    """What is known of each sample's map, in the model's ids; None where the samples are of photos alone."""
    if samples[0].known is None:
        return None
    known, places = _distinct([s.known for s in samples])
    coded = [in_model_ids(one, networks.image_size, networks.num_ids, networks.id_policy) for one in known if one is not None]
    return [coded[place] for place in places]


def decode(networks: Networks, latents: Tensor, sample: Sample, coded: CodedMap | None, options: InferenceOptions) -> Target:
    """(C, h, w) -> what the sample's task draws, at the size of the photo; segments have the user's ids.

    One at a time, because N logits a pixel are the largest tensor of all.
    """
    size = networks.image_size
    logits = networks.mask_autoencoder.decode(latents[None])[0, :, :size, :size]  # (N, S, S)
    drawn = networks.codecs[sample.task].decode(logits, options.thresholds, size=sample.shape)
    if coded is None or sample.known is None:
        return drawn
    assert isinstance(drawn, PanopticMap)  # partial maps are of segments
    return complete(drawn, sample.known, coded.given)


# --------------------------------------------------------------------------------------------------------------------- conditions
def _image_latents(networks: Networks, samples: Sequence[Sample]) -> Tensor:
    """(S, C, h, w); every photo is encoded once, and not at all where it was before."""
    images, places = _distinct([s.image for s in samples if s.image_latents is None])
    fresh: Iterator[Tensor] = iter(encode_photos(networks, images)[places] if images else ())
    rows = [next(fresh) if s.image_latents is None else s.image_latents for s in samples]
    return torch.stack([row.to(networks.device, networks.unet.dtype) for row in rows])


def _tokens(networks: Networks, samples: Sequence[Sample], scale: float) -> tuple[Tensor | None, Tensor | None]:
    """The descriptor's tokens and, where they guide, the empty ones, (S, L, width)."""
    descriptor = networks.descriptor
    if descriptor is None:
        return None, None
    images, places = _distinct([s.image for s in samples])
    pixels = image_batch(images, networks.image_size).to(networks.device, networks.unet.dtype)
    captions = None if samples[0].caption is None else [samples[places.index(i)].caption or "" for i in range(len(images))]
    tasks = [samples[0].task] * len(images)  # a call has one task
    tokens = descriptor(len(images), pixels, captions, tasks)[places]
    return tokens, descriptor.empty(len(tokens)) if scale != 1 else None


def _cells(networks: Networks, coded: Sequence[CodedMap], ids_of: Callable[[CodedMap], np.ndarray]) -> KnownCells:
    """What is known on the latent grid, one row per sample; samples that share a known map share its encoding."""
    maps, places = _distinct(coded)
    ids = torch.from_numpy(np.stack([ids_of(one) for one in maps])).to(networks.device)  # (K, S, S)
    return known_cells(networks.mask_autoencoder, ids).to(networks.unet.dtype).rows(places)


def _distinct(items: Sequence[T]) -> tuple[list[T], list[int]]:
    """Each object once, in order, and the place of every item's object among them."""
    places: dict[int, int] = {}
    found: list[T] = []
    for item in items:
        if id(item) not in places:
            places[id(item)] = len(found)
            found.append(item)
    return found, [places[id(item)] for item in items]
