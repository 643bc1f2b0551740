"""Image latents of a frozen encoder, computed once: their layout on the disk, and how stage 2 reads them.

A cache is a folder of shards (`latents-00000.safetensors`, ..) and a `manifest.json`. The manifest names the photos, the encoder and the
size. Only shards that the manifest lists count; `build_latent_cache` lists a shard when it is on the disk in full.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from ldmseg.data.datasets import PanopticDataset
from ldmseg.data.transforms import View
from ldmseg.errors import InputError, quoted
from ldmseg.formats.image import existing_file
from ldmseg.formats.inside import path_inside
from ldmseg.models.image_encoder import ImageEncoder

M = TypeVar("M", bound=BaseModel)

MANIFEST = "manifest.json"
CHECKED = 8
"""How many photos are compared when a cache is opened."""

TOLERANCE = 8
"""Levels (of 256) by which a thumbnail may differ: decoders of JPEG do by one or two."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderIdentity(_Part):
    """What distinguishes one image encoder from another."""

    class_name: str
    config_sha256: str
    weights_sha256: str
    latent_channels: int
    downscale: int


class Transform(_Part):
    """How a photo became what was encoded."""

    size: int = Field(ge=1)
    resize: Literal["square"] = "square"
    flip: bool  # whether every photo is there mirrored too


class CachedData(_Part):
    """The data set as it was named, and the name of each of its photos."""

    spec: str
    names: tuple[str, ...]


class Shard(_Part):
    """One file: `latents` (n, 1 or 2, C, h, w), second the mirrored photo's, and `thumbnails` (n, 3, 4, 4) uint8 of items `first` on.

    `unreadable` are the items whose photo could not be read; their latents are zero.
    """

    first: int
    items: int
    file: str
    sha256: str
    unreadable: tuple[int, ...] = ()


class Manifest(_Part):
    """`manifest.json`."""

    format: Literal["ldmseg-latents"] = "ldmseg-latents"
    version: Literal[1] = 1
    encoder: EncoderIdentity
    transform: Transform
    data: CachedData
    dtype: Literal["fp32", "fp16"]
    items_per_shard: int = Field(ge=1)
    shards: tuple[Shard, ...] = ()

    @property
    def shard_count(self) -> int:
        """How many there are when all is done."""
        return -(-len(self.data.names) // self.items_per_shard)

    def contradiction(self, encoder: EncoderIdentity, names: tuple[str, ...], size: int) -> str | None:
        """Why a cache with this manifest is none of these photos by this encoder; None where it is."""
        mine = self.encoder
        if mine.class_name != encoder.class_name:
            return f"was made by an encoder of class {mine.class_name}, got {encoder.class_name}"
        for what in ("config", "weights"):
            there, here = getattr(mine, f"{what}_sha256"), getattr(encoder, f"{what}_sha256")
            if there != here:
                return f"was made by an encoder with other {what} (sha256 {there[:12]}.., got {here[:12]}..)"
        if self.transform.size != size:
            return f"was made at {self.transform.size} pixels, got a size of {size}"
        if len(self.data.names) != len(names):
            return f"was made of {len(self.data.names)} items ({self.data.spec}), got a data set of {len(names)}"
        for number, (there, here) in enumerate(zip(self.data.names, names, strict=True)):
            if there != here:
                return f"was made of another data set ({self.data.spec}): its item {number} is {quoted(there)}, got {quoted(here)}"
        return None


class LatentCache:
    """A complete cache, opened for reading; `open` is the way to one.

    Shards are mapped into memory, so that only what is read comes from the disk, and processes share it.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._unreadable = frozenset(item for shard in manifest.shards for item in shard.unreadable)
        self._mapped: dict[int, Any] = {}

    @classmethod
    def open(cls, folder: str | Path, encoder: ImageEncoder, dataset: PanopticDataset, *, size: int, flip: bool) -> Self:
        """Open a cache for training.

        Args:
            encoder: the run's image encoder. The cache must have been made with it.
            dataset: the run's photos. The cache must hold these photos in this order; the data set's folder may have moved.
            size: pixels of the run's square.
            flip: whether the run mirrors photos.

        Raises:
            InputError: there is no cache, it is not complete, a shard is damaged, or it belongs to another encoder, size or data set. The
                message gives the reason in one line.
        """
        if encoder.trainable:
            raise InputError(f"data.latents: expected a frozen image encoder, got {type(encoder).__name__}, which is trained along")
        path = Path(folder)
        manifest = read_manifest(path)
        names = tuple(dataset.name(item) for item in range(len(dataset)))
        reason = manifest.contradiction(encoder_identity(encoder), names, size) or _gap(path, manifest)
        if reason is None and flip and not manifest.transform.flip:
            reason = "holds no mirrored photos; set data.flip=false or make it anew with them"
        cache = cls(path, manifest)
        reason = reason or cache._strange_photo(dataset)
        if reason is not None:
            raise InputError(f"data.latents: '{folder}' {reason}")
        return cache

    def read(self, item: int, flip: bool = False) -> NDArray[np.floating]:
        """(C, h, w) latents of a photo, or of the mirrored one, in the cache's own precision.

        Raises:
            InputError: the photo could not be read when the cache was made.
        """
        if item in self._unreadable:
            name = self.manifest.data.names[item]
            raise InputError(f"data.latents: '{self.folder}' has nothing of '{name}', which could not be read when it was made")
        return self._tensor("latents", item)[int(flip)]

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files, which a worker process maps itself."""
        return {**self.__dict__, "_mapped": {}}

    def _tensor(self, name: str, item: int) -> NDArray:
        number, row = divmod(item, self.manifest.items_per_shard)
        if number not in self._mapped:
            self._mapped[number] = safe_open(self.folder / shard_file(number), framework="np")
        return self._mapped[number].get_slice(name)[row]

    def _strange_photo(self, dataset: PanopticDataset) -> str | None:
        """Names can be those of another data set: some photos are compared with their thumbnails."""
        for item in np.linspace(0, len(dataset) - 1, min(CHECKED, len(dataset))).round().astype(int).tolist():
            if item in self._unreadable:
                continue
            try:
                photo = View.square(self.manifest.transform.size).image(dataset.image(item))
            except InputError:
                continue  # it was there when the cache was made, and is not needed any more
            difference = np.abs(thumbnail(photo).astype(int) - self._tensor("thumbnails", item))
            if difference.max() > TOLERANCE:
                return f"was made of other photos: '{dataset.name(item)}' has changed since, or belongs to another data set"
        return None


def encoder_identity(encoder: ImageEncoder) -> EncoderIdentity:
    """Class, configuration and weights; loading from another folder or onto another device changes nothing."""
    config = {key: value for key, value in dict(encoder.config).items() if not key.startswith("_")}
    return EncoderIdentity(
        class_name=type(encoder).__name__,
        config_sha256=hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest(),
        weights_sha256=weights_sha256(encoder),
        latent_channels=encoder.latent_channels,
        downscale=encoder.downscale,
    )


def weights_sha256(network: nn.Module) -> str:
    """A checksum of a network's weights, whatever device they are on."""
    weights = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return weights.hexdigest()


def thumbnail(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(3, S, S) photo -> (3, 4, 4) mean colours."""
    return F.adaptive_avg_pool2d(torch.from_numpy(photo).float(), 4).round().byte().numpy()


def shard_file(number: int) -> str:
    return f"latents-{number:05d}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a cache of latents.

    Raises:
        InputError: there is none, or it is not one.
    """
    return read_cache_manifest(folder, Manifest, "data.latents", "ldmseg data cache")


def read_cache_manifest(folder: Path, kind: type[M], argument: str, command: str) -> M:
    """The manifest of a cache, of latents or of features; `command` makes such a cache.

    Raises:
        InputError: there is none, or it is not one; `argument` named the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{argument}: expected a folder with a {MANIFEST}, as `{command}` makes it, got '{folder}'")
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = error if first is None else f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise InputError(f"{argument}: cannot read '{path}': {' '.join(str(reason).split())}") from None


def shard_damage(folder: Path, shard: Shard, tensor: str = "latents") -> str | None:
    """What is wrong with a shard's file, which should hold `tensor`; None where its checksum is the manifest's."""
    try:
        path = existing_file(path_inside(folder, shard.file), "cache")
    except InputError as error:
        return f"has a shard that cannot be read: {quoted(shard.file)}: {str(error).rpartition(': ')[2]}"
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                return f"has a damaged shard: the checksum of '{shard.file}' is not the manifest's"
        with safe_open(path, framework="np") as opened:
            opened.get_slice(tensor)
    except (OSError, SafetensorError) as error:
        return f"has a shard that cannot be read: '{shard.file}': {getattr(error, 'strerror', None) or error}"
    return None


def _gap(folder: Path, manifest: Manifest) -> str | None:
    """What is missing or damaged."""
    if {shard.first for shard in manifest.shards} != set(range(0, len(manifest.data.names), manifest.items_per_shard)):
        return f"is not complete ({len(manifest.shards)} of {manifest.shard_count} shards); the `ldmseg data cache` that began it goes on"
    found = (shard_damage(folder, shard) for shard in manifest.shards)
    return next((f"{reason}; `ldmseg data cache` makes it anew" for reason in found if reason is not None), None)
