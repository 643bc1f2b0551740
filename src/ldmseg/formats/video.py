"""Frames of a video, and a video of frames, through PyAV (the extra `video`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from ldmseg.atomic import atomic_write
from ldmseg.errors import InputError, shortened
from ldmseg.formats.image import existing_file, one_line

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself: (height, width) of its frames, upright, how many there are (None: it does not say) per second `rate`."""

    size: tuple[int, int]
    frames: int | None
    rate: Fraction


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def video_facts(path: str | os.PathLike[str]) -> VideoFacts:
    """Read a video's first frame and its header.

    Raises:
        InputError: as `read_frames`.
    """
    first = next(read_frames(path))
    with _opened(path) as container:
        stream = container.streams.video[0]
        return VideoFacts((first.height, first.width), stream.frames or None, Fraction(stream.average_rate or 25))


def read_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[Image.Image]:
    """The frames of a video as 8-bit RGB, upright and in order; every `every`-th of them from the first. One is held in memory at a time.

    Raises:
        InputError: there is no such file, it is no video, `every` is below 1, or PyAV is not installed.
    """
    if every < 1:
        raise InputError(f"every: expected at least 1, got {every}")
    with _opened(path) as container:
        if not container.streams.video:
            raise InputError(f"video: cannot read '{path}': it has no pictures")
        found = False
        for frame in islice(container.decode(video=0), 0, None, every):
            found = True
            yield _upright(frame)
    if not found:
        raise InputError(f"video: cannot read '{path}': it has no frames")


@contextmanager
def written_video(path: str | os.PathLike[str], size: tuple[int, int], rate: Fraction) -> Iterator[Callable[[Image.Image], None]]:
    """Write an mp4 (H.264), atomically: yield a function that adds a frame.

    Args:
        size: (height, width) of every frame. The codec needs even lengths, so the last row or column of odd ones is left out.
        rate: frames per second.

    Raises:
        InputError: PyAV is not installed, or the file cannot be written.
    """
    av = _av()
    height, width = (max(2, length - length % 2) for length in size)
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"

        def add(picture: Image.Image) -> None:
            container.mux(stream.encode(av.VideoFrame.from_image(picture.crop((0, 0, width, height)))))

        yield add
        container.mux(stream.encode())


def _upright(frame: Any) -> Image.Image:
    """A telephone stores frames as its sensor has them, and beside them by how many degrees to turn them."""
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    file = existing_file(path, "video")
    av = _av()
    try:
        with av.open(str(file)) as container:
            yield container
    except (av.error.FFmpegError, IndexError) as error:
        raise InputError(f"video: cannot read '{file}': {shortened(one_line(error), 200)}") from error


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError("video: expected PyAV to be installed (pip install 'ldmseg[video]'), got none") from error
    return av
