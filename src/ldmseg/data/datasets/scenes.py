"""Generated scenes as a data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ldmseg.choices import Task
from ldmseg.data.datasets.base import MapTargets
from ldmseg.data.scenes import CATEGORIES, Scene, generate_ids, generate_scene
from ldmseg.dense import DepthMap, Target
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap

DEPTH_UNIT = "distances of the ground at the lower edge"


@dataclass(frozen=True)
class SceneDataset(MapTargets):
    """`scenes:COUNT[:SPLIT]`: generated scenes, split `train` (seeds from 0) or `val` (seeds from 10,000,000).

    `scenes:FIRST-END[:SPLIT]` are those from the split's seed FIRST up to END.
    """

    count: int
    first_seed: int
    size: int = 128
    segments: tuple[int, int] = (4, 12)

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(c.id, c.name, c.isthing) for c in CATEGORIES)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> NDArray[np.uint8]:
        return _drawn(self.first_seed + index, self.size, self.segments).image

    def map(self, index: int) -> PanopticMap:
        return _drawn(self.first_seed + index, self.size, self.segments).map

    def ids(self, index: int) -> NDArray[np.int32]:
        """(H, W) ids alone, without drawing the photo."""
        return generate_ids(self.first_seed + index, self.size, segments=self.segments)

    def target(self, index: int, task: Task) -> Target:
        """Depth is that of the geometry that the scene was painted from, in units of the ground's distance at the photo's lower edge.

        A photo does not show metres: the same scene, larger and further away, would look the same.
        """
        if task != "depth":
            return super().target(index, task)
        scene = _drawn(self.first_seed + index, self.size, self.segments)
        return DepthMap(scene.depth / np.float32(scene.foreground), DEPTH_UNIT)

    def name(self, index: int) -> str:
        return f"scene_{self.first_seed + index:08d}.png"


@lru_cache(maxsize=2)
def _drawn(seed: int, size: int, segments: tuple[int, int]) -> Scene:
    """The photo and the map of a scene are asked for one after the other, and drawn once."""
    return generate_scene(seed, size, segments=segments)
