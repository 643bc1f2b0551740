"""`ldmseg data cache`: the image latents of a frozen encoder, or the features of a run's backbone, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, configure_logging, print_json, say
from ldmseg.errors import InputError, about


@dataclass(frozen=True)
class FeatureOptions:
    """The options that both kinds of cache have."""

    dtype: Literal["fp32", "fp16"]
    per_shard: int
    on_error: Literal["stop", "skip"]


def cache(
    output: options.Output,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:train.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="MODEL", help="A frozen encoder: of a pipeline, Stable Diffusion or a VAE.", show_default=False),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side of the square in pixels, the run's data.size.", show_default=False)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="NAME_OR_FILE", help="Make features for this run; replaces the other three.", show_default=False),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a key of --config.", show_default=False)] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Encode every photo mirrored, too.")] = True,
    dtype: Annotated[Literal["fp32", "fp16"], typer.Option("--dtype", help="Precision on the disk; fp16 takes half.")] = "fp32",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos at a time.")] = 8,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read photos.")] = 2,
    per_shard: Annotated[int, typer.Option("--per-shard", min=1, help="Photos a file; an interruption costs one file's work.")] = 512,
    on_error: Annotated[Literal["stop", "skip"], typer.Option("--on-error", help="What to do when a photo cannot be read.")] = "stop",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Encode every photo once, for training with data.latents=DIR, or with --config for training with data.features=DIR.

    The same command continues after an interruption. Finished files are kept.
    """
    if config is not None and (data, encoder, size) != (None, None, None):
        raise InputError("--config: expected none of --data, --encoder and --size beside it, which the configuration names")
    if config is None and None in (data, encoder, size):
        raise InputError("--data, --encoder, --size: expected all three, or --config in their place")
    check_output_folder(output)

    from ldmseg.devices import resolve_device

    target = resolve_device(device)
    configure_logging(verbose=False)

    from ldmseg.data.datasets import load_dataset
    from ldmseg.data.latent_writer import CacheSettings, build_latent_cache
    from ldmseg.models.image_encoder import load_image_encoder
    from ldmseg.models.loading import model_folder

    if config is not None:
        _features(config, set_ or [], output, target, FeatureOptions(dtype, per_shard, on_error), json)
        return
    assert data is not None and encoder is not None and size is not None
    dataset = load_dataset(data, size=size)
    with about("--encoder"):
        frozen: Any = load_image_encoder(model_folder(encoder))
    settings = CacheSettings(size, flip, dtype, batch_size, workers, per_shard, on_error)
    with Progress("photos", enabled=not json) as progress:
        try:
            manifest = build_latent_cache(output, dataset, data, frozen.to(target), settings, progress.update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on with {output}") from None
    _tell(output, len(dataset), manifest.shards, "latents", json)


def _features(source: str, overrides: list[str], output: Path, device: Any, stored: FeatureOptions, json: bool) -> None:
    from ldmseg.config import ClassifierRunConfig, DiffusionRunConfig, load_config
    from ldmseg.data.datasets import load_mixture
    from ldmseg.data.feature_writer import FeatureSettings, build_feature_cache
    from ldmseg.training.networks import begin_classifier, begin_diffusion

    run = load_config(source, overrides)
    if isinstance(run, ClassifierRunConfig):
        begun = begin_classifier(run)
        encoder, data = begun.pipeline.image_encoder.to(device), begun.config.data
    elif isinstance(run, DiffusionRunConfig):
        encoder, data = begin_diffusion(run).networks.image_encoder.to(device), run.data
    else:
        raise InputError(f"--config: expected a configuration of stage diffusion or classifier, got one of stage {run.stage} in '{source}'")
    mixture = load_mixture(data.train, size=data.size, segments=data.scene_segments).whole
    settings = FeatureSettings(stored.dtype, stored.per_shard, stored.on_error)
    with Progress("photos", enabled=not json) as progress:
        try:
            manifest = build_feature_cache(output, mixture, source, encoder, data, settings, progress.update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on with {output}") from None
    _tell(output, len(mixture), manifest.shards, "features", json)


def _tell(output: Path, items: int, shards: Sequence[Any], key: str, json: bool) -> None:
    left_out = sum(len(shard.unreadable) for shard in shards)
    if json:
        print_json({"cache": str(output), "items": items, "unreadable": left_out, "shards": len(shards)})
    else:
        without = f", {left_out} of them without a photo" if left_out else ""
        say(f"{items} items{without} in {output}; train with --set data.{key}={output}")
