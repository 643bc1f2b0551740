"""Stage 1 with Stable Diffusion's own autoencoder, fine-tuned to write id maps (an ablation of section 4)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Self

from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from ldmseg.choices import Code
from ldmseg.codes import code_channels
from ldmseg.errors import InputError
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.pretrained import find_pretrained, load_strictly


class VaeMaskAutoencoder(MaskAutoencoder):
    """`MaskAutoencoder` with the layers of diffusers' `AutoencoderKL` (84 M parameters for Stable Diffusion's) and two new convolutions.

    The first takes the code's channels in place of a photo's three, the last gives a logit per id in place of three colours. Logits come at
    full resolution.

    Args:
        num_ids: see `MaskAutoencoder`.
        code: see `MaskAutoencoder`.
        scaling_factor: see `MaskAutoencoder`.
        latent_scale: see `MaskAutoencoder`.
        latent_channels: C of the latents, as `vae_config` has it.
        vae_config: `AutoencoderKL`'s config.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        vae_config: dict[str, Any],
        num_ids: int = 128,
        code: Code = "bits",
        latent_channels: int = 4,
        scaling_factor: float = 1.0,
        latent_scale: float = 1.0,
    ) -> None:
        super(MaskAutoencoder, self).__init__()  # not the parent's own, which builds other layers
        if latent_channels != vae_config["latent_channels"]:
            raise InputError(f"latent_channels: expected {vae_config['latent_channels']}, as the autoencoder has, got {latent_channels}")
        vae = AutoencoderKL(**vae_config)
        if vae.quant_conv is None or vae.post_quant_conv is None:
            raise InputError("vae_config: expected quant_conv and post_quant_conv, as Stable Diffusion v1's autoencoder has, got none")
        vae.encoder.conv_in = _like(vae.encoder.conv_in, inputs=code_channels(num_ids, code))
        vae.decoder.conv_out = _like(vae.decoder.conv_out, outputs=num_ids)
        self.encoder = nn.Sequential(vae.encoder, vae.quant_conv)
        self.decoder = nn.Sequential(vae.post_quant_conv, vae.decoder)

    @classmethod
    def from_vae(cls, source: str | Path, num_ids: int = 128, code: Code = "bits", latent_channels: int = 4) -> Self:
        """With the weights of a Stable Diffusion folder (`vae/`), an autoencoder's folder or a Hub id, but for the two new convolutions.

        Raises:
            InputError: nothing of that kind is there, or weights are missing or left over; the keys are listed.
        """
        saved = find_pretrained(source, ("vae",))
        if saved.class_name != AutoencoderKL.__name__:
            raise InputError(f"source: expected {AutoencoderKL.__name__} in {saved}, got {saved.class_name or 'no class name'}")
        vae = load_strictly(AutoencoderKL, saved)
        arguments = inspect.signature(AutoencoderKL.__init__).parameters
        model = cls({key: value for key, value in vae.config.items() if key in arguments}, num_ids, code, latent_channels)
        vae.encoder.conv_in, vae.decoder.conv_out = model.encoder[0].conv_in, model.decoder[1].conv_out
        model.encoder = nn.Sequential(vae.encoder, vae.quant_conv)
        model.decoder = nn.Sequential(vae.post_quant_conv, vae.decoder)
        return model

    @property
    def downscale(self) -> int:
        """f: pixels of a latent cell's side."""
        return 2 ** (len(self.config["vae_config"]["block_out_channels"]) - 1)


def _like(conv: nn.Conv2d, *, inputs: int | None = None, outputs: int | None = None) -> nn.Conv2d:
    """A fresh convolution of the same kernel with other channels."""
    return nn.Conv2d(inputs or conv.in_channels, outputs or conv.out_channels, conv.kernel_size, conv.stride, conv.padding)  # type: ignore[arg-type]
