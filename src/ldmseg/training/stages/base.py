"""The interface between the training loop and a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ldmseg.errors import InputError


class Stage(nn.Module, ABC):
    """A network in training with its loss. The loop uses nothing else of a stage.

    Every sample has a global number, and all its randomness is a function of (seed, number): the data order, and with it the result,
    depends neither on workers nor on where a run was interrupted, and a step can be divided among processes.
    """

    config: Any
    """The run's configuration (a `RunConfig`), with all that the stage decides of it."""

    @property
    def _no_split_modules(self) -> list[str]:
        """The name under which accelerate finds the layers whose weights FSDP collects one at a time: the blocks of a UNet."""
        present = {type(part).__name__ for part in self.modules()}
        return [name for name in ("ResnetBlock2D", "BasicTransformerBlock") if name in present]

    @abstractmethod
    def load_sample(self, number: int) -> Any:
        """Sample `number` of the endless training stream, read and augmented on the CPU."""

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> Any:
        """Samples -> the batch that `forward` takes: a frozen dataclass of tensors."""

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; `loss` is what is minimised."""

    def lr_factor(self, name: str) -> float:
        """What the learning rate of a weight is multiplied by."""
        return 1.0

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], Image.Image | None]:
        """Figures of the validation set (fractions), and a sheet of sample pictures."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write what the run was for, ready to be loaded."""


@contextmanager
def fresh_weights(seed: int) -> Iterator[None]:
    """New layers get weights that are a function of the seed; the process's own randomness is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def save_memory(network: Any) -> None:
    """Gradient checkpointing: activations inside blocks are dropped in the forward pass and computed again in the backward pass.

    Raises:
        InputError: the network has no blocks to do so with.
    """
    if not getattr(network, "_supports_gradient_checkpointing", False):
        raise InputError(
            f"optim.gradient_checkpointing: expected false for a {type(network).__name__}, which is too small for it, got true"
        )
    network.enable_gradient_checkpointing()


def sample_rng(seed: int, number: int) -> np.random.Generator:
    """Numpy randomness of one training sample."""
    return np.random.default_rng([seed, number])


def sample_generators(seed: int, numbers: Sequence[int]) -> list[torch.Generator]:
    """Torch randomness of each training sample, on the CPU, apart from `sample_rng`'s."""
    states = (np.random.SeedSequence([seed, number, 1]).generate_state(1, np.uint64)[0] for number in numbers)
    return [torch.Generator().manual_seed(int(state >> np.uint64(1))) for state in states]


def shuffled_index(seed: int, number: int, length: int) -> int:
    """Which data-set item sample `number` is: every epoch is a new permutation of all items."""
    epoch, position = divmod(number, length)
    return int(permutation(seed, epoch, length)[position])


REMEMBERED = 32
"""Permutations that are kept: one for each data set of a mixture, and some."""

_PERMUTATIONS: dict[tuple[int, int, int], np.ndarray] = {}


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order of an epoch's items, remembered while it is in use."""
    key = (seed, epoch, length)
    if key not in _PERMUTATIONS:
        while len(_PERMUTATIONS) >= REMEMBERED:
            _PERMUTATIONS.pop(next(iter(_PERMUTATIONS)))
        _PERMUTATIONS[key] = np.random.default_rng([seed, epoch, 2]).permutation(length)
    return _PERMUTATIONS[key]
