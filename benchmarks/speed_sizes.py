"""Photos and labels at the sizes that speed is measured at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ldmseg import PanopticMap

VGA, TWELVE_MEGAPIXELS = (480, 640), (3000, 4000)
"""(H, W)."""


def resized(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def enlarged_map(pmap: PanopticMap, height: int, width: int) -> PanopticMap:
    return pmap.resize(height, width)
