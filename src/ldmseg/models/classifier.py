"""Names for segments: a segmentation head on the image encoder's features, averaged over each segment (paper, section 4.2, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.models.image_encoder import NORM_GROUPS, ConvImageEncoder, ImageEncoder
from ldmseg.models.tensors import pad_to_multiple

REDUCED = 40
"""Channels that each feature map is reduced to before they are joined."""


class SegmentClassifier(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Photos and their features -> logits of every category at every cell of the finest feature map.

    The paper classifies its segments "with a simple segmentation head on top of the proposals": here atrous spatial pyramid pooling
    (DeepLabv3, Chen et al. 2017, section 3.3) over frozen features, and beside them a small stem for colours and edges. Norms are over
    groups of channels and not over the batch, so that a photo's logits do not depend on its batch.

    Args:
        categories: `Category.to_dict` of each, in the order of the logits.
        feature_channels: of each of the image encoder's feature maps, finest first (`ImageEncoder.feature_channels`).
        cell: pixels of the map per cell of the finest one along each side (`ImageEncoder.feature_cell`); a power of two.
        width: channels of each branch of the pyramid, a multiple of 8.
        stem_widths: channels of the stem's levels, multiples of 8; none leaves the stem out.
        rates: of the pyramid's 3 x 3 convolutions, in cells.

    Raises:
        InputError: no category, one twice, or sizes that do not fit together.
    """

    @register_to_config
    def __init__(
        self,
        categories: list[dict[str, Any]],
        feature_channels: tuple[int, ...],
        cell: int,
        width: int = 96,
        stem_widths: tuple[int, ...] = (32, 64),
        rates: tuple[int, ...] = (6, 12, 18),
    ) -> None:
        super().__init__()
        if not categories or len({c["id"] for c in categories}) < len(categories):
            raise InputError(f"categories: expected at least one, each id once, got {quoted([c['id'] for c in categories])}")
        if width < NORM_GROUPS or width % NORM_GROUPS:
            raise InputError(f"width: expected a multiple of {NORM_GROUPS}, got {width}")
        self.reduce = nn.ModuleList(nn.Conv2d(channels, REDUCED, 1) for channels in feature_channels)
        self.stem = ConvImageEncoder(REDUCED, stem_widths, cell) if stem_widths else None
        self.pyramid = PoolingPyramid(REDUCED * (len(feature_channels) + bool(stem_widths)), width, rates)
        self.head = nn.Conv2d(width, len(categories), 1)

    @property
    def categories(self) -> tuple[Category, ...]:
        """What segments may be, in the order of the logits."""
        return tuple(
            Category(int(entry["id"]), str(entry["name"]), bool(entry["isthing"]), str(entry.get("supercategory", "")))
            for entry in self.config["categories"]
        )

    def reads(self, encoder: ImageEncoder) -> bool:
        """Whether the image encoder has the features that the classifier was made for."""
        return (tuple(self.config["feature_channels"]), self.config["cell"]) == (encoder.feature_channels, encoder.feature_cell)

    def begin_with(self, other: SegmentClassifier) -> None:
        """Take over another classifier's weights: all of them if it has the same categories, else all but the last layer's.

        Nothing is taken over from one with other layers.
        """
        found = {name: weight for name, weight in other.state_dict().items() if not name.startswith("head.")}
        own = {name: weight for name, weight in self.state_dict().items() if not name.startswith("head.")}
        layers = ([one.config["cell"], *one.config["rates"], *one.config["feature_channels"]] for one in (self, other))
        if next(layers) != next(layers) or {n: w.shape for n, w in found.items()} != {n: w.shape for n, w in own.items()}:
            return
        self.load_state_dict(other.state_dict() if self.categories == other.categories else found, strict=False)

    def check(self, encoder: ImageEncoder) -> None:
        """
        Raises:
            InputError: the image encoder has other features than the classifier reads.
        """
        if not self.reads(encoder):
            both = (self.config["feature_channels"], self.config["cell"]), (encoder.feature_channels, encoder.feature_cell)
            wanted, got = (f"features of {', '.join(map(str, channels))} channels, {cell} pixels a cell" for channels, cell in both)
            raise InputError(f"classifier: expected an image encoder with {wanted}, got {got}")

    def forward(self, photos: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Logits of each category.

        Args:
            photos: (B, 3, S, S) in [-1, 1], at the map's size.
            features: (B, C, h, w) of each stride, finest first.

        Returns:
            (B, categories, h, w) on the grid of the finest feature map.
        """
        size = features[0].shape[-2:]
        parts = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        if self.stem is not None:
            parts.append(self.stem.encode(photos).to(parts[0].dtype))
        enlarged = [p if p.shape[-2:] == size else F.interpolate(p, size, mode="bilinear", align_corners=False) for p in parts]
        joined = torch.cat(enlarged, dim=1).contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
        return self.head(self.pyramid(joined))

    def of_photos(self, encoder: ImageEncoder, photos: Tensor, features: Sequence[Tensor] = ()) -> Tensor:
        """Logits of photos, on the cells that the photos cover.

        Args:
            encoder: whose features are read.
            photos: (B, 3, s S, s S) in [-1, 1], s times the map's size (`ImageEncoder.input_scale`); (B, 3, S, S) beside `features`.
            features: what the encoder's `features` returns, where it is known.

        Returns:
            (B, categories, ceil(S / cell), ceil(S / cell)).
        """
        size, dtype = photos.shape[-1], next(self.parameters()).dtype
        if not features:
            features = encoder.features(encoder.padded(photos))
            photos, size = F.avg_pool2d(photos, encoder.input_scale), size // encoder.input_scale
        cells = -(-size // encoder.feature_cell)
        reduced = pad_to_multiple(photos, encoder.downscale).to(dtype)
        return self(reduced, [feature.to(dtype) for feature in features])[..., :cells, :cells]


class PoolingPyramid(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, section 3.3): (B, channels, h, w) -> (B, width, h, w).

    A 1 x 1 convolution, a 3 x 3 one of each rate, and the mean of the whole image, each with `width` channels, joined by a 1 x 1
    convolution.
    """

    def __init__(self, channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_block(channels, width, 1), *(_block(channels, width, 3, rate) for rate in rates)])
        self.whole = nn.Sequential(nn.Conv2d(channels, width, 1), nn.SiLU())
        self.join = _block(width * (len(rates) + 2), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return self.join(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))


def _block(channels: int, width: int, kernel: int, rate: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(NORM_GROUPS, width), nn.SiLU())


def segment_means(logits: Tensor, covered: Tensor) -> Tensor:
    """Logits averaged over each segment's pixels.

    Args:
        logits: (B, K, h, w), or (K, h, w).
        covered: (B, S, h, w), or (S, h, w): `coverage`.

    Returns:
        (B, S, K), or (S, K); zeros for a segment without a pixel.
    """
    weights = covered.flatten(-2).to(logits.dtype)  # (.., S, h w)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights @ logits.flatten(-2).mT
