"""From logits to a map of segments (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from torch import Tensor

from ldmseg.formats.id_png import MAX_RGB_ID
from ldmseg.options import GAP_FREE, Thresholds
from ldmseg.panoptic import VOID, PanopticMap, Segment

BAND = 2**24
"""Numbers in one band of rows (64 MiB)."""


@torch.no_grad()
def to_panoptic(logits: Tensor, thresholds: Thresholds = GAP_FREE, size: tuple[int, int] | None = None) -> PanopticMap:
    """The most probable id of every pixel, less what the thresholds drop.

    Support and overlap are computed from the logits before resizing. Only ids with support compete for the pixels of the result. The result
    is computed in bands of rows, so that a large photo does not need N numbers for each of its pixels at once.

    Args:
        logits: (N, h, w); channel 0 is void and wins no pixel.
        size: (H, W) of the result, (h, w) by default; logits are resized bilinearly.

    Returns:
        A map with the model's ids; each segment's `score` is the mean probability of its pixels.
    """
    logits = logits.float()
    height, width = size if size is not None else (logits.shape[-2], logits.shape[-1])
    peak = logits.softmax(0).flatten(1).amax(1)  # (N,)
    peak[VOID] = -1
    kept = (peak >= min(thresholds.support, float(peak.max()))).nonzero().flatten()  # (K,), the best id always stays
    kept = kept[kept != VOID]
    logits = logits[kept]  # (K, h, w)
    covered = _covered(logits, thresholds.overlap)  # (K,)
    if not covered.all():
        kept, logits = kept[~covered], logits[~covered]
    ids = torch.empty(height, width, dtype=torch.long, device=logits.device)
    probability = torch.empty(height, width, device=logits.device)
    for top, band in resized_bands(logits, height, width):
        rows = slice(top, top + band.shape[1])
        probability[rows], best = band.softmax(0).max(0)
        ids[rows] = kept[best]
    if thresholds.probability:
        ids[probability < thresholds.probability] = VOID
    highest = int(kept.max()) + 1
    if thresholds.min_area:
        ids[(torch.bincount(ids.flatten(), minlength=highest) < thresholds.min_area)[ids]] = VOID
    areas = torch.bincount(ids.flatten(), minlength=highest)
    total = torch.bincount(ids.flatten(), weights=probability.flatten().double(), minlength=highest)
    scores = (total / areas.clamp(min=1)).tolist()
    present = [int(i) for i in areas.nonzero().flatten() if i != VOID]
    return PanopticMap(ids.cpu().numpy().astype(np.int32), tuple(Segment(i, score=round(scores[i], 4)) for i in present))


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


def resized_bands(logits: Tensor, height: int, width: int) -> Iterator[tuple[int, Tensor]]:
    """(K, h, w) -> first row and (K, rows, W) of each band of the bilinear resize to (H, W), pixel centres aligned."""
    if tuple(logits.shape[-2:]) == (height, width):
        yield 0, logits
        return
    source = ((torch.arange(height, device=logits.device) + 0.5) * logits.shape[1] / height - 0.5).clamp(0, logits.shape[1] - 1)
    upper = source.floor().long()
    lower = (upper + 1).clamp(max=logits.shape[1] - 1)
    share = (source - upper)[:, None]  # (H, 1) of the lower row
    rows = max(1, BAND // (len(logits) * width))
    for top in range(0, height, rows):
        some = slice(top, top + rows)
        band = logits[:, upper[some]] * (1 - share[some]) + logits[:, lower[some]] * share[some]  # (K, rows, w)
        yield top, F.interpolate(band, size=width, mode="linear", align_corners=False)
