"""Image encoders: a photo becomes the latents that condition the denoiser (paper, section 3.2)."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ldmseg.errors import InputError, quoted
from ldmseg.models.pretrained import find_pretrained, load_strictly
from ldmseg.models.tensors import pad_to_multiple

NORM_GROUPS = 8
VAES: dict[str, type[AutoencoderKL] | type[AutoencoderTiny]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}

SD_V1_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
"""Arguments of `AutoencoderKL` for Stable Diffusion v1's, beside its defaults."""


class ImageEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The interface of all image encoders. Each scales its own latents.

    Attributes:
        latent_channels: C of the latents.
        downscale: f, the map's pixels per latent cell along each side.
        input_scale: s, the image's pixels per pixel of the map.
        trainable: whether its weights are trained together with the denoiser.
        feature_channels, feature_cell: of what `features` returns: each map's channels, and pixels of the map per cell of the first.
    """

    trainable: ClassVar[bool]

    @property
    @abstractmethod
    def latent_channels(self) -> int: ...

    @property
    @abstractmethod
    def downscale(self) -> int: ...

    @property
    def input_scale(self) -> int:
        """Pixels of the image that `encode` needs per pixel of the map, along each side."""
        return 1

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return (self.latent_channels,)

    @property
    def feature_cell(self) -> int:
        return self.downscale

    @apply_forward_hook
    @torch.no_grad()
    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """What a classifier reads, finest first: the features of a frozen backbone where there is one, else the latents.

        Args:
            images: (B, 3, H, W) in [-1, 1], H and W multiples of f times the input scale s.

        Returns:
            (B, channels, h, w) each.
        """
        return (self.encode(images),)

    @abstractmethod
    def _latents(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), H and W multiples of f times the input scale s -> (B, C, H / (f s), W / (f s))."""

    @apply_forward_hook
    def encode(self, images: Tensor) -> Tensor:
        """Latents of images; an H or W that f times the input scale s does not divide is first continued by the last row or column.

        Args:
            images: (B, 3, H, W) in [-1, 1], s times the map's size.

        Returns:
            (B, C, ceil(H / (f s)), ceil(W / (f s))) in the dtype of `images`, roughly of unit variance.

        Raises:
            InputError: `images` has another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise InputError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
        return self._latents(self.padded(images.to(self.dtype))).to(images.dtype)

    def padded(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) continued until f times the input scale divides H and W."""
        return pad_to_multiple(images, self.downscale * self.input_scale)

    def forward(self, images: Tensor) -> Tensor:
        """`encode`, for a wrapped encoder (compiled, DDP), which is called instead."""
        return self.encode(images)


class FrozenImageEncoder(ImageEncoder):
    """The encoder half of a pretrained variational autoencoder, as Stable Diffusion's (section 3.2); never trained.

    The latents are the posterior's mode times the autoencoder's own `scaling_factor` (0.18215 for Stable Diffusion v1).

    Args:
        vae_class: "AutoencoderKL" or "AutoencoderTiny" (TAESD, which has no posterior).
        vae_config: that class's config.

    Raises:
        InputError: another class.
    """

    trainable = False

    @register_to_config
    def __init__(self, vae_class: str, vae_config: dict[str, Any]) -> None:
        super().__init__()
        if vae_class not in VAES:
            raise InputError(f"vae_class: expected one of {', '.join(VAES)}, got {quoted(vae_class)}")
        vae = VAES[vae_class](**vae_config)
        self.encoder = vae.encoder
        self.quant_conv = getattr(vae, "quant_conv", None)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_vae(cls, vae: AutoencoderKL | AutoencoderTiny) -> Self:
        """Take over the encoder's weights; the decoder is left behind."""
        arguments = inspect.signature(type(vae).__init__).parameters
        encoder = cls(vae_class=type(vae).__name__, vae_config={key: value for key, value in vae.config.items() if key in arguments})
        encoder.encoder, encoder.quant_conv = vae.encoder, getattr(vae, "quant_conv", None)
        return encoder.requires_grad_(False).eval()

    @property
    def latent_channels(self) -> int:
        return self.config["vae_config"]["latent_channels"]

    @property
    def downscale(self) -> int:
        config = self.config["vae_config"]
        levels = config["block_out_channels"] if self.config["vae_class"] == "AutoencoderKL" else config["num_encoder_blocks"]
        return 2 ** (len(levels) - 1)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def _latents(self, images: Tensor) -> Tensor:
        latents = self.encoder(images)
        if self.quant_conv is not None:
            latents = self.quant_conv(latents)
        if self.config["vae_class"] == "AutoencoderKL":
            latents = latents.chunk(2, dim=1)[0]  # mean and log-variance: a Gaussian's mode is its mean
        config = self.config["vae_config"]
        return (latents - (config["shift_factor"] or 0.0)) * config["scaling_factor"]


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
        return self.config["latent_channels"]

    @property
    def downscale(self) -> int:
        return self.config["downscale"]

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


def load_image_encoder(source: str | Path) -> ImageEncoder:
    """The image encoder of a folder or a Hub id; of an autoencoder the encoder half, frozen.

    Args:
        source: a saved `ImageEncoder`, a pipeline with one (`image_encoder/`), a Stable Diffusion model (`vae/`), or an autoencoder alone.

    Raises:
        InputError: nothing of that kind is there, or weights are missing or left over; the keys are listed.
    """
    from ldmseg.models.backbone_encoder import BackboneImageEncoder  # which is made of what is above

    saved = find_pretrained(source, ("image_encoder", "vae"))
    kinds: dict[str, type[ImageEncoder]] = {kind.__name__: kind for kind in (FrozenImageEncoder, ConvImageEncoder, BackboneImageEncoder)}
    if saved.class_name in kinds:
        return load_strictly(kinds[saved.class_name], saved)
    if saved.class_name in VAES:
        return FrozenImageEncoder.from_vae(load_strictly(VAES[saved.class_name], saved))
    raise InputError(f"source: expected one of {', '.join([*kinds, *VAES])} in {saved}, got {saved.class_name or 'no class name'}")
