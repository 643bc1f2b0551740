"""`ldmseg label`."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ldmseg.choices import InpaintMethod
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError
from ldmseg.labelling.archive.job import Format
from ldmseg.labelling.archive.progress import State, TooManyFailures

if TYPE_CHECKING:
    from ldmseg.labelling.archive.run import MakeEngine, Report
    from ldmseg.labelling.archive.worker import MakeSegmenter
    from ldmseg.segmenters import Segmenter

SOME_FAILED = 3
"""The exit code of a run that is complete, but for photos that could not be labelled."""

CPU_BATCH, GPU_BATCH = 4, 32
"""Photos at a time by default."""

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE..",
        help="Folders, photos, 'patterns/**/*.jpg', lists (.txt) and tars (.tar), here or elsewhere (s3://..).",
        show_default=False,
    ),
]
To = Annotated[Format, typer.Option("--to", help="What is written: PNGs and one panoptic.json, tars, or Parquet tables.")]
Partial = Annotated[
    str | None,
    typer.Option(
        "--partial",
        metavar="DIR|.SUFFIX",
        help="Complete partial maps: a folder with <name>.png for each photo, or the suffix of a sample's map in the tars (.partial.png).",
        show_default="none",
    ),
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Processes of this machine, or actors of a Ray cluster (the extra `ray`).")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="ADDRESS", help="ray: the cluster, such as auto or ray://host:10001.", show_default="a new one, here"
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=1, help="Processes.", show_default="by cores, memory and devices")
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Threads of each process.", show_default="measured at the start")
]
ShardSize = Annotated[
    int | None,
    typer.Option(
        "--shard-size",
        metavar="N",
        min=1,
        help="Photos that are written, and counted as done, together.",
        show_default="a 64th of all, 16 to 256",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Photos at a time.", show_default=f"{CPU_BATCH}; on a GPU {GPU_BATCH}"),
]
MaxFailures = Annotated[
    int | None,
    typer.Option("--max-failures", metavar="N", min=0, help="Stop when more photos than this cannot be labelled.", show_default="no limit"),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Label the shards again in which photos failed.")]
WithPhotos = Annotated[bool, typer.Option("--with-photos", help="Put the photos' files into the tars or tables, too.")]
Method = Annotated[InpaintMethod | None, typer.Option("--method", help="--partial: how maps are completed.", show_default="auto")]
Strength = Annotated[float | None, typer.Option("--strength", help="refine: how far a rough map is changed.", show_default="0.5")]


def label(
    sources: Sources,
    output: options.Output,
    to: To = "coco-panoptic",
    partial_maps: Partial = None,
    model: options.Model = "default",
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    threads: Threads = None,
    shard_size: ShardSize = None,
    max_failures: MaxFailures = None,
    retry_failed: RetryFailed = False,
    with_photos: WithPhotos = False,
    steps: options.Steps = None,
    sampler: options.SamplerOption = None,
    guidance_scale: options.GuidanceScale = None,
    method: Method = None,
    strength: Strength = None,
    clean_partial: options.CleanPartial = False,
    unknown: options.Unknown = None,
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
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: BatchSize = None,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Label archives of any size. The same command goes on with a run that stopped.

    Photos that cannot be labelled are listed in failed.jsonl with the reason, and the exit code is then 3. It is 1 where --max-failures
    stopped the run.
    """
    asked = options.asked(locals())
    _check(partial_maps, method, strength, clean_partial, unknown, engine, address)
    from ldmseg.formats.image import MAX_PIXELS
    from ldmseg.formats.painting import named_color
    from ldmseg.labelling.archive.run import Request, label_archive

    request = Request(
        sources=tuple(sources),
        output=output,
        partial=partial_maps,
        format=to,
        seed=seed,
        shard_size=shard_size,
        batch_size=batch_size,
        threads=threads,
        workers=workers,
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        with_photos=with_photos,
        unknown=None if unknown is None else named_color(unknown, "--unknown"),
        clean=clean_partial,
        max_failures=max_failures,
        retry_failed=retry_failed,
    )
    request = replace(request, info=_origin(model, seed, asked))
    devices, gpu = _devices(device)
    makes = [partial(load_segmenter, model, name, asked) for name in devices]
    finishers = _finishers(len(makes)) if gpu else 0
    try:
        with Progress("listing photos", enabled=not json) as listing, Progress("labelling", enabled=not json) as labelling:
            report = label_archive(
                request,
                makes,
                batch_size=GPU_BATCH if gpu else CPU_BATCH,
                finishers=finishers,
                make_engine=_ray(makes[0], workers, gpu, finishers, address) if engine == "ray" else None,
                on_list=lambda count: listing.update(count, count),
                on_progress=lambda state: labelling.update(state.photos, state.total, told(state)),
            )
    except TooManyFailures as error:
        say(f"ldmseg: error: {error}; the reasons are in {output / 'failed.jsonl'}, and the same command goes on")
        raise typer.Exit(1) from None
    _tell(report, json, model, seed)


def load_segmenter(model: str, device: str, asked: dict[str, Any]) -> Segmenter:
    """The pipeline as a segmenter, in the process that uses it."""
    from ldmseg.cli.models import load_pipeline
    from ldmseg.segmenters import as_segmenter

    return as_segmenter(load_pipeline(model, device), **asked)  # type: ignore[arg-type]  # checked where the options are defined


def told(state: State) -> str:
    """`3.1 photos/s, 2 h 05 min left, 4 failed`."""
    left = "" if state.left is None else f", {duration(state.left)} left"
    return f"{state.rate:.3g} photos/s{left}" + (f", {state.failed} failed" if state.failed else "")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 05 min` or `3 days 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def _check(
    partial_maps: str | None,
    method: str | None,
    strength: float | None,
    clean: bool,
    unknown: str | None,
    engine: str,
    address: str | None,
) -> None:
    alone = {"--method": method, "--strength": strength, "--clean-partial": clean or None, "--unknown": unknown}
    for name, value in alone.items():
        if value is not None and partial_maps is None:
            raise InputError(f"{name}: expected with --partial only, which completes maps")
    if strength is not None and not (method == "refine" and 0 < strength <= 1):
        raise InputError(f"--strength: expected above 0 to 1, with --method refine, got {strength} with --method {method or 'auto'}")
    if address is not None and engine != "ray":
        raise InputError("--address: expected with --engine ray only")
    if engine == "ray":
        from ldmseg.labelling.archive.cluster import check_ray

        check_ray()


def _origin(model: str, seed: int, asked: dict[str, Any]) -> dict[str, Any]:
    """What `panoptic.json` says of the run; the model is loaded once here, so that a mistake is told before any process starts."""
    from ldmseg.cli.models import load_pipeline
    from ldmseg.labelling.origin import made_by
    from ldmseg.models.loading import model_folder

    pipe = load_pipeline(model, "cpu")
    return dict(made_by("label", model, model_folder(model), seed, pipe.options.updated(asked), dated=False).info)


def _devices(device: str) -> tuple[list[str], bool]:
    """The devices, each as often as it gets a process by default, and whether they are GPUs."""
    from ldmseg.devices import PER_GPU, on_processor, resolve_device, same_kind

    resolved = resolve_device(device)
    if on_processor(resolved):
        return [str(resolved)], False
    named = same_kind(resolved) if device == "auto" else [str(resolved)]
    return [name for _ in range(PER_GPU) for name in named], True


def _finishers(processes: int) -> int:
    from ldmseg.labelling.archive.speed import usable_cores

    return max(1, usable_cores() // processes - 1)


def _ray(make: MakeSegmenter, workers: int | None, gpu: bool, finishers: int, address: str | None) -> MakeEngine:
    """Ray's engine: on this machine with its own number of actors, on a cluster with as many as it has room for."""
    from ldmseg.labelling.archive.cluster import RayEngine

    return lambda division: RayEngine(
        make,
        workers or (None if address else division.workers),
        division.threads,
        gpus=1 if gpu else 0,
        finishers=finishers,
        address=address,
    )


def _tell(report: Report, json: bool, model: str, seed: int) -> None:
    if json:
        print_json({**asdict(report), "model": model, "seed": seed})
    else:
        done = report.photos - report.failed
        now = f", {report.labelled_now} of them now" if report.shards_before else ""
        rate = f" ({report.labelled_now / max(report.seconds, 1e-9):.3g} photos/s)" if report.labelled_now else ""
        say(f"{done} of {report.photos} photos labelled{now}{rate}, written to {report.output}")
        if report.failures is not None:
            say(f"{report.failed} photo{'s' * (report.failed != 1)} failed; the reasons are in {report.failures}")
    if report.failed:
        raise typer.Exit(SOME_FAILED)
