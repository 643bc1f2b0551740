"""The loss of stage 2 (section 3.2)."""

from __future__ import annotations

from typing import Protocol, get_args

import torch
from torch import Tensor

from ldmseg.choices import LossWeight
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError, quoted

LEAST_SHARE = 0.1
"""Images with fewer labelled cells than this share count less, so that a handful of cells never weighs as much as a whole image."""


class DenoiseRows(Protocol):
    """The network with its condition, for the whole batch or for some of its rows (int64 indices)."""

    def __call__(self, x_t: Tensor, timestep: Tensor, estimate: Tensor | None, rows: Tensor | None = None) -> Tensor: ...


def loss_weight(schedule: NoiseSchedule, timestep: Tensor, kind: LossWeight, snr_clamp: float = 5.0) -> Tensor:
    """(B,) timesteps -> (B,) weights of the squared error.

    `clamped-snr` is min(SNR, clamp) / SNR; `linear` grows with t; `decay` grows over the least noisy 25 % and is 1 above (the paper);
    `fixed` is 0.1 there and the SNR above. The last two names and the first are the release's.
    """
    total = schedule.config["num_train_timesteps"]
    if kind == "none":
        return torch.ones(timestep.shape, device=timestep.device)
    if kind == "clamped-snr":
        snr = schedule.snr(timestep)
        return snr.clamp(max=snr_clamp) / snr
    if kind == "linear":
        return (timestep + 1) / total
    if kind == "decay":
        return ((timestep + 1) / (0.25 * total)).clamp(max=1)
    if kind == "fixed":
        return torch.where(timestep < 0.25 * total, torch.full_like(schedule.snr(timestep), 0.1), schedule.snr(timestep))
    raise InputError(f"weight: expected one of {', '.join(get_args(LossWeight))}, got {quoted(kind)}")


def draw_timesteps(uniform: Tensor, schedule: NoiseSchedule, bias: float = 1.0, pure_noise_rate: float = 0.0) -> Tensor:
    """(B,) uniform numbers in [0, 1) -> (B,) timesteps T u**(1/bias); a bias above 1 gives more of the noisy ones.

    A share `pure_noise_rate` is the last timestep, T - 1, where sampling begins (one-step fine-tuning, mixed with the ordinary kind).
    """
    total = schedule.config["num_train_timesteps"]
    rest = ((uniform.double() - pure_noise_rate) / max(1 - pure_noise_rate, 1e-9)).clamp(min=0)
    drawn = (rest.pow(1 / bias) * total).long().clamp(max=total - 1)
    return torch.where(uniform < pure_noise_rate, total - 1, drawn)


def denoising_loss(
    denoise: DenoiseRows,
    schedule: NoiseSchedule,
    clean: Tensor,
    noise: Tensor,
    timestep: Tensor,
    *,
    weight: LossWeight = "decay",
    snr_clamp: float = 5.0,
    cells: Tensor | None = None,
    self_condition: Tensor | None = None,
) -> Tensor:
    """Weighted squared error of the network at noised latents (equation 3), as a scalar.

    Args:
        clean: (B, C, h, w) mask latents x_0.
        noise: (B, C, h, w) standard normal.
        timestep: (B,).
        cells: (B, 1, h, w) weight of each latent cell, 0 where the target is void.
        self_condition: (B,) which images get an estimate of x_0 as input, made without a gradient (Analog Bits); the others get zeros.
            The network makes this first pass even if no image of this batch needs it: processes that divide its weights (FSDP) must all
            make the same passes.
    """
    x_t = schedule.noised(clean, noise, timestep)
    estimate = None
    if self_condition is not None:
        wanted = self_condition.nonzero().flatten()
        rows = wanted if len(wanted) else wanted.new_zeros(1)
        with torch.no_grad():
            output = denoise(x_t[rows], timestep[rows], None, rows)
            made = schedule.clean_estimate(x_t[rows], output, timestep[rows]).to(clean.dtype)
            estimate = torch.zeros_like(clean).index_copy(0, wanted, made[: len(wanted)])
    output = denoise(x_t, timestep, estimate)
    target = schedule.training_target(clean, noise, timestep)
    error = (output.float() - target.float()).square()  # (B, C, h, w)
    if cells is not None:
        share = cells / cells.flatten(1).mean(1).clamp(min=LEAST_SHARE).reshape(-1, 1, 1, 1)
        error = error * share
    return (error.flatten(1).mean(1) * loss_weight(schedule, timestep, weight, snr_clamp).to(error)).mean()
