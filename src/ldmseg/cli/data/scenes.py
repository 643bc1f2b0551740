"""`ldmseg data scenes`: write generated scenes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.data.scenes import Scene


def scenes(
    output: options.Output,
    count: Annotated[int, typer.Option("--count", min=1, help="Number of scenes.", show_default=False)],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first scene; 10,000,000 and above: validation.")] = 0,
    size: Annotated[int, typer.Option("--size", min=32, help="Side in pixels.")] = 128,
    depth: Annotated[bool, typer.Option("--depth", help="Also write depth/<stem>.npy: float32, metres.")] = False,
    json: options.Json = False,
) -> None:
    """Write generated scenes as a COCO panoptic data set, which `coco-panoptic:DIR` reads.

    Photos go to images/, maps to panoptic/, the rest to panoptic.json.
    """
    check_output_folder(output)

    from ldmseg.data.scenes import CATEGORIES, VALIDATION_SEED, generate_scene
    from ldmseg.formats.coco_panoptic import Category, CocoPanopticWriter
    from ldmseg.locking import locked

    if seed < VALIDATION_SEED < seed + count:
        raise InputError(
            f"--count: expected training or validation scenes (seeds from {VALIDATION_SEED}), got both ({seed}..{seed + count - 1})"
        )
    categories = [Category(c.id, c.name, c.isthing) for c in CATEGORIES]
    parts = ("images", "panoptic", "depth")
    with locked(output, parts), Progress("scenes", enabled=not json) as progress, CocoPanopticWriter(output, categories) as writer:
        for number in range(seed, seed + count):
            scene = generate_scene(number, size)
            name = f"scene_{number:08d}"
            _write_photo(output, name, scene, depth)
            writer.add(f"{name}.png", number, scene.map)
            progress.update(number - seed + 1, count)
    if json:
        print_json({"images": count, "data": f"coco-panoptic:{output}", "panoptic": str(output / "panoptic.json")})
    else:
        say(f"{count} scenes written; use them as coco-panoptic:{output}")


def _write_photo(output: Path, name: str, scene: Scene, depth: bool) -> None:
    import numpy as np
    from PIL import Image

    from ldmseg.atomic import atomic_write

    with atomic_write(output / "images" / f"{name}.png") as temporary:
        Image.fromarray(scene.image).save(temporary, format="PNG")
    if depth:
        with atomic_write(output / "depth" / f"{name}.npy") as temporary:
            np.save(temporary, scene.depth)
