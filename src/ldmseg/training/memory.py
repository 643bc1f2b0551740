"""How much memory a training step takes, found without taking it: the step runs on tensors that have a size and no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # torch has no public name for them
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FLOAT = 4  # bytes: weights, gradients, the optimizer's state and the average are kept in float32


@dataclass(frozen=True)
class Memory:
    """Bytes that one process takes which holds everything itself.

    Attributes:
        weights: of all networks, trained or frozen.
        gradients: of the trained weights; twice that where processes exchange them.
        optimizer: AdamW's two moments.
        average: the exponential average of the trained weights.
        activations: what a step takes beyond all these at its peak; None if that was not found out.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int | None

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average + (self.activations or 0)


def peak_of(networks: Iterable[nn.Module], step: Callable[[], Tensor], narrow: bool) -> int:
    """Bytes of the tensors that are alive at the peak of `step` and its way back, gradients included and weights not.

    Args:
        networks: on the meta device; they are left as tensors without values.
        step: makes its inputs, runs the networks and returns a scalar.
        narrow: whether under 16-bit autocast.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        held = [value for network in networks for value in network.to_empty(device="cpu").state_dict().values()]
        with _Alive(held) as alive, torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            step().backward()
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that operations made and that are still in use."""

    def __init__(self, held: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in held}  # what is not counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return  # a view, or changed in place
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
