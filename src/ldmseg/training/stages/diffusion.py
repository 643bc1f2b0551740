"""Stage 2: train the denoiser, which draws mask latents for an image (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.choices import Task
from ldmseg.codes import limit_segments
from ldmseg.config import INFERENCE, DataConfig, DiffusionRunConfig
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import PanopticDataset, load_dataset, load_mixture
from ldmseg.data.feature_cache import FeatureCache
from ldmseg.data.latent_cache import LatentCache
from ldmseg.data.partial import random_partial
from ldmseg.data.transforms import Color, View, draw_color, draw_view, draw_view_number, fixed_view
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.evaluate.tasks import evaluate_task, headline
from ldmseg.formats.captions import read_captions
from ldmseg.inference.cells import known_cells
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.denoiser import Condition
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import VOID
from ldmseg.pipeline import LDMSegPipeline
from ldmseg.training.items import Items
from ldmseg.training.losses.denoising import denoising_loss, draw_timesteps
from ldmseg.training.networks import begin_diffusion
from ldmseg.training.stages.base import Stage, sample_generators, sample_rng
from ldmseg.training.tasks import TaskMix
from ldmseg.training.taught import area_weights, taught_cells, without_ground
from ldmseg.visualize import contact_sheet, target_picture


class Prepared(NamedTuple):
    """One sample on the CPU: photo (3, s S, s S) uint8, coded ids (S, S) and the known part of them (S, S), 0 where unknown; `cells` (h, w)
    are the weights in the loss, 0 where the map does not teach. s is the image encoder's `input_scale`.

    With `data.latents` the photo's latents (C, h, w) stand in for it; with `data.features` the photo is reduced to (3, S, S), and
    `features` are the backbone's.
    """

    number: int
    item: int
    photo: NDArray[np.uint8] | NDArray[np.floating]
    ids: NDArray[np.int16]
    known: NDArray[np.int16]
    cells: NDArray[np.float32]
    caption: str = ""
    features: tuple[NDArray[np.floating], ...] = ()
    task: Task = "panoptic"


@dataclass(frozen=True)
class DiffusionBatch:
    """`photos` (B, 3, s S, s S) in 0..255, their latents (B, C, h, w), or (B, 3, S, S) with `features` of a backbone; `ids` and `known`
    (B, S, S) int64, the model's ids, 0 void or unknown; `cells` (B, 1, h, w) 1 where the map teaches; `items` and `tasks`: keys of the
    cache."""

    photos: Tensor
    ids: Tensor
    known: Tensor
    cells: Tensor
    numbers: tuple[int, ...]
    items: tuple[int, ...]
    captions: tuple[str, ...] = ()
    features: tuple[Tensor, ...] = ()
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True)
class TargetLatents:
    """What one map contributes, each (1, .., h, w): clean `latents`, and the `partial` map's latents with `validity`."""

    latents: Tensor
    partial: Tensor
    validity: Tensor


class DiffusionStage(Stage):
    """Denoiser and image encoder with the denoising loss; the mask autoencoder is frozen.

    `config` is the one given, with the settings of a pipeline that is its `init` where they were left open.
    """

    def __init__(self, config: DiffusionRunConfig) -> None:
        super().__init__()
        start = begin_diffusion(config)
        self.config = config = start.config
        networks = start.networks
        self.schedule = NoiseSchedule(**config.schedule.model_dump())
        self.autoencoder, self.image_encoder = networks.autoencoder, networks.image_encoder
        self.denoiser, self.descriptor, self.classifier = networks.denoiser, networks.descriptor, networks.classifier
        self.mixture = load_mixture(config.data.train, size=config.data.size, segments=config.data.scene_segments)
        self.train_data = self.mixture.whole
        self.val_data = load_dataset(config.data.val, size=config.data.size, segments=config.data.scene_segments)
        self.train_items = Items.of(self.mixture, config.data.on_error, "data.train")
        self.val_items = Items(len(self.val_data), config.data.on_error, "data.val")
        if self.descriptor is not None and self.descriptor.sees == "caption":
            self.train_data, self.val_data = (_captioned(data, config) for data in (self.train_data, self.val_data))
        self.latents = _latent_cache(self.image_encoder, self.train_data, config.data)
        self.features = _feature_cache(self.image_encoder, self.train_data, config.data)
        self.tasks = TaskMix(config, self.train_data, self.autoencoder.config["num_ids"])
        self._prepared: dict[tuple[int, Task], Prepared] = {}
        self._targets: dict[tuple[int, Task], TargetLatents] = {}

    def train(self, mode: bool = True) -> DiffusionStage:
        super().train(mode)
        self.autoencoder.eval()
        if self.classifier is not None:
            self.classifier.eval()
        return self

    def lr_factor(self, name: str) -> float:
        return self.config.image_encoder.adapter_lr if name.startswith("image_encoder.adapter.") else 1.0

    # ------------------------------------------------------------------------------------------------------------------ samples
    def load_sample(self, number: int) -> Prepared:
        return self.train_items.sample(self.config.seed, number, lambda item: self._sample(number, item))

    def _sample(self, number: int, item: int) -> Prepared:
        task = self.tasks.of(self.config.seed, number)
        if not self.config.cache:
            return self._prepare(number, item, task, sample_rng(self.config.seed, number))
        key = (item, task)
        if key not in self._prepared:
            self._prepared[key] = self._prepare(number, item, task, sample_rng(self.config.seed, item))
        return self._prepared[key]._replace(number=number)

    def _prepare(self, number: int, item: int, task: Task, rng: np.random.Generator) -> Prepared:
        config, num_ids = self.config, self.autoencoder.config["num_ids"]
        pmap = self.train_data.map(item)
        data = config.data.model_copy(update={"whole_rate": self.mixture.whole_rate(item, config.data.whole_rate)})
        fixed = draw_view_number(data, rng) if data.windows is not None or self.features is not None else None
        view = draw_view(pmap.shape, data, rng) if fixed is None else fixed_view(item, fixed, data)
        color = draw_color(data.color, rng)
        photo, features = self._photo(item, view, color, fixed)
        labelling, codec = self.mixture.labelling(item), self.tasks.codecs[task]
        if task == "panoptic":
            pmap = limit_segments(pmap.with_ids(view.ids(pmap.ids)), num_ids)
            known = np.zeros(pmap.shape, dtype=bool)
            if self.denoiser.config["partial"] and rng.random() < config.partial.rate:
                known = random_partial(pmap, config.partial.kinds, rng).ids != VOID
            pmap = without_ground(pmap, known) if labelling == "figure_ground" else pmap
            ids = codec.encode(pmap, known, rng)
        else:  # partial maps are of segments
            ids = np.ascontiguousarray(view.ids(codec.encode(self.train_data.target(item, task))))
            known = np.zeros(ids.shape, dtype=bool)
        cells = taught_cells(ids, labelling, self.autoencoder.downscale)
        if config.loss.area_power and task == "panoptic":
            cells = area_weights(ids, cells, self.autoencoder.downscale, config.loss.area_power)
        given = np.where(known, ids, VOID).astype(np.int16)
        return Prepared(number, item, photo, ids, given, cells, self._caption(item, rng), features, task)

    def _caption(self, item: int, rng: np.random.Generator) -> str:
        """One of those that the photo has; "" where no descriptor reads it."""
        captions = self.train_data.captions(item) if isinstance(self.train_data, CaptionedDataset) else ("",)
        return captions[int(rng.integers(len(captions)))] if len(captions) > 1 else captions[0]

    def _photo(
        self, item: int, view: View, color: Color | None, fixed: int | None
    ) -> tuple[NDArray[np.uint8] | NDArray[np.floating], tuple[NDArray[np.floating], ...]]:
        """What replaces the photo in `Prepared`, and the backbone's features where they are cached."""
        if self.features is not None and fixed is not None:
            return self.features.read(item, fixed)
        if self.latents is not None:
            return self.latents.read(item, view.flip), ()
        return view.times(self.image_encoder.input_scale).image(self.train_data.image(item), color), ()

    def collate(self, samples: Sequence[Prepared]) -> DiffusionBatch:
        arrays = zip(*((s.photo, s.ids, s.known, s.cells) for s in samples), strict=True)
        photos, ids, known, cells = (torch.from_numpy(np.stack(parts)) for parts in arrays)
        numbers, items, captions = (tuple(parts) for parts in zip(*((s.number, s.item, s.caption) for s in samples), strict=True))
        features = tuple(torch.from_numpy(np.stack(maps)).float() for maps in zip(*(s.features for s in samples), strict=True))
        tasks = tuple(s.task for s in samples)
        return DiffusionBatch(photos, ids.long(), known.long(), cells[:, None], numbers, items, captions, features, tasks)

    # --------------------------------------------------------------------------------------------------------------------- loss
    def forward(self, batch: DiffusionBatch) -> dict[str, Tensor]:
        loss = self.config.loss
        target = self._target(batch)
        device = target.latents.device
        uniform, noise, drop = [], [], []
        for generator in sample_generators(self.config.seed, batch.numbers):
            uniform.append(torch.rand(2, generator=generator))
            noise.append(torch.randn(target.latents.shape[1:], generator=generator))
            drop.append(torch.rand((), generator=generator))
        draws = torch.stack(uniform).to(device)  # (B, 2): timestep, and whether to self-condition
        rate = loss.self_condition_rate
        timestep = draw_timesteps(draws[:, 0], self.schedule, loss.noise_bias, loss.pure_noise_rate)
        photos = batch.photos.to(noise[0].dtype)
        tokens = self._tokens(photos, batch, torch.stack(drop).to(device))
        condition = Condition(self._image_latents(photos, batch.features), tokens=tokens)  # (B, C, h, w)
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
            cells=batch.cells if loss.ignore_void else None,
            self_condition=draws[:, 1] < rate if rate and self.denoiser.config["self_condition"] else None,
        )
        return {"loss": total}

    def _image_latents(self, photos: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        if self.latents is not None:
            return photos
        if features:
            assert isinstance(self.image_encoder, BackboneImageEncoder)
            return self.image_encoder.joined(photos / 127.5 - 1, features)
        return self.image_encoder.encode(photos / 127.5 - 1)

    def _tokens(self, photos: Tensor, batch: DiffusionBatch, draws: Tensor) -> Tensor | None:
        """The descriptor's tokens (B, L, width), in a share of the samples the empty ones; tokens of tasks are always there."""
        if self.descriptor is None:
            return None
        count = len(batch.numbers)
        tokens = self.descriptor(count, None if self.latents is not None else photos / 127.5 - 1, batch.captions, batch.tasks)
        if self.descriptor.tasks:
            return tokens
        dropped = draws < self.config.descriptors.drop_rate  # (B,)
        return torch.where(dropped[:, None, None], self.descriptor.empty(count).to(tokens.dtype), tokens)

    @torch.no_grad()
    def _target(self, batch: DiffusionBatch) -> TargetLatents:
        if not self.config.cache:
            return _encode(self.autoencoder, batch.ids, batch.known)
        keys = list(zip(batch.items, batch.tasks, strict=True))
        for index, key in enumerate(keys):
            if key not in self._targets:  # one at a time, so that a value does not depend on who came first
                self._targets[key] = _encode(self.autoencoder, batch.ids[index : index + 1], batch.known[index : index + 1])
        found = [self._targets[key] for key in keys]
        return TargetLatents(*(torch.cat([getattr(t, name) for t in found]) for name in ("latents", "partial", "validity")))

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
            descriptor=self.descriptor,
            inference=INFERENCE.changed(config.inference),
            tasks=self.tasks.settings,
            classifier=self.classifier,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @cached_property
    def _readable_val_data(self) -> PanopticDataset:
        data = self.val_data
        if isinstance(data, CaptionedDataset):
            return replace(data, source=self.val_items.readable(data.source))
        return self.val_items.readable(data)

    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        pipe, data, config = self.pipeline(), self._readable_val_data, self.config
        figures: dict[str, float] = {}
        for task in pipe.tasks:
            limit, size = config.validation.limit, config.optim.batch_size
            figures |= headline(evaluate_task(pipe, data, task, seed=config.seed, batch_size=size, limit=limit))
        rows = []
        for index in range(min(self.config.validation.samples, len(data))):
            image, row = data.image(index), list[Image.Image]()
            prompt = data.captions(index)[0] if isinstance(data, CaptionedDataset) else None
            for task in pipe.tasks:
                drawn = pipe(image, prompt=prompt, generator=torch.Generator().manual_seed(index), task=task).maps[0]
                row += [target_picture(image, data.target(index, task)), target_picture(image, drawn)]
            rows.append([Image.fromarray(image), *row])
        titles = ["photo", *("labels", "drawn") * len(pipe.tasks)]
        return figures, contact_sheet(rows, titles=titles) if rows else None

    def export(self, folder: Path) -> None:
        self.pipeline().save_pretrained(folder)


def _captioned(data: PanopticDataset, config: DiffusionRunConfig) -> CaptionedDataset:
    """With `descriptors.captions`; unless items may be skipped, every photo must have one before training begins."""
    if not config.descriptors.captions:
        raise InputError("descriptors.captions: expected files of captions, which this model's descriptor reads, got none")
    captioned = CaptionedDataset(data, read_captions(config.descriptors.captions))
    if config.data.on_error == "stop":
        captioned.check()
    return captioned


def _latent_cache(encoder: ImageEncoder, train_data: PanopticDataset, data: DataConfig) -> LatentCache | None:
    """The cache that `data.latents` names, checked against the run's encoder and data."""
    return None if data.latents is None else LatentCache.open(data.latents, encoder, train_data, size=data.size, flip=data.flip)


def _feature_cache(encoder: ImageEncoder, train_data: PanopticDataset, data: DataConfig) -> FeatureCache | None:
    """The cache that `data.features` names, checked against the run's backbone, data and views."""
    return None if data.features is None else FeatureCache.open(data.features, encoder, train_data, data)


def _rows(condition: Condition, rows: Tensor | None) -> Condition:
    if rows is None:
        return condition
    parts = (condition.image, condition.partial, condition.validity, condition.tokens)
    return Condition(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]


def _encode(autoencoder: MaskAutoencoder, ids: Tensor, known: Tensor) -> TargetLatents:
    given = known_cells(autoencoder, known)
    return TargetLatents(autoencoder.encode(ids).float(), given.latents, given.validity)  # float: autocast narrows it
