"""Checkpoint files as the authors' code writes them, in small: the same entries, key names and block types, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from ldmseg.models.mask_autoencoder import MaskAutoencoder

OLD_ATTENTION_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
LAYERS = {"encoder": (0, 2, 3, 5, 6, 8, 9, 11, 13, 15), "decoder": (0, 2, 3, 5, 6, 8, 10)}
"""Where the layers with weights stand in the release's mask autoencoder."""

IMAGE_SIZE = 64
CONFIG = {
    "name": "coco_run",
    "image_scaling_factor": 0.18215,
    "vae_model_kwargs": {"in_channels": 7, "scaling_factor": 0.2},
    "noise_scheduler_kwargs": {"prediction_type": "epsilon", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "transformation_kwargs": {"size": IMAGE_SIZE, "flip": True},
    "ema_on": False,
    "load_path": None,
}
"""What the release keeps of its own configuration, under `p`; it is longer there."""


@dataclass(frozen=True)
class Sources:
    """The networks of a checkpoint, as diffusers has them, and the mask autoencoder."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    autoencoder: MaskAutoencoder


def build_sources(seed: int = 0, self_condition: bool = True, **unet: Any) -> Sources:
    """Stable Diffusion v1's layout and the release's, at a tenth of the width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        small = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 16, "in_channels": 12 if self_condition else 8}
        network = UNet2DConditionModel(**{**small, **unet}).eval()
        for module in network.modules():
            if isinstance(module, BasicTransformerBlock):
                module.attn2 = module.norm2 = None
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 32, 64, 64),
            layers_per_block=2,
        ).eval()
        return Sources(network, vae, MaskAutoencoder(encoder_widths=(8, 8, 16, 32), decoder_width=32).eval())


def stage_2(sources: Sources, *, prefix: str = "", old_attention_names: bool = False, **entries: Any) -> dict[str, Any]:
    """The stage-2 dictionary; `entries` are added or replace others."""
    image = {key: value for key, value in sources.vae.state_dict().items() if not key.startswith("decoder.")}
    if old_attention_names:
        image = {_old_name(key): value for key, value in image.items()}
    networks = {"vae_image": image, "vae_semseg": autoencoder_state(sources.autoencoder), "unet": sources.unet.state_dict()}
    weights = {name: {f"{prefix}{key}": value for key, value in state.items()} for name, state in networks.items()}
    return {"step": 200000, "epoch": 433, **weights, "ema": None, "opt": None, "p": CONFIG, "scaler": {"scale": 65536.0}, **entries}


def stage_1(autoencoder: MaskAutoencoder, prefix: str = "module.") -> dict[str, Any]:
    """The stage-1 dictionary, with an optimizer's state."""
    weights = {f"{prefix}{key}": value for key, value in autoencoder_state(autoencoder).items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(8, 7, 3, 3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {"step": 66000, "epoch": 9, "vae": weights, "opt": optimizer, "p": CONFIG}


def autoencoder_state(autoencoder: MaskAutoencoder) -> dict[str, Tensor]:
    """The weights under the release's names, which come in the same order."""
    names = [f"{part}.{layer}.{kind}" for part, layers in LAYERS.items() for layer in layers for kind in ("weight", "bias")]
    return dict(zip(names, autoencoder.state_dict().values(), strict=True))


def save(path: Path, entries: Mapping[str, Any]) -> Path:
    torch.save(dict(entries), path)
    return path


def _old_name(key: str) -> str:
    if ".attentions." in key:
        for new, old in OLD_ATTENTION_NAMES.items():
            key = key.replace(f".{new}.", f".{old}.")
    return key
