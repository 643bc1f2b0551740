"""`ldmseg connect label-studio`: exchange of labels, and `--serve`, a machine learning backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.connect.exchange import Data, Names, add_import, tell
from ldmseg.cli.console import Progress, say
from ldmseg.errors import InputError

app = typer.Typer(help="To and from Label Studio; --serve is a backend that pre-labels and completes.", invoke_without_command=True)
add_import(app, "label-studio", "Label Studio")


@app.callback()
def label_studio(
    context: typer.Context,
    serve: Annotated[bool, typer.Option("--serve", help="Run the backend until Ctrl-C.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Of Label Studio, where photos are read.", show_default="none")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="TEXT", envvar="LABEL_STUDIO_API_KEY", help="Of an account there.", show_default="none"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="What Label Studio serves as local files, read directly.", show_default="none"),
    ] = None,
    model: options.Model = "default",
    steps: options.Steps = None,
    boundaries: options.Boundaries = None,
    ensemble_size: options.EnsembleSize = None,
    most: Annotated[int, typer.Option("--max-regions", min=1, help="Of an answer; dozens of large masks are slow in a browser.")] = 32,
    host: Annotated[str, typer.Option("--host", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: any free one.")] = 9090,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name under which Label Studio asks.", show_default="none"),
    ] = None,
    device: options.Device = "auto",
    verbose: options.Verbose = False,
) -> None:
    """To and from Label Studio; --serve is a backend that pre-labels and completes."""
    if context.invoked_subcommand is not None:
        if serve:
            raise InputError(f"--serve: expected without a verb, got '{context.invoked_subcommand}'")
        return
    if not serve:
        raise InputError("label-studio: expected import, export or --serve; see 'ldmseg connect label-studio --help'")
    asked = options.asked(locals())
    from ldmseg.connect.photo_source import PhotoSource

    photos = PhotoSource(url, token, images)
    from ldmseg.cli.models import load_pipeline
    from ldmseg.connect.label_studio import LabelStudioBackend
    from ldmseg.connect.server import make_server
    from ldmseg.segmenters.diffusion import PipelineSegmenter

    pipe = load_pipeline(model, device)
    with make_server(LabelStudioBackend(PipelineSegmenter(pipe, **asked), photos, most), host, port, frozenset(allow_host or ())) as server:
        say(f"listening on http://{host}:{server.server_address[1]}; Ctrl-C ends it")
        server.serve_forever()


@app.command("export")
def export_(
    data: Data,
    output: options.Output,
    kind: Annotated[
        Literal["brush", "bitmask", "polygon"], typer.Option("--kind", help="Of the regions; all of them hold the pixels exactly.")
    ] = "brush",
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="What photos' addresses begin with in Label Studio.")
    ] = "/data/local-files/?d=",
    annotations: Annotated[bool, typer.Option("--annotations", help="As finished labels instead of predictions.")] = False,
    names: Names = None,
    json: options.Json = False,
) -> None:
    """Write tasks.json to import, and label_config.xml, the labelling interface that it is for."""
    check_output_folder(output)
    from ldmseg.connect.exchange import export_label_studio
    from ldmseg.formats.tools.label_studio import Control

    with Progress("exporting", enabled=not json) as progress:
        report = export_label_studio(
            data, output, Control(kind=kind), prefix=prefix, names=names, as_annotations=annotations, on_progress=progress.update
        )
    tell(report, "Label Studio", json)
