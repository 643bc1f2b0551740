"""Stage 1: train the mask autoencoder, which turns id maps into latents and back (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ldmseg.codes import assign_dense, encode_ids, limit_segments
from ldmseg.config import AutoencoderRunConfig
from ldmseg.data.datasets import PanopticDataset, SceneDataset, load_dataset, load_mixture
from ldmseg.data.mask_augment import augment_mask
from ldmseg.data.transforms import draw_view
from ldmseg.evaluate import reconstruct
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.models.manifest import exported
from ldmseg.panoptic import VOID, PanopticMap, nearest_indices
from ldmseg.training.items import Items
from ldmseg.training.losses.points import point_losses
from ldmseg.training.networks import mask_autoencoder
from ldmseg.training.stages.base import Stage, sample_generators, sample_rng
from ldmseg.visualize import color_map, contact_sheet


@dataclass(frozen=True)
class MaskBatch:
    """`ids` (B, H, W) int64 in 0..N-1, 0 void; `numbers` the samples' global numbers."""

    ids: Tensor
    numbers: tuple[int, ...]


class AutoencoderStage(Stage):
    """The mask autoencoder and its losses on points."""

    def __init__(self, config: AutoencoderRunConfig) -> None:
        super().__init__()
        self.config = config
        self.model = mask_autoencoder(config)
        data = config.data
        mixture = load_mixture(data.train, size=data.size, segments=data.scene_segments)
        self.train_data = mixture.whole
        self.val_data = load_dataset(data.val, size=data.size, segments=data.scene_segments)
        self.train_items = Items.of(mixture, data.on_error, "data.train")
        self.val_items = Items(len(self.val_data), data.on_error, "data.val")

    def load_sample(self, number: int) -> tuple[int, NDArray[np.int64]]:
        config, num_ids = self.config, self.model.config["num_ids"]
        rng = sample_rng(config.seed, number)
        ids = self.train_items.sample(config.seed, number, lambda item: _ids(self.train_data, item))
        ids = draw_view((ids.shape[0], ids.shape[1]), config.data, rng).ids(ids)
        return number, _coded(augment_mask(ids, config.augment, rng), num_ids, rng)

    def collate(self, samples: Sequence[tuple[int, NDArray[np.int64]]]) -> MaskBatch:
        return MaskBatch(torch.from_numpy(np.stack([ids for _, ids in samples])), tuple(number for number, _ in samples))

    def forward(self, batch: MaskBatch) -> dict[str, Tensor]:
        loss, model = self.config.loss, self.model
        generators = sample_generators(self.config.seed, batch.numbers)
        moments = model.moments(encode_ids(batch.ids, model.config["num_ids"], model.config["code"]))  # (B, C, h, w)
        latents = moments.mean
        if loss.kl:
            latents = moments.sample(generators)
        if loss.latent_noise:
            noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents)
            deviation = latents.detach().flatten(1).std(1).reshape(-1, 1, 1, 1)  # of each image, so that its batch does not matter
            latents = latents + loss.latent_noise * deviation * noise
        points = point_losses(
            model.coarse_logits(latents), batch.ids, loss.points, generators, oversample=loss.oversample, importance=loss.importance
        )
        total = loss.cross_entropy * points.ce + loss.masks * (points.bce + points.dice)
        terms = {"ce": points.ce, "bce": points.bce, "dice": points.dice, "latent_std": moments.mean.detach().flatten(1).std(1).mean()}
        if loss.kl:
            terms["kl"] = moments.kl()
            total = total + loss.kl * terms["kl"]
        return {"loss": total, **terms}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        quality = PanopticQuality(class_agnostic=True)
        rows: list[list[Image.Image]] = []
        count = min(len(self.val_data), self.config.validation.limit or len(self.val_data))
        for ids in self.val_items.each(range(count), lambda item: _ids(self.val_data, item)):
            target = PanopticMap(_square(ids, self.config.data.size))
            result = reconstruct(self.model, target)
            quality.update(result, target)
            if len(rows) < self.config.validation.samples:
                rows.append([color_map(target), color_map(result)])
        stat = quality.compute().all
        sheet = contact_sheet(rows, titles=["mask", "reconstruction"]) if rows else None
        return {"pq": stat.pq, "sq": stat.sq, "rq": stat.rq}, sheet

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        if self.config.latent_std is not None and self.config.train_part == "all":
            scale = self.config.latent_std / self._latent_deviation() * self.model.config["scaling_factor"]
            self.model.register_to_config(scaling_factor=round(scale, 5))
        with exported(folder) as new:
            self.model.save_pretrained(new / "mask_autoencoder")

    def _latent_deviation(self) -> float:
        """Standard deviation of `encode`'s latents over (at most) 64 maps of the training set."""
        num_ids, seed = self.model.config["num_ids"], self.config.seed
        maps = self.train_items.each(range(len(self.train_data)), lambda item: _ids(self.train_data, item))
        squares = (_square(ids, self.config.data.size) for ids in islice(maps, 64))
        coded = [_coded(ids, num_ids, sample_rng(seed, index)) for index, ids in enumerate(squares)]
        device = next(self.model.parameters()).device
        latents = [self.model.encode(torch.from_numpy(ids)[None].to(device)) for ids in coded]
        return float(torch.cat([z.flatten() for z in latents]).std())


def _ids(data: PanopticDataset, index: int) -> NDArray[np.integer]:
    return data.ids(index) if isinstance(data, SceneDataset) else data.map(index).ids


def _coded(ids: NDArray[np.integer], num_ids: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(H, W) ids of a data set -> (H, W) random ids of the model, 0 where void; of more segments than it has ids, the largest."""
    pmap = limit_segments(PanopticMap(ids), num_ids)
    return np.append(assign_dense(pmap.dense, len(pmap), num_ids, "random", rng), VOID)[pmap.dense]


def _square(ids: NDArray[np.integer], size: int) -> NDArray[np.integer]:
    return ids[nearest_indices(ids.shape[0], size)[:, None], nearest_indices(ids.shape[1], size)[None, :]]
