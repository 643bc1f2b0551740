"""`ldmseg connect cvat`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ldmseg.cli import options
from ldmseg.cli.connect.exchange import exchange
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError

app = exchange("cvat", "CVAT")


@app.command("function")
def function() -> None:
    """Print the path of the function for `cvat-cli task auto-annotate --function-file`."""
    import ldmseg.connect

    print(Path(ldmseg.connect.__file__).with_name("cvat_function.py"))


@app.command("complete")
def complete(
    task: Annotated[int, typer.Argument(metavar="TASK", help="The task's number.", show_default=False)],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Of the CVAT server.", show_default=False)],
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Of an account; its password is read from CVAT_PASSWORD.")],
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="Of segments that have no shape.", show_default="the first")
    ] = None,
    model: options.Model = "default",
    steps: options.Steps = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Complete a task's partial labels on its server; shapes that are there stay as they are."""
    password = os.environ.get("CVAT_PASSWORD")
    if password is None:
        raise InputError("CVAT_PASSWORD: expected the password of --user in the environment, got none")
    try:
        from cvat_sdk import make_client
    except ImportError as error:
        raise InputError("cvat: expected the package cvat-sdk; pip install cvat-sdk") from error
    from ldmseg.cli.models import load_pipeline
    from ldmseg.connect.cvat_task import complete_task
    from ldmseg.segmenters.diffusion import PipelineSegmenter

    segmenter = PipelineSegmenter(load_pipeline(model, device), num_inference_steps=steps)
    with make_client(url, credentials=(user, password)) as client, Progress("completing", enabled=not json) as progress:
        report = complete_task(client, task, segmenter, label, progress.update)
    if json:
        print_json({"frames": report.frames, "masks": report.masks})
    else:
        say(f"{report.frames} frames completed with {report.masks} masks")
