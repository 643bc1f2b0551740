"""Image encoders: a photo becomes the latents that condition the denoiser (paper, section 3.2)."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import ClassVar

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ldmseg.errors import InputError
from ldmseg.models.tensors import pad_to_multiple

NORM_GROUPS = 8


class ImageEncoder(ModelMixin, ConfigMixin):
    """What every image encoder offers; the scaling of its latents is its own affair.

    Attributes:
        latent_channels: C of the latents.
        downscale: f, the image's pixels per latent cell along each side.
        trainable: whether its weights are trained together with the denoiser.
    """

    trainable: ClassVar[bool]
    config_name = "config.json"

    @property
    @abstractmethod
    def latent_channels(self) -> int: ...

    @property
    @abstractmethod
    def downscale(self) -> int: ...

    @abstractmethod
    def _latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), H and W multiples of f -> (B, C, H / f, W / f)."""

    @apply_forward_hook
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images; an H or W that f does not divide is first continued by the last row or column.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, C, ceil(H / f), ceil(W / f)), roughly of unit variance.

        Raises:
            InputError: `images` has another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise InputError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
        return self._latents(pad_to_multiple(images, self.downscale))

    def forward(self, images: Tensor) -> Tensor:
        """`encode`, for a wrapped encoder (compiled, DDP), which is called instead."""
        return self.encode(images)


class ConvImageEncoder(ImageEncoder):
    """A small convolutional stem to train from scratch together with the denoiser.

    A strided convolution makes the first level, which stays thin because it is the largest; every further level halves the size and has
    residual blocks. One GroupNorm over all channels gives the latents unit variance per image.

    Args:
        latent_channels: C of the latents.
        widths: channels of each level, multiples of 8.
        downscale: f, a power of two and at least `2 ** (len(widths) - 1)`; the first convolution does what the levels leave.
        blocks: residual blocks of every level but the first.

    Raises:
        InputError: the sizes do not fit together.
    """

    trainable = True

    @register_to_config
    def __init__(self, latent_channels: int = 64, widths: tuple[int, ...] = (32, 64, 128), downscale: int = 8, blocks: int = 1) -> None:
        super().__init__()
        if not widths or any(width < NORM_GROUPS or width % NORM_GROUPS for width in widths):
            raise InputError(f"widths: expected multiples of {NORM_GROUPS}, got {tuple(widths)}")
        least = 2 ** (len(widths) - 1)
        if downscale < least or downscale & (downscale - 1):
            raise InputError(f"downscale: expected a power of two, at least {least} for {len(widths)} widths, got {downscale}")
        stride = downscale // least
        kernel = max(3, stride + 1)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], kernel, stride, padding=kernel // 2)]
        for before, after in pairwise(widths):
            layers += [nn.GroupNorm(NORM_GROUPS, before), nn.SiLU(), nn.Conv2d(before, after, 3, 2, padding=1)]
            layers += [ResidualBlock(after) for _ in range(blocks)]
        layers += [nn.GroupNorm(NORM_GROUPS, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], latent_channels, 1)]
        self.layers = nn.Sequential(*layers, nn.GroupNorm(1, latent_channels))

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    @property
    def downscale(self) -> int:
        return self.config.downscale

    def _latents(self, images: Tensor) -> Tensor:
        return self.layers(images)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(norm(x))), (B, channels, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.act = nn.SiLU()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.act(self.norm(x)))
