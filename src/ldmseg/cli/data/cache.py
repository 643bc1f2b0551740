"""`ldmseg data cache`: the image latents of a frozen encoder, computed once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ldmseg.atomic import check_output_folder
from ldmseg.cli import options
from ldmseg.cli.console import Progress, configure_logging, print_json, say


def cache(
    data: Annotated[str, typer.Option("--data", metavar="FORMAT:ROOT[:SPLIT]", help="E.g. coco-panoptic:DIR:train.", show_default=False)],
    encoder: Annotated[
        str,
        typer.Option("--encoder", metavar="MODEL", help="A frozen encoder: of a pipeline, Stable Diffusion or a VAE.", show_default=False),
    ],
    output: options.Output,
    size: Annotated[int, typer.Option("--size", min=1, help="Pixels of the square, the run's data.size.", show_default=False)],
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Encode every photo mirrored, too.")] = True,
    dtype: Annotated[Literal["fp32", "fp16"], typer.Option("--dtype", help="Of what is stored; fp16 takes half the disk.")] = "fp32",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Photos at a time.")] = 8,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads that read photos.")] = 2,
    per_shard: Annotated[int, typer.Option("--per-shard", min=1, help="Photos a file; an interruption costs one file's work.")] = 512,
    on_error: Annotated[Literal["stop", "skip"], typer.Option("--on-error", help="What a photo that cannot be read does.")] = "stop",
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Encode every photo once, for training with data.latents=DIR.

    The same command goes on where it was interrupted; files that are there already are kept.
    """
    check_output_folder(output)

    from ldmseg.devices import resolve_device

    target = resolve_device(device)
    configure_logging(verbose=False)

    from ldmseg.data.datasets import load_dataset
    from ldmseg.data.latent_writer import CacheSettings, build_latent_cache
    from ldmseg.models.image_encoder import load_image_encoder
    from ldmseg.models.loading import model_folder

    dataset = load_dataset(data, size=size)
    frozen: Any = load_image_encoder(model_folder(encoder))
    settings = CacheSettings(size, flip, dtype, batch_size, workers, per_shard, on_error)
    with Progress("photos", enabled=not json) as progress:
        try:
            manifest = build_latent_cache(output, dataset, data, frozen.to(target), settings, progress.update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on with {output}") from None
    left_out = sum(len(shard.unreadable) for shard in manifest.shards)
    if json:
        print_json({"cache": str(output), "items": len(dataset), "unreadable": left_out, "shards": len(manifest.shards)})
    else:
        without = f", {left_out} of them without a photo" if left_out else ""
        say(f"{len(dataset)} items{without} in {output}; train with --set data.latents={output}")
