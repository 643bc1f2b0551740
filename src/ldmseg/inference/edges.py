"""Where a photo has its edges: its colours in CIELAB, their gradient, and the flooding that puts borders there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.color import rgb2xyz, xyz_tristimulus_values
from skimage.segmentation import watershed

from ldmseg.panoptic import VOID, extent

SMOOTHING = 0.7
"""Pixels: the standard deviation of the Gaussian before the gradient is taken, against the noise of a photo."""

MARGIN = 5
"""Pixels beyond the undecided ones that have a part in the flooding: one neighbour, and what its gradient depends on."""

_DARK = 0.008856
"""Below this share of white, lightness is a line and not a cube root (CIE 1976)."""


def lab(photo: NDArray[np.uint8], dtype: type[np.floating] = np.float64) -> NDArray:
    """(H, W, 3) sRGB -> (3, H, W) CIELAB under D65: scikit-image's `rgb2lab`, in single precision in a third of its time."""
    linear = torch.from_numpy(_LINEAR.astype(dtype).take(photo.reshape(-1, 3).T))  # (3, H W)
    xyz = torch.from_numpy(_XYZ.astype(dtype)) @ linear  # as shares of white
    f = torch.where(xyz > _DARK, xyz.pow(1 / 3), 7.787 * xyz + 16 / 116)
    found = torch.stack([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
    return found.view(3, *photo.shape[:2]).numpy()


def gradient(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) length of the gradient of the colours in CIELAB: Sobel's differences of a slightly smoothed photo."""
    smooth = lab(photo, np.float32)
    for axis in (1, 2):
        smooth = _smoothed(smooth, axis, _GAUSSIAN)
    slopes = (_difference(_smoothed(smooth, 3 - axis, (2.0, 1.0)), axis) for axis in (1, 2))
    return np.sqrt(sum(np.square(slope).sum(0) for slope in slopes))


def flood(photo: NDArray[np.uint8], settled: NDArray[np.integer]) -> NDArray[np.integer]:
    """(H, W) `settled`, whose void pixels are flooded from the others over the photo's gradient (the watershed of Beucher and Meyer).

    Settled pixels without a void neighbour flood nothing, so they are left out of the flooding. Only the order of pixels at exactly the
    same gradient may depend on them.

    Args:
        settled: ids, VOID where undecided; some must be decided.
    """
    undecided = settled == VOID
    box = extent(undecided)
    if box is None:
        return settled
    rows, columns = box
    box = (slice(max(0, rows.start - MARGIN), rows.stop + MARGIN), slice(max(0, columns.start - MARGIN), columns.stop + MARGIN))
    taking_part = binary_dilation(undecided[box])
    flooded = watershed(gradient(photo[box]), np.where(taking_part, settled[box], VOID), mask=taking_part)
    found = settled.copy()
    np.copyto(found[box], flooded, where=undecided[box])
    return found


def _smoothed(values: NDArray[np.float32], axis: int, half: tuple[float, ...]) -> NDArray[np.float32]:
    """Correlation along an axis with the symmetric kernel whose middle and right half are `half`; mirrored at the ends."""
    length, reach = values.shape[axis], len(half) - 1
    padded = _mirrored(values, axis, reach)
    found = values * np.float32(half[0])
    for step, weight in enumerate(half[1:], start=1):
        before, after = (_part(padded, axis, reach + shift, length) for shift in (-step, step))
        found += (before + after) * np.float32(weight)
    return found


def _difference(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The next pixel less the one before, along an axis."""
    padded, length = _mirrored(values, axis, 1), values.shape[axis]
    return _part(padded, axis, 2, length) - _part(padded, axis, 0, length)


def _mirrored(values: NDArray[np.float32], axis: int, reach: int) -> NDArray[np.float32]:
    return np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)], mode="symmetric")


def _part(values: NDArray[np.float32], axis: int, start: int, length: int) -> NDArray[np.float32]:
    return values[(slice(None),) * axis + (slice(start, start + length),)]


def _gaussian(deviation: float) -> tuple[float, ...]:
    """The middle and the right half of a Gaussian of sum 1, cut off at four deviations."""
    weights = np.exp(-0.5 * (np.arange(round(4 * deviation) + 1) / deviation) ** 2)
    return tuple((weights / (2 * weights.sum() - weights[0])).tolist())


_GAUSSIAN = _gaussian(SMOOTHING)
_WHITE = np.array(xyz_tristimulus_values(illuminant="D65", observer="2"))
_XYZ = (rgb2xyz(np.eye(3)[None])[0] / _WHITE).T
"""(3, 3) linear RGB -> XYZ as shares of white; a primary at full strength is the same with and without gamma."""
_LINEAR = rgb2xyz(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))[0, :, 1] / _WHITE[1]
"""(256,) the linear value of each byte: a grey's luminance."""
