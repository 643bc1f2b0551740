"""The device of tensors. This is the only module with names of devices."""

from __future__ import annotations

import torch

from ldmseg.errors import InputError, quoted


def resolve_device(name: str = "auto") -> torch.device:
    """`auto` is a GPU where there is one, else the CPU; other names are torch's (`cpu`, `cuda:1`, `mps`).

    Raises:
        InputError: no such device, or none here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        got = f"{quoted(name)} ({_short(error)})"
        raise InputError(f"--device: expected auto, cpu, cuda, cuda:N or mps, available here; got {got}") from None
    return device


PER_GPU = 2
"""Processes of an archive's run on one GPU: while one reads or writes, the other draws."""


def on_processor(device: torch.device) -> bool:
    """Whether a device is the machine's processor."""
    return device.type == "cpu"


def same_kind(device: torch.device) -> list[str]:
    """The names of all devices of a kind on this machine."""
    if device.type != "cuda":
        return [str(device)]
    return [f"{device.type}:{index}" for index in range(torch.cuda.device_count())]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
