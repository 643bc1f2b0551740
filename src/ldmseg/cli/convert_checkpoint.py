"""`ldmseg convert-checkpoint`: the authors' released weights as folders that every other command takes."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError
from ldmseg.options import InferenceOptions, Thresholds

if TYPE_CHECKING:
    from ldmseg.models.official import OfficialFile, OfficialNetworks, OfficialSettings

Dtype = Literal["fp32", "fp16"]
Prediction = Literal["epsilon", "sample"]

THRESHOLDS = Thresholds(probability=0.5, min_area=512, overlap=0.5, support=0.0)
"""`Thresholds` of the paper's reported PQ and of the release."""

STEPS = 50
"""Sampling steps of the paper's reported PQ."""


def convert_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of the authors' code.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new or empty folder.", show_default=False)],
    dtype: Annotated[Dtype, typer.Option(help="Precision of the written weights.")] = "fp32",
    mask_scale: Annotated[
        float | None, typer.Option(metavar="S", help="Factor of the mask latents.", show_default="the file's, else 0.18215")
    ] = None,
    prediction: Annotated[
        Prediction | None, typer.Option(help="What the denoiser was trained to return.", show_default="the file's, else epsilon")
    ] = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Convert a checkpoint of the authors' release.

    A stage-2 file becomes a pipeline folder for --model, a stage-1 file a mask autoencoder for training's --set autoencoder=DIR.
    Code in FILE is never run.
    """
    _check_output(output)
    if mask_scale is not None and not 0 < mask_scale < float("inf"):
        raise InputError(f"--mask-scale: expected a positive number, got {mask_scale}")

    import torch
    from diffusers.utils import logging

    from ldmseg.models.manifest import exported
    from ldmseg.models.official import build_networks, open_official

    logging.set_verbosity_error()
    source = open_official(file)
    asked: dict[str, Any] = {"mask_scale": mask_scale, "prediction_type": prediction}
    settings = replace(source.settings, **{key: value for key, value in asked.items() if value is not None})
    with Progress("converting", enabled=not json) as progress:
        networks = build_networks(source, torch.float16 if dtype == "fp16" else torch.float32, settings, progress.update)
    if source.stage == 1:
        with exported(output) as folder:
            networks.mask_autoencoder.save_pretrained(folder / "mask_autoencoder")
    else:
        _pipeline(networks, settings).save_pretrained(output)
    _report(source, output, networks, settings, dtype, json)


def _pipeline(networks: OfficialNetworks, settings: OfficialSettings) -> Any:
    """The `LDMSegPipeline` that samples and thresholds as the paper's evaluation does."""
    from ldmseg.diffusion.schedule import NoiseSchedule
    from ldmseg.pipeline import LDMSegPipeline

    schedule = NoiseSchedule(
        beta_start=settings.beta_start,
        beta_end=settings.beta_end,
        beta_schedule=settings.beta_schedule,
        prediction_type=settings.prediction_type,
    )
    return LDMSegPipeline(
        mask_autoencoder=networks.mask_autoencoder,
        image_encoder=networks.image_encoder,  # type: ignore[arg-type]  # a stage-2 file has all three
        unet=networks.unet,  # type: ignore[arg-type]
        scheduler=schedule,
        image_size=settings.image_size,
        id_policy="random",
        inference=InferenceOptions(num_inference_steps=STEPS, sampler="ddim", thresholds=THRESHOLDS, boundaries="drawn"),
    )


def _report(source: OfficialFile, output: Path, networks: OfficialNetworks, settings: OfficialSettings, dtype: Dtype, json: bool) -> None:
    parts = {name: part for name in ("mask_autoencoder", "image_encoder", "unet") if (part := getattr(networks, name)) is not None}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    if json:
        facts = {"file": str(source.path), "output": str(output), "stage": source.stage, "step": source.step, "dtype": dtype}
        print_json({**facts, "parameters": parameters, "settings": asdict(settings), "unused": list(source.unused)})
        return
    listed = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters.items())
    at_step = f" (step {source.step})" if source.step is not None else ""
    unused = f"; not used: {', '.join(source.unused)}" if source.unused else ""
    say(f"stage {source.stage}{at_step}: {listed} parameters in {dtype}, written to {output}{unused}")


# ------------------------------------------------------------------------------------------------------------------------- folder
def _check_output(output: Path) -> None:
    check_output_folder(output)
    if output.is_dir() and (found := sum(1 for _ in output.iterdir())):
        raise InputError(f"--output: expected a new or empty folder, got '{output}', which holds {found} file{'s' * (found != 1)}")
