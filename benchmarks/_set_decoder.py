"""A small rival of the diffusion model: masked-attention queries with Hungarian matching, on the same image latents and partial maps.

Mask2Former (Cheng et al. 2022) as the paper's supplement (section B, "Baseline") has it on plain backbones: a shallow neck (ViTDet's simple
feature pyramid) after one feature map, 6 masked-attention layers, Hungarian matching on sampled points with deep supervision. What is
smaller: 64 queries of 96 channels in place of 128, and one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ldmseg.config import DiffusionRunConfig
from ldmseg.evaluate import evaluate
from ldmseg.images import as_photo, image_batch, load_images
from ldmseg.inference.boundaries import refine_boundaries
from ldmseg.inference.cells import known_cells
from ldmseg.inference.known import KnownMap, complete, in_model_ids
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.segmenters import Photo
from ldmseg.segmenters.queries import QueryThresholds, queries_to_map
from ldmseg.training.stages.base import fresh_weights, sample_generators
from ldmseg.training.stages.diffusion import DiffusionBatch, DiffusionStage

WIDTH, QUERIES, LAYERS, HEADS, NORM_GROUPS = 96, 64, 6, 4, 8
POINTS = 512
"""Labelled pixels of an image on which masks are matched and compared."""

CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT, NO_OBJECT_WEIGHT = 2.0, 5.0, 5.0, 0.1  # as Mask2Former has them
GAP_FREE = QueryThresholds(score=0.5, gap_free=True)
EVERY = 10**9


@dataclass(frozen=True)
class Predictions:
    """Of one layer: `classes` (B, Q, 2), the second is "no object", and `masks` (B, Q, WIDTH), whose products with the mask features are
    the logits."""

    classes: Tensor
    masks: Tensor


class SetDecoder(nn.Module):
    """Image latents with partial-map channels (B, C, h, w) -> queries and mask features (B, WIDTH, 2 h, 2 w)."""

    def __init__(self, channels: int, partial_channels: int) -> None:
        super().__init__()
        self.config = {"partial": True}
        self.partial_channels = partial_channels
        self.same = _conv(channels + partial_channels, WIDTH)
        self.coarse = _conv(WIDTH, WIDTH, stride=2)
        self.fine = nn.Sequential(nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2), nn.GroupNorm(NORM_GROUPS, WIDTH), nn.SiLU(), _conv(WIDTH, WIDTH))
        self.mask_features = nn.Conv2d(WIDTH, WIDTH, 1)
        self.level = nn.Parameter(0.02 * torch.randn(3, WIDTH))
        self.queries = nn.Parameter(0.02 * torch.randn(QUERIES, WIDTH))
        self.places = nn.Parameter(0.02 * torch.randn(QUERIES, WIDTH))
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.classes = nn.Linear(WIDTH, 2)
        self.masks = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, latents: Tensor, partial: Tensor, validity: Tensor) -> tuple[list[Predictions], Tensor]:
        """The predictions before and after each layer, and the mask features.

        Args:
            latents: (B, C, h, w) of the photo.
            partial: (B, 4, h, w) latents of the partial map, zeros where nothing is known.
            validity: (B, 1, h, w) the share of known pixels.
        """
        same = self.same(torch.cat([latents, partial, validity], dim=1))  # (B, WIDTH, h, w)
        fine = self.fine(same)  # (B, WIDTH, 2 h, 2 w)
        features = self.mask_features(fine)
        levels = [self.coarse(same), same, fine]
        queries = self.queries.expand(len(latents), -1, -1)
        found = [self._predict(queries)]
        for layer, number in zip(self.layers, islice(cycle(range(3)), LAYERS), strict=True):
            level = levels[number]
            seen = F.adaptive_avg_pool2d(features, level.shape[-2:]).flatten(2)  # (B, WIDTH, cells)
            inside = (found[-1].masks @ seen).detach() >= 0  # (B, Q, cells)
            inside |= ~inside.any(-1, keepdim=True)  # a query that sees nothing sees everything
            values = level.flatten(2).transpose(1, 2) + self.level[number]  # (B, cells, WIDTH)
            queries = layer(queries, self.places, values, _positions(level), inside)
            found.append(self._predict(queries))
        return found, features

    def _predict(self, queries: Tensor) -> Predictions:
        normed = self.norm(queries)
        return Predictions(self.classes(normed), self.masks(normed))


class _Layer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; norms follow the sums, as in Mask2Former."""

    def __init__(self) -> None:
        super().__init__()
        self.cross, self.own = _Attention(), _Attention()
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, queries: Tensor, places: Tensor, values: Tensor, positions: Tensor, inside: Tensor) -> Tensor:
        queries = self.norms[0](queries + self.cross(queries + places, values + positions, values, inside[:, None]))
        queries = self.norms[1](queries + self.own(queries + places, queries + places, queries, None))
        return self.norms[2](queries + self.feed(queries))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, inside: Tensor | None) -> Tensor:
        parts = (project(x) for project, x in ((self.query, queries), (self.key, keys), (self.value, values)))
        q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in parts)  # (B, heads, n, WIDTH / heads)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=inside).transpose(1, 2).flatten(2))


def _conv(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, padding=1), nn.GroupNorm(NORM_GROUPS, out), nn.SiLU())


def _positions(level: Tensor) -> Tensor:
    """(cells, WIDTH) sines and cosines of each cell's row and column."""
    height, width = level.shape[-2:]
    rates = 2 * torch.pi * 2.0 ** (torch.arange(WIDTH // 4, device=level.device) / (WIDTH // 4) * 4)
    rows, columns = ((torch.arange(n, device=level.device) + 0.5)[:, None] / n * rates for n in (height, width))
    rows, columns = rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=-1).flatten(0, 1)


# ----------------------------------------------------------------------------------------------------------------------------- loss
def set_loss(found: Sequence[Predictions], features: Tensor, ids: Tensor, points: Tensor) -> Tensor:
    """The sum over all layers of the matched losses: classes, and at the points the masks' cross-entropy and Dice.

    Args:
        features: (B, WIDTH, h, w) mask features.
        ids: (B, S, S) segment ids, 0 where unlabelled.
        points: (B, P) pixels, counted along the rows.
    """
    size = ids.shape[-1]
    places = torch.stack([points % size, points // size], dim=-1)  # (B, P, 2) x, y
    grid = ((places + 0.5) / size * 2 - 1).to(features.dtype)[:, None]
    seen = F.grid_sample(features, grid, align_corners=False)[:, :, 0]  # (B, WIDTH, P)
    at_points = ids.flatten(1).gather(1, points)  # (B, P)
    targets = [_masks(row) for row in at_points]  # (S, P) each
    total = features.new_zeros(())
    for layer in found:
        total = total + _layer_loss(layer, layer.masks @ seen, targets)
    return total


def _masks(row: Tensor) -> Tensor:
    present = row.unique()
    return (row == present[present != VOID][:, None]).float()


def _layer_loss(layer: Predictions, logits: Tensor, targets: Sequence[Tensor]) -> Tensor:
    labels = torch.ones(layer.classes.shape[:2], dtype=torch.long, device=logits.device)  # 1: no object
    chosen, wanted = [], []
    for row, target in enumerate(targets):
        queries, segments = linear_sum_assignment(_costs(layer.classes[row], logits[row], target))
        labels[row, queries] = 0
        chosen.append(logits[row, torch.as_tensor(queries)])
        wanted.append(target[torch.as_tensor(segments)])
    weight = logits.new_tensor([1.0, NO_OBJECT_WEIGHT])
    loss = CLASS_WEIGHT * F.cross_entropy(layer.classes.flatten(0, 1), labels.flatten(), weight)
    mask, target = torch.cat(chosen), torch.cat(wanted)  # (N, P)
    if not len(mask):
        return loss
    probability = mask.sigmoid()
    dice = 1 - (2 * (probability * target).sum(1) + 1) / (probability.sum(1) + target.sum(1) + 1)
    return loss + MASK_WEIGHT * F.binary_cross_entropy_with_logits(mask, target) + DICE_WEIGHT * dice.mean()


@torch.no_grad()
def _costs(classes: Tensor, logits: Tensor, target: Tensor) -> np.ndarray:
    """(Q, S) what a match of each query with each segment costs."""
    probability = logits.sigmoid()
    crossed = (F.softplus(-logits) @ target.T + F.softplus(logits) @ (1 - target).T) / logits.shape[1]
    dice = 1 - (2 * probability @ target.T + 1) / (probability.sum(1)[:, None] + target.sum(1) + 1)
    return (CLASS_WEIGHT * -classes.softmax(-1)[:, :1] + MASK_WEIGHT * crossed + DICE_WEIGHT * dice).numpy()


# ---------------------------------------------------------------------------------------------------------------------------- stage
class RivalStage(DiffusionStage):
    """Stage 2 with the decoder in the denoiser's place: its samples, partial maps and image encoder are those of the diffusion model."""

    def __init__(self, config: DiffusionRunConfig) -> None:
        super().__init__(config)
        with fresh_weights(config.seed):
            self.denoiser: Any = SetDecoder(self.image_encoder.latent_channels, self.autoencoder.config["latent_channels"] + 1)

    def forward(self, batch: DiffusionBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            known = known_cells(self.autoencoder, batch.known)
        latents = self._image_latents(batch.photos.float(), batch.features)
        found, features = self.denoiser(latents, known.latents.float(), known.validity)
        generators = sample_generators(self.config.seed, batch.numbers)
        return {
            "loss": set_loss(found, features, batch.ids, torch.stack([_points(i, g) for i, g in zip(batch.ids, generators, strict=True)]))
        }

    def segmenter(self, **settings: Any) -> RivalSegmenter:
        return RivalSegmenter(self.eval(), **settings)

    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        stat = evaluate(self.segmenter(), self.val_data, limit=self.config.validation.limit).quality.all
        return {"pq": stat.pq, "sq": stat.sq, "rq": stat.rq}, None

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        state = {name: tensor.contiguous() for name, tensor in self.state_dict().items() if name in trained}
        safetensors.torch.save_file(state, folder / "rival.safetensors")


def _points(ids: Tensor, generator: torch.Generator) -> Tensor:
    """(P,) labelled pixels, drawn with replacement; any pixels where nothing is labelled."""
    labelled = (ids.flatten() != VOID).nonzero().flatten()
    labelled = labelled if len(labelled) else torch.arange(ids.numel())
    return labelled[torch.randint(len(labelled), (POINTS,), generator=generator)]


# ------------------------------------------------------------------------------------------------------------------------- segmenter
class RivalSegmenter:
    """The rival on photos of any size, with the border step and the rules for given pixels that the pipeline has.

    A given segment keeps its id: drawn segments get the given ids whose pixels they cover most, each id once, and `complete` does the rest.
    """

    def __init__(self, stage: RivalStage, thresholds: QueryThresholds = GAP_FREE, boundaries: str = "photo") -> None:
        self.stage, self.thresholds, self.boundaries = stage, thresholds, boundaries

    @property
    def settings(self) -> dict[str, Any]:
        return {"score": self.thresholds.score, "gap_free": self.thresholds.gap_free, "boundaries": self.boundaries}

    @torch.no_grad()
    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        stage, size = self.stage, self.stage.config.data.size
        num_ids = stage.autoencoder.config["num_ids"]
        loaded = load_images(list(images))
        latents = stage.image_encoder.encode(image_batch(loaded, size * stage.image_encoder.input_scale))
        ids = torch.zeros(len(loaded), size, size, dtype=torch.long)
        if partials is not None:
            coded = (in_model_ids(KnownMap.of(p), size, num_ids, stage.config.id_policy).ids for p in partials)
            ids = torch.from_numpy(np.stack(list(coded)))
        known = known_cells(stage.autoencoder, ids)
        found, features = stage.denoiser(latents, known.latents.float(), known.validity)
        last = found[-1]
        masks = (last.masks @ features.flatten(2)).unflatten(-1, features.shape[-2:])  # (B, Q, 2 h, 2 w)
        maps = []
        for index, image in enumerate(loaded):
            shape = (int(image.shape[-2]), int(image.shape[-1]))
            drawn = queries_to_map(last.classes[index], masks[index], shape, self.thresholds)
            drawn = PanopticMap(drawn.ids)  # one class
            partial = PanopticMap(np.zeros(shape, dtype=np.int32)) if partials is None else partials[index]
            maps.append(self._finished(drawn, partial, as_photo(image)))
        return maps

    def _finished(self, drawn: PanopticMap, partial: PanopticMap, photo: np.ndarray) -> PanopticMap:
        if len(partial):
            drawn, own = with_given_ids(drawn, partial)
            drawn = complete(drawn, KnownMap.of(partial), {i: i for i in own})
        return drawn if self.boundaries == "drawn" else refine_boundaries(drawn, photo, partial.ids)


def with_given_ids(drawn: PanopticMap, partial: PanopticMap) -> tuple[PanopticMap, set[int]]:
    """Drawn segments under the given ids of which they cover the most pixels, each id once (Hungarian), the others under new ids; and the
    given ids that were found."""
    counts = np.zeros((len(drawn), len(partial)), dtype=int)
    both = (drawn.dense >= 0) & (partial.dense >= 0)
    np.add.at(counts, (drawn.dense[both], partial.dense[both]), 1)
    of_drawn, of_given = linear_sum_assignment(-counts)
    names = {drawn.segments[d].id: partial.segments[g].id for d, g in zip(of_drawn, of_given, strict=True) if counts[d, g]}
    highest = max((s.id for s in partial.segments), default=0)
    fresh = {s.id: highest + 1 + number for number, s in enumerate(drawn.segments) if s.id not in names}
    return drawn.relabel({**names, **fresh}), set(names.values())
