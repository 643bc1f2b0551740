"""The exponential average of the trained weights: what is validated and exported, whether or not processes share the weights out."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ldmseg.training.stages.base import Stage


class Average(EMAModel):
    """Average of a stage's trained weights; where FSDP cut the weights into shards, every process averages its own.

    Args:
        stage: as `Accelerator.prepare` left it.
        spare: on the main process, a copy of the stage from before it was cut into shards (`spare_copy`), to put whole weights into.
    """

    def __init__(self, stage: Stage, decay: float, spare: Stage | None = None) -> None:
        self.stage, self.spare = stage, spare
        self.names = [name for name, p in stage.named_parameters() if p.requires_grad]
        self.trained = [p for p in stage.parameters() if p.requires_grad]
        super().__init__(self.trained, decay=decay, use_ema_warmup=False)
        self.to(dtype=torch.float32)  # DeepSpeed narrows the weights themselves, in which small changes would get lost

    def update(self) -> None:
        """Follow the weights after a step."""
        self.step(self.trained)

    @contextmanager
    def applied(self) -> Iterator[Stage | None]:
        """The stage with the averaged weights on the main process, None on the others. Every process must call this."""
        if _sharded(self.trained):
            whole = [_whole(p) for p in self.shadow_params]  # together
            yield self._fill_spare(whole) if self.spare is not None else None
            if self.spare is not None:
                self.spare.cpu()
        elif not PartialState().is_main_process:
            yield None
        else:
            self.store(self.trained)
            self.copy_to(self.trained)
            self.stage.eval()
            try:
                yield self.stage
            finally:
                self.stage.train()
                self.restore(self.trained)

    def state_dict(self) -> dict[str, Any]:
        """Whole weights, so that any number of processes can continue from them. Every process must call this."""
        return {**super().state_dict(), "shadow_params": [_whole(p) for p in self.shadow_params]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, on the devices and in the shards of the weights here.

        Raises:
            ValueError: another number of weights.
        """
        super().load_state_dict({**state, "shadow_params": None})
        for mine, loaded in zip(self.shadow_params, state["shadow_params"], strict=True):
            mine.copy_(
                distribute_tensor(loaded.to(mine.device), mine.device_mesh, mine.placements) if isinstance(mine, DTensor) else loaded
            )

    @torch.no_grad()
    def _fill_spare(self, whole: list[Tensor]) -> Stage:
        assert self.spare is not None
        for name, value in zip(self.names, whole, strict=True):
            self.spare.get_parameter(name).copy_(value)
        return self.spare.to(PartialState().device).eval()


def spare_copy(stage: Stage) -> Stage:
    """A copy of the networks; the data sets are shared, not copied."""
    return copy.deepcopy(stage, {id(part): part for part in vars(stage).values() if not isinstance(part, nn.Module | dict)})


def _sharded(parameters: list[nn.Parameter]) -> bool:
    return any(isinstance(p, DTensor) for p in parameters)


def _whole(value: Tensor) -> Tensor:
    """All of a weight; of one in shards, only on the main process (the others help to collect it)."""
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if PartialState().is_main_process else full.new_empty(0)
