"""Learning curves: what is drawn of a run, for `curves.png` and for the report alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ldmseg.atomic import atomic_write
from ldmseg.runs.history import History, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUALITY = ("pq", "sq", "rq")
_TITLES = {"loss": "Loss", "lr": "Learning rate", "grad_norm": "Gradient norm", "ce": "Cross-entropy", "bce": "Binary cross-entropy"}
_TITLES |= {"dice": "Dice loss", "kl": "KL divergence", "latent_std": "Deviation of the latents", "speed": "Speed"}
_COLORS = ("#2563c9", "#c2570c", "#0f8a6d")
_COLUMNS = 3
_SMOOTH_FROM = 40  # points; fewer are drawn as they are
_LOG_FROM = 50  # largest over smallest value


@dataclass(frozen=True)
class Panel:
    """One diagram: series that share an axis. `smooth` means that a running mean is drawn over a noisy line."""

    title: str
    series: tuple[Series, ...]
    unit: Literal["", "%", "steps/s"] = ""
    log: bool = False
    smooth: bool = False


def panels(history: History) -> tuple[Panel, ...]:
    """What there is to draw, in reading order: the loss, validation, the other logged terms, learning rate, gradient norm, speed."""
    found = [_training(series) for series in history.training if series.name == "loss"]
    quality = tuple(_percent(series) for name in _QUALITY if (series := history.validated(name)) is not None)
    if quality:
        found.append(Panel("Validation", quality, unit="%"))
    found += [Panel(f"Validation, {_label(s.name)}", (_percent(s),), unit="%") for s in history.validation if s.name not in _QUALITY]
    found += [_training(series) for series in history.training if series.name not in ("loss", "lr", "grad_norm")]
    if (rate := history.figure("lr")) is not None:
        found.append(Panel(_TITLES["lr"], (rate,)))  # never on a log scale, which a decay to zero would fill
    if (norm := history.figure("grad_norm")) is not None:
        found.append(_training(norm))
    if history.speed is not None:
        found.append(replace(_training(history.speed), unit="steps/s", log=False))
    return tuple(found)


def running_mean(series: Series) -> Series:
    """An exponential mean that begins without bias, over about a twelfth of the points."""
    keep = 1 - 1 / max(1.0, len(series.values) / 12)
    total = weight = 0.0
    means = []
    for value in series.values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return Series(series.name, series.steps, tuple(means))


def draw_curves(history: History, path: Path, title: str | None = None) -> None:
    """Write all panels as one PNG, atomically. Without any figure, it is an empty picture with a message.

    Raises:
        InputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = panels(history)
    rows = max(1, math.ceil(len(chosen) / _COLUMNS))
    height = 2.8 * rows + 0.3  # inches
    figure = Figure(figsize=(4.3 * _COLUMNS, height))
    FigureCanvasAgg(figure)
    # Margins by hand: matplotlib's own layout takes as long as all the drawing, at every validation.
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.35 / height, top=1 - 0.7 / height, wspace=0.2, hspace=0.38)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for number, axis in enumerate(axes):
        if number < len(chosen):
            _draw(axis, chosen[number], history.last_step)
        else:
            axis.set_axis_off()
    if not chosen:
        figure.text(0.5, 0.5, "nothing logged yet", ha="center", va="center", color="#666666")
    if title:
        figure.suptitle(title, fontsize="medium", y=1 - 0.12 / height)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _draw(axis: Axes, panel: Panel, last_step: int) -> None:
    for series, color in zip(panel.series, _COLORS, strict=False):
        dots = "o" if len(series.steps) <= 30 else None
        axis.plot(series.steps, series.values, color=color, lw=1.4, marker=dots, ms=3, label=series.name, alpha=0.3 if panel.smooth else 1)
        if panel.smooth:
            axis.plot(series.steps, running_mean(series).values, color=color, lw=1.6)
    axis.set_title(panel.title + (f" ({panel.unit})" if panel.unit else ""), fontsize="medium", loc="left")
    axis.set_xlim(0, 1.02 * last_step)
    if panel.log:
        axis.set_yscale("log")
    else:
        axis.ticklabel_format(scilimits=(-3, 5))
    if len(panel.series) > 1:
        axis.legend(fontsize="small", frameon=False, ncols=len(panel.series))
    axis.tick_params(labelsize="small", color="#bbbbbb")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#bbbbbb")


def _training(series: Series) -> Panel:
    values = series.values
    log = min(values) > 0 and max(values) > _LOG_FROM * min(values)
    return Panel(_TITLES.get(series.name, _label(series.name)), (series,), log=log, smooth=len(values) >= _SMOOTH_FROM)


def _percent(series: Series) -> Series:
    return Series(series.name.upper(), series.steps, tuple(100 * value for value in series.values))


def _label(name: str) -> str:
    return name.replace("_", " ")
