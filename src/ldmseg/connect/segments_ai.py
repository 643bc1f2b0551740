"""Segments.ai: a release's photos and bitmaps fetched into a folder, and maps uploaded through its SDK."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from PIL import Image

from ldmseg.atomic import write_bytes
from ldmseg.data.convert.staging import staged
from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC
from ldmseg.formats.image import existing_file, one_line
from ldmseg.formats.inside import path_inside
from ldmseg.formats.tools.segments_ai import BITMAPS, FILE, IMAGES, bitmap_rgba, label_attributes, read_release
from ldmseg.panoptic import PanopticMap

LARGEST = 256 * 2**20
"""Bytes of a photo or bitmap."""

SECONDS = 60.0


def fetch_release(path: Path, output: Path, labelset: str | None = None, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Write `release.json`, `images/` and `bitmaps/` of a release, for `segments:OUTPUT`; returns how many photos there are.

    Addresses may be http(s), or names of files beside the release.

    Raises:
        InputError: the release is damaged, a file cannot be fetched, or something would be overwritten. Nothing is left of it.
    """
    release = read_release(path, labelset)
    with staged(output, [IMAGES, BITMAPS, FILE]) as stage:
        for done, sample in enumerate(release.samples, start=1):
            write_bytes(path_inside(stage / IMAGES, sample.name, "name"), _fetched(sample.image_url, path.parent))
            write_bytes(path_inside(stage / BITMAPS, f"{sample.uuid}.png", "uuid"), _fetched(sample.bitmap_url, path.parent))
            if on_progress is not None:
                on_progress(done, len(release.samples))
        write_bytes(stage / FILE, path.read_bytes())
    return len(release.samples)


def _fetched(url: str, beside: Path) -> bytes:
    if urlsplit(url).scheme not in ("http", "https"):
        if "://" in url:
            raise InputError(f"url: expected http, https or a file beside the release, got {quoted(shortened(url))}")
        return existing_file(path_inside(beside, url, "url"), "url").read_bytes()
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            data = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"url: cannot fetch {quoted(shortened(url))}: {shortened(one_line(error))}") from error
    if len(data) > LARGEST:
        raise InputError(f"url: expected at most {LARGEST // 2**20} MiB, got more from {quoted(shortened(url))}")
    return data


class Client(Protocol):
    """What is used of `segments.SegmentsClient`."""

    def get_samples(self, dataset_identifier: str) -> list[Any]: ...

    def upload_asset(self, file: Any, filename: str) -> Any: ...

    def add_label(self, sample_uuid: str, labelset: str, attributes: Mapping[str, Any], label_status: str) -> Any: ...


@dataclass(frozen=True)
class Uploaded:
    """How many labels were added, and the names of maps for which the data set has no sample."""

    labels: int
    unknown: tuple[str, ...]


def make_client(key: str | None) -> Client:
    """The SDK's client.

    Raises:
        InputError: there is no key, or the package `segments-ai` is not installed.
    """
    key = key or os.environ.get("SEGMENTS_API_KEY")
    if not key:
        raise InputError("--key: expected a key of Segments.ai, here or in SEGMENTS_API_KEY, got none")
    try:
        from segments import SegmentsClient
    except ImportError as error:
        raise InputError("segments: expected the package segments-ai; pip install segments-ai") from error
    return SegmentsClient(key)


def with_unnamed(pmap: PanopticMap, categories: Sequence[Category], category_id: int | None) -> PanopticMap:
    """Segments of the category "segment", which no data set there has, under another one; None makes them void."""
    named = {category.id for category in categories if category.name != CLASS_AGNOSTIC.name}
    if category_id is None:
        return pmap.keep(s.id for s in pmap.segments if s.category_id in named)
    return PanopticMap(pmap.ids, tuple(s if s.category_id in named else replace(s, category_id=category_id) for s in pmap.segments))


def upload(client: Client, dataset: str, maps: Mapping[str, PanopticMap], labelset: str = "ground-truth") -> Uploaded:
    """Add maps, by their photos' names, as pre-labels to a data set of Segments.ai."""
    samples = {sample.name: sample.uuid for sample in client.get_samples(dataset)}
    known = [name for name in maps if name in samples]
    for name in known:
        buffer = BytesIO()
        Image.fromarray(bitmap_rgba(maps[name])).save(buffer, format="PNG")
        buffer.seek(0)
        asset = client.upload_asset(buffer, "label.png")
        client.add_label(samples[name], labelset, label_attributes(maps[name], asset.url), label_status="PRELABELED")
    return Uploaded(len(known), tuple(name for name in maps if name not in samples))
