"""`ldmseg connect segments`: Segments.ai."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.connect.exchange import Data, Names, exchange
from ldmseg.cli.console import Progress, print_json, say

app = exchange("segments", "Segments.ai")

Labelset = Annotated[str | None, typer.Option("--labelset", metavar="NAME", help="Which labels.", show_default="ground-truth")]


@app.command("fetch")
def fetch(
    release: Annotated[Path, typer.Argument(metavar="RELEASE.json", help="A release of the data set.", show_default=False)],
    output: options.Output,
    labelset: Labelset = None,
    json: options.Json = False,
) -> None:
    """Fetch the photos and bitmaps of a release into a folder, which `import` reads."""
    check_output_folder(output)
    from ldmseg.connect.segments_ai import fetch_release

    with Progress("fetching", enabled=not json) as progress:
        count = fetch_release(release, output, labelset, progress.update)
    if json:
        print_json({"data": f"segments:{output}", "images": count})
    else:
        say(f"{count} photos fetched; use them as segments:{output}")


@app.command("upload")
def upload(
    data: Data,
    dataset: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="The data set on Segments.ai.", show_default=False)],
    names: Names = None,
    labelset: Labelset = None,
    unnamed: Annotated[
        int | None,
        typer.Option("--unnamed", metavar="ID", help="The category of segments without a name.", show_default="left void"),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="TEXT", envvar="SEGMENTS_API_KEY", help="Of an account.", show_default="none")
    ] = None,
    json: options.Json = False,
) -> None:
    """Add maps to samples of the same name, as pre-labels."""
    from ldmseg.connect import segments_ai
    from ldmseg.connect.exchange import named_dataset

    client = segments_ai.make_client(key)
    found = named_dataset(data, names)
    maps = {found.name(i): segments_ai.with_unnamed(found.map(i), found.categories, unnamed) for i in range(len(found))}
    done = segments_ai.upload(client, dataset, maps, labelset or "ground-truth")
    if json:
        print_json({"labels": done.labels, "unknown": list(done.unknown)})
    else:
        say(f"{done.labels} labels added" + (f"; no sample is named {', '.join(done.unknown[:5])}" if done.unknown else ""))
