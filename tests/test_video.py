"""Frames of a video, and maps that go from frame to frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build_tiny
from video_file import clip, turned

from ldmseg.errors import InputError
from ldmseg.formats.video import is_video, read_frames, video_facts, written_video
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
    path = clip(tmp_path / "clip.mp4", frames(5))
    found = list(read_frames(path))
    assert [picture.size for picture in found] == [(48, 32)] * 5
    for picture, drawn in zip(found, frames(5), strict=True):
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(drawn)).mean() < 16
    assert len(list(read_frames(path, every=2))) == 3
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"video: cannot read '.*text\.mp4'"):
        list(read_frames(tmp_path / "text.mp4"))


def test_a_video_says_what_it_is(tmp_path: Path) -> None:
    facts = video_facts(clip(tmp_path / "clip.mp4", frames(5), rate=12))
    assert (facts.size, facts.frames, facts.rate) == ((32, 48), 5, 12)


def test_a_telephones_frames_are_turned_upright(tmp_path: Path) -> None:
    path = turned(clip(tmp_path / "clip.mp4", frames(1)))
    assert video_facts(path).size == (48, 32)
    shown, stored = np.asarray(next(read_frames(path))), np.asarray(frames(1)[0])
    assert np.abs(shown.astype(int) - np.rot90(stored, -1)).mean() < 16  # clockwise: what was left is at the top
    assert shown[:16].mean() > 2 * shown[32:].mean()


@pytest.mark.parametrize("size", [(32, 48), (31, 47)])
def test_a_written_video_reads_back(tmp_path: Path, size: tuple[int, int]) -> None:
    drawn = [picture.crop((0, 0, size[1], size[0])) for picture in frames(4)]
    with written_video(tmp_path / "new" / "out.mp4", size, Fraction(25, 2)) as add:
        for picture in drawn:
            add(picture)
    found = list(read_frames(tmp_path / "new" / "out.mp4"))
    assert len(found) == 4 and video_facts(tmp_path / "new" / "out.mp4").rate == Fraction(25, 2)
    for picture, original in zip(found, drawn, strict=True):
        height, width = (length - length % 2 for length in size)
        assert picture.size == (width, height)
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(original)[:height, :width]).mean() < 16
    with pytest.raises(KeyboardInterrupt), written_video(tmp_path / "half.mp4", size, Fraction(5)) as add:
        add(drawn[0])
        raise KeyboardInterrupt
    assert not (tmp_path / "half.mp4").exists()


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_partial_map_of_the_first_frame_is_kept_exactly() -> None:
    ids = np.zeros((32, 48), dtype=np.int32)
    ids[10:20, 4:12], ids[2:6] = 700, 9
    maps = list(segment_frames(PIPE, frames(2), partial=PanopticMap(ids), seed=3))
    assert (maps[0].ids[ids > 0] == ids[ids > 0]).all()
    generator = torch.Generator().manual_seed
    assert maps[0] == PIPE.inpaint(frames(1)[0], PanopticMap(ids), generator=generator(3)).maps[0]
    assert maps[1] == PIPE.inpaint(frames(2)[1], maps[0], generator=generator(3), method="refine", strength=0.5).maps[0]
    with pytest.raises(InputError, match="first, partial: expected at most one"):
        next(segment_frames(PIPE, frames(1), first=PanopticMap(ids), partial=PanopticMap(ids)))
