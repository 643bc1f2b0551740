"""A diagram as HTML: the lines are an SVG that stretches with the page, the text around it keeps its size."""

from __future__ import annotations

import json
import math
import re
from html import escape
from itertools import pairwise

from ldmseg.runs.curves import Panel, running_mean
from ldmseg.runs.history import Series

_SIDE = 1000  # of the SVG's coordinates, both ways
_MOST_POINTS = 600
_DOTS_UNTIL = 40  # points; beyond that a line alone is clearer


def chart(panel: Panel, last_step: int, mark: int | None = None) -> str:
    """One figure with heading, readout and axes; every number it shows is in its attributes for the page's script.

    Args:
        last_step: where the axis of steps ends; it begins at 0.
        mark: a step to point out with a vertical line.
    """
    shown = [_thinned(series) for series in panel.series]
    low, high, ticks = _vertical(panel, shown)
    lines = [f'<path class="grid" d="{_path([(0, y), (_SIDE, y)])}"/>' for y in (_height(t, low, high, panel.log) for t in ticks)]
    if mark is not None:
        x = _across(mark, last_step)
        lines.append(f'<path class="mark" d="{_path([(x, 0), (x, _SIDE)])}"/>')
    for number, series in enumerate(shown, start=1):
        points = _points(series, last_step, low, high, panel.log)
        mean = _points(running_mean(series), last_step, low, high, panel.log)
        if panel.smooth:
            lines += [f'<path class="raw s{number}" d="{_path(points)}"/>', f'<path class="line s{number}" d="{_path(mean)}"/>']
        else:
            lines.append(f'<path class="line s{number}" d="{_path(points)}"/>')
        if len(points) <= _DOTS_UNTIL:
            dots = "".join(f"M{x:g} {y:g}h0" for x, y in points)  # a line of no length with round ends: a dot that does not stretch
            lines.append(f'<path class="dots s{number}" d="{dots}"/>')
    steps = [t for t in nice_ticks(0, max(1, last_step), 5) if t == int(t)]
    heights = (f"{_height(t, low, high, panel.log) / 10:.2f}" for t in ticks)
    labels = [
        *(f'<span class="y" style="top:{top}%">{text}</span>' for top, text in zip(heights, tick_texts(ticks, panel.log), strict=True)),
        *(f'<span class="x" style="left:{_across(t, last_step) / 10:.2f}%">{int(t):,}</span>' for t in steps),
    ]
    title = " ".join([escape(panel.title), *(f"<small>{text}</small>" for text in (panel.unit, "log scale" * panel.log) if text)])
    return (
        f'<figure class="chart"><figcaption><b>{title}</b><span class="readout">{_readout(panel)}</span></figcaption>'
        f'<div class="plot" data-end="{last_step}" data-series="{_data(shown)}">'
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" role="img" aria-label="{escape(_spoken(panel))}">'
        f'{"".join(lines)}</svg>{"".join(labels)}<i class="cursor"></i></div></figure>'
    )


def number_text(value: float) -> str:
    """Four significant digits at most, thousands grouped: 0.05201, 0.5, 12,540, 1.904e-09."""
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.4g}"


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers in low..high, steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((f * power for f in (1, 2, 5) if f * power >= 0.7 * rough), 10 * power)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def tick_texts(ticks: list[float], log: bool = False) -> list[str]:
    """As few digits as distinguish the ticks of a linear axis. The ticks of a log axis, and a single one, each have their own."""
    if log or len(ticks) < 2:
        return [number_text(tick) for tick in ticks]
    gap = math.log10(min(b - a for a, b in pairwise(ticks)))
    power = math.floor(math.log10(max(abs(tick) for tick in ticks)))
    if -3 <= power < 5:
        return [f"{tick:.{max(0, math.ceil(-gap - 1e-9))}f}" for tick in ticks]
    digits = max(0, math.ceil(power - gap - 1e-9))
    return ["0" if tick == 0 else re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{tick:.{digits}e}").replace("e+", "e") for tick in ticks]


def _vertical(panel: Panel, shown: list[Series]) -> tuple[float, float, list[float]]:
    """Range of the vertical axis and its ticks."""
    values = [value for series in shown for value in series.values]
    low, high = min(values), max(values)
    if panel.log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [f * 10.0**p for p in powers for f in ((1,) if len(powers) > 3 else (1, 2, 5))]
        low, high = low / 1.1, high * 1.1
        return low, high, [t for t in ticks if low <= t <= high][:: max(1, len(ticks) // 7)]
    if high - low <= 1e-4 * abs(high):  # nothing but rounding moves it
        room = 0.1 * abs(high) or 1.0
        return low - room, high + room, [high]
    room = 0.08 * (high - low)
    low, high = (0.0 if 0 <= low < room else low - room), high + room
    return low, high, nice_ticks(low, high, 5)


def _across(step: float, last_step: int) -> float:
    return _SIDE * step / max(1, last_step)


def _height(value: float, low: float, high: float, log: bool) -> float:
    share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    return _SIDE * (1 - share)


def _points(series: Series, last_step: int, low: float, high: float, log: bool) -> list[tuple[float, float]]:
    return [(_across(s, last_step), _height(v, low, high, log)) for s, v in zip(series.steps, series.values, strict=True)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{round(x, 1):g} {round(y, 1):g}" for x, y in points)


def _thinned(series: Series) -> Series:
    """At most about `_MOST_POINTS`: of each stretch the lowest and the highest, so that no spike is lost; and the last."""
    stretch = -(-2 * len(series.steps) // _MOST_POINTS)
    if stretch <= 2:
        return series
    kept = {len(series.steps) - 1}
    for begin in range(0, len(series.steps), stretch):
        part = range(begin, min(begin + stretch, len(series.steps)))
        kept |= {min(part, key=series.values.__getitem__), max(part, key=series.values.__getitem__)}
    order = sorted(kept)
    return Series(series.name, tuple(series.steps[i] for i in order), tuple(series.values[i] for i in order))


def _data(shown: list[Series]) -> str:
    rows = [{"steps": series.steps, "texts": [number_text(value) for value in series.values]} for series in shown]
    return escape(json.dumps(rows, separators=(",", ":")))


def _readout(panel: Panel) -> str:
    """The last values. The script replaces their text while the pointer is on the diagram."""
    names = [f"<em>{escape(s.name)}</em> " if len(panel.series) > 1 else "" for s in panel.series]
    parts = [
        f'<span class="v s{number}">{name}<output>{number_text(s.last)}</output></span>'
        for number, (name, s) in enumerate(zip(names, panel.series, strict=True), start=1)
    ]
    return f'{"".join(parts)}<span class="at">step <output>{panel.series[0].steps[-1]:,}</output></span>'


def _spoken(panel: Panel) -> str:
    ends = [f"{number_text(s.values[0])} at step {s.steps[0]} to {number_text(s.last)} at step {s.steps[-1]}" for s in panel.series]
    return f"{panel.title}: {'; '.join(f'{s.name} from {text}' for s, text in zip(panel.series, ends, strict=True))}"
