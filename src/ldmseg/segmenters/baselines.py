"""Completing a partial map without a network: the methods that a trained model is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from ldmseg.errors import InputError, quoted
from ldmseg.inference.boundaries import spread
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.segmenters.base import Photo

Baseline = Literal["walker", "watershed", "nearest"]
"""`walker` (Grady, "Random Walks for Image Segmentation", 2006) is the pipeline's border step without a network. The figure of a model less
that of `walker` is what the network adds. `watershed` (Beucher and Meyer) uses the photo's edges, too, and `nearest` distances alone."""

Indices = NDArray[np.intp]


def complete(name: Baseline, image: NDArray[np.uint8], partial: PanopticMap) -> PanopticMap:
    """Every unknown pixel gets one of the given ids; known pixels stay as they are.

    Args:
        image: (H, W, 3) the photo.
        partial: (H, W) the partial map. If it gives nothing at all, the result is one segment.

    Raises:
        InputError: an unknown name, or sizes that differ.
    """
    check_baselines([name])
    if image.shape != (*partial.shape, 3) or image.dtype != np.uint8:
        raise InputError(f"image: expected {(*partial.shape, 3)} uint8, as large as the partial map, got {image.shape} {image.dtype}")
    if len(partial) == 0:
        return PanopticMap(np.ones(partial.shape, dtype=np.int32))
    known = partial.ids != VOID
    if known.all():
        return partial
    if len(partial) == 1:
        return partial.with_ids(np.full(partial.shape, partial.segments[0].id))
    if name == "walker":
        return spread(partial, image)
    filled = (_nearest if name == "nearest" else _watershed)(image, partial.dense)
    ids = np.array([s.id for s in partial.segments])[filled]
    return partial.with_ids(np.where(known, partial.ids, ids))


class BaselineSegmenter:
    """A baseline as a segmenter, of partial maps only.

    Raises:
        InputError: an unknown name.
    """

    def __init__(self, name: Baseline) -> None:
        check_baselines([name])
        self.name = name

    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        if partials is None:
            raise InputError(f"partials: expected a partial map of each photo for the baseline {self.name!r}, got none")
        return [complete(self.name, image, partial) for image, partial in zip(images, partials, strict=True)]


def check_baselines(names: Sequence[str]) -> None:
    """
    Raises:
        InputError: an unknown name.
    """
    for name in names:
        if name not in get_args(Baseline):
            raise InputError(f"baselines: expected some of {', '.join(get_args(Baseline))}, got {quoted(name)}")


# --------------------------------------------------------------------------- (H, W) index of a given segment, -1 unknown -> none unknown
def _nearest(image: NDArray[np.uint8], dense: Indices) -> Indices:
    """The nearest known pixel's (Euclidean)."""
    rows, columns = ndimage.distance_transform_edt(dense < 0, return_distances=False, return_indices=True)
    return dense[rows, columns]


def _watershed(image: NDArray[np.uint8], dense: Indices) -> Indices:
    """Flooded from the known pixels over the photo's gradient, the strongest of the three channels at each pixel."""
    channels = [ndimage.gaussian_filter(image[..., c].astype(np.float32), 1.0) for c in range(3)]
    gradient = np.max([np.hypot(ndimage.sobel(c, 0), ndimage.sobel(c, 1)) for c in channels], axis=0)  # (H, W)
    return watershed(gradient, dense + 1) - 1
