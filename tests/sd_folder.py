"""A Stable Diffusion v1-4 folder in small: the same files, config keys, block types and weight names, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE_KEYS = {
    *("act_fn", "block_out_channels", "down_block_types", "in_channels", "latent_channels"),
    *("layers_per_block", "norm_num_groups", "out_channels", "sample_size", "up_block_types"),
}
UNET_KEYS = (VAE_KEYS - {"latent_channels"}) | {
    *("attention_head_dim", "center_input_sample", "cross_attention_dim", "downsample_padding"),
    *("flip_sin_to_cos", "freq_shift", "mid_block_scale_factor", "norm_eps"),
}
OLD_ATTENTION_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def make_sd_folder(folder: Path, seed: int = 0, old_attention_names: bool = False, **unet: Any) -> Path:
    """Write the folder and return it; `unet` overrides the UNet's config, `old_attention_names` gives the VAE its 2022 weight names."""
    torch.manual_seed(seed)
    _save(_unet(**unet), folder / "unet", UNET_KEYS)
    _save(_vae(), folder / "vae", VAE_KEYS)
    if old_attention_names:
        rename(folder / "vae", _old_name)
    PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.2.2",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def rename(folder: Path, new_name: Any) -> None:
    """Rewrite the weights of one network with `new_name(key)` as names; a key renamed to None is left out."""
    state = {new_name(key): value for key, value in load_file(folder / WEIGHTS).items()}
    save_file({key: value for key, value in state.items() if key is not None}, folder / WEIGHTS, metadata={"format": "pt"})


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _unet(**overrides: Any) -> UNet2DConditionModel:
    small = {
        "block_out_channels": (16, 16, 32, 32),
        "cross_attention_dim": 12,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "sample_size": 8,
    }
    return UNet2DConditionModel(**{**small, **overrides})


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        sample_size=64,
    )


def _save(model: ModelMixin, folder: Path, keys: set[str]) -> None:
    """With the few config keys that v1-4 was published with; diffusers knows the rest."""
    assert isinstance(model, ConfigMixin)
    model.save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    kept = {"_class_name": saved["_class_name"], "_diffusers_version": "0.2.2"} | {key: saved[key] for key in keys}
    (folder / "config.json").write_text(json.dumps(kept, indent=2))


def _old_name(key: str) -> str:
    if ".attentions." in key:
        for new, old in OLD_ATTENTION_NAMES.items():
            key = key.replace(f".{new}.", f".{old}.")
    return key
