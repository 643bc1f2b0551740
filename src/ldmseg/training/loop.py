"""The one training loop, for both stages and any number of processes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ldmseg.atomic import write_text
from ldmseg.config import OptimConfig, RunConfig
from ldmseg.locking import locked
from ldmseg.training.batches import steps
from ldmseg.training.checkpoint import Division, resume, save_checkpoint, start_run
from ldmseg.training.distributed import wait_for_main
from ldmseg.training.ema import Average
from ldmseg.training.launch import autocast, clip_gradients, prepare, start_accelerator
from ldmseg.training.stages.base import Stage
from ldmseg.training.trackers import Watch, check_trackers, tracking

logger = logging.getLogger(__name__)

LOG_EVERY = 20  # steps


class Averages:
    """Means of logged scalars over the steps since the last line; they stay on the device until they are asked for."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.batches: dict[str, list[Tensor]] = {}  # of the step that is being made
        self.steps: dict[str, list[Tensor]] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            self.batches.setdefault(name, []).append(value.detach().float())

    def end_step(self) -> None:
        for name, values in self.batches.items():
            self.steps.setdefault(name, []).append(torch.stack(values).mean())
        self.batches = {}

    def take(self) -> dict[str, float]:
        """The means over the steps of all processes, which must all come here."""
        means = torch.stack([torch.stack(values).mean() for values in self.steps.values()])
        figures = dict(zip(self.steps, self.accelerator.reduce(means, reduction="mean").tolist(), strict=True))
        self.steps = {}
        return figures

    def state_dict(self) -> dict[str, Tensor]:
        """(processes, steps) of each name; every process must come here."""
        return {name: self.accelerator.gather(torch.stack(values)[None]).cpu() for name, values in self.steps.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Each process restores its own values. If another number of processes made the checkpoint, all take the mean."""
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        rows = {name: values[rank] if len(values) == count else values.mean(0) for name, values in state.items()}
        self.steps = {name: list(row.to(self.accelerator.device).unbind()) for name, row in rows.items()}


@dataclass
class Progress:
    """Where a run is, and what it has not logged yet; the only state beside weights, optimizer and average."""

    averages: Averages
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "averages": self.averages.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.averages.load_state_dict(state.get("averages", {}))  # checkpoints of an older version have none


def train(stage: Stage, config: RunConfig, run: Path, on_step: Callable[[int, dict[str, float]], None] | None = None) -> Path:
    """Train until `config.optim.steps`, continuing from the newest checkpoint of the run folder if it has one.

    Every process of a launch calls it with the same arguments; the result depends on how many samples a step takes, not on how many
    processes share them.

    Args:
        run: the run folder; gets `config.yaml`, `metrics.jsonl`, `curves.png`, `checkpoints/`, `samples/` and at the end `pipeline/`.
        on_step: called after each logged step with the step and its figures.

    Returns:
        The exported folder.

    Raises:
        InputError: another process trains in the run folder, which was started with another configuration, or cannot be written.
    """
    check_trackers(config.trackers)
    accelerator = start_accelerator(config.optim, **tracking(config.trackers, run))
    with locked(run, ("samples",)) if accelerator.is_main_process else nullcontext():
        _train(accelerator, stage, config, run, on_step)
    return run / "pipeline"


def _train(
    accelerator: Accelerator, stage: Stage, config: RunConfig, run: Path, on_step: Callable[[int, dict[str, float]], None] | None
) -> None:
    optim = config.optim
    watch = Watch(accelerator, stage, config, run)
    if accelerator.is_main_process:
        start_run(run, config, Division.of(accelerator, optim))
    accelerator.wait_for_everyone()
    model, optimizer, average = prepare(accelerator, stage, optim)
    averages = Averages(accelerator)
    progress = Progress(averages)
    accelerator.register_for_checkpointing(average, progress)
    resume(accelerator, run)
    log = MetricsLog(run / "metrics.jsonl", enabled=accelerator.is_main_process)
    log.keep_until(progress.step)
    watch.begin(progress.step)

    started = time.monotonic()
    for batches in steps(stage, config, progress.step, accelerator):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, optim) * group["lr_factor"]
        for batch in batches:
            with accelerator.accumulate(model):
                with autocast(accelerator):
                    terms = model(batch)
                accelerator.backward(terms["loss"])
                if accelerator.sync_gradients:
                    terms["grad_norm"] = clip_gradients(accelerator, average.trained, optim.clip)
                optimizer.step()
                optimizer.zero_grad()
            averages.add(terms)
        averages.end_step()
        average.update()
        progress.step += 1
        step = progress.step
        last = step == optim.steps
        if step % LOG_EVERY == 0 or last:
            line = {"step": step, **averages.take(), "lr": learning_rate(step - 1, optim)}
            if not math.isfinite(line["loss"]):
                raise FloatingPointError(f"the loss is {line['loss']} at step {step}; the newest checkpoint is kept in {run}")
            log.write({**line, "seconds": round(time.monotonic() - started, 1)})
            watch.figures(line)
            if on_step is not None and accelerator.is_main_process:
                on_step(step, line)
        if step % config.validation.every == 0 or last:
            _validate(average, log, watch, step)
        if step % config.checkpoint.every == 0 or last:
            save_checkpoint(accelerator, run, step, keep=config.checkpoint.keep)
    with average.applied() as result:
        if result is not None:
            result.export(run / "pipeline")
    wait_for_main()
    accelerator.end_training()


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Linear warm-up, then constant, or down to zero from `decay_start` on; a function of the step alone."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    begin = max(optim.warmup, round(optim.decay_start * optim.steps))
    if optim.decay == "constant" or step < begin:
        return optim.lr
    done = (step - begin) / max(1, optim.steps - begin)
    return optim.lr * (1 - done if optim.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


def _validate(average: Average, log: MetricsLog, watch: Watch, step: int) -> None:
    with average.applied() as result:
        if result is not None:
            figures, sheet = result.validate()
            line = {"step": step, **{f"val_{name}": value for name, value in figures.items()}}
            log.write(line)
            watch.figures(line)
            logger.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
            watch.validated(step, sheet)
    wait_for_main()


class MetricsLog:
    """JSON lines; a resumed run first drops the lines after its checkpoint, so that no step is there twice."""

    def __init__(self, path: Path, enabled: bool) -> None:
        self.path, self.enabled = path, enabled

    def keep_until(self, step: int) -> None:
        if self.enabled and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(self.path, "".join(line for line in lines if line.endswith("\n") and _step_of(line) <= step))

    def write(self, line: dict[str, Any]) -> None:
        if self.enabled:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def _step_of(line: str) -> float:
    """The step that a line is of; a damaged line (a crash of the machine leaves such) is of none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
