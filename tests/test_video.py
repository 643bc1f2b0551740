"""Frames of a video, and maps that go from frame to frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build_tiny

from ldmseg.errors import InputError
from ldmseg.formats.video import is_video, read_frames
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters.video import segment_frames

PIPE = build_tiny()
PIPE.set_progress_bar_config(disable=True)


def frames(count: int) -> list[Image.Image]:
    """A bright square that moves to the right."""
    found = []
    for number in range(count):
        pixels = np.zeros((32, 48, 3), dtype=np.uint8)
        pixels[8:24, 4 * number : 4 * number + 16] = (250, 240, 10)
        found.append(Image.fromarray(pixels))
    return found


def test_frames_come_back_from_a_file(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for picture in frames(5):
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    found = list(read_frames(path))
    assert [picture.size for picture in found] == [(48, 32)] * 5
    for picture, drawn in zip(found, frames(5), strict=True):
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(drawn)).mean() < 16
    assert len(list(read_frames(path, every=2))) == 3
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"video: cannot read '.*text\.mp4'"):
        list(read_frames(tmp_path / "text.mp4"))


def test_what_is_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_video("a/clip.MP4") and not is_video("photo.jpg")
    with pytest.raises(InputError, match="every: expected at least 1"):
        list(read_frames(tmp_path / "clip.mp4", every=0))
    with pytest.raises(InputError, match="no such file"):
        list(read_frames(tmp_path / "clip.mp4"))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'ldmseg\[video\]'"):
        list(read_frames(tmp_path / "clip.mp4"))


def test_each_map_is_refined_from_the_one_before() -> None:
    maps = list(segment_frames(PIPE, frames(3), seed=3))
    generator = torch.Generator().manual_seed
    expected = [PIPE(frames(1)[0], generator=generator(3)).maps[0]]
    for picture in frames(3)[1:]:
        expected.append(PIPE.inpaint(picture, expected[-1], generator=generator(3), method="refine", strength=0.5).maps[0])
    assert maps == expected


def test_the_first_map_may_be_given_and_its_ids_survive() -> None:
    first = PanopticMap(np.repeat(np.array([[700, 9]]), 24, axis=1).repeat(32, axis=0))
    (refined,) = segment_frames(PIPE, frames(1), first=first, strength=0.05)
    assert {700, 9} & {s.id for s in refined.segments}
    assert next(segment_frames(PIPE, frames(1), seed=1)) == PIPE(frames(1)[0], generator=torch.Generator().manual_seed(1)).maps[0]
