"""A small COCO panoptic data set on the disk, and ways to break it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ldmseg.data.scenes import generate_scene
from ldmseg.formats.coco_panoptic import CocoPanopticWriter
from ldmseg.panoptic import PanopticMap


def make_coco_set(folder: Path, count: int = 6, seed: int = 0, height: int = 40, width: int = 56) -> str:
    """Write `count` photos with their maps; returns the data set's name, `coco-panoptic:FOLDER`."""
    (folder / "images").mkdir(parents=True)
    with CocoPanopticWriter(folder) as writer:
        for number in range(count):
            scene = generate_scene(seed + number, 64, segments=(2, 4))
            name = f"{number:03d}.png"
            Image.fromarray(scene.image[:height, :width]).save(folder / "images" / name)
            writer.add(name, number, PanopticMap(scene.map.ids[:height, :width]))
    return f"coco-panoptic:{folder}"


def truncate(path: Path) -> Path:
    """Leave half of a file, as an interrupted copy does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path
