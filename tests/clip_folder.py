"""CLIP in small: the files and weight names of a published model, with random weights and a tokenizer that spells words out."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

HIDDEN = 16
PROJECTED = 12
LENGTH = 7
PIXELS, PATCH = 16, 8
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase), "ca", "cat</w>", START, END]


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=PIXELS,
        patch_size=PATCH,
        projection_dim=PROJECTED,
    )


def text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=PROJECTED,
        pad_token_id=VOCABULARY.index(END),
        bos_token_id=VOCABULARY.index(START),
        eos_token_id=VOCABULARY.index(END),
    )


def make_clip_folder(folder: Path, seed: int = 0) -> Path:
    """Both halves and the tokenizer in one folder, as on the Hub."""
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text_config().to_dict(), vision_config=vision_config().to_dict(), projection_dim=PROJECTED)
    CLIPModel(config).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def make_text_folders(folder: Path, seed: int = 0) -> Path:
    """A pipeline's folder with `text_encoder/` and `tokenizer/`, as Stable Diffusion's."""
    torch.manual_seed(seed)
    CLIPTextModel(text_config()).save_pretrained(folder / "text_encoder")
    _write_tokenizer(folder / "tokenizer")
    return folder


def make_vision_folder(folder: Path, seed: int = 0) -> Path:
    """The vision half without its projection."""
    torch.manual_seed(seed)
    CLIPVisionModel(vision_config()).save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special}))
