"""Small video files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image


def clip(path: Path, frames: Sequence[Image.Image], rate: int = 5) -> Path:
    """Write pictures of one size as a video; a test that needs one is skipped where PyAV is not installed."""
    av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path


def turned(path: Path) -> Path:
    """Mark a video, in its track header's matrix, as one to be turned by 90 degrees clockwise: that of a telephone held upright."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
