"""Making a feature cache, shard after shard. A shard is listed when it is on the disk in full."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from ldmseg.atomic import write_bytes, write_text
from ldmseg.config import DataConfig
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.feature_cache import FeatureManifest, expected_manifest, feature_file, pixel_sums, read_feature_manifest, views_of
from ldmseg.data.latent_cache import MANIFEST, Shard, shard_damage
from ldmseg.data.transforms import view_count
from ldmseg.errors import InputError
from ldmseg.locking import locked
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.image_encoder import ImageEncoder

logger = logging.getLogger(__name__)

DTYPES = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class FeatureSettings:
    """How a feature cache is stored.

    Attributes:
        dtype: of the features; they are computed in the backbone's own precision.
        items_per_shard: photos of one file, which is also what an interruption can cost.
        on_error: whether a photo that cannot be read ends the work (`stop`) or is left out and listed in the manifest (`skip`).
    """

    dtype: Literal["fp32", "fp16"] = "fp16"
    items_per_shard: int = 128
    on_error: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.items_per_shard < 1:
            raise InputError(f"items_per_shard: expected at least 1, got {self.items_per_shard}")


def build_feature_cache(
    folder: str | Path,
    dataset: PanopticDataset,
    spec: str,
    encoder: ImageEncoder,
    data: DataConfig,
    settings: FeatureSettings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FeatureManifest:
    """Write the backbone's features of every view of every photo; shards that are there already are kept.

    Args:
        spec: how the data set was named, for messages.
        encoder: with a backbone; it computes on the device where it is.
        data: of the run: size, resize, windows, scale_range and flip.
        on_progress: called with (photos done, photos in all).

    Raises:
        InputError: the encoder has no backbone, the run's views are drawn anew each time, the folder holds another cache or is in use, a
            photo cannot be read (`stop`), or the disk is full. What was finished before stays and counts.
    """
    path, settings = Path(folder), settings or FeatureSettings()
    view_count(data)  # refuses what cannot be cached
    stored = {"dtype": settings.dtype, "items_per_shard": settings.items_per_shard}
    wanted = expected_manifest(encoder, dataset, data, spec).model_copy(update=stored)
    assert isinstance(encoder, BackboneImageEncoder)
    with locked(path):
        return _build(path, dataset, encoder, data, settings, wanted, on_progress)


def _build(
    path: Path,
    dataset: PanopticDataset,
    encoder: BackboneImageEncoder,
    data: DataConfig,
    settings: FeatureSettings,
    wanted: FeatureManifest,
    on_progress: Callable[[int, int], None] | None,
) -> FeatureManifest:
    shards = {shard.first: shard for shard in _kept(path, wanted)}
    for first in range(0, len(dataset), settings.items_per_shard):
        items = range(first, min(first + settings.items_per_shard, len(dataset)))
        if first not in shards:
            shards[first] = _write_shard(path, dataset, items, encoder, data, settings, on_progress)
            wanted = wanted.model_copy(update={"shards": tuple(shards[start] for start in sorted(shards))})
            write_text(path / MANIFEST, wanted.model_dump_json(indent=1) + "\n")
        if on_progress is not None:
            on_progress(items.stop, len(dataset))
    return wanted.model_copy(update={"shards": tuple(shards[start] for start in sorted(shards))})


def _kept(folder: Path, wanted: FeatureManifest) -> list[Shard]:
    """The finished, undamaged shards of a cache that was begun with the same settings."""
    if not (folder / MANIFEST).exists():
        return []
    found = read_feature_manifest(folder)
    reason = found.contradiction(wanted)
    for key in ("dtype", "items_per_shard"):
        if reason is None and getattr(found, key) != getattr(wanted, key):
            reason = f"was made with {key} {getattr(found, key)}, got {getattr(wanted, key)}"
    if reason is not None:
        raise InputError(f"output: '{folder}' holds another cache, which {reason}; choose another folder")
    kept = []
    for shard in found.shards:
        damage = shard_damage(folder, shard, "photos")
        if damage is None:
            kept.append(shard)
        else:
            logger.warning("'%s' %s; it is made anew", folder, damage)
    return kept


def _write_shard(
    folder: Path,
    dataset: PanopticDataset,
    items: range,
    encoder: BackboneImageEncoder,
    data: DataConfig,
    settings: FeatureSettings,
    on_progress: Callable[[int, int], None] | None,
) -> Shard:
    photos: dict[int, NDArray[np.uint16]] = {}
    maps: dict[int, list[NDArray]] = {}
    unreadable = []
    for row, item in enumerate(items):
        try:
            photo = dataset.image(item)
        except InputError as error:
            if settings.on_error == "stop":
                raise InputError(f"{error}; --on-error skip leaves it out") from error
            logger.warning("left out of the cache: %s", error)
            unreadable.append(item)
            continue
        views = np.stack([view.times(encoder.input_scale).image(photo) for view in views_of(item, data)])  # (V, 3, s S, s S)
        photos[row] = np.stack([pixel_sums(view, encoder.input_scale) for view in views])
        maps[row] = [feature.astype(DTYPES[settings.dtype]) for feature in _features(encoder, views)]
        if on_progress is not None:
            on_progress(item + 1, len(dataset))
    if not photos:
        raise InputError(f"data: expected at least one photo that can be read among items {items.start}..{items[-1]}, got none")
    tensors = {"photos": _rows(photos, len(items))}
    for number in range(len(encoder.backbone.channels)):
        tensors[f"features_{number}"] = _rows({row: found[number] for row, found in maps.items()}, len(items))
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"encoder: expected finite features of items {items.start}..{items[-1]} in {settings.dtype}, got NaN or infinity")
    content = safetensors.numpy.save(tensors)
    name = feature_file(items.start // settings.items_per_shard)
    write_bytes(folder / name, content)
    checksum = hashlib.sha256(content).hexdigest()
    return Shard(first=items.start, items=len(items), file=name, sha256=checksum, unreadable=tuple(unreadable))


def _rows(found: dict[int, NDArray], count: int) -> NDArray:
    """(count, ..) with zeros where nothing was found."""
    like = next(iter(found.values()))
    rows = np.zeros((count, *like.shape), dtype=like.dtype)
    for row, value in found.items():
        rows[row] = value
    return rows


@torch.no_grad()
def _features(encoder: BackboneImageEncoder, views: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """(V, 3, s S, s S) photos -> (V, C, h, w) of each feature map, as training computes them."""
    images = torch.from_numpy(views).to(next(encoder.parameters()).device).float() / 127.5 - 1
    return [feature.float().cpu().numpy() for feature in encoder.features(encoder.padded(images))]
