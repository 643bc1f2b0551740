"""Which number format a machine trains in."""

from __future__ import annotations

from typing import Literal

import torch


def resolve_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"]) -> Literal["no", "bf16", "fp16"]:
    """Accelerate's name for a precision; `auto` is bf16 where the hardware multiplies it (on a CPU without it, bf16 is far slower)."""
    if wanted == "auto":
        if torch.cuda.is_available():
            wanted = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
        else:
            wanted = "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
    return "no" if wanted == "fp32" else wanted  # type: ignore[return-value]
