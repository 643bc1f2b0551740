"""One photo of the plan and its partial map, read and checked; what cannot be read is a reason and no error."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, shortened
from ldmseg.formats.image import MAX_PIXELS, one_line, read_image
from ldmseg.labelling.archive.job import Job
from ldmseg.labelling.archive.plan import Item, map_name
from ldmseg.labelling.archive.remote import SourceLost, is_remote, read_bytes
from ldmseg.panoptic import PanopticMap

REASON = 300
"""Characters of a reason, at most."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """(H, W, 3) `photo`, what is given of its map, and its file's bytes where they are wanted; or the reason why there is none of it."""

    item: Item
    photo: NDArray[np.uint8] | None = None
    partial: PanopticMap | None = None
    data: bytes | None = None
    error: str | None = None


def load(item: Item, job: Job, roots: Sequence[str]) -> Loaded:
    """
    Args:
        roots: paths that exist as long as the source does.

    Raises:
        SourceLost: a store or a drive is gone; nothing is known of the photo then.
    """
    try:
        if item.problem is not None:
            raise InputError(item.problem)
        entry, data = item.entry, None
        if job.with_photos or entry.part is not None or is_remote(entry.place):
            data = read_bytes(entry.place, *(entry.part or ()))
        photo = np.asarray(read_image(Path(entry.place) if data is None else data, job.max_pixels))
        partial = None if job.partial is None else _partial(item, job, photo.shape[:2])
    except SourceLost:
        raise
    except (InputError, OSError) as error:
        gone = next((root for root in roots if not os.path.exists(root)), None)
        if gone is not None:
            raise SourceLost(f"source: '{gone}' is not there any more") from error
        return Loaded(item, error=reason(error))
    return Loaded(item, photo, partial, data if job.with_photos else None)


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return shortened(one_line(error) if isinstance(error, OSError) else error, REASON)


def _partial(item: Item, job: Job, size: tuple[int, ...]) -> PanopticMap:
    """What is given of the photo's map."""
    entry, data = item.entry, None
    if job.partial is not None and job.partial.startswith("."):
        if entry.partial is None:
            raise InputError(f"--partial: found no '*{job.partial}' in the photo's sample")
        place, data = f"{Path(entry.name).stem}{job.partial}", read_bytes(entry.place, *entry.partial)
    else:
        place = f"{job.partial}/{map_name(entry.name)}"
        if is_remote(place):
            data = read_bytes(place)
    given = _painted(place, data, job, max(MAX_PIXELS, size[0] * size[1]))
    if given.shape != size:
        (height, width), (got_height, got_width) = size, given.shape
        raise InputError(f"--partial: '{place}': expected {width}x{height}, the size of the photo, got {got_width}x{got_height}")
    return given


def _painted(place: str, data: bytes | None, job: Job, pixels: int) -> PanopticMap:
    from ldmseg.formats.painting import read_painting  # it needs scipy

    if data is None:
        return read_painting(place, unknown=job.unknown, clean=job.clean, max_pixels=pixels).map
    with tempfile.TemporaryDirectory(prefix="ldmseg-") as folder:
        path = Path(folder) / "partial.png"
        path.write_bytes(data)
        return read_painting(path, unknown=job.unknown, clean=job.clean, max_pixels=pixels).map
