"""Segmenters without any training: superpixels of the photo, merged while their colours are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb, slic

from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import PanopticMap, nearest_indices
from ldmseg.segmenters.base import Photo, check_unaided

RegionMethod = Literal["felzenszwalb", "slic"]
"""`felzenszwalb` is graph-based segmentation (Felzenszwalb and Huttenlocher 2004). `slic` makes superpixels (Achanta et al. 2012) and
merges those neighbours whose mean colours are most alike."""


@dataclass(frozen=True)
class RegionSettings:
    """Constants of the classical segmenters; lengths and areas are those of a photo whose longer side is `side` pixels.

    Attributes:
        side: a larger photo is reduced to this.
        scale: of felzenszwalb; larger means larger segments (k in the paper, section 3.1).
        sigma: pixels by which felzenszwalb smooths the photo.
        min_size: pixels of the smallest felzenszwalb segment.
        superpixels: of slic.
        compactness: of slic; larger means squarer superpixels.
        contrast: CIELAB distance of mean colours up to which neighbouring superpixels are merged.

    Raises:
        InputError: a value that is not above 0.
    """

    side: int = 288
    scale: float = 400.0
    sigma: float = 0.8
    min_size: int = 400
    superpixels: int = 200
    compactness: float = 10.0
    contrast: float = 10.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise InputError(f"{name}: expected more than 0, got {value}")


class RegionSegmenter:
    """A classical method as a segmenter, of whole photos only; it is deterministic.

    Raises:
        InputError: an unknown name.
    """

    def __init__(self, name: RegionMethod, settings: RegionSettings | None = None) -> None:
        if name not in get_args(RegionMethod):
            raise InputError(f"segmenter: expected one of {', '.join(get_args(RegionMethod))}, got {quoted(name)}")
        self.name, self._settings = name, settings or RegionSettings()

    @property
    def settings(self) -> dict[str, Any]:
        """The constants in plain values, for reports."""
        return {"segmenter": self.name, **asdict(self._settings)}

    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        check_unaided(partials, self.name)
        return [self._segment(image) for image in images]

    def _segment(self, image: Photo) -> PanopticMap:
        settings, (height, width) = self._settings, image.shape[:2]
        factor = max(1.0, max(height, width) / settings.side)
        size = max(1, round(height / factor)), max(1, round(width / factor))
        photo = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BOX)) if factor > 1 else image
        if self.name == "felzenszwalb":
            found = felzenszwalb(photo, scale=settings.scale, sigma=settings.sigma, min_size=settings.min_size)
        else:
            colors = rgb2lab(photo)
            pieces = slic(photo, n_segments=settings.superpixels, compactness=settings.compactness, start_label=0)
            found = merge_alike(pieces, colors, settings.contrast)
        whole = found[np.ix_(nearest_indices(size[0], height), nearest_indices(size[1], width))]
        return PanopticMap(whole.astype(np.int32) + 1)


def merge_alike(pieces: NDArray[np.integer], colors: NDArray[np.floating], contrast: float) -> NDArray[np.intp]:
    """Merge the two neighbours whose mean colours are nearest, and so on, until every two neighbours differ by more than `contrast`.

    Args:
        pieces: (H, W) superpixels.
        colors: (H, W, 3) CIELAB.

    Returns:
        (H, W) merged segments, numbered from 0.
    """
    values, index = np.unique(pieces, return_inverse=True)
    index = index.reshape(pieces.shape)
    labels = np.arange(len(values))
    areas = np.bincount(index.ravel()).astype(float)
    means = np.stack([np.asarray(ndimage.mean(colors[..., c], index, labels)) for c in range(3)], axis=1)  # (S, 3)
    near = np.zeros((len(values), len(values)), dtype=bool)
    for one, other in ((index[:, 1:], index[:, :-1]), (index[1:], index[:-1])):
        near[one, other] = near[other, one] = True
    np.fill_diagonal(near, False)
    distance = np.where(near, np.linalg.norm(means[:, None] - means[None], axis=-1), np.inf)  # (S, S)
    while distance.size and distance.min() <= contrast:
        kept, gone = (int(i) for i in np.unravel_index(distance.argmin(), distance.shape))
        means[kept] = (areas[kept] * means[kept] + areas[gone] * means[gone]) / (areas[kept] + areas[gone])
        areas[kept] += areas[gone]
        labels[labels == gone] = kept
        near[kept] |= near[gone]
        near[:, kept] |= near[:, gone]
        near[kept, kept] = False
        near[gone] = near[:, gone] = False
        distance[gone] = distance[:, gone] = np.inf
        distance[kept] = distance[:, kept] = np.where(near[kept], np.linalg.norm(means - means[kept], axis=-1), np.inf)
    return np.unique(labels, return_inverse=True)[1][index]
