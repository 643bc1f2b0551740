"""`ldmseg segment` and `ldmseg inpaint`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldmseg.choices import InpaintMethod, Task
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError
from ldmseg.labelling.maps import Predict, Prediction, write_maps
from ldmseg.labelling.origin import made_by
from ldmseg.labelling.photos import CONFIDENCE, OVERLAY, PANELS, Photo, Pictures, check_partials, check_photos, photo_generator

if TYPE_CHECKING:
    from PIL import Image

    from ldmseg.formats.coco_json import Category, Provenance
    from ldmseg.formats.painting import Painting
    from ldmseg.pipeline import LDMSegOutput


def segment(
    images: options.Images,
    output: options.Output,
    model: options.Model = "default",
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
    no_overlay: options.NoOverlay = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 4,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Segment photos.

    For each photo, <stem>.png (COCO panoptic ids) and <stem>_overlay.png are written, and one panoptic.json for all. With --ensemble-size
    there is also <stem>_confidence.png, which is bright where the samples agree. With --task semantic a segment is a category; with
    --task depth <stem>.png has 16 bits, depth times 256, <stem>_overlay.png shows it in colours, and depth.json names the unit.
    """
    asked = options.asked(locals())
    pictures = Pictures(() if no_overlay else (OVERLAY, *([CONFIDENCE] if (ensemble_size or 1) > 1 else [])))
    with Progress("checking photos", enabled=not json) as progress:
        photos = check_photos(images, output, pictures, progress.update, max_pixels)

    from ldmseg.cli.models import load_pipeline
    from ldmseg.models.loading import model_folder

    texts = _captions(captions, photos)
    pipe = load_pipeline(model, device)
    chosen = pipe.chosen_task(task)
    categories = pipe.codecs[chosen].segments_are

    def predict(batch: Sequence[Photo], loaded: list[Image.Image]) -> list[Prediction]:
        generators = [photo_generator(seed, photo.path) for photo in batch]
        prompt = None if texts is None else [texts[photo.path] for photo in batch]
        out = pipe(loaded, generator=generators, prompt=prompt, task=chosen, **asked)
        return _predictions(out)

    origin = made_by("segment", model, model_folder(model), seed, pipe.options.updated(asked))
    facts: dict[str, object] = {"model": model, "seed": seed, **({} if task is None else {"task": chosen})}
    shared: dict[str, Any] = {"batch_size": batch_size, "pictures": pictures, "json": json, "facts": facts, "origin": origin}
    _run(photos, predict, output, categories=categories, task=chosen, **shared)


def inpaint(
    images: options.Images,
    partial: Annotated[
        Path,
        typer.Option(
            metavar="PNG_OR_DIR",
            help="Partial map: a label PNG (0 = unknown) for one photo, or a folder with <stem>.png for each.",
            show_default=False,
        ),
    ],
    output: options.Output,
    model: options.Model = "default",
    method: Annotated[
        InpaintMethod,
        typer.Option(
            help="Give the partial map to the network (condition), put it back at each step (project), repeat the steps, too (resample), "
            "or change it as a rough map (refine). auto: condition where the model can."
        ),
    ] = "auto",
    strength: Annotated[
        float | None, typer.Option("--strength", help="refine: how far the rough map is changed, above 0 to 1.", show_default="0.5")
    ] = None,
    clean_partial: Annotated[
        bool,
        typer.Option("--clean-partial", help="Snap stray colours (soft brush, JPEG) to the main ones; what is unsure is unknown."),
    ] = False,
    unknown: Annotated[
        str | None,
        typer.Option("--unknown", metavar="COLOR", help="A colour of the partial map that is unknown, e.g. white.", show_default="black"),
    ] = None,
    certain: Annotated[
        Path | None,
        typer.Option(
            "--certain",
            metavar="PNG_OR_DIR",
            help="refine: pictures that are not 0 at pixels that must stay as they are.",
            show_default="none",
        ),
    ] = None,
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
    no_overlay: options.NoOverlay = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 4,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Complete partial maps. Given pixels stay as they are.

    The files are those of `segment`, and <stem>_panels.png: photo, given map, result and, with --ensemble-size, confidence.
    """
    asked = options.asked(locals())
    for name, value in (("--strength", strength), ("--certain", certain)):
        if value is not None and method != "refine":
            raise InputError(f"{name}: expected with --method refine only, got --method {method}")
    if strength is not None and not 0 < strength <= 1:
        raise InputError(f"--strength: expected above 0 to 1, got {strength}")
    pictures = Pictures(() if no_overlay else (OVERLAY, PANELS, *([CONFIDENCE] if (ensemble_size or 1) > 1 else [])))
    with Progress("checking photos", enabled=not json) as progress:
        photos = check_photos(images, output, pictures, progress.update, max_pixels)

    from ldmseg.formats.image import MAX_PIXELS
    from ldmseg.formats.label_png import read_label_png
    from ldmseg.formats.painting import doubts, named_color, read_painting

    paper = None if unknown is None else named_color(unknown, "--unknown")

    def painted(path: Path, pixels: int) -> Painting:
        return read_painting(path, unknown=paper, clean=clean_partial, max_pixels=max(MAX_PIXELS, pixels))

    partials = check_partials(photos, partial, output, "--partial", pictures, lambda path, pixels: painted(path, pixels).map)
    masks = None if certain is None else check_partials(photos, certain, output, "--certain", pictures, read_label_png)

    from ldmseg.cli.models import load_pipeline
    from ldmseg.models.loading import model_folder

    texts = _captions(captions, photos)
    pipe = load_pipeline(model, device)

    def predict(batch: Sequence[Photo], loaded: list[Image.Image]) -> list[Prediction]:
        paintings = [painted(partials[photo.path], photo.pixels) for photo in batch]
        given = [painting.map for painting in paintings]
        certain_pixels = None
        if masks is not None:
            certain_pixels = [read_label_png(masks[photo.path], max(MAX_PIXELS, photo.pixels)).ids > 0 for photo in batch]
        generators = [photo_generator(seed, photo.path) for photo in batch]
        prompt = None if texts is None else [texts[photo.path] for photo in batch]
        out = pipe.inpaint(loaded, given, certain=certain_pixels, generator=generators, prompt=prompt, **asked)
        for photo, painting in zip(batch, paintings, strict=True):
            for doubt in doubts(painting) if method != "refine" else ():
                say(f"ldmseg: warning: {partials[photo.path]}: {doubt}")
        return _predictions(out, paintings)

    origin = made_by("inpaint", model, model_folder(model), seed, pipe.options.updated(asked))
    _run(photos, predict, output, batch_size=batch_size, pictures=pictures, json=json, facts={"model": model, "seed": seed}, origin=origin)


def _predictions(out: LDMSegOutput, paintings: list[Painting] | None = None) -> list[Prediction]:
    nothing: list[None] = [None] * len(out.maps)
    together = zip(out.maps, out.confidence or nothing, paintings or nothing, strict=True)
    return [Prediction(pmap, sure, *((given.map, given.colors) if given else ())) for pmap, sure, given in together]


def _run(
    photos: list[Photo],
    predict: Predict,
    output: Path,
    *,
    batch_size: int,
    pictures: Pictures,
    json: bool,
    facts: dict[str, object],
    origin: Provenance,
    categories: tuple[Category, ...] | None = None,
    task: Task = "panoptic",
) -> None:
    with Progress("segmenting", enabled=not json) as progress:
        shared: dict[str, Any] = {"batch_size": batch_size, "pictures": pictures, "on_progress": progress.update}
        written = list(write_maps(photos, predict, output, origin=origin, categories=categories, task=task, **shared))
    listed = {"depth": "depth"}.get(task, "panoptic")
    if json:
        print_json({"images": [asdict(one) for one in written], listed: str(output / f"{listed}.json"), **facts})
    else:
        segments = sum(one.segments for one in written)
        what = {"depth": "depth", "semantic": f"{segments} regions of one category"}.get(task, f"{segments} segments")
        say(f"{len(written)} photo{'s' * (len(written) != 1)}, {what}, written to {output}")


def _captions(file: Path | None, photos: Sequence[Photo]) -> dict[Path, str] | None:
    """Photo -> its caption, of several the first.

    Raises:
        InputError: the file is not one of captions, or lacks a photo's.
    """
    if file is None:
        return None
    from ldmseg.formats.captions import read_captions

    captions = read_captions([file])
    return {photo.path: captions.of(photo.path.name)[0] for photo in photos}
