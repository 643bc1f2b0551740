"""The record of a training in a run folder: figures over the steps, and when and where it was trained. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from ldmseg.atomic import write_text
from ldmseg.errors import quoted

METRICS, STARTS = "metrics.jsonl", "starts.jsonl"
_VALIDATION = "val_"


@dataclass(frozen=True)
class Series:
    """One figure over the steps: `steps` ascend, `values` are finite, both are equally long and not empty."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def last(self) -> float:
        return self.values[-1]

    def at(self, step: int) -> float | None:
        """The value at a step, or None if there is none."""
        return self.values[self.steps.index(step)] if step in self.steps else None


@dataclass(frozen=True)
class Network:
    """A network of the run; `trained` is the number of its trained parameters, None if it was not recorded."""

    name: str
    parameters: int
    trained: int | None = None


@dataclass(frozen=True)
class Start:
    """One start of the training, or one continuation from a checkpoint. A folder of an older version has the step alone."""

    step: int
    time: str | None = None  # ISO 8601, UTC
    processes: int | None = None
    samples_per_step: int | None = None
    device: str | None = None
    machine: str | None = None
    precision: str | None = None
    versions: str | None = None
    networks: tuple[Network, ...] = ()

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The reverse of `to_json`; keys of a later version are left out.

        Raises:
            ValueError, TypeError, KeyError: it is no such line.
        """
        values = json.loads(line)
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        known["networks"] = tuple(Network(**network) for network in known.get("networks", ()))
        start = cls(**known)
        if not _is_step(start.step):
            raise ValueError(f"step: expected a whole number from 0, got {quoted(start.step)}")
        texts = (start.time, start.device, start.machine, start.precision, start.versions)
        counts = (start.processes, start.samples_per_step, *(c for n in start.networks for c in (n.parameters, n.trained)))
        if not all(value is None or isinstance(value, str) for value in texts) or not all(isinstance(n.name, str) for n in start.networks):
            raise TypeError("expected text")
        if not all(value is None or _is_step(value) for value in counts) or any(n.parameters is None for n in start.networks):
            raise TypeError("expected whole numbers")
        return start

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True)
class Session:
    """The steps between a start and the next one (or the end), without those that were lost with a killed process."""

    start: Start
    last_step: int
    seconds: float

    @property
    def steps(self) -> int:
        return self.last_step - self.start.step


@dataclass(frozen=True)
class History:
    """All that was logged.

    `training` and `validation` are the figures in the order of their first appearance, the latter without their prefix; `speed` is steps
    per second between two lines, without those in which a validation fell; `damaged` are the numbers of lines that could not be read.
    """

    training: tuple[Series, ...]
    validation: tuple[Series, ...]
    speed: Series | None
    sessions: tuple[Session, ...]
    damaged: tuple[int, ...]

    @property
    def last_step(self) -> int:
        return max((series.steps[-1] for series in (*self.training, *self.validation)), default=0)

    @property
    def seconds(self) -> float:
        """Training time of all sessions, validations included."""
        return sum(session.seconds for session in self.sessions)

    def figure(self, name: str) -> Series | None:
        return next((series for series in self.training if series.name == name), None)

    def validated(self, name: str) -> Series | None:
        return next((series for series in self.validation if series.name == name), None)

    @property
    def best(self) -> int | None:
        """The first step with the highest validation PQ."""
        quality = self.validated("pq")
        return None if quality is None else quality.steps[quality.values.index(max(quality.values))]


@dataclass(frozen=True)
class _Line:
    step: int
    values: tuple[tuple[str, float], ...]
    seconds: float | None


def read_history(run: Path) -> History:
    """Read `metrics.jsonl` and `starts.jsonl` of a run folder; either may be missing, and damaged lines are left out.

    A last line without its end is left out too, silently: it is being written, or the process was killed while it was.
    """
    lines, damaged = _read_lines(run / METRICS)
    training = [line for line in lines if line.seconds is not None]
    validation = [line for line in lines if line.seconds is None]
    sessions = _sessions(training, read_starts(run))
    breaks = {line.step for line in validation} | {session.start.step for session in sessions}
    return History(_collect(training), _collect(validation), _speed(training, breaks), sessions, damaged)


def checkpoints(run: Path) -> list[Path]:
    """The folders of a run's complete checkpoints, in the order of their steps."""
    found = [(path.name.removeprefix("step-"), path) for path in (run / "checkpoints").glob("step-*")]
    return [path for _, path in sorted((int(number), path) for number, path in found if number.isdecimal())]


def read_starts(run: Path) -> tuple[Start, ...]:
    """The starts that led to what is in the folder now, in order: one that lost all its steps is not among them."""
    path = run / STARTS
    starts: list[Start] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                start = Start.from_json(text)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
            while starts and starts[-1].step >= start.step:
                starts.pop()
            starts.append(start)
    return tuple(starts)


def record_start(run: Path, start: Start) -> None:
    """Add a start to the run folder, with the time of now.

    Raises:
        InputError: the file cannot be written.
    """
    path = run / STARTS
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    stamped = replace(start, time=datetime.now(UTC).isoformat(timespec="seconds"))
    write_text(path, before + stamped.to_json() + "\n")


def _read_lines(path: Path) -> tuple[list[_Line], tuple[int, ...]]:
    if not path.is_file():
        return [], ()
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    lines, damaged = [], []
    for number, text in enumerate(texts, start=1):
        line = _parse(text)
        if line is not None:
            lines.append(line)
        elif text.endswith("\n"):
            damaged.append(number)
    return lines, tuple(damaged)


def _parse(text: str) -> _Line | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not _is_step(step := values.pop("step", None)):
        return None
    if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()):
        return None
    if validation := all(name.startswith(_VALIDATION) for name in values):
        values = {name.removeprefix(_VALIDATION): value for name, value in values.items()}
    seconds = None if validation else values.pop("seconds", math.nan)
    return _Line(step, tuple(values.items()), seconds)


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _collect(lines: Iterable[_Line]) -> tuple[Series, ...]:
    """Lines -> one series a figure. Of two lines of a step the later one counts; what is not finite leaves a gap."""
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line.values:
            values = found.setdefault(name, {})
            values.pop(line.step, None)
            if math.isfinite(value):
                values[line.step] = float(value)
    return tuple(Series(name, tuple(sorted(v)), tuple(v[step] for step in sorted(v))) for name, v in found.items() if v)


def _speed(lines: Sequence[_Line], breaks: set[int]) -> Series | None:
    """Steps per second between neighbouring lines; not where the clock went on without training, or began anew."""
    steps, values = [], []
    for before, line in pairwise(lines):
        taken = (line.seconds or 0) - (before.seconds or 0)
        if taken > 0 and line.step > before.step and not any(step in breaks for step in range(before.step, line.step)):
            steps.append(line.step)
            values.append((line.step - before.step) / taken)
    return Series("speed", tuple(steps), tuple(values)) if steps else None


def _sessions(lines: Sequence[_Line], starts: Sequence[Start]) -> tuple[Session, ...]:
    """Where no start was recorded, a clock that goes back shows one."""
    begin = starts[0].step if starts else math.inf
    guessed = [Start(0)] if begin > 0 and lines else []
    for before, line in pairwise(lines):
        if line.step <= begin and (line.seconds or 0) < (before.seconds or 0):
            guessed.append(Start(before.step))
    every = [*guessed, *starts]
    sessions = []
    for number, start in enumerate(every):
        end = every[number + 1].step if number + 1 < len(every) else math.inf
        own = [line for line in lines if start.step < line.step <= end]
        seconds = max((line.seconds for line in own if line.seconds is not None and math.isfinite(line.seconds)), default=0.0)
        sessions.append(Session(start, own[-1].step if own else start.step, seconds))
    return tuple(sessions)
