"""A pipeline with random weights that is small enough for every test: what it draws is noise, how it behaves is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.models.denoiser import build_denoiser
from ldmseg.models.image_encoder import ConvImageEncoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.pipeline import LDMSegPipeline

NUM_IDS = 16
IMAGE_SIZE = 32


def build_tiny(seed: int = 0, partial: bool = True, **options: Any) -> LDMSegPipeline:
    """16 ids, f = 8, 32 x 32 pixels, 4 x 4 latents, 2 steps; `partial` says whether it has partial-map channels, `options` its defaults."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LDMSegPipeline(
            mask_autoencoder=MaskAutoencoder(num_ids=NUM_IDS, encoder_widths=(8, 8, 8, 16), decoder_width=16, norm_groups=8).eval(),
            image_encoder=ConvImageEncoder(latent_channels=8, widths=(8, 8), downscale=8).eval(),
            unet=build_denoiser("tiny", image_channels=8, partial=partial).eval(),
            scheduler=NoiseSchedule(),
            image_size=IMAGE_SIZE,
            # Every id counts: random weights are certain of nothing.
            inference={"num_inference_steps": 2, "thresholds": {"support": 0.0, "overlap": 0.0}, **options},
        )


def tiny_pipeline(folder: Path, seed: int = 0, partial: bool = True) -> Path:
    """Save `build_tiny` in `folder`, which is returned."""
    build_tiny(seed, partial).save_pretrained(folder)
    return folder
