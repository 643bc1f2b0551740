"""Everything that a report shows, read from a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ldmseg.config import AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig
from ldmseg.config.plain_yaml import PlainYamlError, read_yaml
from ldmseg.errors import InputError
from ldmseg.runs.history import METRICS, History, Network, checkpoints, read_history

_DEFAULTS = {"autoencoder": AutoencoderRunConfig, "diffusion": DiffusionRunConfig, "classifier": ClassifierRunConfig}


@dataclass(frozen=True)
class Setting:
    """A key of the configuration: `group` is empty for keys of the top; `default` is None for a key this version does not have."""

    group: str
    key: str
    value: str
    default: str | None
    changed: bool


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder records it.

    `samples_per_step` and `networks` are None and empty if nothing records them; `written` is when the last figure was logged (seconds
    since 1970), None before the first; `sheets` are the steps and files of the sample pictures, in order.
    """

    name: str
    stage: str
    total_steps: int | None
    settings: tuple[Setting, ...]
    yaml: str
    history: History
    samples_per_step: int | None
    networks: tuple[Network, ...]
    sheets: tuple[tuple[int, Path], ...]
    exported: bool
    written: float | None

    @property
    def finished(self) -> bool:
        return self.exported and self.total_steps is not None and self.history.last_step >= self.total_steps

    @property
    def samples_per_second(self) -> float | None:
        """Over the whole training time, validations included."""
        sessions = [session for session in self.history.sessions if session.seconds > 0]
        each = [session.start.samples_per_step or self.samples_per_step for session in sessions]
        if not sessions or None in each:
            return None
        samples = sum(session.steps * (size or 0) for session, size in zip(sessions, each, strict=True))
        return samples / sum(session.seconds for session in sessions)

    @property
    def resumptions(self) -> int:
        """How often the run went on after a stop, not counting where nothing came of it."""
        return max(0, sum(session.steps > 0 for session in self.history.sessions) - 1)


def read_run(run: Path) -> RunRecord:
    """Read a run folder; nothing in it is changed.

    Raises:
        InputError: it is none, or its configuration cannot be read.
    """
    config, text = _read_config(run)
    history = read_history(run)
    metrics = run / METRICS
    newest = next(reversed(checkpoints(run)), None)
    started = history.sessions[-1].start if history.sessions else None
    return RunRecord(
        name=run.resolve().name,
        stage=config["stage"],
        total_steps=_whole(config, "optim", "steps"),
        settings=_settings(config),
        yaml=text,
        history=history,
        samples_per_step=_samples_per_step(run, config, newest),
        networks=started.networks if started and started.networks else _networks(run, newest),
        sheets=_sheets(run),
        exported=(run / "pipeline").is_dir(),
        written=metrics.stat().st_mtime if metrics.is_file() else None,
    )


def _read_config(run: Path) -> tuple[dict[str, Any], str]:
    path = run / "config.yaml"
    expected = f"RUN: expected a run folder of 'ldmseg train' (with config.yaml and {METRICS}), got '{run}'"
    if not run.is_dir():
        raise InputError(f"{expected}, which is {'a file' if run.exists() else 'not there'}")
    if not path.is_file():
        raise InputError(f"{expected}, which has no config.yaml")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        config = read_yaml(text)
    except PlainYamlError as error:
        raise InputError(f"{expected}, whose config.yaml is no YAML: {error}") from None
    if not isinstance(config, dict) or str(config.get("stage")) not in _DEFAULTS:
        raise InputError(f"{expected}, whose config.yaml names no stage ({' or '.join(_DEFAULTS)})")
    return config, text


def _settings(config: Mapping[str, Any]) -> tuple[Setting, ...]:
    stage = config["stage"]
    defaults = dict(_flat(_DEFAULTS[stage](stage=stage).model_dump(mode="json")))
    found = []
    for path, value in _flat(config):
        group, key = (path[0], ".".join(path[1:])) if len(path) > 1 else ("", path[0])
        known = path in defaults
        found.append(Setting(group, key, _shown(value), _shown(defaults[path]) if known else None, not known or value != defaults[path]))
    return tuple(found)


def _flat(values: Mapping[Any, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in values.items():
        path = (*prefix, str(key))
        found += _flat(value, path) if isinstance(value, Mapping) and value else [(path, value)]
    return found


def _shown(value: Any) -> str:
    """As one would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    return str(value)


def _samples_per_step(run: Path, config: Mapping[str, Any], newest: Path | None) -> int | None:
    size, pieces = _whole(config, "optim", "batch_size"), _whole(config, "optim", "accumulate")
    try:
        processes = json.loads((run / "division.json").read_text(encoding="utf-8"))["processes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        processes = sum(1 for _ in newest.glob("random_states_*")) if newest else None  # one file a process
    samples = size * pieces * processes if size and pieces and isinstance(processes, int) else 0
    return samples if 0 < samples < 2**63 else None


def _networks(run: Path, newest: Path | None) -> tuple[Network, ...]:
    """Parameters by network, from the weights in the folder: the exported ones, else the newest checkpoint's."""
    counts: dict[str, int] = {}
    files = sorted((run / "pipeline").rglob("*.safetensors")) or ([newest / "model.safetensors"] if newest else [])
    for file in files:
        try:
            with safe_open(file, framework="numpy") as weights:
                for key in weights.keys():  # noqa: SIM118  # no dict
                    name = key.partition(".")[0] if file.parent == newest else file.parent.name
                    size = 1
                    for length in weights.get_slice(key).get_shape():
                        size *= length
                    counts[name] = counts.get(name, 0) + size
        except (SafetensorError, OSError):
            continue  # being written, or damaged
    return tuple(Network(name, count) for name, count in counts.items())


def _sheets(run: Path) -> tuple[tuple[int, Path], ...]:
    found = [(file.stem.removeprefix("step-"), file) for file in (run / "samples").glob("step-*.png")]
    return tuple(sorted((int(number), file) for number, file in found if number.isdecimal()))


def _whole(config: Mapping[str, Any], group: str, key: str) -> int | None:
    values = config.get(group)
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
