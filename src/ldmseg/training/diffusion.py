"""Stage 2: learn to draw mask latents for an image (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.codes import assign_given, limit_segments
from ldmseg.config import DiffusionRunConfig
from ldmseg.data.datasets import load_dataset
from ldmseg.data.partial import random_partial
from ldmseg.diffusion.objective import denoising_loss, draw_timesteps
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate
from ldmseg.inputs import image_batch, load_images
from ldmseg.models.denoiser import Condition, Denoiser, build_denoiser
from ldmseg.models.image_encoder import ConvImageEncoder, ImageEncoder, load_image_encoder
from ldmseg.models.known_cells import known_cells
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import VOID
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.stage import Stage, fresh_weights, sample_generators, sample_rng, shuffled_index
from ldmseg.visualize import contact_sheet, overlay


class Prepared(NamedTuple):
    """One sample on the CPU: photo (3, S, S) uint8, coded ids (S, S) and the known part of them (S, S), 0 where unknown."""

    number: int
    item: int
    image: NDArray[np.uint8]
    ids: NDArray[np.int16]
    known: NDArray[np.int16]


@dataclass(frozen=True)
class DiffusionBatch:
    """`images` (B, 3, S, S) uint8; `ids` and `known` (B, S, S) int64, the model's ids, 0 void or unknown; `items`: keys of the cache."""

    images: Tensor
    ids: Tensor
    known: Tensor
    numbers: tuple[int, ...]
    items: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """What one map contributes, each (1, .., h, w): clean `latents`, labelled `cells`, and the `partial` map's latents with `validity`."""

    latents: Tensor
    cells: Tensor
    partial: Tensor
    validity: Tensor


class DiffusionStage(Stage):
    """Denoiser and image encoder with the denoising loss; the mask autoencoder is frozen."""

    def __init__(self, config: DiffusionRunConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = NoiseSchedule(**config.schedule.model_dump())
        self.autoencoder, self.image_encoder, self.denoiser = _networks(config)
        self.autoencoder.requires_grad_(False).eval()
        if self.autoencoder.downscale != self.image_encoder.downscale:
            raise InputError(
                f"image_encoder: expected the mask autoencoder's downscale {self.autoencoder.downscale}, got {self.image_encoder.downscale}"
            )
        self.train_data = load_dataset(config.data.train, size=config.data.size, segments=config.data.scene_segments)
        self.val_data = load_dataset(config.data.val, size=config.data.size, segments=config.data.scene_segments)
        self._prepared: dict[int, Prepared] = {}
        self._targets: dict[int, Target] = {}

    def train(self, mode: bool = True) -> DiffusionStage:
        super().train(mode)
        self.autoencoder.eval()
        return self

    # ------------------------------------------------------------------------------------------------------------------ samples
    def load_sample(self, number: int) -> Prepared:
        item = shuffled_index(self.config.seed, number, len(self.train_data))
        if not self.config.cache:
            return self._prepare(number, item, sample_rng(self.config.seed, number))
        if item not in self._prepared:
            self._prepared[item] = self._prepare(number, item, sample_rng(self.config.seed, item))
        return self._prepared[item]._replace(number=number)

    def _prepare(self, number: int, item: int, rng: np.random.Generator) -> Prepared:
        config, num_ids, size = self.config, self.autoencoder.config["num_ids"], self.config.data.size
        image = image_batch(load_images(self.train_data.image(item)), size)[0]  # (3, S, S) in -1..1
        pmap = limit_segments(self.train_data.map(item).resize(size, size), num_ids)
        if config.data.flip and rng.random() < 0.5:
            image, pmap = image.flip(-1), pmap.flip()
        known = np.zeros(pmap.shape, dtype=bool)
        if self.denoiser.config["partial"] and rng.random() < config.partial.rate:
            known = random_partial(pmap, config.partial.kinds, rng).ids != VOID
        codes = np.append(assign_given(pmap.dense, len(pmap), known, num_ids, config.id_policy, rng), VOID)
        ids = codes[pmap.dense].astype(np.int16)
        return Prepared(number, item, ((image + 1) * 127.5).round().byte().numpy(), ids, np.where(known, ids, VOID).astype(np.int16))

    def collate(self, samples: Sequence[Prepared]) -> DiffusionBatch:
        images, ids, known = (torch.from_numpy(np.stack(parts)) for parts in zip(*(s[2:] for s in samples), strict=True))
        return DiffusionBatch(images, ids.long(), known.long(), tuple(s.number for s in samples), tuple(s.item for s in samples))

    # --------------------------------------------------------------------------------------------------------------------- loss
    def forward(self, batch: DiffusionBatch) -> dict[str, Tensor]:
        loss = self.config.loss
        target = self._target(batch)
        device = target.latents.device
        uniform, noise = [], []
        for generator in sample_generators(self.config.seed, batch.numbers):
            uniform.append(torch.rand(2, generator=generator))
            noise.append(torch.randn(target.latents.shape[1:], generator=generator))
        draws = torch.stack(uniform).to(device)  # (B, 2): timestep, and whether to self-condition
        timestep = draw_timesteps(draws[:, 0], self.schedule, loss.noise_bias)
        condition = Condition(self.image_encoder.encode(batch.images.to(noise[0].dtype) / 127.5 - 1))  # (B, C, h, w)
        if self.denoiser.config["partial"]:
            condition = replace(condition, partial=target.partial, validity=target.validity)

        def denoise(x_t: Tensor, timestep: Tensor, estimate: Tensor | None, rows: Tensor | None = None) -> Tensor:
            return self.denoiser(x_t, timestep, condition=_rows(condition, rows), estimate=estimate)

        total = denoising_loss(
            denoise,
            self.schedule,
            target.latents,
            torch.stack(noise).to(device),
            timestep,
            weight=loss.weight,
            snr_clamp=loss.snr_clamp,
            cells=target.cells if loss.ignore_void else None,
            self_condition=draws[:, 1] < loss.self_condition_rate if self.denoiser.config["self_condition"] else None,
        )
        return {"loss": total}

    @torch.no_grad()
    def _target(self, batch: DiffusionBatch) -> Target:
        if not self.config.cache:
            return _encode(self.autoencoder, batch.ids, batch.known)
        for index, item in enumerate(batch.items):
            if item not in self._targets:  # one at a time, so that a value does not depend on who came first
                self._targets[item] = _encode(self.autoencoder, batch.ids[index : index + 1], batch.known[index : index + 1])
        found = [self._targets[item] for item in batch.items]
        return Target(*(torch.cat([getattr(t, name) for t in found]) for name in ("latents", "cells", "partial", "validity")))

    # ---------------------------------------------------------------------------------------------------------------- results
    def pipeline(self) -> LDMSegPipeline:
        """The networks as they are now, with the run's settings as defaults."""
        config = self.config
        pipe = LDMSegPipeline(
            self.autoencoder,
            self.image_encoder,
            self.denoiser,
            self.schedule,
            image_size=config.data.size,
            id_policy=config.id_policy,
            num_inference_steps=config.validation.steps,
            sampler=config.validation.sampler,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        pipe = self.pipeline()
        stat = evaluate(pipe, self.val_data, seed=self.config.seed, batch_size=self.config.optim.batch_size).quality.all
        rows = []
        for index in range(min(self.config.validation.samples, len(self.val_data))):
            image, target = self.val_data.image(index), self.val_data.map(index)
            drawn = pipe(image, generator=torch.Generator().manual_seed(index)).maps[0]
            rows.append([Image.fromarray(image), overlay(image, target), overlay(image, drawn)])
        sheet = contact_sheet(rows, titles=["photo", "labels", "drawn"]) if rows else None
        return {"pq": stat.pq, "sq": stat.sq, "rq": stat.rq}, sheet

    def export(self, folder: Path) -> None:
        self.pipeline().save_pretrained(folder)


def _networks(config: DiffusionRunConfig) -> tuple[MaskAutoencoder, ImageEncoder, Denoiser]:
    if config.init is not None:
        start = LDMSegPipeline.from_pretrained(config.init)
        return start.mask_autoencoder, start.image_encoder, start.unet
    autoencoder = load_mask_autoencoder(config.autoencoder)
    encoder = config.image_encoder
    image_encoder: ImageEncoder
    with fresh_weights(config.seed):
        if encoder.source is not None:
            image_encoder = load_image_encoder(encoder.source)
        else:
            image_encoder = ConvImageEncoder(encoder.latent_channels, encoder.widths, autoencoder.downscale)
        denoiser = build_denoiser(
            config.denoiser.source,
            mask_channels=autoencoder.config["latent_channels"],
            image_channels=image_encoder.latent_channels,
            self_condition=config.denoiser.self_condition,
            partial=config.denoiser.partial,
            freeze_time=config.denoiser.freeze_time,
        )
    return autoencoder, image_encoder, denoiser


def _rows(condition: Condition, rows: Tensor | None) -> Condition:
    if rows is None:
        return condition
    return Condition(*(None if part is None else part[rows] for part in (condition.image, condition.partial, condition.validity)))  # type: ignore[arg-type]


def _encode(autoencoder: MaskAutoencoder, ids: Tensor, known: Tensor) -> Target:
    labelled = F.max_pool2d((ids != VOID).float()[:, None], autoencoder.downscale, ceil_mode=True)  # (B, 1, h, w)
    given = known_cells(autoencoder, known)
    return Target(autoencoder.encode(ids).float(), labelled, given.latents, given.validity)  # float: autocast narrows it
