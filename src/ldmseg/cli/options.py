"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ldmseg import choices
from ldmseg.cli.console import configure_logging

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE..", help="Photos, and folders of photos.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where results go.", show_default=False)]
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="`default`, a pipeline's folder, or a Hub id.")]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the noise; each photo's own noise also depends on its file name.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps.", show_default="the model's")]
SamplerOption = Annotated[choices.Sampler | None, typer.Option("--sampler", help="How to sample.", show_default="the model's")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Photos at a time; changes the speed, not the result.")]
EnsembleSize = Annotated[
    int,
    typer.Option("--ensemble-size", metavar="K", min=1, help="Draw K samples; the map is what they agree on, and how sure."),
]
FollowEdges = Annotated[
    bool | None,
    typer.Option("--follow-edges/--no-follow-edges", help="Put borders where the photo has edges.", show_default="the model's"),
]
TileSize = Annotated[
    float | None,
    typer.Option(
        "--tile-size",
        metavar="PIXELS|SHARE",
        min=0,
        help="Look at windows of so many pixels (up to 1: that share of the shorter side), for large photos of small things; 0: the whole.",
        show_default="the model's",
    ),
]
TileOverlap = Annotated[
    float, typer.Option("--tile-overlap", min=0, max=0.9, help="Share of a window that it has in common with the next one, at least.")
]
EnsembleFlips = Annotated[
    choices.EnsembleFlips | None,
    typer.Option(
        "--ensemble-flips",
        help="The K samples take turns in seeing the photo mirrored; both: up and down, too, for photos without an upside.",
        show_default="the model's",
    ),
]
MinPiece = Annotated[
    int | None,
    typer.Option(
        "--min-piece",
        metavar="PIXELS",
        min=0,
        help="Connected pieces of a segment become segments of their own; those of fewer pixels go to what is nearest.",
        show_default="the model's",
    ),
]
Captions = Annotated[
    Path | None,
    typer.Option(
        "--captions",
        metavar="FILE.json",
        help="For a model that reads captions: {file name: caption} of the photos, or COCO's captions.",
        show_default="none",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
NoOverlay = Annotated[bool, typer.Option("--no-overlay", help="Write no <stem>_overlay.png.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.", callback=configure_logging)]

_THRESHOLDS = "Thresholds"
ProbabilityThreshold = Annotated[
    float | None,
    typer.Option(
        "--probability-threshold",
        metavar="P",
        min=0,
        max=1,
        help="Pixels whose best id is less probable become void.",
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
        help="Segments with fewer pixels become void.",
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
        help="Segments that lost a larger share of their own pixels to others become void.",
        show_default="the model's",
        rich_help_panel=_THRESHOLDS,
    ),
]
