"""Making a latent cache, shard after shard. A shard is listed when it is on the disk in full."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.atomic import write_bytes, write_text
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.latent_cache import (
    MANIFEST,
    CachedData,
    Manifest,
    Shard,
    Transform,
    encoder_identity,
    read_manifest,
    shard_damage,
    shard_file,
    thumbnail,
)
from ldmseg.data.transforms import View
from ldmseg.errors import InputError
from ldmseg.locking import locked
from ldmseg.models.image_encoder import ImageEncoder

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class CacheSettings:
    """How a cache is made.

    Attributes:
        size: pixels of the square that every photo is resized to.
        flip: whether every photo is encoded mirrored, too.
        dtype: of the stored latents; they are computed in the encoder's own precision.
        batch_size: photos that are encoded at a time.
        workers: threads that read photos.
        items_per_shard: photos of one file, which is also what an interruption can cost.
        on_error: whether a photo that cannot be read ends the work (`stop`) or is left out and listed in the manifest (`skip`).
    """

    size: int
    flip: bool = True
    dtype: Literal["fp32", "fp16"] = "fp32"
    batch_size: int = 8
    workers: int = 2
    items_per_shard: int = 512
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        for name in ("size", "batch_size", "workers", "items_per_shard"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")


def build_latent_cache(
    folder: str | Path,
    dataset: PanopticDataset,
    spec: str,
    encoder: ImageEncoder,
    settings: CacheSettings,
    on_progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Encode every photo of a data set into a folder that `data.latents` names; shards that are there already are kept.

    Args:
        spec: how the data set was named, for messages.
        encoder: frozen; it computes on the device where it is.
        on_progress: called with (photos done, photos in all).

    Raises:
        InputError: the encoder is not frozen, the folder holds another cache or is in use, a photo cannot be read (`stop`), the disk is
            full, or the encoder's values are not finite. What was finished before stays and counts.
    """
    path = Path(folder)
    if encoder.trainable:
        raise InputError(f"encoder: expected a frozen image encoder (of a Stable Diffusion model or a VAE), got {type(encoder).__name__}")
    with locked(path):
        return _build(path, dataset, spec, encoder, settings, on_progress)


def _build(
    path: Path,
    dataset: PanopticDataset,
    spec: str,
    encoder: ImageEncoder,
    settings: CacheSettings,
    on_progress: Callable[[int, int], None] | None,
) -> Manifest:
    wanted = _begun(dataset, spec, encoder, settings)
    shards = {shard.first: shard for shard in _kept(path, wanted)}
    starts = range(0, len(dataset), settings.items_per_shard)
    _check_space(path, wanted, sum(shard.items for shard in shards.values()))
    manifest = wanted.model_copy(update={"shards": tuple(shards[first] for first in sorted(shards))})
    with ThreadPoolExecutor(settings.workers) as pool:
        for first in starts:
            if first not in shards:
                items = range(first, min(first + settings.items_per_shard, len(dataset)))
                try:
                    shards[first] = _write_shard(path, dataset, items, encoder, settings, pool, on_progress)
                    longer = wanted.model_copy(update={"shards": tuple(shards[start] for start in sorted(shards))})
                    write_text(path / MANIFEST, longer.model_dump_json(indent=1) + "\n")
                    manifest = longer
                except InputError as error:
                    if not manifest.shards:
                        raise
                    raise InputError(f"{error}; {len(manifest.shards)} of {manifest.shard_count} shards are kept") from error
            if on_progress is not None:
                on_progress(min(first + settings.items_per_shard, len(dataset)), len(dataset))
    return manifest


def _begun(dataset: PanopticDataset, spec: str, encoder: ImageEncoder, settings: CacheSettings) -> Manifest:
    return Manifest(
        encoder=encoder_identity(encoder),
        transform=Transform(size=settings.size, flip=settings.flip),
        data=CachedData(spec=spec, names=tuple(dataset.name(item) for item in range(len(dataset)))),
        dtype=settings.dtype,
        items_per_shard=settings.items_per_shard,
    )


def _kept(folder: Path, wanted: Manifest) -> list[Shard]:
    """The finished, undamaged shards of a cache that was begun with the same settings."""
    if not (folder / MANIFEST).exists():
        return []
    found = read_manifest(folder)
    reason = found.contradiction(wanted.encoder, wanted.data.names, wanted.transform.size)
    for key in ("dtype", "items_per_shard"):
        if reason is None and getattr(found, key) != getattr(wanted, key):
            reason = f"was made with {key}={getattr(found, key)}, got {getattr(wanted, key)}"
    if reason is None and found.transform != wanted.transform:
        reason = f"was made with flip={found.transform.flip}, got {wanted.transform.flip}"
    if reason is not None:
        raise InputError(f"output: '{folder}' holds another cache, which {reason}; choose another folder")
    kept = []
    for shard in found.shards:
        damage = shard_damage(folder, shard)
        if damage is None:
            kept.append(shard)
        else:
            logger.warning("'%s' %s; it is made anew", folder, damage)
    return kept


def _check_space(folder: Path, wanted: Manifest, done: int) -> None:
    """Checked before hours of work rather than after.

    Raises:
        InputError: less is free than the cache will take.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    cells = -(-wanted.transform.size // wanted.encoder.downscale)
    values = wanted.encoder.latent_channels * cells**2 * (1 + wanted.transform.flip)
    needed = (len(wanted.data.names) - done) * values * DTYPES[wanted.dtype].itemsize
    if usage.total > 0 and usage.free < needed:  # some network drives have no size at all
        raise InputError(
            f"output: cannot write '{folder}': the cache takes {needed / 1e6:,.1f} MB, and {usage.free / 1e6:,.1f} MB are free"
        )


def _write_shard(
    folder: Path,
    dataset: PanopticDataset,
    items: range,
    encoder: ImageEncoder,
    settings: CacheSettings,
    pool: ThreadPoolExecutor,
    on_progress: Callable[[int, int], None] | None,
) -> Shard:
    side = -(-settings.size // encoder.downscale)
    latents = torch.zeros(len(items), 1 + settings.flip, encoder.latent_channels, side, side, dtype=DTYPES[settings.dtype])
    thumbnails = torch.zeros(len(items), 3, 4, 4, dtype=torch.uint8)
    unreadable: list[int] = []
    batch: dict[int, NDArray[np.uint8]] = {}  # row of the shard -> photo
    for item, photo in _photos(dataset, items, settings, pool):
        if isinstance(photo, InputError):
            logger.warning("left out of the cache: %s", photo)
            unreadable.append(item)
        else:
            batch[item - items.start] = photo
            thumbnails[item - items.start] = torch.from_numpy(thumbnail(photo))
        if batch and (len(batch) == settings.batch_size or item == items[-1]):
            latents[list(batch)] = _encode(encoder, list(batch.values()), settings.flip).to(latents.dtype)
            batch = {}
            if on_progress is not None:
                on_progress(item + 1, len(dataset))
    if not torch.isfinite(latents).all():
        raise InputError(f"encoder: expected finite latents of items {items.start}..{items[-1]} in {settings.dtype}, got NaN or infinity")
    data = safetensors.torch.save({"latents": latents, "thumbnails": thumbnails})
    name = shard_file(items.start // settings.items_per_shard)
    write_bytes(folder / name, data)
    checksum = hashlib.sha256(data).hexdigest()
    return Shard(first=items.start, items=len(items), file=name, sha256=checksum, unreadable=tuple(unreadable))


def _photos(
    dataset: PanopticDataset, items: range, settings: CacheSettings, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, NDArray[np.uint8] | InputError]]:
    """Each item's (3, S, S) photo in order, or with `skip` why there is none; threads read some batches ahead of the encoder."""
    view = View.square(settings.size)
    waiting: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(lambda item: view.image(dataset.image(item)), item)))
        while waiting and (len(waiting) > 2 * settings.batch_size or item == items[-1]):
            first, future = waiting.popleft()
            try:
                photo: NDArray[np.uint8] | InputError = future.result()
            except InputError as error:
                if settings.on_error == "stop":
                    raise InputError(f"{error}; --on-error skip leaves it out") from error
                photo = error
            yield first, photo


@torch.no_grad()
def _encode(encoder: ImageEncoder, photos: list[NDArray[np.uint8]], flip: bool) -> Tensor:
    """(3, S, S) photos -> (B, 1 or 2, C, h, w) latents, second the mirrored photo's, as training computes them."""
    batch = torch.from_numpy(np.stack(photos)).to(next(encoder.parameters()).device)  # (B, 3, S, S)
    views = [batch, batch.flip(-1)] if flip else [batch]
    return torch.stack([encoder.encode(view.float() / 127.5 - 1).float().cpu() for view in views], dim=1)
