"""`ldmseg data show`: a contact sheet of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldmseg.atomic import check_output_file
from ldmseg.cli.console import Progress, say


def show(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="The sheet.", show_default=False)],
    count: Annotated[int, typer.Option("--count", min=1, help="Number of images, spread over the data set.")] = 12,
    columns: Annotated[
        int | None, typer.Option("--columns", min=1, help="Images side by side.", show_default="as many as make the sheet about square")
    ] = None,
    tile: Annotated[int, typer.Option("--tile", metavar="PIXELS", min=16, help="Longer side of a picture on the sheet.")] = 240,
) -> None:
    """Draw a contact sheet: photo and map side by side, or all maps of an image that several people labelled."""
    check_output_file(output, "--output")

    import numpy as np
    from PIL import Image

    from ldmseg.atomic import atomic_write
    from ldmseg.data.datasets import AnnotatedDataset, load_dataset
    from ldmseg.visualize import contact_sheet, in_columns, overlay

    dataset = load_dataset(data)
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
    rows: list[list[Image.Image | None]] = []
    with Progress("drawing") as progress:
        for done, index in enumerate(chosen, start=1):
            picture = Image.fromarray(dataset.image(index))
            maps = dataset.annotators(index) if isinstance(dataset, AnnotatedDataset) else (dataset.map(index),)
            rows.append([picture, *(overlay(picture, pmap) for pmap in maps)])
            progress.update(done, len(chosen))
    maps_each = max(len(row) for row in rows) - 1
    titles = ["photo", *(["map"] if maps_each == 1 else [f"map {number}" for number in range(1, maps_each + 1)])]
    beside = columns or max(1, round((len(rows) / len(titles)) ** 0.5))
    sheet, headings = in_columns(rows, titles, beside)
    with atomic_write(output) as temporary:
        contact_sheet(sheet, titles=headings, tile=tile).save(temporary, format="PNG")
    say(f"{len(rows)} of {len(dataset)} images drawn in {output}")
