"""What a run that begins with a pipeline (`init`) takes over from it beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmseg.config import DepthConfig, DiffusionRunConfig, validate_config
from ldmseg.errors import InputError
from ldmseg.pipeline import LDMSegPipeline

_SCHEDULE = ("beta_schedule", "beta_start", "beta_end", "prediction_type")


def inherited(config: DiffusionRunConfig, start: LDMSegPipeline) -> DiffusionRunConfig:
    """The configuration with the pipeline's settings for every key that the user left open; the result of that is itself.

    Raises:
        InputError: a key was set to something else than the pipeline's networks were trained with; both values are named.
    """
    values = config.model_dump()
    for key, trained in _trained_with(start).items():
        if _is_set(config, key) and _get(values, key) != trained:
            raise InputError(
                f"{key}: expected {_told(trained)}, which the model in {config.init!r} was trained with (or leave it out), "
                f"got {_told(_get(values, key))}"
            )
        _put(values, key, trained)
    if not _is_set(config, "data.size"):
        _put(values, "data.size", start.config["image_size"])
    values["inference"] = start.options.changed(config.inference).to_dict()
    if start.descriptor is not None and not _is_set(config, "descriptors.kind"):
        _put(values, "descriptors.kind", start.descriptor.kind)
    _inherit_tasks(config, values, start)
    result = validate_config(values)
    assert isinstance(result, DiffusionRunConfig)
    return result


def _inherit_tasks(config: DiffusionRunConfig, values: dict[str, Any], start: LDMSegPipeline) -> None:
    """The pipeline's tasks where none are named, and its depth range.

    Raises:
        InputError: other tasks are named, and the pipeline draws more than segments already.
    """
    if not _is_set(config, "tasks"):
        values["tasks"] = dict.fromkeys(start.tasks, 1.0)
    elif start.tasks != ("panoptic",) and set(config.tasks) != set(start.tasks):
        raise InputError(
            f"tasks: expected {', '.join(start.tasks)}, which the model in {config.init!r} draws (or leave it out), "
            f"got {', '.join(config.tasks)}"
        )
    depth = start.codecs.get("depth")
    for name, trained in depth.settings().items() if depth is not None else ():
        key = f"depth.{name}"
        if name not in DepthConfig.model_fields:
            continue
        if _is_set(config, key) and _get(values, key) != trained:
            raise InputError(f"{key}: expected {trained}, which the model in {config.init!r} was trained with, got {_get(values, key)}")
        _put(values, key, trained)


def _trained_with(start: LDMSegPipeline) -> dict[str, Any]:
    found = {f"schedule.{name}": start.scheduler.config[name] for name in _SCHEDULE}
    found["id_policy"] = start.config["id_policy"]
    found["latent_scale"] = start.mask_autoencoder.config["latent_scale"]
    return found | {f"denoiser.{name}": start.unet.config[name] for name in ("self_condition", "partial")}


def _is_set(config: Any, key: str) -> bool:
    """Whether the user, or a preset, wrote the key down."""
    for part in key.split("."):
        if part not in config.model_fields_set:
            return False
        config = getattr(config, part)
    return True


def _get(values: Mapping[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values[part]
    values[last] = value


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
