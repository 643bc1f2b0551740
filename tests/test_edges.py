from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import watershed

from ldmseg import VOID
from ldmseg.inference.edges import SMOOTHING, flood, gradient, lab


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.slow
def test_colours_are_scikit_images() -> None:
    photo = noise(64, 80)
    photo[:2] //= 32  # dark: on the line and not on the cube root
    assert np.moveaxis(lab(photo), 0, -1) == pytest.approx(rgb2lab(photo), abs=1e-9)
    assert np.moveaxis(lab(photo, np.float32), 0, -1) == pytest.approx(rgb2lab(photo), abs=2e-4)


@pytest.mark.parametrize("height, width", [(40, 50), (1, 9), (9, 1), (2, 2), (1, 1)])
def test_gradient_is_scipys(height: int, width: int) -> None:
    photo = noise(height, width)
    channels = [ndimage.gaussian_filter(c, SMOOTHING) for c in np.moveaxis(rgb2lab(photo), -1, 0)]
    expected = np.sqrt(sum(ndimage.sobel(c, 0) ** 2 + ndimage.sobel(c, 1) ** 2 for c in channels))
    assert gradient(photo) == pytest.approx(expected, abs=1e-2, rel=1e-4)


@pytest.mark.slow
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_flooding_the_rest_alone_is_flooding_all(height: int, width: int, share: float, in_a_box: bool, seed: int) -> None:
    """On noise, where no two gradients are the same. What is undecided lies anywhere, or in one box."""
    photo, rng = noise(height, width, seed), np.random.default_rng(seed)
    blocks = np.kron(rng.integers(1, 5, (-(-height // 6), -(-width // 6))), np.ones((6, 6), dtype=int))[:height, :width]
    decided = rng.random((height, width)) < share
    if in_a_box:
        (top, bottom), (left, right) = (sorted(rng.integers(0, side + 1, 2)) for side in (height, width))
        inside = np.zeros_like(decided)
        inside[top:bottom, left:right] = True
        decided |= ~inside
    settled = np.where(decided, blocks, VOID)
    settled.flat[0] = 9
    found = flood(photo, settled)
    assert np.array_equal(found, watershed(gradient(photo), settled))
    assert np.array_equal(found[settled != VOID], settled[settled != VOID])
