"""Folders of set-prediction networks as the Hub has them: the real classes, config, weights and preprocessor file, at a small size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLOURS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "image_mean": MEAN, "image_std": STD}
PROCESSORS: dict[str, dict[str, Any]] = {
    "mask2former": {
        **COLOURS,
        "image_processor_type": "Mask2FormerImageProcessor",
        "size": {"shortest_edge": 40, "longest_edge": 66},
        "size_divisor": 32,
    },
    "eomt": {
        **COLOURS,
        "image_processor_type": "EomtImageProcessorFast",
        "size": {"shortest_edge": 64, "longest_edge": 64},
        "do_pad": True,
        "do_split_image": False,
    },
}


def build_network(kind: str, labels: dict[int, str]) -> Any:
    """A Mask2Former with a Swin backbone, or an EoMT, with random weights."""
    import transformers

    named = {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "mask2former":
            swin = {
                "model_type": "swin",
                "embed_dim": 8,
                "depths": [1, 1, 1, 1],
                "num_heads": [1, 2, 2, 2],
                "window_size": 2,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            }
            sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
            more = {"encoder_feedforward_dim": 32, "dim_feedforward": 32, "num_attention_heads": 2, "num_queries": 6}
            config = transformers.Mask2FormerConfig(backbone_config=swin, **sizes, **more, **named)
            return transformers.Mask2FormerForUniversalSegmentation(config).eval()
        config = transformers.EomtConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            mlp_ratio=2,
            num_blocks=1,
            num_upscale_blocks=1,
            num_queries=6,
            **named,
        )
        return transformers.EomtForUniversalSegmentation(config).eval()


def query_folder(folder: Path, kind: str, labels: dict[int, str]) -> Any:
    """Save one in `folder`; the network is returned."""
    network = build_network(kind, labels)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]), encoding="utf-8")
    return network
