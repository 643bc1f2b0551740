"""`ldmseg report`: a run folder as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldmseg.atomic import check_output_file
from ldmseg.cli import options
from ldmseg.cli.console import print_json, say

if TYPE_CHECKING:
    from ldmseg.runs.report import RunRecord


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, finished or not.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="The page.", show_default="RUN/report.html")
    ] = None,
    json: options.Json = False,
) -> None:
    """Write one self-contained HTML page of a run: curves, validation, samples, configuration."""
    from ldmseg.runs.report import read_run, write_report

    record = read_run(run)
    file = output or run / "report.html"
    check_output_file(file, "--output")
    notes = write_report(record, file)
    for note in notes:
        say(f"note: {note}")
    if json:
        print_json({"run": str(run), "report": str(file), **_facts(record), "notes": list(notes)})
    else:
        say(f"{file} written; open it in a browser")


def _facts(record: RunRecord) -> dict[str, Any]:
    history = record.history
    quality = {series.name: series.at(history.best) for series in history.validation} if history.best is not None else {}
    return {
        "stage": record.stage,
        "finished": record.finished,
        "step": history.last_step,
        "steps": record.total_steps,
        "best": {"step": history.best, **quality} if history.best is not None else None,
        "seconds": round(history.seconds, 1),
        "samples_per_second": record.samples_per_second,
        "parameters": sum(network.parameters for network in record.networks) or None,
        "resumptions": record.resumptions,
    }
