"""Run folders: the resolved configuration, and checkpoints that are there in full or not at all."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
import yaml
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from ldmseg.atomic import write_json, write_text, writing_errors
from ldmseg.config import OptimConfig, RunConfig, validate_config
from ldmseg.config.plain_yaml import PlainYamlError, read_yaml
from ldmseg.errors import InputError, quoted
from ldmseg.runs.history import checkpoints
from ldmseg.training.distributed import is_lost

logger = logging.getLogger(__name__)

# What may change when a run is resumed: how long, how often, how many workers, where latents lie, and how a step's samples are divided
# (`Division`); all else would make it another run.
_MAY_CHANGE = {
    *(("optim", key) for key in ("steps", "batch_size", "accumulate", "gradient_checkpointing")),
    *(("data", key) for key in ("workers", "val", "latents", "features", "on_error")),
    ("validation",),
    ("checkpoint",),
    ("trackers",),
}


@dataclass(frozen=True)
class Division:
    """How a step's samples are divided; their product must stay what it is all through a run.

    `weights` is how the weights are divided: `whole` (each process has everything), `fsdp` or `deepspeed`, whose checkpoints differ.
    """

    processes: int
    batch_size: int
    accumulate: int
    weights: str

    @classmethod
    def of(cls, accelerator: Accelerator, optim: OptimConfig) -> Self:
        shared = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        kind = accelerator.distributed_type.value.lower() if shared else "whole"
        return cls(accelerator.num_processes, optim.batch_size, optim.accumulate, kind)

    @property
    def samples(self) -> int:
        """Samples per step."""
        return self.processes * self.batch_size * self.accumulate

    def __str__(self) -> str:
        return f"{self.samples} samples per step (processes {self.processes} x batch_size {self.batch_size} x accumulate {self.accumulate})"


def start_run(run: Path, config: RunConfig, division: Division) -> None:
    """Create the run folder, or check that the one there was started with the same configuration and as many samples per step.

    Raises:
        InputError: a key differs that cannot change in the middle of a run; it is named with both values.
    """
    values = config.model_dump(mode="json")
    path, divided = run / "config.yaml", run / "division.json"
    if path.exists():
        differing = [key for key in _differences(_started_with(path), values) if not _free(key[0])]
        if differing:
            key, old, new = differing[0]
            before = f"{'.'.join(key)}={quoted(old)}"
            raise InputError(f"--config: {run} was started with {before}, got {quoted(new)}; choose another run folder")
    if divided.exists():
        _check_division(run, _read_division(divided), division)
    with writing_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    write_json(divided, asdict(division), indent=2)
    for leftover in (run / "checkpoints").glob(".*"):  # of a run that was killed while saving
        shutil.rmtree(leftover, ignore_errors=True)


def newest_checkpoint(run: Path) -> Path | None:
    """The folder of the latest complete checkpoint."""
    return next(reversed(checkpoints(run)), None)


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
            accelerator.save_state(str(unfinished))  # by all: with FSDP or DeepSpeed each writes its part
    except (SafetensorError, RuntimeError, CheckpointException) as error:  # torch and safetensors hide the system's error behind theirs
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_lost(error):
            raise
        raise InputError(f"output: cannot write the checkpoint {str(final)!r}: {' '.join(str(error).split())[:300]}") from None
    except InputError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(unfinished, final)
        for old in checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, run: Path) -> None:
    """Restore the newest checkpoint of the run, if it has one. The main process decides which that is.

    Raises:
        InputError: a file is truncated, damaged, missing or of another architecture, or another process has no access to the run folder.
    """
    newest: Path | None = broadcast_object_list([newest_checkpoint(run)])[0]
    if newest is None:
        return
    if not newest.is_dir():
        raise InputError(f"output: expected {str(newest)!r} on every machine, got none here; put the run folder on a shared disk")
    _load_checkpoint(accelerator, newest)
    # Accelerate counts batches to find the end of a step, and continues from the saved count: wrong after a change of `accumulate`.
    accelerator.step = 0
    logger.info("resuming from %s", newest)


def _load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
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
        CheckpointException,
        torch.serialization.pickle.PickleError,
    ) as error:
        if is_lost(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"checkpoint: {str(folder)!r} is damaged or of another model ({reason}); remove it to go on from the one before"
        ) from None


def _read_division(path: Path) -> Division:
    try:
        return Division(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"output: {str(path)!r} is damaged; remove it to go on with any division of a step") from None


def _check_division(run: Path, before: Division, now: Division) -> None:
    if before.samples != now.samples:
        pieces, rest = divmod(before.samples, now.processes * now.batch_size)
        way = f"set optim.accumulate={pieces}" if pieces and not rest else "keep the product"
        raise InputError(f"--config: {run} was started with {before}, got {now}; {way} or choose another run folder")
    if before.weights != now.weights:
        raise InputError(
            f"launch: {run} was started with weights {before.weights!r}, whose checkpoints are different, got {quoted(now.weights)}; "
            "launch it as before or choose another run folder"
        )
    if before.weights == "deepspeed" and before.processes != now.processes:
        raise InputError(
            f"launch: {run} was started with {before.processes} processes, and DeepSpeed goes on with as many, got {now.processes}"
        )


def _started_with(path: Path) -> dict:
    """The configuration that a run was started with; keys that did not exist then have their defaults."""
    try:
        values = read_yaml(path.read_text(encoding="utf-8", errors="replace"))
    except PlainYamlError as error:
        raise InputError(f"output: {str(path)!r} is damaged ({error}); choose another run folder") from None
    if not isinstance(values, dict):
        raise InputError(f"output: {str(path)!r} is damaged (no keys and values); choose another run folder")
    try:
        return validate_config(values).model_dump(mode="json")
    except InputError:
        return values


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
