"""Guidance by a descriptor, and which descriptor, caption and scale a model takes (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ldmseg.diffusion.sampler import Denoise
from ldmseg.errors import InputError, quoted
from ldmseg.models.denoiser import Condition, Denoiser
from ldmseg.models.descriptors import Descriptor


def check_descriptor(descriptor: Descriptor | None, denoiser: Denoiser) -> None:
    """A denoiser with cross-attention has a descriptor of its width, one without has none.

    Raises:
        InputError: they do not belong together.
    """
    wanted = denoiser.config["cross_attention_dim"] if denoiser.config["cross_attention"] else None
    got = None if descriptor is None else descriptor.width
    if wanted != got:
        expected = "none for a denoiser without cross-attention" if wanted is None else f"one with tokens of {wanted} numbers"
        raise InputError(f"descriptor: expected {expected}, got {'none' if got is None else f'one with tokens of {got} numbers'}")


def check_guidance(descriptor: Descriptor | None, scale: float) -> None:
    """Guidance by a factor of at least 0; other than 1 only where there is a descriptor to leave out.

    Raises:
        InputError: otherwise.
    """
    if not isinstance(scale, int | float) or not 0 <= scale < float("inf"):
        raise InputError(f"guidance_scale: expected a number from 0 up, got {quoted(scale)}")
    if descriptor is None and scale != 1:
        raise InputError(f"guidance_scale: expected 1, because this model has no descriptor to be guided by, got {scale}")
    if descriptor is not None and descriptor.tasks and scale != 1:
        raise InputError(f"guidance_scale: expected 1, because this model's descriptor says what to draw and is never empty, got {scale}")


def captions_for(descriptor: Descriptor | None, prompt: str | Sequence[str] | None, count: int) -> list[str] | None:
    """One caption per image for a descriptor that takes captions, None for any other.

    Raises:
        InputError: captions are missing, not text, of another number, or of no use to the model.
    """
    if descriptor is None or descriptor.sees != "caption":
        if prompt is not None:
            raise InputError(f"prompt: expected none, because this model reads no captions, got {quoted(prompt)}")
        return None
    captions = [prompt] if isinstance(prompt, str) else prompt
    if captions is None:
        raise InputError("prompt: expected a caption per image, because this model's descriptor reads captions, got none")
    if isinstance(captions, bytes) or not isinstance(captions, Sequence) or any(not isinstance(caption, str) for caption in captions):
        raise InputError(f"prompt: expected text, or a list of one text per image, got {quoted(captions)}")
    if len(captions) != count:
        raise InputError(f"prompt: expected one caption per image ({count}), got {len(captions)}")
    return list(captions)


def guided(denoiser: Denoiser, condition: Condition, empty: Tensor | None = None, scale: float = 1.0) -> Denoise:
    """The conditioned network as the sampling loop calls it, guided by the descriptor (Ho and Salimans, classifier-free guidance).

    out = out(empty) + scale (out(tokens) - out(empty)), in one pass over both; with a scale of 1 the tokens' alone.

    Args:
        empty: (B, L, width) the empty descriptor's tokens.
    """
    if empty is None or scale == 1:

        def plain(x_t: Tensor, timestep: Tensor, estimate: Tensor | None) -> Tensor:
            return denoiser(x_t, timestep, condition=condition, estimate=estimate)

        return plain
    assert condition.tokens is not None
    both = Condition(
        _twice(condition.image),
        None if condition.partial is None else _twice(condition.partial),
        None if condition.validity is None else _twice(condition.validity),
        torch.cat([empty, condition.tokens]),
    )

    def denoise(x_t: Tensor, timestep: Tensor, estimate: Tensor | None) -> Tensor:
        previous = None if estimate is None else _twice(estimate)
        without, with_tokens = denoiser(_twice(x_t), _twice(timestep), condition=both, estimate=previous).chunk(2)  # (B, C, h, w) each
        return without + scale * (with_tokens - without)

    return denoise


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])
