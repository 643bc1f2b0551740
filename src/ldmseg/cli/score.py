"""`ldmseg score`, and the table of panoptic quality that `evaluate` prints too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, print_table
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.metrics.depth import DepthQuality
    from ldmseg.metrics.panoptic_quality import PanopticQualityResult
    from ldmseg.metrics.semantic import SemanticQuality


def score(
    gt: Annotated[Path, typer.Option("--gt", metavar="JSON", help="COCO panoptic ground truth.", show_default=False)],
    pred: Annotated[Path, typer.Option("--pred", metavar="JSON", help="COCO panoptic predictions.", show_default=False)],
    gt_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="The ground truth's PNGs.", show_default="beside the JSON")] = None,
    pred_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="The predictions' PNGs.", show_default="beside the JSON")] = None,
    class_agnostic: Annotated[bool, typer.Option("--class-agnostic", help="Every segment is of the same class.")] = False,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="An image without a prediction counts as all void.")] = False,
    only_predicted: Annotated[bool, typer.Option("--only-predicted", help="Score the predicted images only.")] = False,
    json: options.Json = False,
) -> None:
    """Panoptic quality of two COCO panoptic files, as panopticapi computes it.

    Images are matched by id, or by their files' names where the predictions number them otherwise.
    """
    if allow_missing and only_predicted:
        raise InputError("--allow-missing, --only-predicted: expected one of them, got both")
    from ldmseg.metrics.score import score_files

    with Progress("scoring", enabled=not json) as progress:
        result = score_files(gt, pred, gt_dir, pred_dir, class_agnostic, allow_missing, only_predicted, on_progress=progress.update)
    if json:
        print_json(result.to_dict())
    else:
        print_quality(result)


def print_quality(result: PanopticQualityResult) -> None:
    """PQ, SQ and RQ in percent, with the counts."""
    from rich.table import Table

    table = Table("", *(column for column in ("PQ", "SQ", "RQ", "TP", "FP", "FN", "classes")))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, stat in (("all", result.all), ("things", result.things), ("stuff", result.stuff)):
        if stat.n or name == "all":
            figures = [f"{100 * value:.1f}" for value in (stat.pq, stat.sq, stat.rq)]
            table.add_row(name, *figures, *(str(value) for value in (stat.tp, stat.fp, stat.fn, stat.n)))
    print_table(table)


def print_figures(result: SemanticQuality | DepthQuality) -> None:
    """The figures of a semantic map in percent, or those of depth as fractions."""
    from rich.table import Table

    from ldmseg.metrics.semantic import SemanticQuality

    if isinstance(result, SemanticQuality):
        figures = {"mIoU": f"{100 * result.miou:.1f}", "accuracy": f"{100 * result.accuracy:.1f}", "classes": str(len(result.iou))}
    else:
        names = {"AbsRel": "abs_rel", "delta1": "delta1", "AbsRel, aligned": "aligned_abs_rel", "delta1, aligned": "aligned_delta1"}
        figures = {name: f"{getattr(result, key):.3f}" for name, key in names.items()}
    table = Table(*figures)
    table.add_row(*figures.values())
    print_table(table)
