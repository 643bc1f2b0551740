"""What `segment` and `inpaint` have in common: what is named is checked, then segmented, then reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ldmseg.cli.console import Progress, print_json, say
from ldmseg.errors import InputError
from ldmseg.labelling.maps import Predict, write_maps
from ldmseg.labelling.photos import OVERLAY, Photo, Pictures, check_photos
from ldmseg.labelling.sources import Sources, opened_sources
from ldmseg.labelling.videos import Video, check_videos, write_video

if TYPE_CHECKING:
    from PIL import Image

    from ldmseg.choices import Task
    from ldmseg.formats.coco_json import Category, Provenance
    from ldmseg.palette import Color
    from ldmseg.panoptic import PanopticMap

Follow = Callable[[Video, Iterable["Image.Image"]], "Iterator[PanopticMap]"]
"""A video and its frames -> their maps."""


@dataclass(frozen=True)
class Work:
    """What was named, checked: `photos` and `videos`, and where their `pictures` go."""

    sources: Sources
    photos: list[Photo]
    videos: list[Video]
    output: Path
    pictures: Pictures
    json: bool

    def first_frames(self) -> list[Photo]:
        """The videos as photos of their first frames."""
        return [Photo(video.path, 1, video.facts.size) for video in self.videos]


@contextmanager
def checked(
    names: Sequence[str],
    output: Path,
    pictures: Pictures,
    for_photos: Mapping[str, object],
    for_videos: Mapping[str, object],
    *,
    max_pixels: int | None,
    json: bool,
) -> Iterator[Work]:
    """Everything that was named can be read; what was fetched is there while the block runs.

    Args:
        for_photos, for_videos: options that mean something for one of the two alone, by name.

    Raises:
        InputError: something cannot be read, or such an option is given without what it is for.
    """
    with opened_sources(names) as sources:
        if not sources.videos:
            _refuse(for_videos, "videos only, got photos")
        if sources.videos:
            _refuse(for_photos, f"photos only, got the video '{sources.named(str(sources.videos[0]))}'")
        videos = check_videos(sources.videos, output, max_pixels)
        with Progress("checking photos", enabled=not json) as progress:
            wanted = sources.photos or not videos
            photos = check_photos(sources.photos, output, pictures, progress.update, max_pixels) if wanted else []
        yield Work(sources, photos, videos, output, pictures, json)


def _refuse(asked: Mapping[str, object], expected: str) -> None:
    for name, value in asked.items():
        if value is not None:
            raise InputError(f"{name}: expected with {expected}")


def run(
    work: Work,
    predict: Predict,
    follow: Follow,
    *,
    every: int,
    batch_size: int,
    facts: dict[str, object],
    origin: Provenance,
    colors: Mapping[Path, Mapping[int, Color]] | None = None,
    categories: Sequence[Category] | None = None,
    task: Task = "panoptic",
) -> None:
    """Segment everything and say what was written.

    Args:
        colors: of a video's segments that have some already.
        categories: what the segments of photos may be; None if they have no names.
        task: what is drawn of photos.
    """
    overlay = OVERLAY in work.pictures.suffixes
    with Progress("segmenting", enabled=not work.json) as progress:
        maps = write_maps(
            work.photos,
            predict,
            work.output,
            batch_size=batch_size,
            pictures=work.pictures,
            on_progress=progress.update,
            origin=origin,
            categories=categories,
            task=task,
        )
        written = [asdict(one) for one in maps] if work.photos else []
    clips = []
    for video in work.videos:
        given = (colors or {}).get(video.path)
        with Progress(video.path.name, enabled=not work.json) as progress:

            def maps_of(frames: Iterable[Image.Image], video: Video = video) -> Iterator[PanopticMap]:
                return follow(video, frames)

            one = write_video(video, maps_of, every=every, overlay=overlay, colors=given, on_progress=progress.update, origin=origin)
        clips.append(asdict(one))
    for entry in (*written, *clips):
        entry["file"] = work.sources.named(entry["file"])
    if work.json:
        listed = "depth" if task == "depth" else "panoptic"
        print_json({"images": written, listed: str(work.output / f"{listed}.json") if written else None, "videos": clips, **facts})
    else:
        for line in _said(written, clips, work.output, task):
            say(line)


def _said(photos: list[dict], videos: list[dict], output: Path, task: Task) -> Iterator[str]:
    if photos:
        segments = sum(one["segments"] for one in photos)
        what = {"depth": "depth", "semantic": f"{segments} regions, each of one category"}.get(task, f"{segments} segments")
        yield f"{len(photos)} photo{'s' * (len(photos) != 1)}, {what}, written to {output}"
    for one in videos:
        yield f"{one['file']}: {one['frames']} frame{'s' * (one['frames'] != 1)}, {one['segments']} segments, written to {one['folder']}"
