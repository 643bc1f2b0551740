"""Pretrained networks whose features an image encoder reads: EfficientNet-Lite0, and any backbone of transformers."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldmseg.errors import InputError, quoted
from ldmseg.models.clip import import_transformers, load_clip
from ldmseg.models.efficientnet import STAGES, STRIDES, EfficientNetLite0, load_efficientnet
from ldmseg.models.pretrained import find_pretrained, only_shapes

EFFICIENTNET = "efficientnet-lite0"
TRANSFORMERS = "transformers"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Features of photos at one or several strides; never trained here.

    Attributes:
        settings: what `build_backbone` makes the same network of, without its weights.
        channels, strides: of each feature map; a stride is pixels of the photo per cell.
        grid: pixels that the sides of a photo must be multiples of, 1 where any size will do.
    """

    settings: dict[str, Any]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    grid: int = 1

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) photos in [-1, 1] -> (B, channels, about H / stride, about W / stride) for each stride."""


class EfficientNetBackbone(Backbone):
    """EfficientNet-Lite0's last stages of strides 8, 16 and 32."""

    USED = (2, 4, 6)

    def __init__(self, network: EfficientNetLite0 | None = None) -> None:
        super().__init__()
        self.settings = {"kind": EFFICIENTNET}
        self.network = network or EfficientNetLite0()
        self.channels = tuple(STAGES[stage][-1] for stage in self.USED)
        self.strides = tuple(STRIDES[stage] for stage in self.USED)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network((images + 1) * 127.5)
        return tuple(outputs[stage] for stage in self.USED)


class TransformersBackbone(Backbone):
    """An `AutoBackbone` of transformers (DINOv2, ConvNeXt, Swin, ResNet, ..), with the feature maps that its config names.

    Args:
        config: the backbone's config as a dict, with `model_type`.
        mean: of each colour in 0..1, as the network was trained.
        std: of each colour in 0..1, as the network was trained.
        network: the backbone itself; None makes one with fresh weights.
    """

    def __init__(self, config: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...], network: Any = None) -> None:
        super().__init__()
        self.settings = {"kind": TRANSFORMERS, "config": config, "mean": list(mean), "std": list(std)}
        self.network = network if network is not None else _fresh(config)
        self.channels = tuple(self.network.channels)
        patch = getattr(self.network.config, "patch_size", None)
        self.grid = int(patch) if isinstance(patch, int) and not getattr(self.network.config, "depths", None) else 1
        self.strides = (self.grid,) * len(self.channels) if self.grid > 1 else self._measured_strides()
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return tuple(self.network(((images + 1) / 2 - mean) / std).feature_maps)

    def _measured_strides(self) -> tuple[int, ...]:
        side = 256
        like = next(self.network.parameters())
        with torch.no_grad():
            maps = self.network(torch.zeros(1, 3, side, side, device=like.device, dtype=like.dtype)).feature_maps
        return tuple(round(side / feature.shape[-1]) for feature in maps)


def build_backbone(settings: dict[str, Any]) -> Backbone:
    """The backbone that `settings` describe, with fresh weights.

    Raises:
        InputError: it is of an unknown kind, or needs a package that is not installed.
    """
    kind = settings.get("kind")
    if kind == EFFICIENTNET:
        return EfficientNetBackbone()
    if kind == TRANSFORMERS:
        return TransformersBackbone(settings["config"], tuple(settings["mean"]), tuple(settings["std"]))
    raise InputError(f"backbone: expected kind {EFFICIENTNET} or {TRANSFORMERS}, got {quoted(kind)}")


def load_backbone(source: str | Path) -> Backbone:
    """A pretrained backbone.

    Args:
        source: a safetensors file of EfficientNet-Lite0, or a folder or Hub id of a model that transformers has a backbone for.

    Raises:
        InputError: nothing of that kind is there.
    """
    if str(source).endswith(".safetensors"):
        return EfficientNetBackbone(None if only_shapes() else load_efficientnet(Path(source).expanduser()))
    transformers = import_transformers()
    saved = find_pretrained(source, (), ("a .safetensors file of EfficientNet-Lite0",))
    try:
        config = transformers.AutoConfig.from_pretrained(saved.root)
        kind = transformers.MODEL_FOR_BACKBONE_MAPPING[type(config)]
    except (OSError, ValueError, KeyError) as error:
        got = saved.config.get("model_type") or "no model_type"
        raise InputError(f"backbone: expected a model that transformers has a backbone for in {saved}, got {got}") from error
    network, _ = load_clip(kind, saved)
    mean, std = _normalisation(transformers, saved.root)
    return TransformersBackbone(network.config.to_dict(), mean, std, network)


def _fresh(config: dict[str, Any]) -> Any:
    transformers = import_transformers()
    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(f"backbone: expected a model type that transformers knows, got {quoted(kind)}")
    own = {key: value for key, value in config.items() if key != "model_type"}
    return transformers.AutoBackbone.from_config(transformers.CONFIG_MAPPING[kind](**own)).eval()


def _normalisation(transformers: Any, source: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the model's preprocessor, else ImageNet's."""
    try:
        found, _ = transformers.ImageProcessingMixin.get_image_processor_dict(source)
        return tuple(found["image_mean"]), tuple(found["image_std"])
    except (OSError, KeyError, ValueError):
        return IMAGENET_MEAN, IMAGENET_STD
