"""Maps of a video's frames, in a folder of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldmseg.atomic import check_output_folder
from ldmseg.errors import InputError
from ldmseg.formats.video import VideoFacts, read_frames, video_facts, written_video
from ldmseg.labelling.maps import map_writer
from ldmseg.labelling.photos import OnProgress, check_name
from ldmseg.locking import LOCK

if TYPE_CHECKING:
    from PIL import Image

    from ldmseg.formats.coco_json import Provenance
    from ldmseg.palette import Color
    from ldmseg.panoptic import PanopticMap

OVERLAY_VIDEO = "overlay.mp4"
"""All frames with their maps, to look at."""


@dataclass(frozen=True)
class Video:
    """A video that can be read, and the folder for its maps."""

    path: Path
    folder: Path
    facts: VideoFacts


@dataclass(frozen=True)
class WrittenVideo:
    """What was written for a video: `frames` maps in `folder`, `segments` ids in all of them, `seconds` per frame."""

    file: str
    folder: str
    panoptic: str
    overlay: str | None
    frames: int
    segments: int
    seconds: float


def check_videos(paths: Sequence[Path], output: Path, max_pixels: int | None = None) -> list[Video]:
    """Read the first frame of every video, so that a bad one ends the run before anything is computed or written.

    A video's maps go into `output/<stem>/`.

    Raises:
        InputError: a video cannot be read or its frames have more than `max_pixels`, two have one stem, or the folder for its maps holds
            files and none of an earlier run's.
    """
    from ldmseg.formats.image import MAX_PIXELS

    check_output_folder(output)
    found: dict[str, Video] = {}
    for path in dict.fromkeys(paths):
        check_name(path)
        other = found.get(path.stem)
        if other is not None:
            raise InputError(f"images: '{other.path}' and '{path}' would both be written to '{path.stem}/'; rename one or run them apart")
        folder = output / path.stem
        check_output_folder(folder)
        if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in ("panoptic.json", LOCK)):
            raise InputError(f"--output: expected a folder where '{path.stem}/' is not in use, got '{output}', where it holds other files")
        facts = video_facts(path)
        pixels, limit = facts.size[0] * facts.size[1], MAX_PIXELS if max_pixels is None else max_pixels
        if pixels > limit:
            raise InputError(f"video: '{path}': expected at most {limit:,} pixels a frame, got {pixels:,}; --max-pixels allows more")
        found[path.stem] = Video(path, folder, facts)
    return list(found.values())


def write_video(
    video: Video,
    segment: Callable[[Iterable[Image.Image]], Iterator[PanopticMap]],
    *,
    every: int = 1,
    overlay: bool = True,
    colors: Mapping[int, Color] | None = None,
    on_progress: OnProgress,
    origin: Provenance | None = None,
) -> WrittenVideo:
    """Segment a video and write each frame's map as it comes; the JSON follows at the end, also after an error, of what was done.

    A frame's file is called `frame_000001.png` and so on, by its number in the video from 1, as ffmpeg counts, which is also its image id.
    A segment has the same colour in every frame.

    Args:
        segment: a video's frames -> their maps.
        every: take only each so many-th frame.
        overlay: also write `OVERLAY_VIDEO`, at the video's speed.
        colors: of segments that have one already.
    """
    from ldmseg.palette import segment_colors

    total = None if video.facts.frames is None else -(-video.facts.frames // every)
    colors, ids = dict(colors or {}), set[int]()
    done, began = 0, time.perf_counter()
    drawn = video.folder / OVERLAY_VIDEO if overlay else None
    with map_writer(video.folder, origin) as writer, ExitStack() as stack:
        add = None if drawn is None else stack.enter_context(written_video(drawn, video.facts.size, video.facts.rate / every))
        for frame, pmap in _with_maps(read_frames(video.path, every), segment):
            number = done * every + 1
            writer.add(f"frame_{number:06d}.png", number, pmap)
            colors |= segment_colors(pmap, keep=colors)
            ids.update(s.id for s in pmap.segments)
            if add is not None:
                add(pmap.plot(frame, colors=colors))
            done += 1
            on_progress(done, max(done, total or 0))
    seconds = round((time.perf_counter() - began) / done, 4)
    shown = None if drawn is None else str(drawn)
    file, folder = str(video.path), str(video.folder)
    return WrittenVideo(file, folder, os.path.join(folder, "panoptic.json"), shown, done, len(ids), seconds)


def _with_maps(
    frames: Iterator[Image.Image], segment: Callable[[Iterable[Image.Image]], Iterator[PanopticMap]]
) -> Iterator[tuple[Image.Image, PanopticMap]]:
    """Each frame beside its map, where `segment` takes one frame for each map that it yields."""
    taken: list[Image.Image] = []

    def passing() -> Iterator[Image.Image]:
        for frame in frames:
            taken.append(frame)
            yield frame

    for pmap in segment(passing()):
        yield taken.pop(0), pmap
