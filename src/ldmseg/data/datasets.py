"""Photos with their panoptic maps, behind one name: `FORMAT:ROOT[:SPLIT]`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.scenes import CATEGORIES, VALIDATION_SEED, Scene, generate_ids, generate_scene
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic import CocoPanoptic, open_root
from ldmseg.panoptic import PanopticMap


class PanopticDataset(Protocol):
    """Photo, map and name of each image, read separately: stage 1 needs no photos."""

    @property
    def categories(self) -> tuple[Category, ...]: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) RGB."""
        ...

    def map(self, index: int) -> PanopticMap: ...

    def name(self, index: int) -> str:
        """The photo's file name."""
        ...


@dataclass(frozen=True)
class SceneDataset:
    """`scenes:COUNT[:SPLIT]`: generated scenes, split `train` (seeds from 0) or `val` (seeds from 10,000,000)."""

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

    def name(self, index: int) -> str:
        return f"scene_{self.first_seed + index:08d}.png"


@lru_cache(maxsize=2)
def _drawn(seed: int, size: int, segments: tuple[int, int]) -> Scene:
    """The photo and the map of a scene are asked for one after the other, and drawn once."""
    return generate_scene(seed, size, segments=segments)


@dataclass(frozen=True)
class CocoPanopticDataset:
    """`coco-panoptic:DIR[:SPLIT]`: photos and COCO panoptic annotations, laid out as COCO or `ldmseg data scenes` lay them out."""

    source: CocoPanoptic

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(self.source.categories)

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.asarray(self.source[index].read_image())

    def map(self, index: int) -> PanopticMap:
        return self.source[index].read_map()

    def name(self, index: int) -> str:
        return self.source[index].file_name


FORMATS = ("scenes", "coco-panoptic")


def load_dataset(spec: str, *, size: int = 128, segments: tuple[int, int] = (4, 12)) -> PanopticDataset:
    """Open a data set by name.

    Args:
        spec: `scenes:COUNT[:train|val]` or `coco-panoptic:DIR[:SPLIT]`.
        size: pixels of generated scenes; real photos keep their own size.
        segments: fewest and most segments of a generated scene.

    Raises:
        InputError: an unknown format, a missing folder, a broken annotation file; said in one line.
    """
    kind, separator, rest = spec.partition(":")
    if not separator or not rest or kind not in FORMATS:
        raise InputError(f"data: expected FORMAT:ROOT[:SPLIT] with FORMAT one of {', '.join(FORMATS)}, got {spec!r}")
    if kind == "scenes":
        return _scenes(rest, spec, size, segments)
    root, split = _root_and_split(rest)
    dataset = CocoPanopticDataset(open_root(root, split))
    if len(dataset) == 0:
        raise InputError(f"data: expected at least one image in {spec!r}, got none")
    return dataset


def _scenes(rest: str, spec: str, size: int, segments: tuple[int, int]) -> SceneDataset:
    count, _, split = rest.partition(":")
    if not count.isdigit() or int(count) == 0 or split not in ("", "train", "val"):
        raise InputError(f"data: expected scenes:COUNT[:train|val] with COUNT at least 1, got {spec!r}")
    if split != "val" and int(count) > VALIDATION_SEED:
        raise InputError(f"data: expected at most {VALIDATION_SEED} training scenes (later seeds are for validation), got {count}")
    return SceneDataset(int(count), VALIDATION_SEED if split == "val" else 0, size, segments)


def _root_and_split(rest: str) -> tuple[Path, str | None]:
    if Path(rest).exists() or ":" not in rest:
        return Path(rest), None
    root, _, split = rest.rpartition(":")
    return Path(root), split or None
