"""`ldmseg evaluate`: run a model over a data set and measure it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldmseg.atomic import check_output_file, check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.cli.inpainting_table import check_alone, print_scores, read_protocol
from ldmseg.cli.score import print_figures, print_quality
from ldmseg.errors import InputError, about

if TYPE_CHECKING:
    from ldmseg.data.datasets import PanopticDataset
    from ldmseg.evaluate import EvaluationReport, InpaintingReport, TaskReport
    from ldmseg.segmenters import Segmenter

_COMPLETION = "Completion (--inpaint)"


def evaluate(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:val.", show_default=False)],
    model: options.Model = "default",
    segmenter: Annotated[
        str | None,
        typer.Option(
            "--segmenter",
            metavar="NAME",
            help="Another method in place of --model: mask2former:ID, eomt:ID (a folder or Hub id), felzenszwalb, slic;"
            " with --drop-rate walker, watershed, nearest.",
            show_default="none",
        ),
    ] = None,
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
        bool, typer.Option("--class-aware/--class-agnostic", help="Whether categories must agree, for a model with a classifier.")
    ] = False,
    true_masks: Annotated[
        bool, typer.Option("--true-masks", help="With --class-aware: name the true segments, so that the classifier alone is measured.")
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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Save the maps (COCO panoptic) and the report there; the same command continues an interrupted one.",
            show_default="none",
        ),
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
    if class_aware and inpaint:
        raise InputError("--class-aware: expected without --inpaint, which compares segments without categories")
    if true_masks and (not class_aware or drop_rate is not None):
        raise InputError("--true-masks: expected with --class-aware, and without --drop-rate")
    for option, file in (("--report", report), ("--plot", plot)):
        if file is not None:
            check_output_file(file, option)
    if task is not None:
        others = {"--inpaint": inpaint, "--class-aware": class_aware, "--drop-rate": drop_rate, "--segmenter": segmenter}
        _check_task({**others, "--output": output})
    if output is not None:
        check_output_folder(output)
    named = {"--kinds": kinds, "--rates": rates, "--block-sizes": block_sizes, "--shares": shares, "--methods": methods}
    if inpaint and (output is not None or segmenter is not None):
        raise InputError(f"{'--segmenter' if output is None else '--output'}: expected without --inpaint, got both")
    if segmenter is not None:
        _check_without_model(model, asked)
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
    from ldmseg.evaluate import evaluate_inpainting, evaluate_names, evaluate_task

    method: Any = load_pipeline(model, device) if segmenter is None else _load_segmenter(segmenter, device, dataset)
    if class_aware and segmenter is None and method.classifier is None:
        raise InputError(f"--class-aware: expected --class-agnostic, because '{model}' has no classifier (ldmseg train classifier)")
    shared: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "limit": limit, **asked}
    with Progress("evaluating", enabled=not json) as progress:
        shared["on_progress"] = progress.update
        result: EvaluationReport | InpaintingReport | TaskReport
        if task is not None:
            result = evaluate_task(method, dataset, task, **shared)
        elif protocol is not None:
            result = evaluate_inpainting(
                method, dataset, cases=protocol.cases, methods=protocol.methods, baselines=protocol.baselines, **shared
            )
        elif true_masks:
            result = evaluate_names(method.own_classes, dataset, limit=limit, on_progress=progress.update)
        else:
            origin = None if output is None else _origin(data, model, segmenter, captions)
            measured: dict[str, Any] = {"drop_rate": drop_rate, "block_size": block_size or 16, "class_agnostic": not class_aware}
            result = segment(method, dataset, output=output, origin=origin, **measured, **shared)
    _tell(result, report, plot, output, json)


def _check_task(others: Mapping[str, object]) -> None:
    """`--task` measures what a model draws; these options measure something else, or name segments."""
    for name, value in others.items():
        if value not in (None, False):
            raise InputError(f"--task: expected without {name}, got both")


def _check_without_model(model: str, asked: Mapping[str, Any]) -> None:
    """`--segmenter` stands alone: options of a pipeline's calls are not its own."""
    if model != "default":
        raise InputError("--segmenter: expected without --model, got both")
    if asked:
        name = {"num_inference_steps": "steps"}.get(next(iter(asked)), next(iter(asked)))
        raise InputError(f"--{name.replace('_', '-')}: expected without --segmenter, whose methods have no such option, got both")


def _load_segmenter(name: str, device: str, dataset: PanopticDataset) -> Segmenter:
    from ldmseg.devices import resolve_device
    from ldmseg.segmenters import load_segmenter

    with about("--segmenter"):
        return load_segmenter(name, resolve_device(device), dataset.categories)


def _origin(data: str, model: str, segmenter: str | None, captions: Path | None) -> dict[str, Any]:
    """What the maps of an evaluation depend on beside its settings."""
    from ldmseg.models.loading import model_folder
    from ldmseg.models.manifest import fingerprint

    source = model_folder(model) if segmenter is None else segmenter.partition(":")[2]
    digest = fingerprint(source) if source else None
    named = {"model": model} if segmenter is None else {"segmenter": segmenter}
    more = {"captions": str(captions)} if captions is not None else {}
    return {"data": data, **named, **({} if digest is None else {"model_sha256": digest}), **more}


def _tell(
    result: EvaluationReport | InpaintingReport | TaskReport, report: Path | None, plot: Path | None, output: Path | None, json: bool
) -> None:
    """Save and print what was measured; `plot` is of a completion report."""
    from ldmseg.evaluate import InpaintingReport, TaskReport
    from ldmseg.metrics.panoptic_quality import PanopticQualityResult

    if report is not None:
        from ldmseg.atomic import write_json

        write_json(report, result.to_dict(), indent=2)
    if plot is not None and isinstance(result, InpaintingReport):
        from ldmseg.evaluate.plots import draw_curves

        draw_curves(result, plot)
    files = (("report", report), ("curves", plot), ("maps and report", output))
    written = "".join(f"; {what} written to {file}" for what, file in files if file is not None)
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
