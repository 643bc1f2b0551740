"""The stream of training batches, dealt out to processes and pieces of a step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from ldmseg.config import RunConfig
from ldmseg.errors import InputError
from ldmseg.training.stages.base import Stage


def steps(stage: Stage, config: RunConfig, first: int, accelerator: Accelerator) -> Iterator[list[Any]]:
    """The batches (`optim.accumulate` of them) of each step from `first` on, on this process's device.

    Sample numbers are dealt in order, so the samples of a step depend on their number alone, and not on how they are divided.

    Raises:
        InputError: a sample cannot be read.
    """
    size, pieces = config.optim.batch_size, config.optim.accumulate
    ranks, rank = accelerator.num_processes, accelerator.process_index

    def numbers() -> Iterator[list[int]]:
        for piece in range(first * pieces, config.optim.steps * pieces):
            begin = (piece * ranks + rank) * size
            yield list(range(begin, begin + size))

    loader = DataLoader(
        _Samples(stage),
        batch_sampler=numbers(),  # type: ignore[arg-type]  # any iterable of index lists
        collate_fn=partial(_collate, stage),
        num_workers=config.data.workers,
        persistent_workers=config.data.workers > 0,
    )
    waiting = []
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        waiting.append(to_device(batch, accelerator.device))
        if len(waiting) == pieces:
            yield waiting
            waiting = []


def to_device(batch: Any, device: torch.device) -> Any:
    """A frozen dataclass of tensors, and tuples of them, on another device; other fields stay as they are."""

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    return type(batch)(**{name: moved(value) for name, value in vars(batch).items()})


class _Samples(Dataset):
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __getitem__(self, number: int) -> Any:
        try:
            return self.stage.load_sample(number)
        except InputError as error:  # passed as a value: raised in a worker, it would arrive as the text of a traceback
            return error


def _collate(stage: Stage, samples: list[Any]) -> Any:
    broken = next((sample for sample in samples if isinstance(sample, InputError)), None)
    return stage.collate(samples) if broken is None else broken
