"""From a preset's name or a YAML file to a validated run configuration."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from ldmseg.config.schema import AutoencoderRunConfig, DiffusionRunConfig
from ldmseg.errors import InputError

_RUN: TypeAdapter[AutoencoderRunConfig | DiffusionRunConfig] = TypeAdapter(
    Annotated[AutoencoderRunConfig | DiffusionRunConfig, Field(discriminator="stage")]
)


def preset_names() -> list[str]:
    """The presets that `load_config` knows by name."""
    folder = resources.files("ldmseg") / "presets"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> AutoencoderRunConfig | DiffusionRunConfig:
    """Read a preset's name or a YAML file, apply `a.b=c` overrides (values are YAML), and validate.

    Raises:
        InputError: no such preset or file, not YAML, an unknown key, or a value of the wrong type or range; the key is named.
    """
    values = _read(str(source), seen=())
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not path:
            raise InputError(f"--set: expected KEY=VALUE such as optim.lr=1e-4, got {override!r}")
        _assign(values, path.split("."), _scalar(text), override)
    return validate_config(values)


def validate_config(values: Mapping[str, Any]) -> AutoencoderRunConfig | DiffusionRunConfig:
    """Plain values -> a typed run configuration; errors as in `load_config`."""
    try:
        return _RUN.validate_python(_moved(dict(values)))
    except ValidationError as error:
        raise InputError(_one_line(error)) from None


def _read(source: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if source in seen:
        raise InputError(f"extends: expected no circle, got {' -> '.join([*seen, source])}")
    if source in preset_names():
        text = (resources.files("ldmseg") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8", errors="replace")
    else:
        raise InputError(f"--config: expected a file or one of {', '.join(preset_names())}, got {source!r}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--config: expected YAML in {source!r}, got {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"--config: expected keys and values in {source!r}, got {type(values).__name__}")
    parent = values.pop("extends", None)
    return _merge(_read(str(parent), (*seen, source)), values) if parent else values


_MOVED = {
    "steps": "num_inference_steps",
    "sampler": "sampler",
    "tile_size": "tile_size",
    "min_piece": "min_component_area",
    "ensemble_flips": "ensemble_flips",
}
"""Keys of `validation` in version 0.1 -> of `inference`."""


def _moved(values: dict[str, Any]) -> dict[str, Any]:
    validation = values.get("validation")
    old = [key for key in _MOVED if isinstance(validation, Mapping) and key in validation]
    if not old or not isinstance(validation, Mapping):
        return values
    what = f"validation.{old[0]} is now inference.{_MOVED[old[0]]}"
    warnings.warn(f"{what}; the old key goes in the next version", FutureWarning, stacklevel=3)
    kept = {key: value for key, value in validation.items() if key not in old}
    moved = {_MOVED[key]: validation[key] for key in old}
    return {**values, "validation": kept, "inference": {**(values.get("inference") or {}), **moved}}


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
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
            raise InputError(f"--set: {override!r} goes through {key!r}, which holds a value and no keys")
    values[path[-1]] = value


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("autoencoder", "diffusion") or len(first["loc"]) == 1)
    if len(first["loc"]) > 1 and first["loc"][0] in ("autoencoder", "diffusion"):
        where = ".".join(str(part) for part in first["loc"][1:])
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        return f"config: {where!r} is no known key; {hint}"
    got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"config: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{got}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = {"autoencoder": AutoencoderRunConfig, "diffusion": DiffusionRunConfig}[str(loc[0])]
    for key in loc[1:-1]:
        model = model.model_fields[str(key)].annotation
    return sorted(model.model_fields)
