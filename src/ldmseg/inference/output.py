"""What the pipeline returns, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from diffusers.utils import BaseOutput
from numpy.typing import NDArray

from ldmseg.atomic import atomic_write
from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter
from ldmseg.formats.depth_png import DepthWriter
from ldmseg.images import ImageInput, as_photo, load_images
from ldmseg.panoptic import PanopticMap
from ldmseg.visualize import confidence_picture, target_picture


@dataclass
class LDMSegOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        maps: one per image, at the image's own size. A `PanopticMap` each (`output_type="panoptic"`), an (H, W) int32 array (`np`) or
            tensor (`pt`) of ids, or mask latents (`latent`): (C, h, w), with an ensemble (K, C, h, w). With task depth a `DepthMap` each
            (`panoptic`), or an (H, W) float32 array or tensor of depths in its unit.
        confidence: with an ensemble, one (H, W) float32 array per image: the share of the samples that agree with the map there.
        samples: with an ensemble, the K maps of each image as drawn; segments that match the map's have its ids.
        categories: what the segments may be, where they have names.
    """

    maps: list[Any]
    confidence: list[NDArray[np.float32]] | None = None
    samples: list[tuple[Any, ...]] | None = None
    categories: tuple[Category, ...] | None = None

    def save(
        self,
        folder: str | PathLike[str],
        image: ImageInput | Sequence[ImageInput] | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> Path:
        """Write what `ldmseg segment` writes: each map as <name>.png, one panoptic.json, whose path is returned, and with an ensemble
        <name>_confidence.png. Depth maps are written as 16-bit pictures (`ldmseg.formats.depth_png`), with depth.json.

        Args:
            image: what the pipeline was given; <name>_overlay.png is drawn of it.
            names: one per map, without a suffix. Left out, they are those of the images that are paths, else counted: 0001, 0002, ..

        Raises:
            InputError: the maps are no `PanopticMap`s, or there are not as many images or names, or a name occurs twice.
        """
        if not all(isinstance(one, (PanopticMap, DepthMap)) for one in self.maps):
            raise InputError("save: expected maps of output_type panoptic, got another output_type")
        given = [] if image is None else list(image) if isinstance(image, (list, tuple)) else [image]
        photos = [] if image is None else load_images(image)
        called = list(names) if names is not None else _names(given, len(self.maps))
        for what, got in (("image", len(photos) if image is not None else len(self.maps)), ("names", len(called))):
            if got != len(self.maps):
                raise InputError(f"{what}: expected one per map ({len(self.maps)}), got {got}")
        target = Path(folder)
        pictures = {}
        writer: Any
        depths = any(isinstance(one, DepthMap) for one in self.maps)
        with DepthWriter(target) if depths else CocoPanopticWriter(target, self.categories, png_dir=target) as writer:
            for number, (name, pmap) in enumerate(zip(called, self.maps, strict=True)):
                writer.add(f"{name}.png", number + 1, pmap)
                if photos:
                    pictures[f"{name}_overlay.png"] = target_picture(as_photo(photos[number]), pmap)
                if self.confidence is not None:
                    pictures[f"{name}_confidence.png"] = confidence_picture(self.confidence[number])
        for name, picture in pictures.items():
            with atomic_write(target / name) as temporary:
                picture.save(temporary, format="PNG")
        return writer.json_path


def _names(images: Sequence[Any], count: int) -> list[str]:
    """The stems of the files that the images are; counted where they are none."""
    paths = [Path(image).stem if isinstance(image, (str, PathLike)) else None for image in images]
    named = [name for name in paths if name is not None]
    return named if len(named) == count else [f"{number:04d}" for number in range(1, count + 1)]
