"""`ldmseg data convert`: a data set in another format."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say

TargetFormat = Literal[
    "coco-panoptic", "labels", "cityscapes", "ade20k", "coco-instances", "yolo-seg", "labelme", "cvat", "segments", "isat"
]


def convert(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. cityscapes:DIR:val.", show_default=False)],
    output: options.Output,
    to: Annotated[TargetFormat, typer.Option("--to", help="The format to write.", show_default=False)],
    split: Annotated[str | None, typer.Option("--split", metavar="NAME", help="Split of the result.", show_default="the source's")] = None,
    json: options.Json = False,
) -> None:
    """Write a data set in another format; photos are copied.

    The result is there in full or not at all. What the format has no place for is left out, with a
    message. An image that it cannot hold ends the command.
    """
    check_output_folder(output)
    from ldmseg.data.convert import convert_dataset

    with Progress("converting", enabled=not json) as progress:
        report = convert_dataset(data, output, to, split=split, on_progress=progress.update)
    if json:
        print_json({"data": report.data, "images": report.images, "segments": report.segments, "lost": list(report.lost)})
        return
    say(f"{report.images} image{'s' * (report.images != 1)} with {report.segments} segments written; use them as {report.data}")
    for lost in report.lost:
        say(f"not kept, because {to} does not hold it: {lost}")
