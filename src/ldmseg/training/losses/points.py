"""The reconstruction losses of stage 1, on a few points of each map instead of all its pixels (section 3.1; PointRend's sampling)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ldmseg.panoptic import VOID


@dataclass(frozen=True)
class PointLosses:
    """Scalars: `ce` cross-entropy over the N ids, `bce` and `dice` averaged over an image's masks (0 where it has none).

    Each is a mean over images, and an image's share does not depend on the others, so that a batch can be divided among processes.
    """

    ce: Tensor
    bce: Tensor
    dice: Tensor


def point_losses(
    logits: Tensor,
    ids: Tensor,
    num_points: int,
    generators: Sequence[torch.Generator],
    *,
    oversample: float = 3.0,
    importance: float = 0.75,
) -> PointLosses:
    """Cross-entropy, and binary cross-entropy + Dice per mask, each on points of its own; void pixels count in none.

    Args:
        logits: (B, N, h, w), read bilinearly between its pixels.
        ids: (B, H, W) integers in 0..N-1, the target, read at the nearest pixel; void takes no part.
        num_points: P points for the cross-entropy of an image and for each of its masks.
        generators: one per image, so that an image's points do not depend on its batch.
        oversample: candidates per uncertain point.
        importance: share of the points that are picked by uncertainty; the rest are uniform.
    """
    presence = [[int(i) for i in torch.unique(one) if i != VOID] for one in ids]
    random = [
        torch.rand(1 + len(present), _candidates(num_points, oversample, importance), 2, generator=generator, device=generator.device)
        for present, generator in zip(presence, generators, strict=True)
    ]
    return PointLosses(
        _cross_entropy(logits, ids, torch.stack([r[0] for r in random]).to(logits.device), num_points, oversample, importance),
        *_mask_losses(logits, ids, presence, torch.cat([r[1:] for r in random]).to(logits.device), num_points, oversample, importance),
    )


def _cross_entropy(logits: Tensor, ids: Tensor, random: Tensor, num_points: int, oversample: float, importance: float) -> Tensor:
    def uncertainty(candidates: Tensor) -> Tensor:  # the second best id close behind the best
        best = candidates.topk(2, dim=1).values  # (B, 2, P')
        return best[:, 1] - best[:, 0]

    points = uncertain_points(logits, random, num_points, uncertainty, oversample, importance)  # (B, P, 2)
    values = read_bilinear(logits, points)  # (B, N, P)
    target = read_nearest(ids, points)  # (B, P)
    loss = F.cross_entropy(values.float(), target, ignore_index=VOID, reduction="none").sum(1)  # (B,)
    return (loss / (target != VOID).sum(1).clamp(min=1)).mean()


def _mask_losses(
    logits: Tensor, ids: Tensor, presence: list[list[int]], random: Tensor, num_points: int, oversample: float, importance: float
) -> tuple[Tensor, Tensor]:
    image = torch.tensor([b for b, present in enumerate(presence) for _ in present], dtype=torch.long, device=ids.device)  # (M,)
    channel = torch.tensor([i for present in presence for i in present], dtype=torch.long, device=ids.device)
    if image.numel() == 0:
        nothing = logits.sum() * 0
        return nothing, nothing
    masks = logits[image, channel][:, None]  # (M, 1, h, w)
    points = uncertain_points(masks, random, num_points, lambda c: -c[:, 0].abs(), oversample, importance)  # (M, P, 2)
    values = read_bilinear(masks, points)[:, 0].float()  # (M, P)
    found = read_nearest(ids[image], points)  # (M, P)
    known = (found != VOID).float()
    target = (found == channel[:, None]).float()
    bce = F.binary_cross_entropy_with_logits(values, target, reduction="none") * known
    probability = values.sigmoid() * known
    dice = 1 - (2 * (probability * target).sum(1) + 1) / (probability.sum(1) + target.sum(1) + 1)
    share = 1 / image.bincount(minlength=len(presence))[image] / len(presence)  # (M,) of each mask in the mean over images
    return (bce.sum(1) / known.sum(1).clamp(min=1) * share).sum(), (dice * share).sum()


def _candidates(num_points: int, oversample: float, importance: float) -> int:
    uncertain = round(num_points * importance)
    return round(num_points * oversample) + num_points - uncertain


@torch.no_grad()
def uncertain_points(
    logits: Tensor, random: Tensor, num_points: int, uncertainty: Callable[[Tensor], Tensor], oversample: float, importance: float
) -> Tensor:
    """PointRend's choice of points.

    Args:
        logits: (M, C, h, w).
        random: (M, candidates, 2) uniform numbers, the points' x, y in 0..1.
        uncertainty: (M, C, P') values at the candidates -> (M, P'), larger is less certain.

    Returns:
        (M, P, 2) x, y in 0..1.
    """
    many = round(num_points * oversample)
    candidates, uniform = random[:, :many], random[:, many:]
    certain = uncertainty(read_bilinear(logits, candidates))  # (M, P')
    chosen = certain.topk(round(num_points * importance), dim=1).indices
    return torch.cat([candidates.gather(1, chosen[..., None].expand(-1, -1, 2)), uniform], dim=1)


def read_bilinear(values: Tensor, points: Tensor) -> Tensor:
    """(M, C, h, w) at (M, P, 2) x, y in 0..1 -> (M, C, P); as after a bilinear upsampling."""
    return F.grid_sample(values, points[:, None].to(values.dtype) * 2 - 1, align_corners=False, padding_mode="border")[:, :, 0]


def read_nearest(ids: Tensor, points: Tensor) -> Tensor:
    """(M, H, W) integers at (M, P, 2) x, y in 0..1 -> (M, P)."""
    height, width = ids.shape[1:]
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return ids.flatten(1).long().gather(1, y * width + x)
