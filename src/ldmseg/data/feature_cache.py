"""Features of a frozen backbone, computed once for fixed views of every photo: their layout on the disk, and how stage 2 reads them.

A cache is a folder of shards and a `manifest.json`, as a latent cache is (`ldmseg.data.latent_cache`): shards are mapped into memory, and
only those count that the manifest lists. A view is the whole photo, the whole photo mirrored, or one of the photo's `data.windows`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import safe_open

from ldmseg.config import DataConfig
from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.latent_cache import (
    CHECKED,
    TOLERANCE,
    CachedData,
    Shard,
    _Part,
    read_cache_manifest,
    shard_damage,
    weights_sha256,
)
from ldmseg.data.transforms import SCALE_RANGES, View, fixed_view, view_count
from ldmseg.errors import InputError, quoted
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.image_encoder import ImageEncoder


class BackboneIdentity(_Part):
    """What distinguishes one backbone from another."""

    kind: str
    settings_sha256: str
    weights_sha256: str


class Views(_Part):
    """How photos became the backbone's input."""

    size: int = Field(ge=1)
    input_scale: int = Field(ge=1)
    resize: Literal["square", "zoom"]
    windows: int = Field(ge=0)
    scale_range: tuple[float, float]
    flip: bool

    @classmethod
    def of(cls, data: DataConfig, input_scale: int) -> Self:
        resize: Any = data.resize
        return cls(
            size=data.size,
            input_scale=input_scale,
            resize=resize,
            windows=data.windows or 0,
            scale_range=data.scale_range or SCALE_RANGES.get(resize, (1.0, 1.0)),
            flip=data.flip,
        )


class FeatureManifest(_Part):
    """`manifest.json`."""

    format: Literal["ldmseg-features"] = "ldmseg-features"
    version: Literal[1] = 1
    backbone: BackboneIdentity
    views: Views
    data: CachedData
    maps: int = Field(ge=1)  # feature maps of a view
    dtype: Literal["fp32", "fp16"]
    items_per_shard: int = Field(ge=1)
    shards: tuple[Shard, ...] = ()

    @property
    def shard_count(self) -> int:
        """How many there are when all is done."""
        return -(-len(self.data.names) // self.items_per_shard)

    def contradiction(self, other: FeatureManifest) -> str | None:
        """How this manifest differs from `other`; None where it does not. Shards and folders are not compared."""
        for what in ("kind", "settings_sha256", "weights_sha256"):
            there, here = getattr(self.backbone, what), getattr(other.backbone, what)
            if there != here:
                return f"was made by another backbone ({what} {there[:20]}, got {here[:20]})"
        for what in Views.model_fields:
            there, here = getattr(self.views, what), getattr(other.views, what)
            if there != here:
                return f"was made with {what} {there}, got {here}"
        if len(self.data.names) != len(other.data.names):
            return f"was made of {len(self.data.names)} items, got {len(other.data.names)}"
        for number, (there, here) in enumerate(zip(self.data.names, other.data.names, strict=True)):
            if there != here:
                return f"was made of another data set: its item {number} is {quoted(there)}, got {quoted(here)}"
        return None


class CachedView(NamedTuple):
    """The stem's input, the photo (3, S, S) float32 in 0..255, and the backbone's feature maps (C, h, w) each."""

    photo: NDArray[np.float32]
    features: tuple[NDArray[np.floating], ...]


class FeatureCache:
    """A complete cache, opened for reading; `open` is the way to one."""

    def __init__(self, folder: Path, manifest: FeatureManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._unreadable = frozenset(item for shard in manifest.shards for item in shard.unreadable)
        self._mapped: dict[int, Any] = {}

    @classmethod
    def open(cls, folder: str | Path, encoder: ImageEncoder, dataset: PanopticDataset, data: DataConfig) -> Self:
        """Open a cache for training.

        Args:
            encoder: the run's image encoder. The cache must have been made with its backbone.
            dataset: the run's photos. The cache must hold them; folders may have moved.
            data: the run's `data` section. The cache must hold its views.

        Raises:
            InputError: there is no cache, it is not complete, a shard is damaged, or it belongs to another run. The message gives the
                reason in one line.
        """
        path = Path(folder)
        manifest = read_feature_manifest(path)
        wanted = expected_manifest(encoder, dataset, data, manifest.data.spec)
        reason = manifest.contradiction(wanted) or _gap(path, manifest)
        cache = cls(path, manifest)
        reason = reason or cache._strange_photo(dataset, data)
        if reason is not None:
            raise InputError(f"data.features: '{folder}' {reason}")
        return cache

    def read(self, item: int, view: int) -> CachedView:
        """One view of a photo.

        Raises:
            InputError: the photo could not be read when the cache was made.
        """
        if item in self._unreadable:
            name = self.manifest.data.names[item]
            raise InputError(f"data.features: '{self.folder}' has nothing of '{name}', which could not be read when it was made")
        sums = self._tensor("photos", item, view)  # (3, S, S)
        photo = (sums / self.manifest.views.input_scale**2).astype(np.float32)
        return CachedView(photo, tuple(self._tensor(f"features_{number}", item, view) for number in range(self.manifest.maps)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files, which a worker process maps itself."""
        return {**self.__dict__, "_mapped": {}}

    def _tensor(self, name: str, item: int, view: int) -> NDArray:
        number, row = divmod(item, self.manifest.items_per_shard)
        if number not in self._mapped:
            self._mapped[number] = safe_open(self.folder / feature_file(number), framework="np")
        return self._mapped[number].get_slice(name)[row, view]

    def _strange_photo(self, dataset: PanopticDataset, data: DataConfig) -> str | None:
        """Another data set can have the same names, so some photos are compared."""
        scale = self.manifest.views.input_scale
        for item in np.linspace(0, len(dataset) - 1, min(CHECKED, len(dataset))).round().astype(int).tolist():
            if item in self._unreadable:
                continue
            try:
                photo = View.square(data.size).times(scale).image(dataset.image(item))
            except InputError:
                continue  # it was there when the cache was made, and is not needed any more
            if np.abs(pixel_sums(photo, scale).astype(int) - self._tensor("photos", item, 0)).mean() > TOLERANCE * scale**2:
                return f"was made of other photos: '{dataset.name(item)}' has changed since, or belongs to another data set"
        return None


def expected_manifest(encoder: ImageEncoder, dataset: PanopticDataset, data: DataConfig, spec: str) -> FeatureManifest:
    """The manifest of a run's cache, but for how it is stored.

    Raises:
        InputError: the encoder has no backbone.
    """
    if not isinstance(encoder, BackboneImageEncoder):
        raise InputError(f"data.features: expected an image encoder with a backbone, got {type(encoder).__name__}")
    settings = json.dumps(encoder.backbone.settings, sort_keys=True, default=str)
    return FeatureManifest(
        backbone=BackboneIdentity(
            kind=str(encoder.backbone.settings["kind"]),
            settings_sha256=hashlib.sha256(settings.encode()).hexdigest(),
            weights_sha256=weights_sha256(encoder.backbone),
        ),
        views=Views.of(data, encoder.input_scale),
        data=CachedData(spec=spec, names=tuple(dataset.name(item) for item in range(len(dataset)))),
        maps=len(encoder.backbone.channels),
        dtype="fp16",
        items_per_shard=1,
    )


def views_of(item: int, data: DataConfig) -> list[View]:
    """Every view of a photo, in the order in which the cache has them."""
    return [fixed_view(item, number, data) for number in range(view_count(data))]


def pixel_sums(photo: NDArray[np.uint8], scale: int) -> NDArray[np.uint16]:
    """(3, s S, s S) -> (3, S, S) the sum of each s by s square, from which the stem's photo is exact."""
    channels, height, width = photo.shape
    squares = photo.reshape(channels, height // scale, scale, width // scale, scale)
    return squares.sum(axis=(2, 4), dtype=np.uint16)


def feature_file(number: int) -> str:
    return f"features-{number:05d}.safetensors"


def read_feature_manifest(folder: Path) -> FeatureManifest:
    """The manifest of a cache.

    Raises:
        InputError: there is none, or it is not one.
    """
    return read_cache_manifest(folder, FeatureManifest, "data.features", "ldmseg data cache --config")


def _gap(folder: Path, manifest: FeatureManifest) -> str | None:
    """What is missing or damaged."""
    if len(manifest.shards) != manifest.shard_count:
        return f"is not complete ({len(manifest.shards)} of {manifest.shard_count} shards); the `ldmseg data cache` that began it goes on"
    found = (shard_damage(folder, shard, "photos") for shard in manifest.shards)
    return next((f"{reason}; `ldmseg data cache` makes it anew" for reason in found if reason is not None), None)
