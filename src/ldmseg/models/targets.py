"""What a model draws, as ids that the mask autoencoder writes: segments, categories, or depth (the paper's outlook, section 5).

The mask autoencoder turns any map of ids into latents and back, so a task is a way to write its target as ids. The denoiser learns every
task alike. Where one denoiser draws several tasks, a set of learned tokens for each tells it which
(`ldmseg.models.descriptors.LearnedDescriptor`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import IdPolicy, Task
from ldmseg.codes import assign_given
from ldmseg.dense import DepthMap, Target, semantic_map, with_categories
from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.options import GAP_FREE, Thresholds
from ldmseg.panoptic import VOID, PanopticMap

TASKS: tuple[Task, ...] = get_args(Task)
"""Every task, in the order of token sets."""

DEPTH_BINS = 32
"""More bins quantise less, and need more detail of the latents."""


class TargetCodec(ABC):
    """A task's target as a map of the model's ids, and back from the mask autoencoder's logits."""

    task: ClassVar[Task]

    @abstractmethod
    def encode(self, target: Any, known: NDArray[np.bool_] | None = None, rng: np.random.Generator | None = None) -> NDArray[np.int16]:
        """(H, W) ids in 0..N-1, 0 where the target says nothing.

        Args:
            target: (H, W) a `PanopticMap`, or for depth a `DepthMap`.
            known: (H, W) the pixels of a partial map; for segments, whose ids may depend on them.
            rng: for ids that are drawn at random.
        """

    @abstractmethod
    def decode(self, logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> Target:
        """What the mask autoencoder's logits (N, h, w) say, at `size` (H, W), by default (h, w)."""

    @property
    def segments_are(self) -> tuple[Category, ...] | None:
        """The categories of what is drawn; None where it has none."""
        return None

    def settings(self) -> dict[str, Any]:
        """What `build_codecs` makes this codec of, in plain values; a pipeline's configuration holds it."""
        return {}


@dataclass(frozen=True)
class PanopticCodec(TargetCodec):
    """Segments: each has one of the N - 1 ids, by the model's policy (`ldmseg.codes.assign_ids`)."""

    task = "panoptic"

    num_ids: int
    policy: IdPolicy

    def encode(
        self, target: PanopticMap, known: NDArray[np.bool_] | None = None, rng: np.random.Generator | None = None
    ) -> NDArray[np.int16]:
        shown = np.zeros(target.shape, dtype=bool) if known is None else known
        codes = np.append(assign_given(target.dense, len(target), shown, self.num_ids, self.policy, rng), VOID).astype(np.int16)
        return codes[target.dense]

    def decode(self, logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> PanopticMap:
        return to_panoptic(logits, thresholds, size)


@dataclass(frozen=True)
class SemanticCodec(TargetCodec):
    """Categories: the id of the i-th category, counted from 1, is i.

    A semantic map is a `PanopticMap` in which all pixels of a category are one segment. That segment's id is i, too.

    Args:
        num_ids: N of the mask autoencoder.
        categories: at most N - 1.

    Raises:
        InputError: there are none, or too many.
    """

    task = "semantic"

    num_ids: int
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.categories) < self.num_ids:
            raise InputError(
                f"categories: expected 1 to {self.num_ids - 1} for the task semantic (num_ids is {self.num_ids}), "
                f"got {len(self.categories)}"
            )

    def encode(
        self, target: PanopticMap, known: NDArray[np.bool_] | None = None, rng: np.random.Generator | None = None
    ) -> NDArray[np.int16]:
        return semantic_map(target, self.categories).ids.astype(np.int16)

    def decode(self, logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> PanopticMap:
        """Ids that stand for no category compete for no pixel."""
        return with_categories(to_panoptic(logits[: len(self.categories) + 1], thresholds, size), self.categories)

    @property
    def segments_are(self) -> tuple[Category, ...]:
        return self.categories

    def settings(self) -> dict[str, Any]:
        return {"categories": [{"id": c.id, "name": c.name, "isthing": c.isthing} for c in self.categories]}


@dataclass(frozen=True)
class DepthCodec(TargetCodec):
    """Depth: bins that are equally wide in the logarithm, under the Gray code of their number.

    Neighbouring bins differ in one bit, so that a slope changes one channel of the autoencoder's input at a time. The code of bin b is
    Gray(b + 1), which leaves id 0 to unknown pixels. Depth is cut to `near`..`far`.

    Args:
        num_ids: N of the mask autoencoder.
        near: the least depth that can be written, in units.
        far: the largest one; what is further away has it.
        bins: at most N - 1.
        unit: what a depth of 1 is.

    Raises:
        InputError: a number is out of range.
    """

    task = "depth"

    num_ids: int
    near: float
    far: float
    bins: int = DEPTH_BINS
    unit: str = "metres"

    def __post_init__(self) -> None:
        if not 0 < self.near < self.far < float("inf"):
            raise InputError(f"depth: expected 0 < near < far, got near {quoted(self.near)} and far {quoted(self.far)}")
        if not 2 <= self.bins < self.num_ids:
            raise InputError(f"depth.bins: expected 2 to {self.num_ids - 1} (num_ids is {self.num_ids}), got {quoted(self.bins)}")

    @property
    def codes(self) -> NDArray[np.int16]:
        """(bins,) the id of each bin, near ones first."""
        numbers = np.arange(1, self.bins + 1)
        return (numbers ^ (numbers >> 1)).astype(np.int16)

    def encode(self, target: DepthMap, known: NDArray[np.bool_] | None = None, rng: np.random.Generator | None = None) -> NDArray[np.int16]:
        share = np.log(np.where(target.known, target.values, self.near).clip(self.near, self.far) / self.near) / self._span  # (H, W) 0..1
        bins = (share * self.bins).astype(np.intp).clip(0, self.bins - 1)
        return np.where(target.known, self.codes[bins], np.int16(VOID))

    def decode(self, logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> DepthMap:
        """The median of each pixel's distribution over the bins, by interpolation inside the median's bin; no thresholds apply.

        The mean would put the border between near and far at a depth where nothing is.
        """
        probability = logits.float()[torch.from_numpy(self.codes.astype(np.int64)).to(logits.device)].softmax(0)  # (bins, h, w)
        total = probability.cumsum(0)
        number = (total < 0.5).sum(0).clamp(max=self.bins - 1)[None]  # (1, h, w) the median's bin
        own = probability.gather(0, number)
        within = ((0.5 - (total.gather(0, number) - own)) / own.clamp(min=1e-6)).clamp(0, 1)
        share = (number + within) / self.bins  # (1, h, w) 0..1
        if size is not None and tuple(share.shape[-2:]) != tuple(size):
            share = F.interpolate(share[None], size, mode="bilinear", align_corners=False)[0]
        values = self.near * (share[0].double() * self._span).exp()
        return DepthMap(values.cpu().numpy().astype(np.float32), self.unit)

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "num_ids"}

    @property
    def _span(self) -> float:
        return math.log(self.far / self.near)


def build_codecs(settings: Mapping[Any, Mapping[str, Any]], num_ids: int, policy: IdPolicy) -> dict[Task, TargetCodec]:
    """The codec of each task, in the order of `TASKS`, from what `TargetCodec.settings` gave.

    Raises:
        InputError: there is no task, an unknown one, or a codec that cannot be.
    """
    unknown = [name for name in settings if name not in TASKS]
    if unknown or not settings:
        raise InputError(f"tasks: expected some of {', '.join(TASKS)}, got {quoted(unknown[0]) if unknown else 'none'}")
    return {task: _codec(task, settings[task], num_ids, policy) for task in TASKS if task in settings}


def _codec(task: Task, settings: Mapping[str, Any], num_ids: int, policy: IdPolicy) -> TargetCodec:
    try:
        if task == "panoptic":
            return PanopticCodec(num_ids, policy)
        if task == "semantic":
            return SemanticCodec(num_ids, tuple(Category(int(c["id"]), str(c["name"]), bool(c["isthing"])) for c in settings["categories"]))
        return DepthCodec(num_ids, **settings)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"tasks: expected the settings of the task {task}, got {quoted(dict(settings))}") from None
