"""Frames of a video, through PyAV (the extra `video`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ldmseg.errors import InputError, shortened
from ldmseg.formats.image import existing_file, one_line

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def read_frames(path: str | os.PathLike[str], every: int = 1) -> Iterator[Image.Image]:
    """The frames of a video as 8-bit RGB, in order; every `every`-th of them. One is held in memory at a time.

    Raises:
        InputError: there is no such file, it is no video, `every` is below 1, or PyAV is not installed.
    """
    if every < 1:
        raise InputError(f"every: expected at least 1, got {every}")
    file = existing_file(path, "video")
    try:
        import av
    except ImportError as error:
        raise InputError("video: expected PyAV to be installed (pip install 'ldmseg[video]'), got none") from error
    found = 0
    try:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                if found % every == 0:
                    yield frame.to_image()
                found += 1
    except (av.error.FFmpegError, IndexError, ValueError) as error:  # IndexError: no pictures in it
        raise InputError(f"video: cannot read '{file}': {shortened(one_line(error), 200)}") from error
    if not found:
        raise InputError(f"video: cannot read '{file}': it has no frames")
