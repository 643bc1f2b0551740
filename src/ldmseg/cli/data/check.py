"""`ldmseg data check`: what is wrong with a data set, or with all that a run trains on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, print_table, say
from ldmseg.errors import InputError, quoted

if TYPE_CHECKING:
    import rich.table

    from ldmseg.config import RunConfig
    from ldmseg.data.check import Finding, PartContents


def check(
    data: Annotated[
        str | None, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME_OR_FILE", help="Check all sets of a run.", show_default=False)
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a key of --config.", show_default=False)] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", metavar="KIND", help="A kind to leave out; repeatable.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Files opened at once.", show_default="CPU cores")] = None,
    json: options.Json = False,
) -> None:
    """Open every file of a data set and print what is wrong, one line per finding: FILE: KIND: what.

    With --config, every set of `data.train` is opened (generated scenes are not drawn), and a table says what the mixture holds. The exit
    code is 1 if there is a finding, and 0 if there is none.
    """
    from ldmseg.data.check import KINDS, CheckReport, check_dataset

    for kind in ignore or ():
        if kind not in KINDS:
            raise InputError(f"--ignore: expected one of {', '.join(KINDS)}, got {quoted(kind)}")

    if (data is None) == (config is None):
        raise InputError(f"--data, --config: expected one of them, got {'neither' if data is None else 'both'}")
    specs = [data] if data is not None else _sets(config or "", set_ or [])

    def tell(finding: Finding) -> None:
        if not json:
            print(f"{finding.file}: {finding.kind}: {finding.message}", flush=True)

    threads = workers or os.cpu_count() or 1
    with Progress("checking", enabled=not json) as progress:
        report = CheckReport(0, ())
        for spec in specs:
            one = check_dataset(spec, workers=threads, ignore=ignore or (), on_finding=tell, on_progress=progress.update)
            report = CheckReport(report.images + one.images, report.findings + one.findings)
    contents = () if config is None else _contents(config, set_ or [])
    if json and config is None:
        print_json({"data": data, **report.to_dict()})
    elif json:
        print_json({"config": config, "sets": [part.to_dict() for part in contents], **report.to_dict()})
    else:
        if contents:
            print_table(_table(contents))
        found = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
        say(f"{report.images} image{'s' * (report.images != 1)} checked: {found or 'nothing is wrong'}")
    if report.findings:
        raise typer.Exit(1)


def _config(source: str, overrides: list[str]) -> RunConfig:
    from ldmseg.config import load_config

    return load_config(source, overrides)


def _sets(source: str, overrides: list[str]) -> list[str]:
    """What a run's `data.train` names, without the generated scenes."""
    train = _config(source, overrides).data.train
    named = [train] if isinstance(train, str) else [one.data for one in train]
    return [spec for spec in named if not spec.startswith("scenes:")]


def _contents(source: str, overrides: list[str]) -> tuple[PartContents, ...]:
    from ldmseg.data.check import mixture_contents
    from ldmseg.data.datasets import load_mixture

    data = _config(source, overrides).data
    return mixture_contents(load_mixture(data.train, size=data.size, segments=data.scene_segments))


def _table(contents: tuple[PartContents, ...]) -> rich.table.Table:
    from rich.table import Column, Table

    table = Table(Column("data set", overflow="fold"), "items", "samples", "void means", "segments", "labelled")
    for part in contents:
        means = ("-", "-") if part.segments is None else (f"{part.segments:.1f}", f"{part.labelled:.0%}")
        table.add_row(part.spec, f"{part.items:,}", f"{part.share:.1%}", part.labelling.replace("_", " "), *means)
    return table
