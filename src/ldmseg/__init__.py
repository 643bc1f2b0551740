"""Panoptic segmentation and mask completion by latent diffusion."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names load their module on first use, so that `ldmseg --help` and the numpy-only parts never import torch.
_HOMES = {
    "PanopticMap": "ldmseg.panoptic",
    "Segment": "ldmseg.panoptic",
    "VOID": "ldmseg.panoptic",
}
__all__ = ["VOID", "PanopticMap", "Segment", "__version__"]

if TYPE_CHECKING:
    from ldmseg.panoptic import VOID, PanopticMap, Segment


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ldmseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
