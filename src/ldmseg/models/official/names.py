"""Key names and sizes of the authors' release, and ours.

The UNet and the image encoder have diffusers' names, the mask autoencoder has names of its own. How wide and how deep a network is, its
tensors show; what no shape shows (attention heads, groups of the norms) is Stable Diffusion v1's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ldmseg.errors import InputError, printable, shortened
from ldmseg.models.pretrained import LISTED

HEADS = 8
"""Attention heads of Stable Diffusion v1's UNet, at every level."""

NORM_GROUPS = 32
"""Groups of every GroupNorm, in Stable Diffusion v1 and in the release's mask autoencoder."""

Shapes = Mapping[str, tuple[int, ...]]
"""Key -> shape, of one network of a checkpoint."""

# Theirs holds two placeholders (encoder.12, decoder.1) that ours leaves out, so later indices shift by one.
_ENCODER = {0: 0, 2: 2, 3: 3, 5: 5, 6: 6, 8: 8, 9: 9, 11: 11, 13: 12, 15: 14}
_DECODER = {0: 0, 2: 1, 3: 2, 5: 4, 6: 5, 8: 7, 10: 9}
_AUTOENCODER = {
    f"{part}.{theirs}.{kind}": f"{part}.{ours}.{kind}"
    for part, table in (("encoder", _ENCODER), ("decoder", _DECODER))
    for theirs, ours in table.items()
    for kind in ("weight", "bias")
}
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION_KEY = re.compile(rf"(.*\.attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.(weight|bias)")


# -------------------------------------------------------------------------------------------------------------------------- names
def convert_autoencoder_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' mask autoencoder (`vae_semseg`, `vae`) under the names of `MaskAutoencoder`, for `load_state_dict(strict=True)`.

    A `module.` prefix is dropped.

    Raises:
        InputError: a key is not one of the release's; such keys are listed.
    """
    names = {key: _AUTOENCODER.get(key.removeprefix("module.")) for key in state}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        raise InputError(f"checkpoint: expected the keys of the release's mask autoencoder, got also {listed(unknown)}")
    return {name: state[key] for key, name in names.items() if name is not None}


def autoencoder_name(key: str) -> str:
    """Ours for a key of `vae_semseg`; an unknown one stays as it is, to be reported."""
    return _AUTOENCODER.get(key, key)


def autoencoder_origin(name: str) -> str:
    """The inverse of `autoencoder_name`."""
    return next((theirs for theirs, ours in _AUTOENCODER.items() if ours == name), name)


def image_encoder_name(key: str) -> str | None:
    """Ours for a key of `vae_image`, where attention may have its names of 2022; None for what only the decoder needs."""
    if key.startswith(("decoder.", "post_quant_conv.")):
        return None
    old = _OLD_ATTENTION_KEY.fullmatch(key)
    return f"{old[1]}.{_OLD_ATTENTION[old[2]]}.{old[3]}" if old else key


def listed(keys: Iterable[object]) -> str:
    """The first few, and how many more there are."""
    names = sorted(shortened(printable(key)) for key in keys)
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


# -------------------------------------------------------------------------------------------------------------------------- sizes
def autoencoder_sizes(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `MaskAutoencoder`, from the release's own key names.

    Raises:
        InputError: a layer is missing, or the code of the ids is not their bits.
    """
    widths = tuple(_size(shapes, f"encoder.{layer}.weight") for layer in (0, 3, 6, 9))
    num_ids, channels = _size(shapes, "decoder.10.weight"), _size(shapes, "encoder.0.weight", 1)
    if num_ids != 2**channels:
        raise InputError(f"encoder.0.weight: expected log2(N) input channels, the bits of N = {num_ids} ids, got {channels}")
    return {
        "num_ids": num_ids,
        "latent_channels": _size(shapes, "encoder.15.weight") // 2,  # mean and log-variance
        "encoder_widths": widths,
        "decoder_width": _size(shapes, "decoder.0.weight"),
        "norm_groups": NORM_GROUPS,
    }


def image_encoder_sizes(shapes: Shapes) -> dict[str, Any]:
    """Arguments of diffusers' `AutoencoderKL`; of the decoder, which the release leaves out, nothing is known or needed.

    Raises:
        InputError: a layer is missing.
    """
    levels = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    widths = tuple(_size(shapes, f"encoder.down_blocks.{level}.resnets.0.conv1.weight") for level in range(levels))
    return {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": _norms(widths),
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.\d+\.resnets\.(\d+)\."),
        "latent_channels": _size(shapes, "quant_conv.weight") // 2,  # mean and log-variance
        "norm_num_groups": NORM_GROUPS,
    }


def denoiser_sizes(shapes: Shapes, image_channels: int) -> dict[str, Any]:
    """Arguments of `Denoiser`. The first convolution shows whether it conditions on its own estimate.

    Raises:
        InputError: a layer is missing, or the first convolution takes something else than mask and image latents.
    """
    mask_channels, inputs = _size(shapes, "conv_out.weight"), _size(shapes, "conv_in.weight", 1)
    plain = mask_channels + image_channels
    if inputs not in (plain, plain + mask_channels):
        raise InputError(
            f"conv_in.weight: expected {plain} input channels (mask and image latents) or {plain + mask_channels} (with "
            f"self-conditioning), got {inputs}"
        )
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    widths = tuple(_size(shapes, f"down_blocks.{level}.resnets.0.conv1.weight") for level in range(levels))
    return {
        "mask_channels": mask_channels,
        "image_channels": image_channels,
        "self_condition": inputs != plain,
        "block_out_channels": _norms(widths),
        "layers_per_block": _count(shapes, r"down_blocks\.\d+\.resnets\.(\d+)\."),
        "down_block_types": tuple(_block(shapes, "down", level) for level in range(levels)),
        "up_block_types": tuple(_block(shapes, "up", level) for level in range(levels)),
        "attention_head_dim": HEADS,
        "norm_num_groups": NORM_GROUPS,
    }


def _block(shapes: Shapes, side: str, level: int) -> str:
    attends = any(key.startswith(f"{side}_blocks.{level}.attentions.") for key in shapes)
    return f"{'CrossAttn' if attends else ''}{side.capitalize()}Block2D"


def _norms(widths: tuple[int, ...]) -> tuple[int, ...]:
    if any(width % NORM_GROUPS for width in widths):
        raise InputError(f"expected widths that are multiples of {NORM_GROUPS}, the groups of Stable Diffusion v1's norms, got {widths}")
    return widths


def _size(shapes: Shapes, key: str, axis: int = 0) -> int:
    if len(shapes.get(key, ())) <= axis:
        raise InputError(f"expected a layer {key}, found none among {len(shapes)} keys: {listed(shapes)}")
    return shapes[key][axis]


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand at the pattern's group."""
    return len({found[1] for key in shapes if (found := re.match(pattern, key))})
