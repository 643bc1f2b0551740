"""From logits to a map of segments (section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ldmseg.errors import InputError
from ldmseg.panoptic import VOID, PanopticMap, Segment


@dataclass(frozen=True)
class Thresholds:
    """When a pixel or a segment is left void; with `support` alone the map has no gap.

    Args:
        probability: a pixel whose best id has less softmax probability is void (paper: 0.5).
        min_area: a segment with fewer pixels is void (paper: 512).
        support: an id that reaches this probability at no pixel is no segment, and its pixels go to the next best id. Between two segments
            the decoder passes through the codes that lie between theirs; this is what removes such lines without an area threshold.
        overlap: a segment whose pixels are fewer than this share of those where its own sigmoid is at least 0.5 is void (release: 0.5).
    """

    probability: float = 0.5
    min_area: int = 512
    overlap: float = 0.5
    support: float = 0.0

    def __post_init__(self) -> None:
        for name in ("probability", "overlap", "support"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected 0..1, got {getattr(self, name)}")
        if self.min_area < 0:
            raise InputError(f"min_area: expected 0 pixels or more, got {self.min_area}")


GAP_FREE = Thresholds(probability=0.0, min_area=0, overlap=0.0, support=0.9)


@torch.no_grad()
def to_panoptic(logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> PanopticMap:
    """The most probable id of every pixel, less what the thresholds drop.

    Args:
        logits: (N, H, W); channel 0 is void and wins no pixel.
        size: (H', W') of the result; logits are resized bilinearly first.

    Returns:
        A map with the model's ids; each segment's `score` is the mean probability of its pixels.
    """
    logits = logits[None].float()
    if size is not None and tuple(logits.shape[-2:]) != size:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    probabilities = logits[0].softmax(0)  # (N, H, W)
    probabilities[VOID] = 0
    if thresholds.support:
        peak = probabilities.flatten(1).amax(1)  # (N,)
        probabilities *= (peak >= min(thresholds.support, float(peak.max())))[:, None, None]  # the best id always stays
    probability, ids = probabilities.max(0)  # (H, W)
    areas = _areas(ids, logits.shape[1])  # of the whole argmax, before pixels are dropped
    if thresholds.overlap:
        own = (logits[0] >= 0).flatten(1).sum(1)  # sigmoid >= 0.5
        ids[(areas < thresholds.overlap * own)[ids]] = VOID
    if thresholds.probability:
        ids[probability < thresholds.probability] = VOID
    if thresholds.min_area:
        ids[(_areas(ids, logits.shape[1]) < thresholds.min_area)[ids]] = VOID
    total = torch.bincount(ids.flatten(), weights=probability.flatten().double(), minlength=logits.shape[1])
    scores = (total / _areas(ids, logits.shape[1]).clamp(min=1)).tolist()
    present = [int(i) for i in torch.unique(ids) if i != VOID]
    return PanopticMap(ids.cpu().numpy().astype(np.int32), tuple(Segment(i, score=round(scores[i], 4)) for i in present))


def _areas(ids: Tensor, num_ids: int) -> Tensor:
    return torch.bincount(ids.flatten(), minlength=num_ids)
