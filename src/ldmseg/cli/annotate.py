"""`ldmseg annotate`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import say
from ldmseg.errors import InputError


def annotate(
    images: options.Images,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PROJECT", help="Where the work is kept.", show_default="<folder>-labels beside the photos"),
    ] = None,
    partial: Annotated[
        Path | None,
        typer.Option("--partial", metavar="DIR", help="Folder of <stem>.png (0 = unknown), pinned from the start.", show_default="none"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="Classes, one a line: `name`, or `name, stuff`.", show_default="the project's"),
    ] = None,
    model: options.Model = "default",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Sampling steps of an answer.")] = 8,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the network on a CPU.")] = 1,
    host: Annotated[str, typer.Option("--host", help="Where to listen. Another than this machine's own needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: the project's last one, or a free one.")] = 0,
    token: Annotated[str | None, typer.Option("--token", help="The secret in the address.", show_default="the project's, random")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    verbose: options.Verbose = False,
) -> None:
    """Label photos in the browser.

    Photos open with everything proposed; what you paint or accept never changes, and the rest is completed around it. The work is kept in a
    project: a COCO panoptic data set of the finished photos, which `train`, `evaluate` and `data show` take as coco-panoptic:PROJECT.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError("annotate: expected the extra of that name; install it with: pip install 'ldmseg[annotate]'") from error
    from ldmseg.annotate.project import PARTS
    from ldmseg.annotate.run import LOCAL, Settings, serve
    from ldmseg.locking import locked

    local = host in (LOCAL, "localhost", "::1")
    if not local and (token is None or len(token) < 16):
        raise InputError("--host: others can reach this address: choose a --token of 16 characters or more; who has it can change the work")
    folder = _beside(images) if output is None else output
    check_output_folder(folder)

    def load() -> Any:
        from ldmseg.cli.models import load_pipeline

        return load_pipeline(model, device)

    def ready(address: str) -> None:
        say(f"the project is {folder}")
        if not local:
            say("the connection is not encrypted: use it in a network that you trust, or behind a proxy with TLS")
        say(f"open {address}")
        say("Ctrl-C ends it; everything is saved as you work")
        if not no_browser:
            webbrowser.open(address)

    with locked(folder, PARTS):
        try:
            serve(Settings(images, folder, token, labels, partial, host, port, steps, seed, threads), load, ready)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"everything is saved in {folder}; the same command goes on") from None


def _beside(images: list[Path]) -> Path:
    first = images[0].resolve()
    folder = first if first.is_dir() else first.parent
    return folder.with_name(f"{folder.name or 'photos'}-labels")
