"""Stage 1: a shallow autoencoder between id maps and continuous latents (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ldmseg.choices import Code
from ldmseg.codes import code_channels, encode_ids
from ldmseg.errors import InputError, quoted

MAX_DEPTH = 64
"""Convolutions of one size, and sizes; a damaged configuration with more would take minutes to build."""


@dataclass(frozen=True)
class Moments:
    """The encoder's output for each latent cell: `mean` and `log_variance`, both (B, C, h, w), unscaled."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor:
        """(B, C, h, w) drawn from the Gaussian, each image by its own generator."""
        noise = torch.stack([torch.randn(self.mean.shape[1:], generator=g, device=g.device) for g in generators])
        return self.mean + noise.to(self.mean) * (0.5 * self.log_variance).exp()

    def kl(self) -> Tensor:
        """Mean divergence from a standard Gaussian, in nats per latent number (the optional term of figure 8)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).mean()


class MaskAutoencoder(ModelMixin, ConfigMixin):
    """Id maps to latents and back (section 3.1): stride-2 convolutions down, transposed ones up, 2.0 M parameters by default.

    Args:
        num_ids: N, a power of two; id 0 is void.
        code: how an id is written for the encoder (`ldmseg.codes`).
        latent_channels: C of the latents.
        encoder_widths: channels before, between and after the stride-2 convolutions; f = 2 ** (len - 1).
        encoder_depth: convolutions before each stride-2 one.
        decoder_width: channels of the decoder, which works up to half the resolution.
        scaling_factor: latents leave `encode` multiplied by it and are divided by it in `decode`.
        latent_scale: s of figure 3, which `scaling_factor` contains; written down so that stage 2 does not multiply it in again.
    """

    @register_to_config
    def __init__(
        self,
        num_ids: int = 128,
        code: Code = "bits",
        latent_channels: int = 4,
        encoder_widths: tuple[int, ...] = (32, 64, 128, 256),
        encoder_depth: int = 1,
        decoder_width: int = 256,
        norm_groups: int = 32,
        scaling_factor: float = 1.0,
        latent_scale: float = 1.0,
    ) -> None:
        super().__init__()
        widths = list(encoder_widths)
        if len(widths) < 3 or any(w % norm_groups for w in (widths[-1], decoder_width)):
            raise InputError(
                f"encoder_widths, decoder_width: expected at least 3 widths, the last and decoder_width multiples of "
                f"norm_groups={norm_groups}, got {quoted(widths)} and {quoted(decoder_width)}"
            )
        if not 0 <= encoder_depth <= MAX_DEPTH or len(widths) > MAX_DEPTH:
            raise InputError(
                f"encoder_depth, encoder_widths: expected 0 to {MAX_DEPTH}, got {quoted(encoder_depth)} and {len(widths)} widths"
            )
        self.encoder = _encoder(code_channels(num_ids, code), widths, encoder_depth, 2 * latent_channels, norm_groups)
        self.decoder = _decoder(latent_channels, decoder_width, len(widths) - 2, num_ids, norm_groups)
        _keep_variance(self.encoder)
        _keep_variance(self.decoder)

    @property
    def downscale(self) -> int:
        """f: pixels of a latent cell's side."""
        return 2 ** (len(self.config["encoder_widths"]) - 1)

    def moments(self, codes: Tensor) -> Moments:
        """(B, code channels, H, W) with H, W multiples of f -> mean and log-variance (B, C, H/f, W/f)."""
        mean, log_variance = self.encoder(codes).chunk(2, dim=1)
        return Moments(mean, log_variance.clamp(-30, 20))

    def encode(self, ids: Tensor) -> Tensor:
        """Latents of id maps: the mode of the posterior, scaled.

        Args:
            ids: (B, H, W) integers in 0..N-1; any size, padded with void to a multiple of f.

        Returns:
            (B, C, ceil(H/f), ceil(W/f)).
        """
        if ids.ndim != 3:
            raise InputError(f"ids: expected (B, H, W), got {tuple(ids.shape)}")
        f = self.downscale
        ids = F.pad(ids, (0, -ids.shape[2] % f, 0, -ids.shape[1] % f))
        codes = encode_ids(ids, self.config["num_ids"], self.config["code"]).to(self.dtype)  # (B, bits, H, W)
        return self.moments(codes).mean * self.config["scaling_factor"]  # (B, C, h, w)

    def coarse_logits(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) unscaled latents -> logits at the decoder's own resolution, here (B, N, h f/2, w f/2), for the losses."""
        return self.decoder(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) scaled latents -> (B, N, h f, w f) logits, bilinear from the decoder's resolution."""
        if latents.ndim != 4 or latents.shape[1] != self.config["latent_channels"]:
            raise InputError(f"latents: expected (B, {self.config['latent_channels']}, h, w), got {tuple(latents.shape)}")
        logits = self.coarse_logits(latents / self.config["scaling_factor"])  # (B, N, H/2, W/2)
        size = (latents.shape[2] * self.downscale, latents.shape[3] * self.downscale)
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)  # (B, N, H, W)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _keep_variance(layers: nn.Sequential) -> None:
    """Initialise so that a signal keeps its variance through the layers: the encoder has no norm before its end to restore it."""
    rectified = False
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            # a transposed 2 x 2 convolution sums over its inputs only
            mode: Literal["fan_in", "fan_out"] = "fan_in" if isinstance(layer, nn.Conv2d) else "fan_out"
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu" if rectified else "linear")
            if isinstance(layer, nn.ConvTranspose2d):
                with torch.no_grad():
                    layer.weight.mul_(2)  # fan_out counts 4 taps, and each output gets one of them
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        rectified = isinstance(layer, nn.SiLU)


def _encoder(channels: int, widths: list[int], depth: int, out: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), nn.SiLU()]
    for wide, wider in pairwise(widths):
        layers += [nn.Conv2d(wide, wide, 3, padding=1) for _ in range(depth)]
        layers += [nn.Conv2d(wide, wider, 3, stride=2, padding=1), nn.SiLU()]
    last = widths[-1]
    layers += [nn.Conv2d(last, last, 3, padding=1), nn.GroupNorm(groups, last, eps=1e-6), nn.SiLU(), nn.Conv2d(last, out, 3, padding=1)]
    return nn.Sequential(*layers)


def _decoder(channels: int, width: int, doublings: int, num_ids: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
    for _ in range(doublings):
        layers += [nn.ConvTranspose2d(width, width, 2, stride=2), ChannelNorm(width, eps=1e-6), nn.SiLU()]
    layers += [nn.GroupNorm(groups, width, eps=1e-6), nn.SiLU(), nn.Conv2d(width, num_ids, 3, padding=1)]
    return nn.Sequential(*layers)
