"""`import` and `export`, which every tool has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say

if TYPE_CHECKING:
    from ldmseg.data.convert import ConversionReport

Source = Annotated[Path, typer.Argument(metavar="EXPORT", help="The tool's folder or file.", show_default=False)]
Split = Annotated[str | None, typer.Option("--split", metavar="NAME", help="Of several, the one that is meant.", show_default="none")]
Photos = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="The photos, by their names.", show_default="those of the data set")
]
Data = Annotated[str, typer.Argument(metavar="FORMAT:ROOT[:SPLIT]", help="Maps, e.g. coco-panoptic:done.", show_default=False)]
Names = Annotated[
    str | None,
    typer.Option(
        "--names",
        metavar="FORMAT:ROOT[:SPLIT]",
        help="The data set that was completed: its segments' categories are taken by photo and id.",
        show_default="none",
    ),
]


def exchange(tool: str, title: str) -> typer.Typer:
    """The application of one tool, with its two verbs."""
    app = typer.Typer(help=f"To and from {title}.")
    add_import(app, tool, title)

    @app.command("export")
    def export_(
        data: Data, output: options.Output, photos: Photos = None, names: Names = None, split: Split = None, json: options.Json = False
    ) -> None:
        """Write maps for the tool, with the photos."""
        check_output_folder(output)
        from ldmseg.connect.exchange import export_tool

        with Progress("exporting", enabled=not json) as progress:
            report = export_tool(tool, data, output, split=split, photos=photos, names=names, on_progress=progress.update)
        tell(report, tool, json)

    return app


def add_import(app: typer.Typer, tool: str, title: str) -> None:
    """The verb `import` of one tool."""

    @app.command("import")
    def import_(source: Source, output: options.Output, photos: Photos = None, split: Split = None, json: options.Json = False) -> None:
        """Write what the tool exported as a COCO panoptic data set; pixels without a label are void."""
        check_output_folder(output)
        from ldmseg.connect.exchange import import_tool

        with Progress("importing", enabled=not json) as progress:
            report = import_tool(tool, source, output, split=split, photos=photos, on_progress=progress.update)
        tell(report, "COCO panoptic", json)


def tell(report: ConversionReport, to: str, json: bool) -> None:
    if json:
        print_json({"data": report.data, "images": report.images, "segments": report.segments, "lost": list(report.lost)})
        return
    say(f"{report.images} image{'s' * (report.images != 1)} with {report.segments} segments written; use them as {report.data}")
    for lost in report.lost:
        say(f"not kept, because {to} does not hold it: {lost}")
