"""`ldmseg info`: what is installed, and what a model is."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated, Any

import typer

from ldmseg.cli import options
from ldmseg.cli.console import print_json, print_table
from ldmseg.errors import InputError

PACKAGES = ("ldmseg", "torch", "diffusers", "accelerate", "transformers", "numpy", "pillow")


def info(
    model: Annotated[str | None, typer.Argument(help="`default`, a pipeline's folder, or a Hub id.", show_default="default")] = None,
    json: options.Json = False,
) -> None:
    """Versions, devices, and what a model is."""
    facts: dict[str, Any] = {"versions": {"python": platform.python_version(), **_versions()}, "device": _device()}
    try:
        facts["model"] = _describe(model or "default")
    except InputError as error:
        if model is not None:
            raise
        facts["model"] = None
        facts["no_model"] = str(error)
    if json:
        print_json(facts)
    else:
        _print(facts)


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _device() -> dict[str, Any]:
    import torch

    from ldmseg.devices import resolve_device

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"auto": str(resolve_device("auto")), "gpus": gpus, "cpu_threads": torch.get_num_threads()}


def _describe(model: str) -> dict[str, Any]:
    from ldmseg.cli.models import load_pipeline

    pipe = load_pipeline(model, "cpu")
    autoencoder, size = pipe.mask_autoencoder, pipe.config["image_size"]
    f = autoencoder.downscale
    return {
        "name": model,
        "folder": str(pipe.config.get("_name_or_path", model)),
        "components": _components(pipe),
        "image_size": size,
        "num_ids": autoencoder.config["num_ids"],
        "code": autoencoder.config["code"],
        "latents": [autoencoder.config["latent_channels"], -(-size // f), -(-size // f)],
        "downscale": f,
        "image_channels": pipe.image_encoder.latent_channels,
        "self_condition": pipe.unet.config["self_condition"],
        "partial": pipe.unet.config["partial"],
        "descriptor": None if pipe.descriptor is None else pipe.descriptor.kind,
        "tasks": list(pipe.tasks),
        "categories": None if pipe.classifier is None else [category.name for category in pipe.classifier.categories],
        "trained": {
            "id_policy": pipe.config["id_policy"],
            **{key: pipe.scheduler.config[key] for key in ("prediction_type", "beta_schedule") if key in pipe.scheduler.config},
        },
        "defaults": pipe.options.to_dict(),
    }


def _components(pipe: Any) -> dict[str, dict[str, Any]]:
    modules = {name: getattr(pipe, name) for name in ("mask_autoencoder", "image_encoder", "unet")}
    modules |= {name: part for name in ("descriptor", "classifier") if (part := getattr(pipe, name)) is not None}
    return {
        name: {"class": type(module).__name__, "parameters": sum(p.numel() for p in module.parameters()), "dtype": str(module.dtype)}
        for name, module in modules.items()
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version))
    device = facts["device"]
    threads = f"{device['cpu_threads']} CPU thread{'s' * (device['cpu_threads'] != 1)}"
    table.add_row("device", f"{device['auto']} ({', '.join(device['gpus']) or threads})")
    model = facts["model"]
    if model is None:
        table.add_row("model", facts["no_model"])
        return print_table(table)
    table.add_row("model", model["name"])
    for name, part in model["components"].items():
        table.add_row(f"  {name}", f"{part['class']}, {part['parameters'] / 1e6:.2f} M parameters, {part['dtype'].removeprefix('torch.')}")
    channels, height, width = model["latents"]
    table.add_row(
        "  latents", f"{channels} x {height} x {width} of {model['image_size']} x {model['image_size']} pixels (f = {model['downscale']})"
    )
    table.add_row("  ids", f"{model['num_ids']} as {model['code']}")
    inputs = f"self-conditioning {_yes(model['self_condition'])}, partial maps {_yes(model['partial'])}"
    table.add_row("  tasks", ", ".join(model["tasks"]))
    table.add_row("  inputs", inputs + (f", descriptor {model['descriptor']}" if model["descriptor"] else ""))
    if model["categories"]:
        table.add_row("  categories", f"{len(model['categories'])}: {', '.join(model['categories'])}")
    for group in ("trained", "defaults"):
        table.add_row(f"  {group}", ", ".join(f"{key} {value}" for key, value in model[group].items()))
    return print_table(table)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
