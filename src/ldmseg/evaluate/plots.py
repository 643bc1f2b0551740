"""Curves of a completion report, in the layout of the paper's figure 9."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ldmseg.atomic import atomic_write
from ldmseg.data.cases import Case
from ldmseg.evaluate.inpainting import InpaintingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4


def draw_curves(report: InpaintingReport, path: str | os.PathLike[str], title: str | None = None) -> None:
    """Write `curves` as a PNG.

    Raises:
        InputError: the file cannot be written.
    """
    figure = curves(report, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def curves(report: InpaintingReport, title: str | None = None) -> Figure:
    """PQ over the drop rate with one panel per method and one line per block size; below, as bars, the other kinds and noisy labels.

    What was not measured is left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blocks = [c for c in report.cases if c.kind == "blocks"]
    others = [[c for c in report.cases if c.kind != "blocks" and c.noisy == noisy] for noisy in (False, True)]
    methods = [m for m in report.methods if any(report.score(c, m) for c in blocks)]
    rows = math.ceil(len(methods) / _COLUMNS) if blocks else 0
    bars = [cases for cases in others if cases]
    heights = [2.6] * rows + [3.2] * len(bars)
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for row in range(rows):
        _draw_blocks(parts[row], report, blocks, methods[row * _COLUMNS : (row + 1) * _COLUMNS], legend=row == 0)
    for part, cases in zip(parts[rows:], bars, strict=True):
        _draw_bars(part.subplots(), report, cases)
    if title:
        figure.suptitle(title)
    return figure


def _draw_blocks(figure: Figure, report: InpaintingReport, cases: Sequence[Case], methods: Sequence[str], legend: bool) -> None:
    from matplotlib import colormaps

    sizes = sorted({c.block_size or 0 for c in cases})
    colors = colormaps["viridis"]([0.85 * i / max(1, len(sizes) - 1) for i in range(len(sizes))])
    panels = figure.subplots(1, _COLUMNS, sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods, strict=False):
        for size, color in zip(sizes, colors, strict=True):
            found = sorted((s.case.drop_rate, s.pq) for c in cases if c.block_size == size and (s := report.score(c, method)))
            panel.plot([100 * rate for rate, _ in found], [100 * pq for _, pq in found], color=color, marker="o", ms=3, label=f"{size} px")
        panel.set(title=method, xlabel="dropped (%)", ylim=(0, 102))
        panel.grid(alpha=0.3)
    for panel in panels[len(methods) :]:
        panel.set_axis_off()
    panels[0].set_ylabel("PQ")
    if legend:
        panels[0].legend(title="blocks of", fontsize="small")


def _draw_bars(panel: Axes, report: InpaintingReport, cases: Sequence[Case]) -> None:
    methods = [m for m in report.methods if any(report.score(c, m) for c in cases)]
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        found = [(place, s.pq) for place, c in enumerate(cases) if (s := report.score(c, method))]
        shift = (number - (len(methods) - 1) / 2) * width
        color = f"C{report.methods.index(method)}"  # a method's own, in every panel
        panel.bar([place + shift for place, _ in found], [100 * pq for _, pq in found], width, color=color, label=method)
    panel.set_xticks(range(len(cases)), [f"{c.what}\n{c.density}" for c in cases], fontsize="x-small")
    panel.set(ylabel="PQ", ylim=(0, 102))
    panel.grid(alpha=0.3, axis="y")
    panel.legend(ncols=len(methods), fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 1.15), frameon=False)
