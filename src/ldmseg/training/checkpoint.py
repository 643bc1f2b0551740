"""Run folders: the resolved configuration, and checkpoints that are there in full or not at all."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator
from safetensors import SafetensorError

from ldmseg.config import RunConfig
from ldmseg.errors import InputError
from ldmseg.formats.atomic import write_text, writing_errors

# What may change when a run is resumed: how long, how often, how many workers; everything else would make it another run.
_MAY_CHANGE = {("optim", "steps"), ("data", "workers"), ("data", "val"), ("validation",), ("checkpoint",)}


def start_run(run: Path, config: RunConfig) -> None:
    """Create the run folder, or check that the one there was started with the same configuration.

    Raises:
        InputError: a key differs that cannot change in the middle of a run; it is named with both values.
    """
    values = config.model_dump(mode="json")
    path = run / "config.yaml"
    if path.exists():
        differing = [key for key in _differences(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, values) if not _free(key[0])]
        if differing:
            key, old, new = differing[0]
            raise InputError(f"--config: {run} was started with {'.'.join(key)}={old!r}, got {new!r}; choose another run folder")
    with writing_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    for leftover in (run / "checkpoints").glob(".*"):  # of a run that was killed while saving
        shutil.rmtree(leftover, ignore_errors=True)


def newest_checkpoint(run: Path) -> Path | None:
    """The folder of the latest complete checkpoint."""
    return max((run / "checkpoints").glob("step-*"), default=None)


def save_checkpoint(accelerator: Accelerator, run: Path, step: int, keep: int) -> None:
    """Weights, optimizer, average and step under `checkpoints/step-NNNNNNN`, by a rename at the end; only the newest `keep` stay."""
    folder = run / "checkpoints"
    unfinished, final = folder / f".step-{step:07d}", folder / f"step-{step:07d}"
    if accelerator.is_main_process:
        with writing_errors(final):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        with writing_errors(final):
            accelerator.save_state(str(unfinished))
    except (SafetensorError, RuntimeError) as error:  # torch and safetensors hide the system's error behind theirs
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(f"output: cannot write the checkpoint {str(final)!r}: {' '.join(str(error).split())}") from None
    except InputError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(unfinished, final)
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Restore everything `save_checkpoint` wrote.

    Raises:
        InputError: a file is truncated, damaged, missing or of another architecture.
    """
    try:
        accelerator.load_state(str(folder))
    except (
        SafetensorError,
        RuntimeError,
        OSError,
        EOFError,
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        torch.serialization.pickle.PickleError,
    ) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"checkpoint: {str(folder)!r} is damaged or of another model ({reason}); remove it to go on from the one before"
        ) from None


def _free(key: tuple[str, ...]) -> bool:
    return any(key[: len(prefix)] == prefix for prefix in _MAY_CHANGE)


def _differences(old: dict, new: dict, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object, object]]:
    found: list[tuple[tuple[str, ...], object, object]] = []
    for key in {**old, **new}:
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, (*prefix, key))
        elif a != b:
            found.append(((*prefix, key), a, b))
    return found
