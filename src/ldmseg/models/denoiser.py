"""The denoiser: Stable Diffusion's UNet over mask latents, conditioned by concatenation (paper, section 3.2)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # a loading pipeline looks for it beside the class
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from ldmseg.errors import InputError
from ldmseg.models.pretrained import Pretrained, find_pretrained, load_strictly
from ldmseg.models.tensors import pad_to_multiple

DENOISER_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    },
    "small": {
        "block_out_channels": (64, 96, 128),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (2, 3, 4),
        "norm_num_groups": 16,
    },
    "base": {
        "block_out_channels": (96, 160, 224),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (3, 5, 7),
        "norm_num_groups": 16,
    },
    "sd-v1": {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    },
}
"""Sizes to train from scratch, as arguments of `Denoiser`; "sd-v1" is Stable Diffusion v1's own."""


@dataclass(frozen=True)
class Condition:
    """What the denoiser is given beside the noisy mask latents; `h, w` are the mask latents' size.

    Attributes:
        image: (B, image_channels, h, w) image latents.
        partial: (B, mask_channels, h, w) latents of a partial map, or None where nothing is given.
        validity: (B, 1, h, w) share of known pixels under each cell, 0..1; given exactly when `partial` is.
        tokens: (B, L, cross_attention_dim) descriptors for a denoiser with cross-attention.
    """

    image: Tensor
    partial: Tensor | None = None
    validity: Tensor | None = None
    tokens: Tensor | None = None


class Denoiser(UNet2DConditionModel):
    """The UNet that estimates clean mask latents (or the noise) from noisy ones and a `Condition`.

    Section 3.2. The input's channels are, in this order: noisy mask latents, image latents, the previous estimate of the clean mask
    latents (`self_condition`), latents of a partial map and its validity (`partial`). The rest of the arguments are
    `UNet2DConditionModel`'s own, so that Stable Diffusion's weights load by name; without `cross_attention` the layers `attn2` and
    `norm2` of every transformer block do not exist.

    Args:
        mask_channels: channels of the mask latents, and of the output.
        image_channels: channels of the image latents.
        self_condition: whether the previous estimate is an input.
        partial: whether a partial map is an input.
        cross_attention: whether transformer blocks attend to `Condition.tokens`.
        attention_head_dim: the NUMBER of attention heads (one for all levels or one per level); diffusers keeps this misnomer because
            published configs rely on it. Channels per head are `block_out_channels[i] // attention_head_dim[i]`.
    """

    has_compatibles = True
    _keys_to_ignore_on_load_unexpected = [r"transformer_blocks\.\d+\.(attn2|norm2)\."]  # type: ignore[assignment]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        mask_channels: int = 4,
        image_channels: int = 4,
        self_condition: bool = True,
        partial: bool = False,
        cross_attention: bool = False,
        sample_size: int | tuple[int, int] | None = None,
        center_input_sample: bool = False,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types: tuple[str, ...] = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int | tuple[int, ...] = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        dropout: float = 0.0,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 768,
        attention_head_dim: int | tuple[int, ...] = 8,
        use_linear_projection: bool = False,
        upcast_attention: bool = False,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=input_channels(mask_channels, image_channels, self_condition, partial),
            out_channels=mask_channels,
            center_input_sample=center_input_sample,
            flip_sin_to_cos=flip_sin_to_cos,
            freq_shift=freq_shift,
            down_block_types=tuple(down_block_types),
            up_block_types=tuple(up_block_types),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            downsample_padding=downsample_padding,
            mid_block_scale_factor=mid_block_scale_factor,
            dropout=dropout,
            act_fn=act_fn,
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            use_linear_projection=use_linear_projection,
            upcast_attention=upcast_attention,
        )
        if not cross_attention:
            for module in self.modules():
                if isinstance(module, BasicTransformerBlock):
                    # its forward then goes from self-attention straight to the feed-forward layer
                    module.attn2 = module.norm2 = None  # type: ignore[assignment]

    @classmethod
    def _get_compatibles(cls) -> list[type]:
        """The base's config keys may stand in the saved config beside ours without a warning."""
        return [UNet2DConditionModel]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        condition: Condition | None = None,
        estimate: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """`predict` when a `condition` is given, so that a compiled or DDP-wrapped one can be called; else the UNet's own."""
        if condition is None:
            return super().forward(sample, timestep, encoder_hidden_states, *args, **kwargs)
        inputs = self._concatenate(sample, condition, estimate)  # (B, in_channels, h, w)
        padded = pad_to_multiple(inputs.to(self.conv_in.weight.dtype), 2**self.num_upsamplers)
        tokens = None if condition.tokens is None else condition.tokens.to(padded.dtype)  # (B, L, cross_attention_dim)
        output = super().forward(padded, timestep, tokens, return_dict=False)[0]
        return output[..., : sample.shape[-2], : sample.shape[-1]].to(sample.dtype)

    def predict(self, x_t: Tensor, timestep: Tensor | float | int, condition: Condition, estimate: Tensor | None = None) -> Tensor:
        """The network's output for noisy mask latents: epsilon, x0 or v, as it was trained.

        Args:
            x_t: (B, mask_channels, h, w) noisy mask latents, any h and w from 1 up.
            timestep: 0..999, one number, or one per image (B,).
            condition: image latents and, for a model with partial channels, a partial map.
            estimate: (B, mask_channels, h, w) previous estimate of the clean latents; None is zeros, and a model without
                self-conditioning has no use for it.

        Returns:
            (B, mask_channels, h, w) in the dtype of `x_t`.

        Raises:
            InputError: a tensor's shape does not fit the model, or the model has no input for it.
        """
        return self(x_t, timestep, condition=condition, estimate=estimate)

    def _concatenate(self, x_t: Tensor, condition: Condition, estimate: Tensor | None) -> Tensor:
        config = self.config
        if x_t.ndim != 4 or x_t.shape[1] != config["mask_channels"] or 0 in x_t.shape[2:]:
            raise InputError(f"x_t: expected shape (B, {config['mask_channels']}, h, w), got {tuple(x_t.shape)}")
        batch, _, *size = x_t.shape
        _check_shape("condition.image", condition.image, (batch, config["image_channels"], *size))
        if (condition.partial is None) != (condition.validity is None):
            raise InputError("condition.partial and condition.validity: expected both or neither, got one of them")
        if condition.partial is not None and not config["partial"]:
            raise InputError("condition.partial: expected None, because this model has no partial-map channels, got a tensor")
        if (condition.tokens is not None) != config["cross_attention"]:
            expected, got = ("a tensor", "None") if config["cross_attention"] else ("None", "a tensor")
            raise InputError(
                f"condition.tokens: expected {expected} for a model with cross_attention={config['cross_attention']}, got {got}"
            )
        if condition.tokens is not None:
            length = condition.tokens.shape[1] if condition.tokens.ndim == 3 else 1
            _check_shape("condition.tokens", condition.tokens, (batch, length, config["cross_attention_dim"]))
        parts = [x_t, condition.image]
        if config["self_condition"]:
            parts.append(_or_zeros("estimate", estimate, (batch, config["mask_channels"], *size), x_t))
        if config["partial"]:
            parts.append(_or_zeros("condition.partial", condition.partial, (batch, config["mask_channels"], *size), x_t))
            parts.append(_or_zeros("condition.validity", condition.validity, (batch, 1, *size), x_t))
        return torch.cat([part.to(x_t.dtype) for part in parts], dim=1)  # (B, in_channels, h, w)


def input_channels(mask_channels: int, image_channels: int, self_condition: bool, partial: bool) -> int:
    """Channels of the first convolution's input. `Denoiser` lists them in order."""
    return mask_channels + image_channels + mask_channels * self_condition + (mask_channels + 1) * partial


def freeze_time_embedding(denoiser: Denoiser) -> None:
    """Keep the time embedding as it is in training, as the authors do when they start from Stable Diffusion."""
    denoiser.time_embedding.requires_grad_(False)


def widen_input(
    denoiser: Denoiser, *, image_channels: int | None = None, self_condition: bool | None = None, partial: bool | None = None
) -> Denoiser:
    """Give a denoiser more input channels, in place; the output does not change until the new weights are trained.

    The new channels' weights are zero and every old channel keeps its own, wherever it moves to (section 3.2).

    Args:
        denoiser: changed and returned.
        image_channels: the new value; None keeps the old one.
        self_condition: the new value; None keeps the old one.
        partial: the new value; None keeps the old one.

    Raises:
        InputError: an input would be lost.
    """
    old = {key: denoiser.config[key] for key in ("mask_channels", "image_channels", "self_condition", "partial")}
    asked = {"image_channels": image_channels, "self_condition": self_condition, "partial": partial}
    new = old | {key: value for key, value in asked.items() if value is not None}
    for key in asked:
        if new[key] < old[key]:
            raise InputError(f"{key}: expected at least the model's {old[key]}, because inputs are only added, got {new[key]}")
    old_slices, new_slices = _channel_slices(**old), _channel_slices(**new)
    conv = denoiser.conv_in
    wide = nn.Conv2d(
        input_channels(**new),
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        wide.weight.zero_()
        for name, part in old_slices.items():
            start = new_slices[name].start
            wide.weight[:, start : start + part.stop - part.start] = conv.weight[:, part]
        wide.bias.copy_(conv.bias)  # type: ignore[union-attr, arg-type]
    denoiser.conv_in = wide
    denoiser.register_to_config(**new, in_channels=wide.in_channels)
    return denoiser


def add_cross_attention(denoiser: Denoiser, width: int) -> Denoiser:
    """The same denoiser with cross-attention to tokens of `width` numbers; it draws the same until its new layers are trained.

    The new layers' outputs are zero, as those of a ControlNet are (Zhang et al. 2023, section 3.1), and every old weight stays.

    Raises:
        InputError: it has cross-attention already.
    """
    if denoiser.config["cross_attention"]:
        raise InputError("denoiser: expected one without cross-attention, got one with it")
    settings = {name: denoiser.config[name] for name in _arguments()}
    wide = Denoiser(**{**settings, "cross_attention": True, "cross_attention_dim": width})
    fresh, foreign = wide.load_state_dict(denoiser.state_dict(), strict=False)
    assert not foreign and all(".attn2." in name or ".norm2." in name for name in fresh)
    with torch.no_grad():
        for module in wide.modules():
            if isinstance(module, BasicTransformerBlock):
                for parameter in module.attn2.to_out.parameters():  # type: ignore[union-attr]
                    parameter.zero_()
    return wide.to(denoiser.dtype).train(denoiser.training)


def _channel_slices(mask_channels: int, image_channels: int, self_condition: bool, partial: bool) -> dict[str, slice]:
    counts = {
        "mask": mask_channels,
        "image": image_channels,
        "estimate": mask_channels * self_condition,
        "partial": (mask_channels + 1) * partial,
    }
    slices, start = {}, 0
    for name, count in counts.items():
        slices[name] = slice(start, start + count)
        start += count
    return slices


def build_denoiser(
    source: str | Path = "small",
    *,
    mask_channels: int = 4,
    image_channels: int = 4,
    self_condition: bool = True,
    partial: bool = False,
    cross_attention: bool = False,
    freeze_time: bool = False,
    **overrides: Any,
) -> Denoiser:
    """A denoiser from a preset with fresh weights, or from pretrained weights with the surgery of section 3.2.

    From Stable Diffusion the first convolution keeps its weights for the noisy mask latents and gets zeros for every other input, and
    cross-attention is dropped; the first output is that of Stable Diffusion without it.

    Args:
        source: a name in `DENOISER_PRESETS`; a folder of a Stable Diffusion model or pipeline (with `unet/`), of a UNet or of a saved
            `Denoiser`; or such a model's id on the Hub.
        mask_channels: see `Denoiser`. A saved `Denoiser` must agree.
        image_channels: see `Denoiser`. A saved `Denoiser` must agree.
        self_condition: see `Denoiser`. The channels are added to a saved `Denoiser` that lacks them.
        partial: see `Denoiser`. The channels are added to a saved `Denoiser` that lacks them.
        cross_attention: see `Denoiser`. A saved `Denoiser` must agree.
        freeze_time: do not train the time embedding.
        overrides: other arguments of `Denoiser`.

    Raises:
        InputError: an unknown source or override, or weights that do not fit; the keys concerned are listed.
    """
    unknown = sorted(set(overrides) - _arguments())
    if unknown:
        raise InputError(f"overrides: expected arguments of Denoiser, got {', '.join(unknown)}")
    wanted = {"image_channels": image_channels, "self_condition": self_condition, "partial": partial}
    if str(source) in DENOISER_PRESETS:
        settings = {**DENOISER_PRESETS[str(source)], **overrides}
        denoiser = Denoiser(mask_channels=mask_channels, cross_attention=cross_attention, **wanted, **settings)
    else:
        denoiser = _load(source, mask_channels, wanted, cross_attention, overrides)
    if freeze_time:
        freeze_time_embedding(denoiser)
    return denoiser


def _load(source: str | Path, mask_channels: int, wanted: dict[str, Any], cross_attention: bool, overrides: dict[str, Any]) -> Denoiser:
    saved = find_pretrained(source, ("unet",), tuple(DENOISER_PRESETS))
    layout: dict[str, Any] = {"mask_channels": mask_channels, "image_channels": 0, "self_condition": False, "partial": False}
    if saved.class_name == Denoiser.__name__:
        layout = {key: saved.config[key] for key in layout}
        fixed = {"mask_channels": mask_channels, "image_channels": wanted["image_channels"], "cross_attention": cross_attention}
        for key, value in fixed.items():
            if saved.config[key] != value:
                raise InputError(f"{key}: expected {saved.config[key]}, as the model in {saved} has, got {value}")
    else:
        _check_stable_diffusion(saved, mask_channels)
    denoiser = load_strictly(Denoiser, saved, **{**layout, "cross_attention": cross_attention, **overrides})
    return widen_input(denoiser, **wanted)


def _check_stable_diffusion(saved: Pretrained, mask_channels: int) -> None:
    """Every key of the UNet's config is either one of ours, or has the value that this network stands for."""
    channels = (saved.config.get("in_channels", 4), saved.config.get("out_channels", 4))
    if channels != (mask_channels, mask_channels):
        raise InputError(
            f"mask_channels: expected {channels[1]}, because the UNet in {saved} "
            f"takes {channels[0]} channels and returns {channels[1]}, got {mask_channels}"
        )
    defaults = {name: p.default for name, p in inspect.signature(UNet2DConditionModel.__init__).parameters.items()}
    ours = {*_arguments(), "in_channels", "out_channels"}
    settings = {key: value for key, value in saved.config.items() if not key.startswith("_") and key not in ours}
    other = [f"{key}={value}" for key, value in settings.items() if key not in defaults or value != defaults[key]]
    if other:
        raise InputError(f"source: expected a UNet of Stable Diffusion's kind in {saved}, got one with {', '.join(other)}")


def _arguments() -> set[str]:
    return set(inspect.signature(Denoiser.__init__).parameters) - {"self"}


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise InputError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")


def _or_zeros(name: str, tensor: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    if tensor is None:
        return like.new_zeros(shape)
    _check_shape(name, tensor, shape)
    return tensor
