"""The authors' files: tensors stay on the disk until they are needed, and nothing in a file is ever run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ldmseg.errors import InputError, printable, quoted
from ldmseg.models.official.names import listed

STAGE_1, STAGE_2 = ("vae",), ("vae_semseg", "vae_image", "unet")
"""The networks in a file of each stage."""

BATCH = 2**27
"""Bytes that are converted from one mapping of the file."""


@dataclass(frozen=True)
class OfficialSettings:
    """How a checkpoint was trained, as far as the networks' weights do not show it. The defaults are the released model's.

    Attributes:
        mask_scale: s, what mask latents are multiplied by (figure 3).
        image_scale: the same for image latents.
        prediction_type: what the denoiser returns, `epsilon` or `sample`.
        beta_schedule, beta_start, beta_end: the noise schedule, in diffusers' names.
        image_size: pixels of the square that an image is resized to.
    """

    mask_scale: float = 0.18215
    image_scale: float = 0.18215
    prediction_type: str = "epsilon"
    beta_schedule: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    image_size: int = 512


# Where a file's own configuration (its entry `p`) has them.
_IN_CONFIG = {
    "mask_scale": ("vae_model_kwargs", "scaling_factor"),
    "image_scale": ("image_scaling_factor",),
    "prediction_type": ("noise_scheduler_kwargs", "prediction_type"),
    "beta_schedule": ("noise_scheduler_kwargs", "beta_schedule"),
    "beta_start": ("noise_scheduler_kwargs", "beta_start"),
    "beta_end": ("noise_scheduler_kwargs", "beta_end"),
    "image_size": ("transformation_kwargs", "size"),
}
_CHOICES = {"prediction_type": ("epsilon", "sample"), "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2")}


@dataclass(frozen=True)
class OfficialFile:
    """An open checkpoint; its tensors are a mapping of the file, so that none is read before it is used.

    Attributes:
        stage: 1 or 2.
        networks: the networks' weights by the release's names, without `module.`.
        settings: the file's own, where it holds them.
        step: of the training run, or None.
        unused: the file's other entries.
    """

    path: Path
    stage: int
    networks: Mapping[str, Mapping[str, Tensor]]
    settings: OfficialSettings
    step: int | None
    unused: tuple[str, ...]


def open_official(path: str | Path) -> OfficialFile:
    """Open a stage-2 checkpoint (`unet`, `vae_image`, `vae_semseg`) or a stage-1 one (`vae`).

    Raises:
        InputError: no such file, one that is truncated or no checkpoint, one that holds code, or one without these networks.
    """
    path = Path(path)
    entries = _load(path)
    keys = list(entries) if isinstance(entries, dict) else []
    stage = 2 if any(name in keys for name in STAGE_2) else 1
    names = STAGE_2 if stage == 2 else STAGE_1
    missing = [name for name in names if name not in keys]
    if missing:
        got = f"{len(keys)} entries: {listed(keys)}" if isinstance(entries, dict) else type(entries).__name__
        raise InputError(
            f"checkpoint: '{path}': expected the entries {', '.join(STAGE_2)} (stage 2) or {', '.join(STAGE_1)} (stage 1), got {got}"
        )
    step = entries.get("step")
    return OfficialFile(
        path=path,
        stage=stage,
        networks={name: _weights(path, name, entries[name]) for name in names},
        settings=_settings(path, entries.get("p")),
        step=step if isinstance(step, int) else None,
        unused=tuple(sorted(str(key) for key in keys if key not in (*names, "step", "epoch", "p") and entries[key] is not None)),
    )


def load_weights(
    file: OfficialFile, network: str, keys: Sequence[str], dtype: torch.dtype, each: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """Some of a network's weights in one type, dense and each in memory of its own.

    What has that form already stays a mapping of the file. The rest is copied in batches, each from a mapping that is then closed, because
    the pages of an open one stay in memory.

    Args:
        each: called after each tensor.

    Raises:
        InputError: a number is not finite, or too large for `dtype`.
    """
    loaded: dict[str, Tensor] = {}
    used: set[int] = set()
    waiting = []
    for key in keys:
        tensor = file.networks[network][key]
        address = tensor.untyped_storage().data_ptr()
        alone = tensor.untyped_storage().nbytes() == tensor.nbytes and address not in used
        if tensor.dtype == dtype and tensor.is_contiguous() and alone:
            used.add(address)
            loaded[key] = _finite(file.path, f"{network}.{key}", tensor)
            each()
        else:
            waiting.append(key)
    while waiting:
        mapped = _weights(file.path, network, _load(file.path)[network])
        read = 0
        while waiting and read < BATCH:
            key = waiting.pop(0)
            copy = mapped[key].to(dtype, copy=True, memory_format=torch.contiguous_format)
            loaded[key] = _finite(file.path, f"{network}.{key}", copy)
            read += mapped[key].nbytes
            each()
        del mapped
    return loaded


def _is_archive(stream: BinaryIO) -> bool:
    try:
        return zipfile.is_zipfile(stream)
    except zipfile.BadZipFile:  # of a directory on several disks, which nothing writes
        return False


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"checkpoint: expected a file, got '{path}', which {'is a folder' if path.is_dir() else 'does not exist'}")
    with path.open("rb") as stream:  # so that a file that may not be read is the system's own error
        if not _is_archive(stream):
            raise InputError(
                f"checkpoint: expected a file as torch.save writes it (a zip archive), got '{path}', which is truncated, of another kind, "
                "or older than PyTorch 1.6"
            )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"checkpoint: expected tensors and plain values only, got '{path}', which holds {_objects(path)}; "
            "such a file can run code, and is not read"
        ) from None
    except Exception as error:  # a damaged archive or pickle ends in many unrelated types
        reason = printable(" ".join(str(error).split())[:150])
        raise InputError(f"checkpoint: expected a file as torch.save writes it, got '{path}' ({type(error).__name__}: {reason})") from None


def _objects(path: Path) -> str:
    """What a pickle would create or call, read from it without doing so."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a pickle that cannot even be listed
        names = []
    return listed(names) if names else "other objects"


def _weights(path: Path, network: str, value: Any) -> dict[str, Tensor]:
    wrong = value if not isinstance(value, dict) else next((t for t in value.values() if not isinstance(t, Tensor)), None)
    if wrong is not None or not value:
        got = "no tensors" if wrong is None else type(wrong).__name__
        raise InputError(f"checkpoint: '{path}': {network}: expected tensors by name, got {got}")
    weights = {str(key).removeprefix("module."): tensor for key, tensor in value.items()}
    if len(weights) < len(value):
        raise InputError(f"checkpoint: '{path}': {network}: expected each key once, got some both with and without module.")
    other = [key for key, tensor in weights.items() if not tensor.is_floating_point() or tensor.layout != torch.strided]
    if other:
        raise InputError(f"checkpoint: '{path}': {network}: expected dense floating-point tensors, got others at {listed(other)}")
    return weights


def _settings(path: Path, config: Any) -> OfficialSettings:
    """The file's own settings over the defaults; a file without any, or with a configuration of another form, gets the defaults."""
    settings = OfficialSettings()
    for field, place in _IN_CONFIG.items():
        value = config
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            continue
        kind, allowed = type(getattr(settings, field)), _CHOICES.get(field)
        right = value in allowed if allowed else isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        if not right or (kind is int and value != int(value)):
            expected = f"one of {', '.join(allowed)}" if allowed else "a positive number"
            raise InputError(f"checkpoint: '{path}': its configuration's {'.'.join(place)}: expected {expected}, got {quoted(value)}")
        settings = replace(settings, **{field: kind(value)})
    return settings


def _finite(path: Path, key: str, tensor: Tensor) -> Tensor:
    if tensor.numel():
        lowest, highest = tensor.aminmax()  # needs no memory, and a nan comes through
        if not (lowest.isfinite() and highest.isfinite()):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"checkpoint: '{path}': {key}: expected numbers that are finite in {kind}, got infinity or nan")
    return tensor
