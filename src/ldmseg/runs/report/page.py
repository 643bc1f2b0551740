"""The report's HTML: one page that loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import datetime
from html import escape
from itertools import groupby
from pathlib import Path

from PIL import Image, features

from ldmseg import __version__
from ldmseg.errors import InputError
from ldmseg.formats.image import read_image
from ldmseg.runs.curves import panels
from ldmseg.runs.history import METRICS, Session, Start
from ldmseg.runs.report.chart import chart, number_text
from ldmseg.runs.report.record import RunRecord, Setting
from ldmseg.runs.report.style import CSS, SCRIPT

MOST_SHEETS = 12
_STAGES = {"autoencoder": "Stage 1, the mask autoencoder", "diffusion": "Stage 2, the denoiser", "classifier": "The classifier"}
_IN_PROGRESS = 15 * 60  # seconds since the last figure, after which a run is not called "in progress"
# The browser itself keeps the page from loading anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def render(record: RunRecord, now: datetime) -> tuple[str, tuple[str, ...]]:
    """The page, and notes on what could not be shown. The page has these notes, too."""
    samples, notes = _samples(record)
    notes = (*_damage(record), *notes)
    sections = [
        _head(record, now),
        *(f'<p class="note">{escape(note)}</p>' for note in notes),
        _curves(record),
        _validation(record),
        samples,
        _configuration(record),
        _sessions(record),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(record.name)} - ldmseg</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style></head>\n<body><main>\n{chr(10).join(part for part in sections if part)}\n"
        f"<footer>Made by <code>ldmseg report</code> {__version__} on {now:%Y-%m-%d %H:%M} UTC.</footer>\n"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )
    return page, notes


def duration_text(seconds: float) -> str:
    """The two largest units: 42 s, 10 min 54 s, 3 h 12 min, 2 d 4 h."""
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def _damage(record: RunRecord) -> tuple[str, ...]:
    damaged = record.history.damaged
    if not damaged:
        return ()
    which = ", ".join(str(number) for number in damaged[:5]) + (", .." if len(damaged) > 5 else "")
    return (f"{len(damaged)} damaged line{'s' * (len(damaged) > 1)} of {METRICS} left out (line {which})",)


def _head(record: RunRecord, now: datetime) -> str:
    history, total = record.history, record.total_steps
    silent = None if record.written is None else now.timestamp() - record.written
    bar = ""
    if record.finished:
        state, said = "done", "finished"
    elif silent is None or history.last_step == 0:
        state, said = "going", "nothing logged yet"
    else:
        going = silent < _IN_PROGRESS
        state, said = ("going", "in progress") if going else ("stopped", "not finished")
    words = "" if record.finished or silent is None else f"last figure {duration_text(max(0, silent))} before this page was made"
    if total and not record.finished:
        share = f"{min(100.0, 100 * history.last_step / total):.1f}%"
        bar = f'<div class="progress" role="img" aria-label="{share} of the steps"><i style="width:{share}"></i></div>'
    return (
        f'<header><div class="kind">ldmseg run · {_STAGES[record.stage]}</div><h1>{escape(record.name)}</h1>'
        f'<div><span class="state {state}">{said}</span><span class="soft">{words}</span></div>{bar}{_tiles(record)}</header>'
    )


def _tiles(record: RunRecord) -> str:
    history, total = record.history, record.total_steps
    tiles: list[tuple[str, str, str]] = []
    quality, loss = history.validated("pq"), history.figure("loss")
    if quality is not None and history.best is not None:
        best = history.best
        small = "" if best == quality.steps[-1] else f", last {100 * quality.last:.1f}"
        tiles.append(("Best PQ", f"{100 * max(quality.values):.1f}%", f"at step {best:,}{small}"))
    if loss is not None:
        tiles.append(("Loss", number_text(loss.last), f"began at {number_text(loss.values[0])}"))
    of = f"of {total:,}" + ("" if record.finished else f", {100 * history.last_step / total:.1f}%") if total else ""
    tiles.append(("Steps", f"{history.last_step:,}", of))
    if history.seconds:
        tiles.append(("Training time", duration_text(history.seconds), _time_left(record)))
        rate = history.last_step / history.seconds
        speed = record.samples_per_second
        per_step = f"{record.samples_per_step:,} a step" if record.samples_per_step else ""
        tiles.append(("Samples/s", number_text(speed), per_step) if speed else ("Steps/s", number_text(rate), ""))
    if record.networks:
        every = sum(network.parameters for network in record.networks)
        learning = [network.trained for network in record.networks if network.trained is not None]
        small = f"{_count(sum(learning))} of them trained" if learning else ""
        tiles.append(("Parameters", _count(every), small))
    cells = (f"<div><dt>{name}</dt><dd>{value}<small>{small}</small></dd></div>" for name, value, small in tiles)
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _time_left(record: RunRecord) -> str:
    history, total = record.history, record.total_steps
    session = history.sessions[-1] if history.sessions else None
    if record.finished or not total or session is None or not session.seconds or not session.steps:
        return f"{record.resumptions} resumption{'s' * (record.resumptions != 1)}" if record.resumptions else ""
    left = max(0, total - history.last_step) * session.seconds / session.steps
    return f"about {duration_text(left)} to go"


def _curves(record: RunRecord) -> str:
    history = record.history
    drawn = panels(history)
    if not drawn:
        return '<h2>Curves</h2><p class="soft">No figure is logged yet.</p>'
    figures = (chart(p, history.last_step, history.best if p.title == "Validation" else None) for p in drawn)
    return f'<h2>Curves</h2><div class="charts">{"".join(figures)}</div>'


def _validation(record: RunRecord) -> str:
    history = record.history
    if not history.validation:
        return '<h2>Validation</h2><p class="soft">No validation yet.</p>' if history.training else ""
    names = [name for name in ("pq", "sq", "rq") if history.validated(name)]
    names += [series.name for series in history.validation if series.name not in names]
    rows = []
    for step in sorted({step for series in history.validation for step in series.steps}, reverse=True):
        found = [series.at(step) for name in names if (series := history.validated(name)) is not None]
        first = f"<b>{step:,}</b> · best PQ" if step == history.best else f"{step:,}"
        rows.append([first, *("" if value is None else f"{100 * value:.2f}" for value in found)])
    table = _table("figures", ["Step", *(escape(name.upper().replace("_", " ")) for name in names)], rows)
    data = next((setting.value for setting in record.settings if (setting.group, setting.key) == ("data", "val")), "")
    told = f'<p class="soft">In percent, class-agnostic, on <code>{escape(data)}</code>; the newest first.</p>'
    return f"<h2>Validation</h2>{told}{table}"


def _samples(record: RunRecord) -> tuple[str, tuple[str, ...]]:
    """The newest first; of many, some spread over the run."""
    sheets, chosen, notes = record.sheets, list(record.sheets), []
    if len(sheets) > MOST_SHEETS:
        chosen = [sheets[round(i * (len(sheets) - 1) / (MOST_SHEETS - 1))] for i in range(MOST_SHEETS)]
    figures = []
    for step, file in reversed(chosen):
        try:
            figures.append(_picture(step, file))
        except (InputError, OSError, ValueError):  # the last two: it is too large for a page's picture
            notes.append(f"samples/{file.name} cannot be read and is left out")
    if not figures:
        return "", tuple(notes)
    count = f"; {len(figures)} of {len(sheets)} sheets, spread over the run" if len(chosen) < len(sheets) else ""
    told = f'<p class="soft">The same images at each validation, the newest first{count}.</p>'
    return f'<h2>Samples over time</h2>{told}<div class="strip" tabindex="0">{"".join(figures)}</div>', tuple(notes)


def _picture(step: int, file: Path) -> str:
    picture = read_image(file)
    data, kind = _packed(picture)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<figure><figcaption><b>Step {step:,}</b></figcaption><img src="{source}" alt="Samples of step {step}" {size}></figure>'


def _packed(picture: Image.Image) -> tuple[bytes, str]:
    """The smallest of: exact (flat maps) or nearly so (photos). The originals stay in the run folder."""
    if not features.check("webp"):
        stream = io.BytesIO()
        picture.save(stream, "png", optimize=True)
        return stream.getvalue(), "png"
    exact, nearly = io.BytesIO(), io.BytesIO()
    picture.save(exact, "webp", lossless=True)
    picture.save(nearly, "webp", quality=90)
    return min(exact.getvalue(), nearly.getvalue(), key=len), "webp"


def _configuration(record: RunRecord) -> str:
    ordered = sorted(record.settings, key=lambda setting: setting.group != "")
    groups = [_group(name, list(settings)) for name, settings in groupby(ordered, key=lambda setting: setting.group)]
    changed = sum(setting.changed for setting in record.settings)
    return (
        f'<section class="config"><h2>Configuration</h2><label class="only"><input type="checkbox"> only the {changed} keys that differ '
        f'from the defaults</label><div class="groups">{"".join(groups)}</div>'
        f'<details><summary>config.yaml</summary><pre class="card">{escape(record.yaml)}</pre></details></section>'
    )


def _group(name: str, settings: Sequence[Setting]) -> str:
    return f'<div class="card"><h3>{escape(name) or "run"}</h3>{"".join(_setting(setting) for setting in settings)}</div>'


def _setting(setting: Setting) -> str:
    was = ""
    if setting.changed:
        told = f"default {escape(setting.default)}" if setting.default is not None else "unknown to this version"
        was = f'<span class="was">{told}</span>'
    return (
        f'<div class="set{" changed" if setting.changed else ""}"><span>{escape(setting.key)}</span>'
        f"<span><b>{escape(setting.value)}</b>{was}</span></div>"
    )


def _sessions(record: RunRecord) -> str:
    """Where, when and what was trained. Columns without a value are left out."""
    sessions, networks = record.history.sessions, record.networks
    tables = []
    if sessions:
        places = [_place(session.start) for session in sessions]
        rows = [[_between(session, number), duration_text(session.seconds)] for number, session in enumerate(sessions)]
        if any(places):
            rows = [[*row, escape(place) or "not written down"] for row, place in zip(rows, places, strict=True)]
        tables.append(_table("text", ["Training", "Took", "On"][: len(rows[0])], rows))
    if networks:
        learning = any(network.trained is not None for network in networks)
        counts = [(n.parameters, n.trained) if learning else (n.parameters,) for n in networks]
        rows = [[escape(n.name), *("" if c is None else f"{c:,}" for c in count)] for n, count in zip(networks, counts, strict=True)]
        tables.append(_table("", ["Network", "Parameters", "Trained"][: len(rows[0])], rows))
    return f"<h2>Run</h2>{''.join(tables)}" if tables else ""


def _table(kind: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="card scroll"><table class="{kind}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _between(session: Session, number: int) -> str:
    start = session.start
    began = f"<br><small>{escape(start.time.replace('T', ' ').replace('+00:00', ' UTC'))}</small>" if start.time else ""
    return f"{'began' if number == 0 else 'resumed'} at step {start.step:,}, to {session.last_step:,}{began}"


def _place(start: Start) -> str:
    processes = f"{start.processes} process{'es' * (start.processes != 1)}" if start.processes else None
    precision = f"precision {start.precision}" if start.precision else None
    return ", ".join(part for part in (processes, start.device, start.machine, precision, start.versions) if part)


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number:,}"
