"""The one training loop, for both stages and any number of processes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset

from ldmseg.config import OptimConfig, RunConfig
from ldmseg.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint, start_run
from ldmseg.training.precision import resolve_precision
from ldmseg.training.stage import Stage

logger = logging.getLogger(__name__)

LOG_EVERY = 20  # steps


@dataclass
class Progress:
    """Where a run is; the only state beside weights, optimizer and average."""

    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


@dataclass
class Averages:
    """Means of logged scalars since the last line."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, terms: dict[str, torch.Tensor]) -> None:
        self.count += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())

    def take(self) -> dict[str, float]:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def train(stage: Stage, config: RunConfig, run: Path, on_step: Callable[[int, dict[str, float]], None] | None = None) -> Path:
    """Train until `config.optim.steps`, continuing from the newest checkpoint of the run folder if it has one.

    Args:
        run: the run folder; gets `config.yaml`, `metrics.jsonl`, `checkpoints/`, `samples/` and at the end `pipeline/`.
        on_step: called after each logged step with the step and its figures.

    Returns:
        The exported folder.
    """
    optim = config.optim
    accelerator = Accelerator(
        mixed_precision=resolve_precision(optim.precision),
        gradient_accumulation_steps=optim.accumulate,
        step_scheduler_with_optimizer=False,
    )
    if accelerator.is_main_process:
        start_run(run, config)
    accelerator.wait_for_everyone()
    trained = [p for p in stage.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=optim.lr, weight_decay=optim.weight_decay)
    model, optimizer = accelerator.prepare(stage, optimizer)
    average = EMAModel(trained, decay=optim.ema, use_ema_warmup=False)
    average.to(accelerator.device)
    progress = Progress()
    accelerator.register_for_checkpointing(average, progress)
    log = MetricsLog(run / "metrics.jsonl", enabled=accelerator.is_main_process)
    if (newest := newest_checkpoint(run)) is not None:
        load_checkpoint(accelerator, newest)
        logger.info("resuming from %s", newest)
    log.keep_until(progress.step)

    averages, started = Averages(), time.monotonic()
    for batches in _steps(stage, config, progress.step, accelerator):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, optim)
        for batch in batches:
            with accelerator.accumulate(model), accelerator.autocast():
                terms = model(batch)
                accelerator.backward(terms["loss"])
                if accelerator.sync_gradients:
                    terms["grad_norm"] = accelerator.clip_grad_norm_(trained, optim.clip)
                optimizer.step()
                optimizer.zero_grad()
            averages.add(terms)
        average.step(trained)
        progress.step += 1
        step = progress.step
        last = step == optim.steps
        if step % LOG_EVERY == 0 or last:
            figures = accelerator.reduce({k: torch.tensor(v) for k, v in averages.take().items()}, reduction="mean")
            line = {"step": step, **{k: float(v) for k, v in figures.items()}, "lr": learning_rate(step - 1, optim)}
            if not math.isfinite(line["loss"]):
                raise FloatingPointError(f"the loss is {line['loss']} at step {step}; the newest checkpoint is kept in {run}")
            log.write({**line, "seconds": round(time.monotonic() - started, 1)})
            if on_step is not None and accelerator.is_main_process:
                on_step(step, line)
        if step % config.validation.every == 0 or last:
            _validate(stage, trained, average, accelerator, log, run, step)
        if step % config.checkpoint.every == 0 or last:
            save_checkpoint(accelerator, run, step, keep=config.checkpoint.keep)
    with averaged(trained, average):
        if accelerator.is_main_process:
            stage.export(run / "pipeline")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run / "pipeline"


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Linear warm-up, then constant, or down to zero from `decay_start` on; a function of the step alone."""
    if step < optim.warmup:
        return optim.lr * (step + 1) / optim.warmup
    begin = max(optim.warmup, round(optim.decay_start * optim.steps))
    if optim.decay == "constant" or step < begin:
        return optim.lr
    done = (step - begin) / max(1, optim.steps - begin)
    return optim.lr * (1 - done if optim.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


@contextmanager
def averaged(parameters: list[torch.nn.Parameter], average: EMAModel) -> Iterator[None]:
    """The averaged weights in place of the trained ones."""
    average.store(parameters)
    average.copy_to(parameters)
    try:
        yield
    finally:
        average.restore(parameters)


def _validate(stage: Stage, trained: list, average: EMAModel, accelerator: Accelerator, log: MetricsLog, run: Path, step: int) -> None:
    if accelerator.is_main_process:
        stage.eval()
        with averaged(trained, average):
            figures, sheet = stage.validate()
        stage.train()
        log.write({"step": step, **{f"val_{name}": value for name, value in figures.items()}})
        logger.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if sheet is not None:
            (run / "samples").mkdir(exist_ok=True)
            sheet.save(run / "samples" / f"step-{step:07d}.png")
    accelerator.wait_for_everyone()


class _Samples(Dataset):
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __getitem__(self, number: int) -> Any:
        return self.stage.load_sample(number)


def _steps(stage: Stage, config: RunConfig, first: int, accelerator: Accelerator) -> Iterator[list[Any]]:
    """The micro-batches of each step from `first` on, on this process's device; numbers are dealt out in order."""
    size, pieces = config.optim.batch_size, config.optim.accumulate
    ranks, rank = accelerator.num_processes, accelerator.process_index

    def numbers() -> Iterator[list[int]]:
        for piece in range(first * pieces, config.optim.steps * pieces):
            begin = (piece * ranks + rank) * size
            yield list(range(begin, begin + size))

    loader = DataLoader(
        _Samples(stage),
        batch_sampler=numbers(),  # type: ignore[arg-type]  # any iterable of index lists
        collate_fn=stage.collate,
        num_workers=config.data.workers,
        persistent_workers=config.data.workers > 0,
    )
    waiting = []
    for batch in loader:
        waiting.append(to_device(batch, accelerator.device))
        if len(waiting) == pieces:
            yield waiting
            waiting = []


def to_device(batch: Any, device: torch.device) -> Any:
    """A frozen dataclass of tensors on another device; other fields stay as they are."""
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(batch).items()}
    return type(batch)(**moved)


class MetricsLog:
    """JSON lines; a resumed run first drops the lines after its checkpoint, so that no step is there twice."""

    def __init__(self, path: Path, enabled: bool) -> None:
        self.path, self.enabled = path, enabled

    def keep_until(self, step: int) -> None:
        if self.enabled and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            self.path.write_text("".join(kept), encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        if self.enabled:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
