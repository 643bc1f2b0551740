"""Depth maps as 16-bit PNGs, as the KITTI depth benchmark has them (Uhrig et al., "Sparsity Invariant CNNs", 2017)."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image

from ldmseg.atomic import atomic_write, write_json
from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import ImageId, Provenance

SCALE = 256
"""A pixel's value per unit of depth; 0 is unknown."""

LARGEST = (2**16 - 1) / SCALE


def write_depth_png(path: str | os.PathLike[str], depth: DepthMap) -> None:
    """Write a depth map: a pixel is its depth times 256, rounded and at least 1; 0 where it is unknown.

    Raises:
        InputError: a depth does not fit (above 255.99), or the file cannot be written.
    """
    values = depth.values[depth.known]
    if values.size and values.max() > LARGEST:
        raise InputError(f"depth: expected at most {LARGEST:.2f} for a 16-bit PNG, got {values.max():.2f}")
    scaled = np.rint(np.where(depth.known, depth.values, 0) * SCALE)
    pixels = np.where(depth.known, scaled.clip(1), 0).astype(np.uint16)
    with atomic_write(Path(path)) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def read_depth_png(path: str | os.PathLike[str], unit: str = "metres") -> DepthMap:
    """The depth map that `write_depth_png` wrote, rounded to 1/256.

    Raises:
        InputError: the file is missing, damaged, or no picture of 16 bits.
    """
    try:
        with Image.open(path) as picture:
            mode, pixels = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"depth: expected a 16-bit PNG, got '{path}' ({type(error).__name__})") from None
    if not mode.startswith("I") or pixels.ndim != 2 or int(pixels.max(initial=0)) >= 2**16 or int(pixels.min(initial=0)) < 0:
        raise InputError(f"depth: expected a gray picture of 16 bits, got mode {mode} in '{path}'")
    values = pixels.astype(np.float32) / SCALE
    return DepthMap(np.where(pixels == 0, np.float32(np.nan), values), unit)


class DepthWriter:
    """Writes a PNG per image as it comes and `depth.json`, which says what their numbers are, at the end; a context manager.

    Args:
        folder: for all of them.
        provenance: `info` of the JSON.
    """

    def __init__(self, folder: str | os.PathLike[str], provenance: Provenance | None = None) -> None:
        self.folder = Path(folder)
        self.json_path = self.folder / "depth.json"
        self._provenance = provenance or Provenance()
        self._images: list[dict[str, object]] = []
        self._unit = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._images:
            self.close()

    def add(self, file_name: str, image_id: ImageId, depth: DepthMap) -> Path:
        """Write one image's PNG and return its path.

        Raises:
            InputError: a depth does not fit, or its unit is not that of the images before.
        """
        if self._images and depth.unit != self._unit:
            raise InputError(f"depth: expected the unit of the images before, {self._unit}, got {depth.unit}")
        path = self.folder / Path(file_name).with_suffix(".png").name
        write_depth_png(path, depth)
        self._unit = depth.unit
        self._images.append(
            {"id": image_id, "file_name": file_name, "depth_file": path.name, "height": depth.shape[0], "width": depth.shape[1]}
        )
        return path

    def close(self) -> None:
        """Write the JSON, which replaces an older one in one step."""
        document = {"info": dict(self._provenance.info), "unit": self._unit, "scale": SCALE, "images": self._images}
        write_json(self.json_path, document)
