"""`ldmseg segment` and `ldmseg inpaint`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ldmseg.choices import InpaintMethod
from ldmseg.cli import options
from ldmseg.cli.console import say
from ldmseg.cli.photo_run import checked, run
from ldmseg.errors import InputError
from ldmseg.labelling.maps import Prediction
from ldmseg.labelling.origin import made_by
from ldmseg.labelling.photos import CONFIDENCE, OVERLAY, PANELS, Photo, Pictures, check_partials, photo_generator
from ldmseg.labelling.videos import Video

if TYPE_CHECKING:
    from PIL import Image

    from ldmseg.formats.painting import Painting
    from ldmseg.panoptic import PanopticMap
    from ldmseg.pipeline import LDMSegOutput


def segment(
    images: options.Sources,
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
    classes: options.Classes = None,
    clip: options.Clip = None,
    every: options.Every = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="Videos: how far a frame's map may go from the one before, above 0 to 1.", show_default="0.5"),
    ] = None,
    no_overlay: options.NoOverlay = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 4,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Segment photos and videos.

    For each photo, <stem>.png (COCO panoptic ids) and <stem>_overlay.png are written, and one panoptic.json for all. With --ensemble-size
    there is also <stem>_confidence.png, which is bright where the samples agree. A video gets a folder <stem>/ with the map of each frame,
    made from the one before, a panoptic.json and overlay.mp4. Segments of photos have categories with a model that has a classifier, and
    with --classes. With --task semantic a segment is a category; with --task depth <stem>.png has 16 bits, depth times 256,
    <stem>_overlay.png shows it in colours, and depth.json names the unit. What lies at an https address is fetched first.
    """
    asked = {name: value for name, value in options.asked(locals()).items() if name != "strength"}
    _check_strength(strength)
    pictures = Pictures(() if no_overlay else (OVERLAY, *([CONFIDENCE] if (ensemble_size or 1) > 1 else [])))
    for_photos = {"--captions": captions, "--task": task, "--classes": classes, "--clip": clip}
    for_videos = {"--every": every, "--strength": strength}
    with checked(images, output, pictures, for_photos, for_videos, max_pixels=max_pixels, json=json) as work:
        from ldmseg.cli.models import load_classes, load_pipeline, named_categories
        from ldmseg.models.loading import model_folder

        texts = _captions(captions, work.photos)
        names = load_classes(classes, clip, device)
        pipe = load_pipeline(model, device)
        chosen = pipe.chosen_task("panoptic" if work.videos else task)
        categories = named_categories(pipe, names, chosen)

        def predict(batch: Sequence[Photo], loaded: list[Image.Image]) -> list[Prediction]:
            generators = [photo_generator(seed, photo.path) for photo in batch]
            prompt = None if texts is None else [texts[photo.path] for photo in batch]
            return _predictions(pipe(loaded, generator=generators, prompt=prompt, task=chosen, classes=names, **asked))

        def follow(video: Video, frames: Iterable[Image.Image]) -> Iterator[PanopticMap]:
            from ldmseg.segmenters.video import segment_frames

            noise = photo_generator(seed, video.path).initial_seed()
            return segment_frames(pipe, frames, seed=noise, strength=strength, **asked)

        origin = made_by("segment", model, model_folder(model), seed, pipe.options.updated({**asked, "strength": strength}))
        told: dict[str, object] = {"model": model, "seed": seed, **({} if task is None else {"task": chosen})}
        shared: dict[str, Any] = {"facts": told, "origin": origin, "categories": categories, "task": chosen}
        run(work, predict, follow, every=every or 1, batch_size=batch_size, **shared)


def inpaint(
    images: options.Sources,
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
        float | None,
        typer.Option(
            "--strength", help="refine, and videos from the second frame on: how far a map is changed, above 0 to 1.", show_default="0.5"
        ),
    ] = None,
    clean_partial: options.CleanPartial = False,
    unknown: options.Unknown = None,
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
    classes: options.Classes = None,
    clip: options.Clip = None,
    every: options.Every = None,
    no_overlay: options.NoOverlay = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 4,
    max_pixels: options.MaxPixels = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Complete partial maps. Given pixels stay as they are.

    The files are those of `segment`, and <stem>_panels.png: photo, given map, result and, with --ensemble-size, confidence. The partial map
    of a video is one of its first frame; the map of each later frame is made from the one before.
    """
    asked = options.asked(locals())
    if certain is not None and method != "refine":
        raise InputError(f"--certain: expected with --method refine only, got --method {method}")
    _check_strength(strength)
    pictures = Pictures(() if no_overlay else (OVERLAY, PANELS, *([CONFIDENCE] if (ensemble_size or 1) > 1 else [])))
    for_photos = {"--captions": captions, "--certain": certain, "--classes": classes, "--clip": clip}
    with checked(images, output, pictures, for_photos, {"--every": every}, max_pixels=max_pixels, json=json) as work:
        if strength is not None and method != "refine" and not work.videos:
            raise InputError(f"--strength: expected with --method refine or a video only, got --method {method}")
        from ldmseg.formats.label_png import read_label_png
        from ldmseg.formats.painting import doubts, named_color, read_painting

        paper = None if unknown is None else named_color(unknown, "--unknown")

        def painted(path: Path, pixels: int) -> Painting:
            return read_painting(path, unknown=paper, clean=clean_partial, max_pixels=pixels)

        everything = [*work.photos, *work.first_frames()]
        partials = check_partials(everything, partial, output, "--partial", pictures, lambda path, pixels: painted(path, pixels).map)
        masks = None if certain is None else check_partials(work.photos, certain, output, "--certain", pictures, read_label_png)

        from ldmseg.cli.models import load_classes, load_pipeline, named_categories
        from ldmseg.models.loading import model_folder

        texts = _captions(captions, work.photos)
        names = load_classes(classes, clip, device)
        pipe = load_pipeline(model, device)

        def warn(path: Path, painting: Painting) -> None:
            for doubt in doubts(painting) if method != "refine" else ():
                say(f"ldmseg: warning: {partials[path]}: {doubt}")

        def predict(batch: Sequence[Photo], loaded: list[Image.Image]) -> list[Prediction]:
            paintings = [painted(partials[photo.path], photo.pixels) for photo in batch]
            given = [painting.map for painting in paintings]
            certain_pixels = None
            if masks is not None:
                certain_pixels = [read_label_png(masks[photo.path], photo.pixels).ids > 0 for photo in batch]
            generators = [photo_generator(seed, photo.path) for photo in batch]
            prompt = None if texts is None else [texts[photo.path] for photo in batch]
            out = pipe.inpaint(loaded, given, certain=certain_pixels, generator=generators, prompt=prompt, classes=names, **asked)
            for photo, painting in zip(batch, paintings, strict=True):
                warn(photo.path, painting)
            return _predictions(out, paintings)

        first = {photo.path: painted(partials[photo.path], photo.pixels) for photo in work.first_frames()}

        def follow(video: Video, frames: Iterable[Image.Image]) -> Iterator[PanopticMap]:
            from ldmseg.segmenters.video import segment_frames

            noise = photo_generator(seed, video.path).initial_seed()
            maps = segment_frames(pipe, frames, partial=first[video.path].map, seed=noise, **asked)
            yield next(maps)
            warn(video.path, first[video.path])
            yield from maps

        origin = made_by("inpaint", model, model_folder(model), seed, pipe.options.updated(asked))
        colors = {path: painting.colors for path, painting in first.items()}
        facts: dict[str, object] = {"model": model, "seed": seed}
        shared: dict[str, Any] = {"facts": facts, "origin": origin, "categories": named_categories(pipe, names)}
        run(work, predict, follow, every=every or 1, batch_size=batch_size, colors=colors, **shared)


def _check_strength(strength: float | None) -> None:
    if strength is not None and not 0 < strength <= 1:
        raise InputError(f"--strength: expected above 0 to 1, got {strength}")


def _predictions(out: LDMSegOutput, paintings: list[Painting] | None = None) -> list[Prediction]:
    nothing: list[None] = [None] * len(out.maps)
    together = zip(out.maps, out.confidence or nothing, paintings or nothing, strict=True)
    return [Prediction(pmap, sure, *((given.map, given.colors) if given else ())) for pmap, sure, given in together]


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
