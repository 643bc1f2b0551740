"""`ldmseg data check`: what is wrong with a data set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.data.check import Finding


def check(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)],
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="KIND", help="A kind not to tell; repeatable.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Files opened at once.", show_default="CPU cores")] = None,
    json: options.Json = False,
) -> None:
    """Open every file of a data set and say what is wrong, one line per finding: FILE: KIND: what.

    The exit code is 1 if there is a finding, and 0 if there is none.
    """
    from ldmseg.data.check import KINDS, check_dataset

    for kind in ignore or ():
        if kind not in KINDS:
            raise InputError(f"--ignore: expected one of {', '.join(KINDS)}, got {kind!r}")

    def tell(finding: Finding) -> None:
        if not json:
            print(f"{finding.file}: {finding.kind}: {finding.message}", flush=True)

    with Progress("checking", enabled=not json) as progress:
        report = check_dataset(
            data, workers=workers or os.cpu_count() or 1, ignore=ignore or (), on_finding=tell, on_progress=progress.update
        )
    if json:
        print_json({"data": data, **report.to_dict()})
    else:
        found = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
        say(f"{report.images} images checked: {found or 'nothing is wrong'}")
    if report.findings:
        raise typer.Exit(1)
