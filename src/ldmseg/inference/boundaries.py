"""Moves borders to the edges of the photo: given and drawn segments are divided anew by a random walk over the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ldmseg.inference.edges import flood
from ldmseg.inference.walker import random_walk
from ldmseg.panoptic import VOID, PanopticMap, nearest_indices

WALKER_PIXELS, DRAWN_PIXELS = 2**16, 2**15
"""On a larger photo the walk takes place at this many pixels, since its linear system grows, and borders are found at the photo's size. The
second is where nothing is given: a drawing is coarse."""
FLOODED_CELLS = 2
"""Pixels of that smaller picture, on each side of a border, that are divided anew at the photo's size."""
WORKING_SIZE = 768
"""Pixels of the longer side, above which borders are found on a smaller picture."""


@dataclass(frozen=True)
class BoundarySettings:
    """How the border step weighs the photo, the labels and the drawing. Lengths are shares of the shorter side of the model's input.

    The defaults were chosen by trials on scenes of neither the training nor the validation set and on training photos of 128 to 384 px;
    benchmarks/walker_constants.py compares others, for any model.

    Args:
        contrast: how much a step in colour hinders the walker (`random_walk`), in a picture whose shorter side has `size` pixels or less.
        smoothing: the blur of colours, in pixels, that a picture of `size` has anyway. Where nothing is given, a larger picture is smoothed
            until it is as blurred, and the contrast grows as steps of colour are spread over more pixels.
        size: of the pictures that contrast and smoothing are for.
        trust: how fast the trust in a drawing grows with the distance from its borders and from given pixels; Grady's gamma per pixel of a
            picture whose shorter side is 1 pixel. With 0, the random walker uses what is given alone.
        near: the drawing is not trusted within this distance of its own borders and of given pixels, since latent cells are coarse.
        far: from this distance on it is trusted no more.
        hidden: a new segment all of whose pixels are nearer to given ones than this would have been given a label.
        small: a new segment beside given ones that covers less than this share of the square of the shorter side is a speck.
        dense: if every unknown pixel is nearer to given ones than this, the drawing is not trusted at all: photo and labels say as much.
    """

    contrast: float = 50.0
    smoothing: float = 0.6
    size: int = 128
    trust: float = 500.0
    near: float = 1 / 32
    far: float = 1 / 4
    hidden: float = 1 / 3
    small: float = 1 / 64
    dense: float = 3 / 20


DEFAULT = BoundarySettings()


@dataclass(frozen=True)
class _View:
    """A photo with what is known of it, at some size.

    Attributes:
        photo: (H, W, 3) uint8.
        given: (H, W) ids that stay, VOID elsewhere.
        drawn: (H, W) ids of the drawing, VOID where there is none.
        unit: pixels of the shorter side of the model's input.
    """

    photo: NDArray[np.uint8]
    given: NDArray[np.integer]
    drawn: NDArray[np.integer]
    unit: float

    def shrunk(self, factor: float) -> _View:
        """Both sides shorter by this factor. Every given pixel is kept, also one that a regular grid would miss."""
        height, width = (max(1, round(n / factor)) for n in self.given.shape)
        rows, columns = _cells(self.given.shape[0], height), _cells(self.given.shape[1], width)
        given = np.full((height, width), VOID, dtype=self.given.dtype)
        known = np.nonzero(self.given != VOID)
        given[rows[known[0]], columns[known[1]]] = self.given[known]
        photo = np.asarray(Image.fromarray(self.photo).resize((width, height), Image.Resampling.BOX))
        drawn = self.drawn[np.ix_(nearest_indices(self.drawn.shape[0], height), nearest_indices(self.drawn.shape[1], width))]
        return _View(photo, given, drawn, self.unit / factor)


def refine_boundaries(
    drawn: PanopticMap,
    photo: NDArray[np.uint8],
    given: NDArray[np.integer],
    side: int | None = None,
    settings: BoundarySettings = DEFAULT,
) -> PanopticMap:
    """Divide a drawn map anew by the photo's edges.

    Every pixel goes to the segment in which a random walk over the photo most probably ends (`random_walk`). Given pixels are its seeds and
    the drawing is its prior. The trust in the drawing grows with the distance from its borders and from given pixels, because the photo and
    the labels are more exact near them. Among dense labels there is no trust, and the result is that of `spread`. New segments that would
    have been given a label are dropped. For a large photo, the walk is computed on a smaller picture, and along the borders found there
    the pixels are flooded over the gradient (the watershed of Beucher and Meyer).

    Args:
        drawn: (H, W) the drawn map, given pixels included.
        photo: (H, W, 3).
        given: (H, W) ids that stay as they are, VOID elsewhere.
        side: pixels of the square of the model's input, where that is less than the photo's shorter side.

    Returns:
        (H, W) the map with the same ids at the given pixels; void stays void.
    """
    side = min(drawn.shape) if side is None else min(side, *drawn.shape)
    ids = _divided(_View(photo, given, drawn.ids, side), settings)
    if len(drawn.run_index) and drawn.run_index.min() < 0:  # some of it is void
        ids = np.where(drawn.ids != VOID, ids, VOID)
    return drawn.with_ids(_with_given(ids, given))


def spread(partial: PanopticMap, photo: NDArray[np.uint8], settings: BoundarySettings = DEFAULT) -> PanopticMap:
    """(H, W) the given segments over the whole photo: the border step without a drawing. Void where nothing is given at all."""
    nothing = np.full_like(partial.ids, VOID)
    ids = _divided(_View(photo, partial.ids, nothing, min(partial.shape)), settings)
    return partial.with_ids(_with_given(ids, partial.ids))


def _with_given(ids: NDArray[np.integer], given: NDArray[np.integer]) -> NDArray[np.integer]:
    known = given != VOID
    return np.where(known, given, ids) if known.any() else ids


def _divided(view: _View, settings: BoundarySettings) -> NDArray[np.integer]:
    """(H, W) an id for every pixel."""
    height, width = view.given.shape
    factor = max(height, width) * view.unit / (WORKING_SIZE * min(height, width))  # of windows, each may be as large as a whole photo
    if factor <= 1:
        return _flooded(view, settings)
    return _enlarged(_flooded(view.shrunk(factor), settings), (height, width))


def _flooded(view: _View, settings: BoundarySettings) -> NDArray[np.integer]:
    """The walk's result; of a picture too large for it, a smaller one's with its borders moved to the nearest edges."""
    factor = math.sqrt(view.given.size / (WALKER_PIXELS if (view.given != VOID).any() else DRAWN_PIXELS))
    if factor <= 1:
        return _walked(view, settings)
    small = view.shrunk(factor)
    walked = _walked(small, settings)
    depth = distance_inside(walked)
    settled = np.where(depth >= FLOODED_CELLS, walked, VOID)
    for thin in np.setdiff1d(walked, np.append(settled, small.given)):
        inside = walked == thin
        settled[inside & (depth >= depth[inside].max())] = thin
    settled = _with_given(_enlarged(settled, view.given.shape), view.given)
    return flood(view.photo, settled) if (settled != VOID).any() else _enlarged(walked, view.given.shape)


def _walked(view: _View, settings: BoundarySettings) -> NDArray[np.integer]:
    """(H, W) the ids in which walks from each pixel end. Without any seed or trust, the drawing."""
    known = view.given != VOID
    if known.all():
        return view.given
    weight = settings.trust / view.unit**2 * _confidence(view, known, settings)  # of more pixels each counts less
    ids = np.union1d(view.drawn[weight > 0], view.given[known])
    if len(ids) < 2:
        return np.full_like(view.given, ids[0]) if len(ids) else view.drawn
    prior = torch.from_numpy(view.drawn == ids[:, None, None]) if weight.any() else None  # (K, H, W)
    seeds = np.where(known, np.searchsorted(ids, view.given), -1)
    contrast, smoothing = settings.contrast, 0.0
    if not known.any():  # borders are as coarse as the model's pixels
        scale = max(view.unit / settings.size, 1.0)
        contrast, smoothing = contrast * scale**2, settings.smoothing * math.sqrt(scale**2 - 1)
    return ids[random_walk(view.photo, seeds, len(ids), prior, weight, contrast, smoothing).argmax(-1)]


def _confidence(view: _View, known: NDArray[np.bool_], settings: BoundarySettings) -> NDArray[np.float64]:
    """(H, W) distance from the drawing's borders and from given pixels, 0..far - near; 0 where nothing, or nothing likely, is drawn."""
    away = ndimage.distance_transform_edt(~known) / view.unit if known.any() else np.full(known.shape, np.inf)  # from a given pixel
    if away.max() < settings.dense:
        return np.zeros(known.shape)
    depth = distance_inside(view.drawn) / view.unit
    confidence = np.minimum(np.minimum(depth, away), settings.far) - settings.near
    confidence[view.drawn == VOID] = 0
    if known.any():
        confidence[np.isin(view.drawn, _unlikely(view, away, settings))] = 0
    else:
        _support_thin(view.drawn, depth, confidence, settings.far - settings.near)
    return confidence.clip(0)


def _unlikely(view: _View, away: NDArray[np.float64], settings: BoundarySettings) -> NDArray[np.integer]:
    """New ids beside given ones that would have been given, had they been there."""
    new = np.setdiff1d(view.drawn, np.append(view.given, VOID))
    reach = np.asarray(ndimage.maximum(away, view.drawn, new))
    areas = np.asarray(ndimage.sum_labels(np.ones_like(away), view.drawn, new))
    return new[(reach < settings.hidden) | (areas < settings.small * view.unit**2)]


def _support_thin(drawn: NDArray[np.integer], depth: NDArray[np.float64], confidence: NDArray[np.float64], full: float) -> None:
    """Where nothing is given, a segment that is nowhere far from its borders would be lost. Its innermost pixels keep it."""
    for thin in np.setdiff1d(drawn, np.append(drawn[confidence > 0], VOID)):
        inside = drawn == thin
        confidence[inside & (depth >= depth[inside].max())] = full


def _cells(size: int, target: int) -> NDArray[np.intp]:
    """(size,) which of `target` cells each pixel lies in."""
    return np.arange(size) * target // size


def _enlarged(ids: NDArray[np.integer], shape: tuple[int, int]) -> NDArray[np.integer]:
    return ids.take(_cells(shape[1], ids.shape[1]), axis=1).take(_cells(shape[0], ids.shape[0]), axis=0)  # whole rows last


def distance_inside(ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """(H, W) pixels to the nearest pixel at a border between two ids; infinite where there is no border."""
    edge = np.zeros(ids.shape, dtype=bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return ndimage.distance_transform_edt(~edge) if edge.any() else np.full(ids.shape, np.inf)
