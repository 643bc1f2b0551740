"""From a preset's name or a YAML file to a validated run configuration."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ldmseg.config.plain_yaml import SIZE, PlainYamlError, read_yaml
from ldmseg.config.schema import AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig, MixedSet
from ldmseg.errors import InputError, quoted, shortened
from ldmseg.options import InferenceOptions

LEVELS = 16
"""Configurations that extend each other."""

AnyRunConfig = AutoencoderRunConfig | DiffusionRunConfig | ClassifierRunConfig

_RUN: TypeAdapter[AnyRunConfig] = TypeAdapter(Annotated[AnyRunConfig, Field(discriminator="stage")])

_STAGES: dict[str, type[BaseModel]] = {
    "autoencoder": AutoencoderRunConfig,
    "diffusion": DiffusionRunConfig,
    "classifier": ClassifierRunConfig,
}


def preset_names() -> list[str]:
    """The names of the presets that `load_config` takes."""
    folder = resources.files("ldmseg") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> AnyRunConfig:
    """Read a preset's name or a YAML file, apply `a.b=c` overrides (values are YAML), and validate.

    Raises:
        InputError: no such preset or file, not YAML, an unknown key, or a value of the wrong type or range; the key is named.
    """
    values = _read(str(source), seen=())
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InputError(f"--set: expected KEY=VALUE such as optim.lr=1e-4, got {quoted(override)}")
        _assign(values, path.split("."), _scalar(text), override)
    return validate_config(values)


def validate_config(values: Mapping[str, Any]) -> AnyRunConfig:
    """Plain values -> a typed run configuration; errors as in `load_config`."""
    try:
        return _RUN.validate_python(_moved(dict(values)))
    except ValidationError as error:
        raise InputError(_one_line(error)) from None


def _read(source: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if source in seen:
        raise InputError(f"extends: expected no circle, got {shortened(' -> '.join([*seen, source]), 200)}")
    if len(seen) > LEVELS:
        raise InputError(f"extends: expected at most {LEVELS} files, one on the other, got more")
    if source in preset_names():
        text = (resources.files("ldmseg") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
    elif _is_file(source):
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            text = file.read(SIZE + 1)  # what is longer is refused
    else:
        raise InputError(f"--config: expected a file or one of {', '.join(preset_names())}, got {quoted(source)}")
    try:
        values = read_yaml(text)
    except PlainYamlError as error:
        raise InputError(f"--config: expected YAML in {quoted(source)}, got {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"--config: expected keys and values in {quoted(source)}, got {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise InputError(f"extends: expected a preset's name or a file, got {quoted(parent)}")
    return _merge(_read(parent, (*seen, source)), values) if parent else values


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except (OSError, ValueError):  # a name that is too long, a NUL byte
        return False


_MOVED = {
    "validation.steps": "num_inference_steps",
    "validation.sampler": "sampler",
    "validation.tile_size": "tile_size",
    "validation.min_piece": "min_component_area",
    "validation.ensemble_flips": "ensemble_flips",
    "descriptors.guidance_scale": "guidance_scale",
}
"""Keys of version 0.1 -> what they are called in `inference`."""


def _moved(values: dict[str, Any]) -> dict[str, Any]:
    """The same values under today's keys; an old key is warned of."""
    found, inference = dict(values), dict[str, Any]()
    for old, new in _MOVED.items():
        section, key = old.split(".")
        if isinstance(found.get(section), Mapping) and key in found[section]:
            warnings.warn(f"{old} is now inference.{new}; the old key goes in the next version", FutureWarning, stacklevel=3)
            found[section] = {name: value for name, value in found[section].items() if name != key}
            inference[new] = values[section][key]
    return {**found, "inference": {**(found.get("inference") or {}), **inference}} if inference else found


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _scalar(text: str) -> Any:
    try:
        value = read_yaml(text)
    except PlainYamlError:
        return text
    if isinstance(value, str):  # YAML reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise InputError(f"--set: {quoted(override)} goes through {quoted(key)}, which holds a value and no keys")
    values[path[-1]] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    loc = tuple(part for part in first["loc"] if part not in ("one", "several"))  # the two forms of data.train
    told = loc[1:] if len(loc) > 1 and loc[0] in _STAGES else loc
    where = shortened(".".join(str(part) for part in told))
    if first["type"] == "extra_forbidden":
        known = _known_keys(loc)
        close = _elsewhere(str(loc[0]), str(loc[-1])) or difflib.get_close_matches(shortened(loc[-1]), known, n=1)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"expected one of {', '.join(known)}"
        return f"config: {where!r} is no known key; {hint}"
    got = "" if isinstance(first["input"], dict) else f", got {quoted(first['input'])}"
    return f"config: {where + ': ' if where else ''}{shortened(first['msg'].removeprefix('Value error, '), 300)}{got}"


def _elsewhere(stage: str, name: str) -> list[str]:
    """The keys of a run's configuration, in full, whose last part is `name`."""
    keys = [f"inference.{f.name}" for f in fields(InferenceOptions) if f.name == name and stage == "diffusion"]

    def search(model: Any, path: str) -> None:
        for key, entry in model.model_fields.items():
            if key == name:
                keys.append(f"{path}{key}")
            if isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel):
                search(entry.annotation, f"{path}{key}.")

    search(_STAGES[stage], "")
    return sorted(keys)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = _STAGES[str(loc[0])]
    for key in loc[1:-1]:
        model = MixedSet if isinstance(key, int) else model.model_fields[str(key)].annotation  # a list of models: data.train
    return sorted(model.model_fields)
