"""A video's maps, each made from the one before: labels are propagated and refined (the paper's second use, section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Unpack

import torch

from ldmseg.errors import InputError
from ldmseg.images import ImageInput
from ldmseg.options import InferenceKwargs
from ldmseg.panoptic import PanopticMap

if TYPE_CHECKING:
    from ldmseg.pipeline import LDMSegPipeline


def segment_frames(
    pipe: LDMSegPipeline,
    frames: Iterable[ImageInput],
    *,
    first: PanopticMap | None = None,
    partial: PanopticMap | None = None,
    seed: int = 0,
    **options: Unpack[InferenceKwargs],
) -> Iterator[PanopticMap]:
    """The map of each frame, as it comes; a segment keeps its id from frame to frame.

    The map of a frame is a rough map of the next one: its latents are noised to `strength` and denoised again with the new frame as the
    guide (`LDMSegPipeline.inpaint` with method `refine`). Every frame has the same noise, so that what does not move does not flicker.
    A higher `strength` follows faster movement and keeps less.

    Args:
        frames: of one size.
        first: a map of the first frame, which is refined too; left out, the first frame is segmented.
        partial: a partial map of the first frame in its place, which is completed: what is given stays there exactly.
        seed: of the noise.
        options: see `InferenceOptions`. `method` is that of completing `partial`; `tile_size` is for the first frame alone.

    Raises:
        InputError: as the pipeline's calls; also when a frame has another size than the one before, or both maps are given.
    """
    if first is not None and partial is not None:
        raise InputError("first, partial: expected at most one of them, got both")
    bare: Any = {**options, "classes": "none"}  # named stuff would be one segment, which refining does not keep apart
    alone: Any = {name: value for name, value in bare.items() if name not in ("method", "strength", "resamplings")}
    refining: Any = {**bare, "method": "refine", "tile_size": None}
    before = first
    for frame in frames:
        generator = torch.Generator().manual_seed(seed)
        if partial is not None:
            before, partial = pipe.inpaint(frame, partial, generator=generator, **bare).maps[0], None
        elif before is None:
            before = pipe(frame, task="panoptic", generator=generator, **alone).maps[0]
        else:
            before = pipe.inpaint(frame, before, generator=generator, **refining).maps[0]
        yield before
