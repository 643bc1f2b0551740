"""From the queries of a set-prediction network to a map: the panoptic inference of Mask2Former (Cheng et al. 2022)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldmseg.errors import InputError
from ldmseg.inference.postprocess import resized_bands
from ldmseg.panoptic import VOID, PanopticMap, Segment

CLAIMED = 0.5
"""A mask claims the pixels at which its probability is at least this."""


@dataclass(frozen=True)
class QueryThresholds:
    """Which queries become segments; the values of Mask2Former's panoptic inference on COCO.

    Attributes:
        score: least probability of a query's best class.
        overlap: least share of the pixels claimed by a mask that it wins from the others; a mask with less is dropped.
        gap_free: every pixel goes to a segment, as the pipeline does it. Otherwise pixels that no mask claims are void. If no query has
            the score, the best one counts.

    Raises:
        InputError: a value that is not in 0..1.
    """

    score: float = 0.8
    overlap: float = 0.8
    gap_free: bool = False

    def __post_init__(self) -> None:
        for name in ("score", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected 0..1, got {getattr(self, name)}")


PUBLISHED = QueryThresholds()


@torch.no_grad()
def queries_to_map(
    class_logits: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    thresholds: QueryThresholds = PUBLISHED,
    stuff: Collection[int] = (),
) -> PanopticMap:
    """The map that the queries of one photo agree on.

    Queries whose best class is "no object", or is not sure enough, are left out. Each pixel goes to the query with the highest product of
    score and mask probability. A query that wins too little of what its mask claims is dropped, and its pixels are void. Stuff of one class
    becomes one segment.

    Args:
        class_logits: (Q, K + 1) of each query; the last class is "no object".
        mask_logits: (Q, h, w); resized bilinearly to `size`, in bands, before the sigmoid.
        size: (H, W) of the result.
        stuff: class indices whose segments are merged.

    Returns:
        A map with ids from 1 on in the order of the queries; `category_id` is the class index in 0..K-1, `score` its probability.
    """
    chosen = likely_queries(class_logits, thresholds)
    scores, labels = class_logits[chosen].float().softmax(-1)[:, :-1].max(-1)  # (K,), (K,)
    logits = mask_logits[chosen].float()
    if not len(chosen):
        return PanopticMap(np.full(size, VOID, dtype=np.int32))
    winner, claims, claimed = _won(scores, logits, size)
    won, both = (torch.bincount(winner[pixels], minlength=len(chosen)) for pixels in (torch.ones_like(claims), claims))
    stays = (won >= thresholds.overlap * claimed) & (both > 0)
    if thresholds.gap_free:
        stays = stays if stays.any() else won == won.max()
        rest = stays.nonzero().flatten()
        if len(rest) < len(chosen):
            winner = rest[_won(scores[rest], logits[rest], size)[0]]
        claims = torch.ones_like(claims)
    return _map(winner, claims & stays[winner], scores.tolist(), labels.tolist(), stuff)


def likely_queries(class_logits: Tensor, thresholds: QueryThresholds = PUBLISHED) -> Tensor:
    """(Q, K + 1) -> (K',) the queries that may become segments, of which the others have no influence on the map."""
    scores, labels = class_logits.float().softmax(-1).max(-1)  # (Q,), (Q,)
    kept = (labels != class_logits.shape[-1] - 1) & (scores > thresholds.score)
    if thresholds.gap_free and len(kept) and not kept.any():
        kept[class_logits.float().softmax(-1)[:, :-1].amax(-1).argmax()] = True
    return kept.nonzero().flatten()


def _won(scores: Tensor, logits: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """(K,) scores and (K, h, w) masks -> (H, W) the query that wins each pixel, whether its own mask claims the pixel, and (K,) how many
    pixels each mask claims in all."""
    winner = torch.empty(size, dtype=torch.long, device=logits.device)
    claims = torch.empty(size, dtype=torch.bool, device=logits.device)
    claimed = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    for top, band in resized_bands(logits, *size):
        probability = band.sigmoid()  # (K, rows, W)
        rows = slice(top, top + band.shape[1])
        best = (scores[:, None, None] * probability).argmax(0)  # (rows, W)
        winner[rows] = best
        claims[rows] = probability.gather(0, best[None])[0] >= CLAIMED
        claimed += (probability >= CLAIMED).flatten(1).sum(1)
    return winner, claims, claimed


def _map(winner: Tensor, drawn: Tensor, scores: list[float], labels: list[int], stuff: Collection[int]) -> PanopticMap:
    ids = np.zeros(len(scores), dtype=np.int32)
    found: list[Segment] = []
    of_class: dict[int, int] = {}
    present = set(winner[drawn].unique().tolist())
    for query, (score, label) in enumerate(zip(scores, labels, strict=True)):
        if query not in present:
            continue
        if label in of_class:
            ids[query] = of_class[label]
            continue
        ids[query] = len(found) + 1
        found.append(Segment(len(found) + 1, category_id=label, score=round(score, 4)))
        if label in stuff:
            of_class[label] = len(found)
    return PanopticMap(np.where(drawn.cpu().numpy(), ids[winner.cpu().numpy()], VOID), tuple(found))
