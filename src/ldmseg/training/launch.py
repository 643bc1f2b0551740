"""What a launch decides: one process, several with whole copies of the weights, or several that share them out (FSDP, DeepSpeed)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ldmseg.config import OptimConfig
from ldmseg.errors import InputError
from ldmseg.training.distributed import join
from ldmseg.training.ema import Average, spare_copy
from ldmseg.training.precision import resolve_precision
from ldmseg.training.stages.base import Stage


def start_accelerator(optim: OptimConfig, **more: Any) -> Accelerator:
    """Accelerate with the settings of the launch (`accelerate launch --config_file ..`) and the configuration's precision and accumulation.

    Args:
        more: of `Accelerator`'s other arguments.

    Raises:
        InputError: the launch has settings that the loop does not support.
    """
    join()
    accelerator = Accelerator(
        mixed_precision=resolve_precision(optim.precision),
        gradient_accumulation_steps=optim.accumulate,
        step_scheduler_with_optimizer=False,
        **more,
    )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise InputError("launch: expected fsdp_version 2 in accelerate's configuration, got 1")
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        values = accelerator.state.deepspeed_plugin.deepspeed_config
        if (stage := values["zero_optimization"]["stage"]) == 3:
            raise InputError(f"launch: expected zero_stage 0, 1 or 2, got {stage}; to share the weights out, use FSDP")
        values["train_micro_batch_size_per_gpu"] = optim.batch_size  # its engine accumulates and clips by itself
        values["gradient_accumulation_steps"] = optim.accumulate
        values["gradient_clipping"] = optim.clip
    return accelerator


def prepare(accelerator: Accelerator, stage: Stage, optim: OptimConfig) -> tuple[nn.Module, Any, Average]:
    """The stage as the processes train it, its optimizer, and the average of its weights.

    FSDP replaces the parameters, also in an optimizer that is prepared with the model. The average must get the new ones. DeepSpeed narrows
    them; the average must start from the wide ones.
    """
    shards = accelerator.distributed_type == DistributedType.FSDP
    spare = spare_copy(stage) if shards and accelerator.is_main_process else None
    optimizer = torch.optim.AdamW(parameter_groups(stage), lr=optim.lr, weight_decay=optim.weight_decay)
    average = None if shards else Average(stage, optim.ema)
    model, optimizer = accelerator.prepare(stage, optimizer)
    average = average or Average(stage, optim.ema, spare)
    average.to(accelerator.device)
    return model, optimizer, average


def parameter_groups(stage: Stage) -> list[dict[str, Any]]:
    """The trained weights, those with the same learning rate together; `lr_factor` stays in the group for the loop."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in stage.named_parameters():
        if weight.requires_grad:
            groups.setdefault(stage.lr_factor(name), []).append(weight)
    return [{"params": weights, "lr_factor": factor} for factor, weights in sorted(groups.items())]


def autocast(accelerator: Accelerator) -> AbstractContextManager:
    """Accelerate's; it leaves DeepSpeed's narrow weights alone with wide inputs, so there the inputs are narrowed too."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        narrow = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
        return torch.autocast(accelerator.device.type, narrow) if narrow else nullcontext()
    return accelerator.autocast()


def clip_gradients(accelerator: Accelerator, trained: list[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradients down to a norm of at most `largest`; their norm before that, as a scalar."""
    norm = accelerator.clip_grad_norm_(trained, largest)
    if isinstance(norm, DTensor):
        return norm.full_tensor()
    return torch.as_tensor(norm if norm is not None else float("nan"), device=accelerator.device)
