"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ldmseg import choices
from ldmseg.cli.console import configure_logging, say
from ldmseg.options import InferenceOptions

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE..", help="Photos, and folders of photos.", show_default=False)]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE..", help="Photos, folders of photos, videos, and https addresses of those.", show_default=False),
]
Every = Annotated[int | None, typer.Option("--every", metavar="N", min=1, help="Videos: take each N-th frame only.", show_default="1")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder for the results.", show_default=False)]
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="`default`, a pipeline's folder, or a Hub id.")]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise. The noise of a photo also depends on its file name.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.", show_default="the model's")]
SamplerOption = Annotated[choices.Sampler | None, typer.Option("--sampler", help="The kind of sampling step.", show_default="the model's")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels", metavar="N", min=1, help="Refuse photos with more pixels before decoding them.", show_default="178,956,970"
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Photos at a time. It changes the speed and not the result.")]
GuidanceScale = Annotated[
    float | None,
    typer.Option("--guidance-scale", metavar="SCALE", min=0, help="Guidance by a descriptor; 1: off.", show_default="the model's"),
]
EnsembleSize = Annotated[
    int | None,
    typer.Option(
        "--ensemble-size",
        metavar="K",
        min=1,
        help="Draw K samples. The map is what they agree on, with a confidence.",
        show_default="the model's",
    ),
]
Boundaries = Annotated[
    choices.Boundaries | None,
    typer.Option("--boundaries", help="Move borders to the edges of the photo, or leave them as drawn.", show_default="the model's"),
]
BoundaryTrust = Annotated[
    float | None,
    typer.Option(
        "--boundary-trust",
        min=0,
        help="Weight of the drawing in the border step; 0: labels and photo alone.",
        show_default="the model's",
    ),
]
TileSize = Annotated[
    float | None,
    typer.Option(
        "--tile-size",
        metavar="PIXELS|SHARE",
        min=0,
        help="Divide a large photo into windows of this many pixels (up to 1: this share of its shorter side); 0: no windows.",
        show_default="the model's",
    ),
]
TileOverlap = Annotated[
    float | None,
    typer.Option(
        "--tile-overlap", min=0, max=0.9, help="Least share of a window that it shares with the next one.", show_default="the model's"
    ),
]
EnsembleFlips = Annotated[
    choices.EnsembleFlips | None,
    typer.Option(
        "--ensemble-flips",
        help="Draw some of the K samples from the mirrored photo; both: also mirrored top to bottom, for aerial or microscope images.",
        show_default="the model's",
    ),
]
MinComponentArea = Annotated[
    int | None,
    typer.Option(
        "--min-component-area",
        metavar="PIXELS",
        min=0,
        help="Make connected components of a segment segments of their own. Those with fewer pixels go to the nearest segment.",
        show_default="the model's",
    ),
]
Captions = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE.json",
        help="Captions for a model that reads them: {file name: caption}, or COCO's captions.",
        show_default="none",
    ),
]
Task = Annotated[
    choices.Task | None,
    typer.Option("--task", help="What is drawn, for a model of several tasks: segments, categories, or depth.", show_default="segments"),
]
CleanPartial = Annotated[
    bool,
    typer.Option("--clean-partial", help="Snap stray colours (soft brush, JPEG) to the main ones; what is unsure is unknown."),
]
Unknown = Annotated[
    str | None,
    typer.Option("--unknown", metavar="COLOR", help="A colour of the partial map that is unknown, e.g. white.", show_default="black"),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAME,..",
        help="Name segments by CLIP: any names; `grass:stuff` is one segment wherever it is.",
        show_default="the model's, if it has a classifier",
    ),
]
Clip = Annotated[
    str | None,
    typer.Option("--clip", metavar="MODEL", help="CLIP for --classes: a folder or Hub id.", show_default="openai/clip-vit-base-patch16"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
NoOverlay = Annotated[bool, typer.Option("--no-overlay", help="Write no <stem>_overlay.png.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more on stderr.", callback=configure_logging)]

_THRESHOLDS = "Thresholds"
ProbabilityThreshold = Annotated[
    float | None,
    typer.Option(
        "--probability-threshold",
        metavar="P",
        min=0,
        max=1,
        help="Make pixels void whose best id is less probable.",
        show_default="the model's",
        rich_help_panel=_THRESHOLDS,
    ),
]
MinArea = Annotated[
    int | None,
    typer.Option(
        "--min-area",
        metavar="PIXELS",
        min=0,
        help="Make segments with fewer pixels void.",
        show_default="the model's",
        rich_help_panel=_THRESHOLDS,
    ),
]
OverlapThreshold = Annotated[
    float | None,
    typer.Option(
        "--overlap-threshold",
        metavar="SHARE",
        min=0,
        max=1,
        help="Drop segments that win less than this share of the pixels they claim; the next best segment gets the pixels.",
        show_default="the model's",
        rich_help_panel=_THRESHOLDS,
    ),
]

_THRESHOLD_OPTIONS = {"probability_threshold": "probability", "min_area": "min_area", "overlap_threshold": "overlap"}


def asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's arguments those that are options of a call (`ldmseg.options.InferenceOptions`) and were given."""
    values = {**values, "num_inference_steps": values.get("steps")}
    found = {f.name: values[f.name] for f in fields(InferenceOptions) if values.get(f.name) is not None}
    thresholds = {name: values[option] for option, name in _THRESHOLD_OPTIONS.items() if values.get(option) is not None}
    return {**found, "thresholds": thresholds} if thresholds else found


RENAMED = {
    "--follow-edges": "--boundaries=photo",
    "--no-follow-edges": "--boundaries=drawn",
    "--min-piece": "--min-component-area",
}
"""Options of version 0.1, which still work, with a warning."""


def renamed(args: Sequence[str]) -> list[str]:
    """A command's arguments with today's names of options."""
    found = []
    for arg in args:
        name, separator, value = arg.partition("=")
        if name in RENAMED:
            say(f"ldmseg: {name} is now {RENAMED[name]}; the old name goes in the next version")
            arg = RENAMED[name] + separator + value
        found.append(arg)
    return found
