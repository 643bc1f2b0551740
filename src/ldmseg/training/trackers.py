"""What lets people follow a run: accelerate's trackers (TensorBoard), `curves.png`, and who trained it."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import ProjectConfiguration
from PIL import Image
from torch import nn

from ldmseg import __version__
from ldmseg.atomic import atomic_write
from ldmseg.config import RunConfig
from ldmseg.errors import InputError, quoted
from ldmseg.runs.curves import draw_curves
from ldmseg.runs.history import Network, Start, read_history, record_start

logger = logging.getLogger(__name__)

PROJECT = "ldmseg"  # as the trackers' sites list it
_VERSIONS = ("torch", "accelerate", "diffusers")


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed, before anything is loaded or written.

    Raises:
        InputError: a tracker's package is not installed, or too new or old for the installed accelerate.
    """
    here = {str(name) for name in get_available_trackers()}
    if missing := [name for name in names if name not in here]:
        raise InputError(f"trackers: expected installed packages, got {quoted(missing[0])}, which is not; pip install {missing[0]}")


def tracking(names: Sequence[str], run: Path) -> dict[str, Any]:
    """The arguments with which `Accelerator` keeps trackers; those that write files write under `RUN/trackers`."""
    return {"log_with": list(names), "project_config": ProjectConfiguration(logging_dir=str(run / "trackers"))} if names else {}


class Watch:
    """The main process's eyes on a run; on others it does nothing.

    A tracker that fails during the run (the disk is full) is left out from then on, with a warning. The training continues, and the run
    folder has all figures anyway.
    """

    def __init__(self, accelerator: Accelerator, stage: nn.Module, config: RunConfig, run: Path) -> None:
        self.accelerator, self.config, self.run = accelerator, config, run
        self.enabled = accelerator.is_main_process
        self.networks = tuple(_count(name, part) for name, part in stage.named_children())  # before FSDP shares them out

    def begin(self, step: int) -> None:
        """Training begins, or continues after `step`. The run folder exists, and its figures end at `step`.

        Raises:
            InputError: a tracker cannot be started.
        """
        if not self.enabled:
            return
        try:
            self.accelerator.init_trackers(PROJECT, init_kwargs=_options(step))
            for tracker in self.accelerator.trackers:
                if step == 0:  # it would list the configuration as another run each time
                    tracker.store_init_configuration(_flat(self.config.model_dump(mode="json")))
        except Exception as error:  # each tracker has its own
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"trackers: cannot start {', '.join(self.config.trackers)}: {reason or type(error).__name__}") from error
        record_start(self.run, self._start(step))

    def figures(self, line: Mapping[str, float]) -> None:
        """A line of `metrics.jsonl`, for the trackers."""
        kinds = {name: ("val/" + name.removeprefix("val_") if name.startswith("val_") else "train/" + name) for name in line}
        for tracker in self._trackers():
            with self._surviving(tracker):
                tracker.log({kinds[name]: value for name, value in line.items() if name != "step"}, step=int(line["step"]))

    def validated(self, step: int, sheet: Image.Image | None) -> None:
        """Validation's sheet of samples, for the run folder and the trackers that take pictures; and the curves so far."""
        if not self.enabled:
            return
        if sheet is not None:
            with atomic_write(self.run / "samples" / f"step-{step:07d}.png") as temporary:
                sheet.save(temporary, format="PNG")
            for tracker in self._trackers():
                with self._surviving(tracker):
                    tracker.log_images({"samples": np.asarray(sheet.convert("RGB"))[None]}, step=step, dataformats="NHWC")
        try:
            draw_curves(read_history(self.run), self.run / "curves.png", self.run.resolve().name)
        except InputError as error:
            logger.warning("%s", error)

    def _trackers(self) -> list[GeneralTracker]:
        return list(self.accelerator.trackers) if self.enabled else []

    @contextmanager
    def _surviving(self, tracker: GeneralTracker) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            logger.warning("tracker %s failed and is left out from now on: %s", tracker.name, " ".join(str(error).split())[:300])
            self.accelerator.trackers.remove(tracker)

    def _start(self, step: int) -> Start:
        accelerator, optim = self.accelerator, self.config.optim
        return Start(
            step=step,
            processes=accelerator.num_processes,
            samples_per_step=optim.batch_size * optim.accumulate * accelerator.num_processes,
            device=_device(accelerator.device),
            machine=f"{_processor()} ({os.cpu_count()} cores, {platform.system()})",
            precision={"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision),
            versions=f"ldmseg {__version__}, Python {platform.python_version()}, "
            + ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS),
            networks=self.networks,
        )


def _options(step: int) -> dict[str, dict[str, Any]]:
    """TensorBoard drops what a killed process wrote after its last checkpoint."""
    return {"tensorboard": {"purge_step": step + 1}}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots. What is no scalar becomes text, as trackers need it."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _count(name: str, part: nn.Module) -> Network:
    sizes = [(p.numel(), p.requires_grad) for p in part.parameters()]
    return Network(name, sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def _device(device: torch.device) -> str:
    """A GPU's name; else the type."""
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(named(device)) if named is not None else device.type


def _processor() -> str:
    """Its name where the system has it (Linux), else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
