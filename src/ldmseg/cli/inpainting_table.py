"""The table of `ldmseg evaluate --inpaint`, and what its options mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from ldmseg.cli.console import print_table
from ldmseg.cli.lists import fractions, whole_numbers, words
from ldmseg.errors import InputError

if TYPE_CHECKING:
    from ldmseg.data.cases import Case
    from ldmseg.evaluate.inpainting import CompletionScore, InpaintingReport


@dataclass(frozen=True)
class Protocol:
    """What is measured: `evaluate_inpainting`'s `cases`, `methods` (None: those that fit) and `baselines`."""

    cases: tuple[Case, ...]
    methods: tuple[Any, ...] | None
    baselines: tuple[Any, ...]


def read_protocol(
    kinds: str | None, rates: str | None, block_sizes: str | None, shares: str | None, methods: str | None, baselines: bool
) -> Protocol:
    """The options' words as cases, methods and baselines; None where an option was not given.

    Raises:
        InputError: an unknown word, a number out of range, a density of a kind that is not measured, or scikit-image is missing.
    """
    from ldmseg.data.cases import BLOCK_SIZES, DROP_RATES, KINDS, make_cases
    from ldmseg.data.partial import PartialKind

    chosen = list(get_args(PartialKind)) if kinds is None else words(kinds, "--kinds", KINDS)
    for option, value in (("--rates", rates), ("--block-sizes", block_sizes)):
        if value is not None and "blocks" not in chosen:
            raise InputError(f"{option}: expected together with --kinds blocks, got --kinds {','.join(chosen)}")
    if shares is not None and chosen == ["blocks"]:
        raise InputError("--shares: expected together with other --kinds than blocks, whose density is --rates")
    cases = make_cases(
        chosen,
        drop_rates=DROP_RATES if rates is None else fractions(rates, "--rates"),
        block_sizes=BLOCK_SIZES if block_sizes is None else whole_numbers(block_sizes, "--block-sizes"),
        shares=None if shares is None else fractions(shares, "--shares"),
    )

    from ldmseg.choices import InpaintMethod
    from ldmseg.segmenters.baselines import Baseline, check_baselines

    wanted = None if methods is None else tuple(words(methods, "--methods", get_args(InpaintMethod)))
    compared = get_args(Baseline) if baselines else ()
    check_baselines(compared)
    return Protocol(cases, wanted, compared)


def check_alone(given: Mapping[str, object]) -> None:
    """Options of `--inpaint` without it.

    Raises:
        InputError: one of them was given.
    """
    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option}: expected together with --inpaint, got it alone")


def print_scores(report: InpaintingReport) -> None:
    """Percent; the best PQ on each kind of partial map in bold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    caption = "unknown: PQ of the unknown pixels; mIoU: of the given ids; known, ids: what was kept"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption)
    for number, name in enumerate(("given", "method", "PQ", "unknown", "mIoU", "known", "ids", "s/image")):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=number == 0)
    for case in report.cases:
        scores = [s for s in report.scores if s.case == case]
        best = max(s.pq for s in scores)
        given = [case.what, case.density] if len(scores) > 1 else [f"{case.what}\n{case.density}"]
        for number, score in enumerate(scores):
            table.add_row("".join(given[number : number + 1]), *_figures(score, score.pq == best))
        table.add_section()
    print_table(table)


def _figures(score: CompletionScore, best: bool) -> Sequence[str]:
    pq = f"{100 * score.pq:.1f}"
    return (
        score.method,
        f"[bold]{pq}[/bold]" if best else pq,
        *("-" if value is None else f"{100 * value:.1f}" for value in (score.pq_unknown, score.miou_given)),
        *(_kept(value) for value in (score.fidelity, score.ids_kept)),
        f"{score.seconds_per_image:.3f}",
    )


def _kept(share: float | None) -> str:
    """100 only if nothing at all was lost."""
    return "-" if share is None else "100" if share == 1 else f"{min(100 * share, 99.99):.2f}"
