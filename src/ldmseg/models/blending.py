"""Weights between those of a model and of the one that its training began with (Wortsman et al. 2022, "Robust fine-tuning").

What a network knew before it was fine-tuned and what it learned since can often be had at once: along the straight line between the two
sets of weights both are better than at its ends.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from ldmseg.errors import InputError
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.denoiser import Denoiser, widen_input
from ldmseg.models.image_encoder import ConvImageEncoder, ImageEncoder


def blend_denoisers(denoiser: Denoiser, before: Denoiser, share: float) -> Denoiser:
    """w <- (1 - share) w + share w_before, in place; inputs that `before` lacks count as zero weights.

    Raises:
        InputError: `share` is not in 0..1, or the two are not of one architecture.
    """
    same = ("image_channels", "self_condition", "partial")
    try:
        widened = widen_input(copy.deepcopy(before), **{key: denoiser.config[key] for key in same})
    except InputError as error:
        raise InputError(f"before: expected a denoiser that the other may have begun with, got one with more inputs ({error})") from error
    _blend(denoiser, widened, share)
    return denoiser


def blend_encoders(encoder: ImageEncoder, before: ImageEncoder, share: float) -> ImageEncoder:
    """The same for the trained parts of two image encoders; of one that got its backbone since, for the stem. A frozen one stays.

    Raises:
        InputError: `share` is not in 0..1, or the two are not of one architecture.
    """
    if isinstance(encoder, BackboneImageEncoder):
        if isinstance(before, BackboneImageEncoder):
            _blend(encoder.adapter, before.adapter, share)
            before = before.stem
        _blend(encoder.stem, before, share)
    elif isinstance(encoder, ConvImageEncoder):
        _blend(encoder, before, share)
    return encoder


@torch.no_grad()
def _blend(network: nn.Module, before: nn.Module, share: float) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"share: expected 0..1, got {share}")
    mine, theirs = dict(network.named_parameters()), dict(before.named_parameters())
    strange = [name for name in mine if name not in theirs or theirs[name].shape != mine[name].shape]
    if strange or len(mine) != len(theirs):
        what = strange[0] if strange else next(name for name in theirs if name not in mine)
        raise InputError(f"before: expected a {type(network).__name__} of the same architecture, got another ({what})")
    for name, weight in mine.items():
        weight.lerp_(theirs[name].to(weight), share)
