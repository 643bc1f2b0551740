"""The noise schedule of section 3.2, on diffusers' DDIM scheduler."""

from __future__ import annotations

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ldmseg.errors import InputError, quoted

MOST_TIMESTEPS = 1_000_000
"""A schedule has some numbers for each; a damaged one would ask for gigabytes."""


class NoiseSchedule(DDIMScheduler):
    """diffusers' `DDIMScheduler` with trailing timesteps, right for every number of steps.

    A step goes from each timestep to the next one of the list (diffusers goes to `t - T // n`, which is another one where n does not
    divide T), and the last one returns the clean estimate. Saved and loaded as any scheduler.

    Args:
        num_train_timesteps: T, at most `MOST_TIMESTEPS`.
        beta_start: as in diffusers; the default is Stable Diffusion's.
        beta_end: as in diffusers; the default is Stable Diffusion's.
        beta_schedule: as in diffusers; the default is Stable Diffusion's.
        prediction_type: what the network returns: the noise (`epsilon`), the clean latents (`sample`) or `v_prediction`.

    Raises:
        InputError: T is no such number.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        prediction_type: str = "epsilon",
        timestep_spacing: str = "trailing",
        clip_sample: bool = False,
        set_alpha_to_one: bool = True,
    ) -> None:
        if not isinstance(num_train_timesteps, int) or not 1 <= num_train_timesteps <= MOST_TIMESTEPS:
            raise InputError(f"num_train_timesteps: expected 1 to {MOST_TIMESTEPS:,}, got {quoted(num_train_timesteps)}")
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            prediction_type=prediction_type,
            timestep_spacing=timestep_spacing,
            clip_sample=clip_sample,
            set_alpha_to_one=set_alpha_to_one,
        )

    def trailing_timesteps(self, steps: int) -> list[int]:
        """n timesteps from T - 1 down, equidistant, none repeated.

        Raises:
            InputError: n is not in 1..T.
        """
        total = self.config["num_train_timesteps"]
        if not 1 <= steps <= total:
            raise InputError(f"num_inference_steps: expected 1..{total}, got {steps}")
        return (np.round(np.arange(steps, 0, -1) * total / steps).astype(int) - 1).tolist()

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """As diffusers', for its own users; `sample` works from `trailing_timesteps`."""
        self.num_inference_steps = num_inference_steps  # type: ignore[assignment]
        self.timesteps = torch.tensor(self.trailing_timesteps(num_inference_steps), device=device)

    def alpha_bar(self, timestep: Tensor | int) -> Tensor:
        """Cumulated signal share: (B,) -> (B, 1, 1, 1), or a scalar; 1 for a negative timestep (the end)."""
        timestep = torch.as_tensor(timestep)
        known = self.alphas_cumprod.to(timestep.device)
        value = torch.where(timestep < 0, torch.ones((), device=timestep.device), known[timestep.clamp(min=0)])
        return value.reshape(-1, 1, 1, 1) if value.ndim else value

    def snr(self, timestep: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio alpha_bar / (1 - alpha_bar)."""
        alpha = self.alpha_bar(timestep).flatten()
        return alpha / (1 - alpha)

    def noised(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise; all (B, C, h, w), timestep (B,)."""
        alpha = self.alpha_bar(timestep).to(clean)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def training_target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should return for x_t, by `prediction_type`."""
        kind = self.config["prediction_type"]
        if kind == "epsilon":
            return noise
        if kind == "sample":
            return clean
        alpha = self.alpha_bar(timestep).to(clean)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    def clean_estimate(self, x_t: Tensor, output: Tensor, timestep: Tensor | int) -> Tensor:
        """The network's output at x_t -> its estimate of x_0 (equation 12 of DDIM)."""
        kind = self.config["prediction_type"]
        if kind == "sample":
            return output
        alpha = self.alpha_bar(timestep).to(x_t)
        if kind == "epsilon":
            return (x_t - (1 - alpha).sqrt() * output) / alpha.sqrt()
        return alpha.sqrt() * x_t - (1 - alpha).sqrt() * output

    def advance(self, x_t: Tensor, clean: Tensor, timestep: int, following: int, noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        """One step of DDIM (eta 0) or ancestral sampling (eta 1) from `timestep` to `following` (-1: the end, which is `clean`).

        Args:
            x_t: (B, C, h, w) latents at `timestep`.
            clean: (B, C, h, w) estimate of the clean latents.
            noise: (B, C, h, w) standard normal; needed for eta > 0.
        """
        if following < 0:
            return clean
        alpha, alpha_next = self.alpha_bar(timestep).to(x_t), self.alpha_bar(following).to(x_t)
        epsilon = (x_t - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        sigma = eta * ((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)).sqrt()
        x = alpha_next.sqrt() * clean + (1 - alpha_next - sigma**2).clamp(min=0).sqrt() * epsilon
        return x if noise is None or eta == 0 else x + sigma * noise

    def noised_again(self, x_t: Tensor, timestep: int, noisier: int, noise: Tensor) -> Tensor:
        """x_t at `timestep` -> x at the later, noisier timestep, by the forward process (equation 1 of DDPM over several steps)."""
        kept = self.alpha_bar(noisier).to(x_t) / self.alpha_bar(timestep).to(x_t)
        return kept.sqrt() * x_t + (1 - kept).sqrt() * noise
