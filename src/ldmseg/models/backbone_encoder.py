"""An image encoder that reads a pretrained backbone: frozen features, a trained adapter, and a trained stem beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ldmseg.errors import InputError
from ldmseg.models.backbones import Backbone, build_backbone
from ldmseg.models.image_encoder import NORM_GROUPS, ConvImageEncoder, ImageEncoder
from ldmseg.models.tensors import pad_to_multiple

FINE_WIDTH, WIDTH = 64, 96
"""Channels that feature maps finer than the latents, and the others, are reduced to before they are joined."""


class BackboneImageEncoder(ImageEncoder):
    """Latents [stem; adapter(backbone)]: the stem for colours and edges, the frozen backbone for objects.

    The backbone gets the photo at `input_scale` times the map's size. The stem gets it at the map's size.

    Args:
        backbone_settings: `Backbone.settings`; its weights come with the others.
        stem_settings: arguments of `ConvImageEncoder`.
        adapter_channels: of the latents, those from the backbone.
        downscale: f, the map's pixels per latent cell.
        input_scale: the photo's pixels per pixel of the map, along each side.

    Raises:
        InputError: an unknown backbone, or sizes that do not fit together.
    """

    trainable = True

    @register_to_config
    def __init__(
        self,
        backbone_settings: dict[str, Any],
        stem_settings: dict[str, Any],
        adapter_channels: int = 96,
        downscale: int = 8,
        input_scale: int = 2,
    ) -> None:
        super().__init__()
        if input_scale < 1:
            raise InputError(f"input_scale: expected at least 1, got {input_scale}")
        self.backbone = build_backbone(backbone_settings).requires_grad_(False).eval()
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # nearly halves the time on a CPU
        self.stem = ConvImageEncoder(**{**stem_settings, "downscale": downscale})
        self.adapter = Adapter(self.backbone.channels, [self._relative(stride) for stride in self.backbone.strides], adapter_channels)

    @classmethod
    def around(cls, stem: ConvImageEncoder, backbone: Backbone, adapter_channels: int = 96, input_scale: int = 2) -> Self:
        """Put a pretrained backbone beside a stem that is there already; the adapter is new."""
        own = {key: value for key, value in dict(stem.config).items() if not key.startswith("_") and key != "downscale"}
        encoder = cls(backbone.settings, own, adapter_channels, stem.downscale, input_scale)
        encoder.backbone.load_state_dict(backbone.state_dict())
        encoder.stem.load_state_dict(stem.state_dict())
        return encoder

    @property
    def latent_channels(self) -> int:
        return self.stem.latent_channels + self.config["adapter_channels"]

    @property
    def downscale(self) -> int:
        return self.config["downscale"]

    @property
    def input_scale(self) -> int:
        return self.config["input_scale"]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.backbone.channels

    @property
    def feature_cell(self) -> int:
        return self.downscale if self.backbone.grid > 1 else max(1, self.backbone.strides[0] // self.input_scale)

    def train(self, mode: bool = True) -> Self:
        """The backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def _relative(self, stride: int) -> int:
        """Feature cells per latent cell along a side; 1 for coarser features, which are enlarged."""
        cell = self._cell
        return max(1, cell // stride) if self.backbone.grid == 1 else 1

    @property
    def _cell(self) -> int:
        """Pixels of the photo per latent cell."""
        return self.config["downscale"] * self.config["input_scale"]

    @apply_forward_hook
    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """The backbone's features of photos (B, 3, H, W) in [-1, 1] whose sides are multiples of a latent cell."""
        height, width = (length // self._cell for length in images.shape[-2:])
        if self.backbone.grid > 1:  # one patch for each latent cell
            size = (height * self.backbone.grid, width * self.backbone.grid)
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return self.backbone(images.contiguous(memory_format=torch.channels_last))

    def _latents(self, images: Tensor) -> Tensor:
        return self.joined(F.avg_pool2d(images, self.input_scale), self.features(images))

    def joined(self, reduced: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Latents of photos (B, 3, H, W) in [-1, 1] at the map's size, and of their `features`."""
        own = self.stem.encode(reduced)  # (B, C, h, w)
        return torch.cat([own, self.adapter(features, own.shape[-2:]).to(own.dtype)], dim=1)


class Adapter(nn.Module):
    """Feature maps of several strides -> one map at the latents' stride, of unit variance per image.

    A finer map's cells become channels of the latent cell that they lie in (pixel-unshuffle); a coarser one is enlarged.

    Args:
        channels: of each feature map.
        finer: its cells per latent cell along each side.
        out: channels of the result.
    """

    def __init__(self, channels: Sequence[int], finer: Sequence[int], out: int) -> None:
        super().__init__()
        self.finer = tuple(finer)
        widths = [FINE_WIDTH if factor > 1 else WIDTH for factor in finer]
        inputs = [count * factor**2 for count, factor in zip(channels, finer, strict=True)]
        self.reduce = nn.ModuleList(nn.Conv2d(count, width, 1) for count, width in zip(inputs, widths, strict=True))
        self.join = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, sum(widths)), nn.SiLU(), nn.Conv2d(sum(widths), out, 3, padding=1), nn.GroupNorm(1, out)
        )

    def forward(self, features: Sequence[Tensor], size: torch.Size) -> Tensor:
        """Features (B, channels, ..) -> (B, out, h, w) with `size` (h, w)."""
        parts = []
        for feature, factor, reduce in zip(features, self.finer, self.reduce, strict=True):
            part = reduce(F.pixel_unshuffle(pad_to_multiple(feature, factor), factor))
            if part.shape[-2:] != size:
                part = F.interpolate(part, size, mode="bilinear", align_corners=False)
            parts.append(part)
        return self.join(torch.cat(parts, dim=1))
