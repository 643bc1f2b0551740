"""`ldmseg evaluate`: run a model over a data set and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.cli.outputs import check_output_file
from ldmseg.cli.score import print_quality
from ldmseg.errors import InputError


def evaluate(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)],
    model: options.Model = "default",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many images.", show_default="all")] = None,
    steps: options.Steps = None,
    sampler: options.SamplerOption = None,
    class_aware: Annotated[bool, typer.Option("--class-aware/--class-agnostic", help="Whether categories must agree.")] = False,
    drop_rate: Annotated[
        float | None,
        typer.Option("--drop-rate", min=0, max=1, help="Measure inpainting: this share of each true map is hidden.", show_default="none"),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option("--block-size", min=1, help="Pixels of the hidden squares' side.", show_default="16")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.json", help="Save the figures.", show_default="none")] = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 8,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Panoptic quality of a model on a data set; with --drop-rate, of completing partial maps."""
    if block_size is not None and drop_rate is None:
        raise InputError("--block-size: expected together with --drop-rate, got it alone")
    if report is not None:
        check_output_file(report)
    from ldmseg.data.datasets import load_dataset

    dataset = load_dataset(data)

    from ldmseg.cli.models import load_pipeline
    from ldmseg.evaluate import evaluate as run

    pipe = load_pipeline(model, device)
    with Progress("evaluating", enabled=not json) as progress:
        result = run(
            pipe,
            dataset,
            steps=steps,
            sampler=sampler,
            seed=seed,
            batch_size=batch_size,
            limit=limit,
            class_agnostic=not class_aware,
            drop_rate=drop_rate,
            block_size=block_size or 16,
            on_progress=progress.update,
        )
    if report is not None:
        from ldmseg.formats.atomic import write_json

        write_json(report, result.to_dict(), indent=2)
    if json:
        print_json(result.to_dict())
    else:
        print_quality(result.quality)
        say(f"{result.images} images, {result.seconds_per_image:.3f} s each{f'; report written to {report}' if report else ''}")
