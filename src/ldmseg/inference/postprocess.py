"""From logits to a map of segments (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from torch import Tensor

from ldmseg.formats.id_png import MAX_RGB_ID
from ldmseg.options import GAP_FREE, Thresholds
from ldmseg.panoptic import VOID, PanopticMap, Segment, with_attributes

BAND = 2**24
"""Numbers that are computed at once (64 MiB)."""


@torch.no_grad()
def to_panoptic(logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> PanopticMap:
    """The most probable id of every pixel, less what the thresholds drop.

    Support, overlap and scores are computed from the logits before resizing. Only ids with support compete for the pixels of the result.
    No N numbers for each of its pixels are ever held at once (`resized_argmax`).

    Args:
        logits: (N, h, w); channel 0 is void and wins no pixel.
        size: (H, W) of the result, (h, w) by default; logits are resized bilinearly.

    Returns:
        A map with the model's ids; each segment's `score` is the mean probability of its pixels among the (h, w), and its largest where it
        wins pixels between these alone.
    """
    height, width = size if size is not None else (logits.shape[-2], logits.shape[-1])
    kept, logits = _competing(logits.float(), thresholds)
    if thresholds.probability:
        ids = _sure(logits, kept, thresholds.probability, height, width)
    else:
        ids = resized_argmax(logits, kept, height, width)
    if thresholds.min_area:
        ids[(torch.bincount(ids.flatten(), minlength=int(kept.max()) + 1) < thresholds.min_area)[ids.long()]] = VOID
    scores = zip(kept.tolist(), _scores(logits), strict=True)
    return with_attributes(ids.cpu().numpy(), (Segment(i, score=round(score, 4)) for i, score in scores))


def _competing(logits: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """(N, h, w) -> the ids (K,) that have support and are not covered by others, and their logits (K, h, w)."""
    peak = logits.softmax(0).flatten(1).amax(1)  # (N,)
    peak[VOID] = -1
    kept = (peak >= min(thresholds.support, float(peak.max()))).nonzero().flatten()  # (K,), the best id always stays
    kept = kept[kept != VOID]
    logits = logits[kept]  # (K, h, w)
    covered = _covered(logits, thresholds.overlap)  # (K,)
    return (kept[~covered], logits[~covered]) if not covered.all() else (kept, logits)


def _scores(logits: Tensor) -> list[float]:
    """(K, h, w) -> K: the mean probability of the pixels that each wins, the largest of one that wins none."""
    probability, best = logits.softmax(0).flatten(1), logits.argmax(0).flatten()
    won = torch.bincount(best, minlength=len(logits))
    total = torch.bincount(best, weights=probability.gather(0, best[None])[0].double(), minlength=len(logits))
    return torch.where(won > 0, total / won.clamp(min=1), probability.amax(1).double()).tolist()


def _sure(logits: Tensor, kept: Tensor, least: float, height: int, width: int) -> Tensor:
    """(K, h, w) -> (H, W) int32 the most probable of the ids `kept`, VOID where its probability is below `least`."""
    ids = torch.empty(height, width, dtype=torch.int32, device=logits.device)
    for top, band in resized_bands(logits, height, width):
        probability, best = band.softmax(0).max(0)
        ids[top : top + band.shape[1]] = torch.where(probability < least, VOID, kept.int()[best])
    return ids


def split_components(pmap: PanopticMap, min_area: int, given: NDArray[np.integer] | None = None) -> PanopticMap:
    """Make connected components of a segment segments of their own, for things that never lie in two places.

    The largest component keeps the segment's id, and so does each that holds a given pixel; the others get unused ids and its attributes.

    Args:
        min_area: pixels; smaller components, unless they hold a given pixel, go to whatever is nearest.
        given: (H, W) ids that were given, VOID elsewhere.
    """
    pieces = label(pmap.ids, background=VOID, connectivity=1)  # (H, W) 1.., VOID where void
    areas = np.bincount(pieces.ravel())
    owner = np.zeros(len(areas), dtype=np.int64)
    owner[pieces] = pmap.ids
    fixed = np.zeros(len(areas), dtype=bool)
    if given is not None:
        fixed[np.unique(pieces[given != VOID])] = True
    ids, attributes = np.array(owner), {s.id: s for s in pmap.segments}
    unused = unused_ids(attributes)
    for s in pmap.segments:
        own = np.flatnonzero(owner == s.id)
        largest = own[areas[own].argmax()]
        for piece in own[~fixed[own] & (own != largest)]:
            ids[piece] = new = next(unused)
            attributes[new] = replace(s, id=new)
    small = ((areas < min_area) & ~fixed & (owner != VOID))[pieces]
    whole = ids[pieces]
    if small.any() and (~small & (whole != VOID)).any():
        nearest = ndimage.distance_transform_edt(small | (whole == VOID), return_distances=False, return_indices=True)
        whole = np.where(small, whole[tuple(nearest)], whole)
    return PanopticMap(whole, tuple(attributes[i] for i in np.unique(whole[whole != VOID]).tolist()))


def unused_ids(taken: Iterable[int]) -> Iterator[int]:
    """Unused ids: first those above all that are taken, then those between them, up to the largest that a PNG's three bytes hold."""
    taken = frozenset(taken)
    above = max(taken, default=VOID) + 1
    yield from range(above, MAX_RGB_ID + 1)
    yield from (i for i in range(VOID + 1, min(above, MAX_RGB_ID + 1)) if i not in taken)
    yield from count(max(above, MAX_RGB_ID + 1))


def _covered(logits: Tensor, overlap: float) -> Tensor:
    """(K, h, w) -> (K,) whether a segment wins less than `overlap` of the pixels that its own sigmoid claims."""
    won = torch.bincount(logits.argmax(0).flatten(), minlength=len(logits))
    claimed = (logits >= 0).flatten(1).sum(1)
    return won < overlap * claimed


@dataclass(frozen=True)
class _Axis:
    """One side of a bilinear resize from m to n pixels, pixel centres aligned. A cell lies between a source pixel and the next one.

    Attributes:
        cell: (n,) the cell that each pixel lies in.
        share: (n,) of the next source pixel.
        first, count: (m,) the first pixel in each cell, and how many there are.
    """

    cell: Tensor
    share: Tensor
    first: Tensor
    count: Tensor

    @classmethod
    def of(cls, m: int, n: int, device: torch.device) -> Self:
        source = ((torch.arange(n, device=device) + 0.5) * m / n - 0.5).clamp(0, m - 1)
        cell = source.floor().long()
        count = torch.bincount(cell, minlength=m)
        return cls(cell, source - cell, count.cumsum(0) - count, count)

    def after(self, cells: Tensor) -> Tensor:
        """The source pixels at the far side of cells."""
        return (cells + 1).clamp(max=len(self.count) - 1)

    def pixels(self, cells: Tensor) -> Tensor:
        """(C, n) the pixels in each of C cells that have some; in a cell with fewer than others, the last one again."""
        steps = torch.arange(int(self.count.max()), device=cells.device)
        return self.first[cells, None] + torch.minimum(steps, self.count[cells, None] - 1)


def resized_argmax(logits: Tensor, kept: Tensor, height: int, width: int) -> Tensor:
    """(K, h, w) -> (H, W) int32 the ids `kept` (K,) of the largest of the bilinearly resized logits.

    Between four pixels, each resized logit is a mean of its four values with weights that all ids share. Where one id is the largest at all
    four, it is the largest between them. Only the cells where they differ are computed, and in these only ids whose greatest value is not
    below another id's least.
    """
    winners = logits.argmax(0)  # (h, w)
    ids = kept.int()
    if tuple(winners.shape) == (height, width):
        return ids[winners]
    rows, columns = (_Axis.of(m, n, logits.device) for m, n in zip(winners.shape, (height, width), strict=True))
    below, beside = (axis.after(torch.arange(len(axis.count), device=logits.device)) for axis in (rows, columns))
    mixed = (winners != winners[below]) | (winners != winners[:, beside]) | (winners != winners[below][:, beside])
    result = ids[winners][:, columns.cell][rows.cell]  # (H, W)
    cells = (mixed & (rows.count[:, None] > 0) & (columns.count > 0)).nonzero()  # (C, 2)
    if len(cells):
        _decide(result, logits, ids, (rows, columns), cells)
    return result


def _decide(result: Tensor, logits: Tensor, ids: Tensor, axes: tuple[_Axis, _Axis], cells: Tensor) -> None:
    """Write the ids of the largest resized logits (K, h, w) into the pixels of `result` (H, W) that lie in C `cells` (C, 2)."""
    rows, columns = axes
    above, left = cells.unbind(1)
    below, right = rows.after(above), columns.after(left)
    corners = torch.stack([logits[:, i, j] for i in (above, below) for j in (left, right)])  # (4, K, C)
    rivals = corners.amax(0) >= corners.amin(0).amax(0)  # (K, C)
    numbers, order = rivals.sum(0), (~rivals).byte().argsort(dim=0, stable=True)  # of each cell, rivals first
    area = int(rows.count.max()) * int(columns.count.max())
    for number in numbers.unique().tolist():
        for some in (numbers == number).nonzero().flatten().split(max(1, BAND // (4 * area))):
            i, j = rows.pixels(above[some])[:, :, None], columns.pixels(left[some])[:, None, :]  # (c, m, 1), (c, 1, n)
            down, across = rows.share[i], columns.share[j]
            largest = winner = torch.empty(0)
            for place in range(number):
                rival = order[place, some]
                a, b, c, d = corners[:, rival, some][:, :, None, None]
                value = (a * (1 - down) + c * down) * (1 - across) + (b * (1 - down) + d * down) * across  # (c, m, n)
                own = ids[rival][:, None, None]
                winner = torch.where(value > largest, own, winner) if place else own.expand_as(value)
                largest = torch.maximum(value, largest) if place else value
            result[i, j] = winner


def resized_bands(logits: Tensor, height: int, width: int) -> Iterator[tuple[int, Tensor]]:
    """(K, h, w) -> first row and (K, rows, W) of each band of the bilinear resize to (H, W), pixel centres aligned."""
    if tuple(logits.shape[-2:]) == (height, width):
        yield 0, logits
        return
    axis = _Axis.of(logits.shape[1], height, logits.device)
    upper, lower, share = axis.cell, axis.after(axis.cell), axis.share[:, None]
    rows = max(1, BAND // (len(logits) * width))
    for top in range(0, height, rows):
        some = slice(top, top + rows)
        band = logits[:, upper[some]] * (1 - share[some]) + logits[:, lower[some]] * share[some]  # (K, rows, w)
        yield top, F.interpolate(band, size=width, mode="linear", align_corners=False)
