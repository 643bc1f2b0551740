"""`ldmseg evaluate`: run a model over a data set and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldmseg.atomic import check_output_file
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.cli.inpainting_table import check_alone, print_scores, read_protocol
from ldmseg.cli.score import print_figures, print_quality
from ldmseg.errors import InputError
from ldmseg.metrics.panoptic_quality import PanopticQualityResult

if TYPE_CHECKING:
    from ldmseg.evaluate import EvaluationReport, InpaintingReport, TaskReport

_COMPLETION = "Completion (--inpaint)"


def evaluate(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)],
    model: options.Model = "default",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only this many images, from the first.", show_default="all")] = None,
    steps: options.Steps = None,
    sampler: options.SamplerOption = None,
    guidance_scale: options.GuidanceScale = None,
    boundaries: options.Boundaries = None,
    boundary_trust: options.BoundaryTrust = None,
    min_component_area: options.MinComponentArea = None,
    ensemble_size: options.EnsembleSize = None,
    ensemble_flips: options.EnsembleFlips = None,
    tile_size: options.TileSize = None,
    tile_overlap: options.TileOverlap = None,
    probability_threshold: options.ProbabilityThreshold = None,
    min_area: options.MinArea = None,
    overlap_threshold: options.OverlapThreshold = None,
    captions: options.Captions = None,
    task: options.Task = None,
    class_aware: Annotated[
        bool, typer.Option("--class-aware/--class-agnostic", help="Whether categories must agree. No model draws categories yet.")
    ] = False,
    drop_rate: Annotated[
        float | None,
        typer.Option("--drop-rate", min=0, max=1, help="Measure inpainting: this share of each true map is hidden.", show_default="none"),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option("--block-size", min=1, help="Side of the hidden squares, in pixels.", show_default="16")
    ] = None,
    inpaint: Annotated[
        bool,
        typer.Option("--inpaint", help="Measure completing many kinds of partial maps, beside baselines.", rich_help_panel=_COMPLETION),
    ] = False,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="KIND,..",
            help="blocks, pixels, points, strokes, scanlines, boxes; or noisy labels: shifted, eroded, ragged, merged.",
            show_default="all but the noisy",
            rich_help_panel=_COMPLETION,
        ),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(
            "--rates", metavar="RATE,..", help="Shares of blocks dropped.", show_default="0.1,0.3,0.5,0.7,0.9", rich_help_panel=_COMPLETION
        ),
    ] = None,
    block_sizes: Annotated[
        str | None,
        typer.Option("--block-sizes", metavar="PIXELS,..", help="Sides of blocks.", show_default="16", rich_help_panel=_COMPLETION),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            "--shares",
            metavar="SHARE,..",
            help="Densities of the other kinds: share given, or amount of noise.",
            show_default="each kind's own",
            rich_help_panel=_COMPLETION,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", metavar="METHOD,..", help="As in `inpaint`.", show_default="all that the model has", rich_help_panel=_COMPLETION
        ),
    ] = None,
    baselines: Annotated[
        bool | None,
        typer.Option(
            "--baselines/--no-baselines",
            help="Compare with the walker alone, watershed and nearest label.",
            show_default="--baselines",
            rich_help_panel=_COMPLETION,
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw curves.", show_default="none", rich_help_panel=_COMPLETION)
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.json", help="Save the figures.", show_default="none")] = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 8,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Panoptic quality of a model on a data set; with --drop-rate or --inpaint, of completing partial maps.

    With --task semantic the figure is mIoU, with --task depth AbsRel and delta1.
    """
    asked = options.asked(locals())
    if block_size is not None and drop_rate is None:
        raise InputError("--block-size: expected together with --drop-rate, got it alone")
    if class_aware:
        raise InputError("--class-aware: expected --class-agnostic, because the models draw segments without categories, got --class-aware")
    for option, file in (("--report", report), ("--plot", plot)):
        if file is not None:
            check_output_file(file, option)
    if task is not None and (inpaint or drop_rate is not None):
        raise InputError("--task: expected without --inpaint and --drop-rate, which complete maps of segments")
    named = {"--kinds": kinds, "--rates": rates, "--block-sizes": block_sizes, "--shares": shares, "--methods": methods}
    if not inpaint:
        check_alone({**named, "--baselines": baselines, "--plot": plot})
    elif drop_rate is not None:
        raise InputError("--drop-rate: expected without --inpaint, whose drop rates are --rates")
    protocol = read_protocol(kinds, rates, block_sizes, shares, methods, baselines is not False) if inpaint else None
    from ldmseg.data.datasets import load_dataset

    dataset = load_dataset(data)
    if captions is not None:
        from ldmseg.data.captions import CaptionedDataset
        from ldmseg.formats.captions import read_captions

        dataset = CaptionedDataset(dataset, read_captions([captions]))

    from ldmseg.cli.models import load_pipeline
    from ldmseg.evaluate import evaluate as segment
    from ldmseg.evaluate import evaluate_inpainting, evaluate_task

    pipe = load_pipeline(model, device)
    shared: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "limit": limit, **asked}
    with Progress("evaluating", enabled=not json) as progress:
        shared["on_progress"] = progress.update
        result: EvaluationReport | InpaintingReport | TaskReport
        if task is not None:
            result = evaluate_task(pipe, dataset, task, **shared)
        elif protocol is not None:
            result = evaluate_inpainting(
                pipe, dataset, cases=protocol.cases, methods=protocol.methods, baselines=protocol.baselines, **shared
            )
        else:
            result = segment(pipe, dataset, drop_rate=drop_rate, block_size=block_size or 16, **shared)
    _tell(result, report, plot, json)


def _tell(result: EvaluationReport | InpaintingReport | TaskReport, report: Path | None, plot: Path | None, json: bool) -> None:
    """Save and print what was measured; `plot` is of a completion report."""
    from ldmseg.evaluate import InpaintingReport, TaskReport

    if report is not None:
        from ldmseg.atomic import write_json

        write_json(report, result.to_dict(), indent=2)
    if plot is not None and isinstance(result, InpaintingReport):
        from ldmseg.evaluate.plots import draw_curves

        draw_curves(result, plot)
    written = "".join(f"; {what} written to {file}" for what, file in (("report", report), ("curves", plot)) if file is not None)
    if json:
        print_json(result.to_dict())
    elif isinstance(result, InpaintingReport):
        print_scores(result)
        say(f"{result.images} images, each completed {len(result.scores)} times{written}")
    elif isinstance(result, TaskReport) and not isinstance(result.quality, PanopticQualityResult):
        print_figures(result.quality)
        say(f"{result.images} images, {result.seconds_per_image:.3f} s each{written}")
    else:
        print_quality(result.quality)  # type: ignore[arg-type]  # the other qualities are told above
        say(f"{result.images} images, {result.seconds_per_image:.3f} s each{written}")
