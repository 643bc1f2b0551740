"""Random walks over a photo: which segment each pixel belongs to, from seeds and from a drawing (Grady 2005, 2006)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ldmseg.inference.edges import lab
from ldmseg.inference.grid_solver import GridSystem
from ldmseg.panoptic import extent

LEAST_WEIGHT = 1e-10
"""Added to every edge's weight, so that no pixel is cut off; scikit-image's."""


def random_walk(
    photo: NDArray[np.uint8],
    seeds: NDArray[np.integer],
    count: int,
    prior: Tensor | None = None,
    trust: NDArray[np.float64] | None = None,
    contrast: float = 50.0,
    smoothing: float = 0.0,
) -> NDArray[np.float32]:
    """How probable each of K segments is at each pixel: the random walker with priors (Grady, "Multilabel random walker", CVPR 2005).

    (L_U + T) x = -B m + T p: L_U and B are the blocks of the graph Laplacian between unknown pixels and from them to the seeds, m the
    seeds' labels, p the prior, T = diag(trust). A walk moves to neighbours of similar colour. At each step it may end in a segment drawn
    from the prior; this is the more likely, the greater the trust. At a seed it ends in the seed's segment. Without trust, this is the
    plain random walker with scikit-image's weights. There must be a seed or some trust.

    Args:
        photo: (H, W, 3).
        seeds: (H, W) the index 0..K-1 of a known pixel's segment, -1 where unknown.
        count: K.
        prior: (K, H, W) probabilities of each pixel's segment from another source.
        trust: (H, W) weight of the prior at each pixel, 0 or more, beside weights of edges of up to 1.
        contrast: how much a step in colour hinders the walker: `beta` of scikit-image's, of CIELAB values.
        smoothing: standard deviation, in pixels, of the Gaussian by which colours are smoothed first.

    Returns:
        (H, W, K) probabilities, exactly 0 or 1 at the seeds.
    """
    right, down = edge_weights(photo, contrast, smoothing)
    diagonal = np.zeros(seeds.shape) if trust is None else trust.astype(np.float64)
    b = torch.zeros(*seeds.shape, count)
    if trust is not None and prior is not None:
        torch.mul(prior.movedim(0, -1), torch.from_numpy(trust).float()[..., None], out=b)
    known = seeds >= 0
    b[torch.from_numpy(known)] = 0
    for weights, axis in ((right, 1), (down, 0)):
        one, other = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        diagonal[one] += weights
        diagonal[other] += weights
        for here, there in ((one, other), (other, one)):
            beside = np.nonzero(~known[here] & known[there])  # unknown pixels with a seed on this side
            b[here][(*beside, seeds[there][beside])] += torch.from_numpy(weights[beside]).float()
        weights[known[one] | known[other]] = 0
    rows, columns = known.nonzero()
    b[rows, columns, seeds[rows, columns]] = 1
    diagonal[known] = 1
    box = extent(~known)
    if box is not None:  # seeds are coupled to nothing, so outside of it the right-hand sides are the solution
        inside = b[box]
        present = inside.flatten(0, 1).any(0).nonzero().flatten()  # the solution of zeros is zero
        inside[..., present] = _system(diagonal, right, down, box).solve(inside[..., present])
    return b.numpy()


def _system(diagonal: NDArray[np.float64], right: NDArray[np.float64], down: NDArray[np.float64], box: tuple[slice, slice]) -> GridSystem:
    """The equations of the pixels in a box."""
    rows, columns = box
    across, below = right[rows, columns.start : columns.stop - 1], down[rows.start : rows.stop - 1, columns]
    return GridSystem(*(torch.from_numpy(np.ascontiguousarray(part)) for part in (diagonal[box], across, below)))


def edge_weights(photo: NDArray[np.uint8], contrast: float, smoothing: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(H, W - 1) weights of each pixel's edge to its right neighbour, and (H - 1, W) to the one below; 1 where colours are the same."""
    colors = lab(photo)  # (3, H, W)
    if smoothing:
        colors = ndimage.gaussian_filter(colors, (0, smoothing, smoothing))
    spread = float(colors.std()) or 1.0  # of a photo of one colour all weights are 1
    scale = -contrast / (10 * math.sqrt(3) * spread)
    right, down = (np.exp(scale * np.square(np.diff(colors, axis=axis)).sum(0)) for axis in (2, 1))
    return right + LEAST_WEIGHT, down + LEAST_WEIGHT
