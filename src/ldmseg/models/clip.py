"""CLIP through transformers, which nothing else needs and which is imported only here, when it is used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmseg.errors import InputError
from ldmseg.models.pretrained import LISTED, Pretrained, only_shapes

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the photos that CLIP was trained on, values in 0..1 (Radford et al. 2021)."""


def clip_pixels(photos: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 3, size, size) float32 as CLIP was trained with; the whole photo is squeezed to the square."""
    resized = F.interpolate(photos.float(), (size, size), mode="bicubic", antialias=True, align_corners=False)
    values = (resized.clamp(-1, 1) + 1) / 2
    mean, std = (torch.tensor(numbers, device=photos.device).reshape(1, 3, 1, 1) for numbers in (PIXEL_MEAN, PIXEL_STD))
    return (values - mean) / std


def import_transformers(argument: str = "descriptor", user: str = "CLIP", extra: str = "descriptors") -> Any:
    """The package, which no part of the core needs.

    Args:
        argument: named in the error.
        user: what needs the package.
        extra: of this package, which installs it.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(f"{argument}: expected the package transformers for {user} (pip install 'ldmseg[{extra}]'), got none") from None
    return transformers


def check_type(saved: Pretrained, types: tuple[str, ...]) -> None:
    """The model type in a config of transformers must be one of `types`.

    Raises:
        InputError: it is a model of another type.
    """
    found = saved.config.get("model_type")
    if found not in types:
        raise InputError(f"source: expected a CLIP model ({' or '.join(types)}) in {saved}, got {found or 'no model_type'}")


def load_clip(model_class: Any, saved: Pretrained, optional: str | tuple[str, ...] = ()) -> tuple[Any, bool]:
    """A CLIP model with its weights, and whether those that begin with `optional` are missing; the folder may hold more weights.

    Raises:
        InputError: it cannot be loaded, or other weights are missing; the keys are listed.
    """
    with quiet():
        try:
            if only_shapes():
                config = model_class.config_class.from_pretrained(saved.root, subfolder=saved.subfolder)
                return model_class(config), saved.config.get("architectures") == ["CLIPVisionModel"]
            model, info = model_class.from_pretrained(saved.root, subfolder=saved.subfolder, output_loading_info=True)
        except Exception as error:  # transformers, safetensors and the Hub's client raise many unrelated types
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"source: expected weights of {model_class.__name__} in {saved}, got {reason}") from error
    missing = sorted({str(key) for kind in ("missing_keys", "mismatched_keys") for key in info[kind]})
    needed = [key for key in missing if not key.startswith(optional)]
    if needed:
        rest = f" and {len(needed) - LISTED} more" if len(needed) > LISTED else ""
        listed = ", ".join(needed[:LISTED]) + rest
        raise InputError(f"source: expected the weights of {model_class.__name__} in {saved}, got {len(needed)} missing: {listed}")
    return model.eval(), bool(missing)


def load_tokenizer(saved: Pretrained, length: int, vocabulary: int) -> str:
    """The JSON of a CLIP tokenizer that makes `length` word pieces of any text.

    Raises:
        InputError: none is there, or it is not that of a model with `vocabulary` word pieces.
    """
    subfolder = "tokenizer" if saved.subfolder == "text_encoder" else saved.subfolder
    with quiet():
        try:
            loaded = import_transformers().CLIPTokenizerFast.from_pretrained(saved.root, subfolder=subfolder)
        except Exception as error:  # as in `load_clip`
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(f"source: expected a CLIP tokenizer in {f'{saved.root}/{subfolder}'.rstrip('/')}, got {reason}") from error
    if len(loaded) != vocabulary:  # where its files are missing, transformers makes up an empty one
        raise InputError(f"source: expected a tokenizer of {vocabulary} word pieces in {saved.root}, as CLIP has, got {len(loaded)}")
    tokenizer = loaded.backend_tokenizer
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=loaded.pad_token_id, pad_token=loaded.pad_token)
    return tokenizer.to_str()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers logs every unused weight and draws a progress bar. What matters becomes an error here."""
    bars = import_transformers().utils.logging
    logger, shown = logging.getLogger("transformers"), bars.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()
