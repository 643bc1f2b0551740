"""Sampling: noise to mask latents (algorithm 2), and the same loop with what is known put back (algorithm 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, get_args

import torch
from torch import Tensor

from ldmseg.choices import Sampler
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError, quoted

Project = Callable[[Tensor], Tensor]
"""Clean estimate (B, C, h, w) -> the same with what is known put back."""


class Denoise(Protocol):
    """The network with its condition: (x_t, t (B,), previous clean estimate or None) -> output, all (B, C, h, w)."""

    def __call__(self, x_t: Tensor, timestep: Tensor, estimate: Tensor | None) -> Tensor: ...


@torch.no_grad()
def sample(
    denoise: Denoise,
    noise: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    *,
    project: Project | None = None,
    sampler: Sampler = "ddim",
    generators: Sequence[torch.Generator] = (),
    estimate: Tensor | None = None,
    callback: Callable[[int, int, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Run the sampling loop.

    Args:
        denoise: the conditioned network.
        noise: (B, C, h, w), the start: standard normal, or latents noised to the first timestep.
        timesteps: from noisy to clean, as `NoiseSchedule.trailing_timesteps` gives them. Where one is noisier than the one before, noise
            is added up to it and the way down gone again (`resampled`).
        project: applied to each clean estimate (section 3.3).
        sampler: see `Sampler`.
        generators: one per image, for the samplers that draw noise at each step.
        estimate: (B, C, h, w) the previous clean estimate at the first step; none by default.
        callback: (step index, timestep, x, clean estimate) -> x, after each step.

    Returns:
        (B, C, h, w) clean mask latents.

    Raises:
        InputError: an unknown sampler, or one that needs a generator per image and has none.
    """
    if sampler not in get_args(Sampler):
        raise InputError(f"sampler: expected one of {', '.join(get_args(Sampler))}, got {quoted(sampler)}")
    climbs = any(later > earlier for earlier, later in pairwise(timesteps))
    if (sampler != "ddim" or climbs) and len(generators) != len(noise):
        what = f"the {sampler} sampler" if not climbs else "resampling"
        raise InputError(f"generators: {what} needs one per image ({len(noise)}), got {len(generators)}")
    x = noise
    for index, timestep in enumerate(timesteps):
        following = timesteps[index + 1] if index + 1 < len(timesteps) else -1
        if following > timestep:
            x = schedule.noised_again(x, timestep, following, image_noise(x, generators))
            continue
        output = denoise(x, torch.full((len(x),), timestep, device=x.device), estimate)
        clean = schedule.clean_estimate(x, output, timestep)
        if project is not None:
            clean = project(clean)
        fresh = None if sampler == "ddim" or following < 0 else image_noise(x, generators)
        if sampler == "renoise" and fresh is not None:
            x = schedule.noised(clean, fresh, torch.full((len(x),), following, device=x.device))
        else:
            x = schedule.advance(x, clean, timestep, following, fresh, eta=float(sampler == "ddpm"))
        estimate = clean
        if callback is not None:
            x = callback(index, timestep, x, clean)
    return x


def resampled(timesteps: Sequence[int], jump: int, times: int) -> list[int]:
    """RePaint's order (Lugmayr et al. 2022, section 4.2): each stretch of `jump` steps is gone through `times` times.

    [9, 7, 5, 3, 1] with jump 2 and 2 times is [9, 7, 5, 9, 7, 5, 3, 1, 5, 3, 1]: from 5 noise is added up to 9 again.

    Raises:
        InputError: `jump` or `times` is below 1.
    """
    if jump < 1 or times < 1:
        raise InputError(f"jump, resamplings: expected at least 1, got {jump} and {times}")
    order = [timesteps[0]]
    for start in range(0, len(timesteps) - 1, jump):
        down = list(timesteps[start + 1 : start + 1 + jump])
        order += down + [t for _ in range(times - 1) for t in (timesteps[start], *down)]
    return order


def image_noise(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise of the shape of `like`, each image from its own generator, so that its batch does not matter."""
    drawn = [torch.randn(like.shape[1:], generator=g, device=g.device, dtype=torch.float32) for g in generators]
    return torch.stack([one.to(like.device) for one in drawn]).to(like.dtype)
