"""Segmenters by name, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.segmenters.base import Segmenter
from ldmseg.segmenters.baselines import Baseline, BaselineSegmenter
from ldmseg.segmenters.mask2former import QueryKind, QuerySegmenter
from ldmseg.segmenters.regions import RegionMethod, RegionSegmenter

SEGMENTERS: tuple[str, ...] = (*(f"{kind}:ID" for kind in get_args(QueryKind)), *get_args(RegionMethod), *get_args(Baseline))
"""Every name; ID is a folder or a Hub id. The last three complete partial maps, the others segment whole photos."""


def load_segmenter(name: str, device: torch.device | str = "cpu", categories: Sequence[Category] = ()) -> Segmenter:
    """The segmenter of a name in `SEGMENTERS`.

    Args:
        device: of a network.
        categories: of the data set, whose ids a network's classes get.

    Raises:
        InputError: an unknown name, or a network that cannot be loaded.
    """
    kind, separator, source = name.partition(":")
    if kind in get_args(QueryKind) and source:
        return QuerySegmenter.from_pretrained(kind, source, device=device, categories=categories)  # type: ignore[arg-type]  # just checked
    if not separator and name in get_args(RegionMethod):
        return RegionSegmenter(name)  # type: ignore[arg-type]
    if not separator and name in get_args(Baseline):
        return BaselineSegmenter(name)  # type: ignore[arg-type]
    raise InputError(f"segmenter: expected one of {', '.join(SEGMENTERS)}, got {quoted(name)}")
