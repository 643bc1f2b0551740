"""`ldmseg segment` and `inpaint` on videos and on what lies at an address."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import done, files_in, refused
from https_server import serving
from PIL import Image
from tiny import build_tiny, tiny_pipeline
from video_file import clip

from ldmseg.formats.coco_panoptic import open_root
from ldmseg.formats.id_png import read_id_png, write_id_png
from ldmseg.formats.video import read_frames, video_facts
from ldmseg.labelling.photos import photo_generator
from ldmseg.segmenters.video import segment_frames


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)) for _ in range(count)]


def expected(path: Path, every: int, **options: object) -> list[np.ndarray]:
    """What the library makes of a video with the noise of the command."""
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    seed = photo_generator(0, path).initial_seed()
    return [pmap.ids for pmap in segment_frames(pipe, read_frames(path, every), seed=seed, **options)]  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_video_and_a_photo(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    video, output = clip(tmp_path / "clip.mp4", pictures(5), rate=10), tmp_path / "out"
    pictures(1)[0].save(tmp_path / "a.png")
    asked = ["-o", output, "--model", model, "--every", 2, "--strength", 0.4, "--json"]
    said = done(capsys, "segment", tmp_path / "a.png", video, *asked).json()
    frames = [f"clip/frame_{number:06d}.png" for number in (1, 3, 5)]
    assert files_in(output) == {"a.png", "a_overlay.png", "panoptic.json", "clip/panoptic.json", "clip/overlay.mp4", *frames}
    assert [Path(one["file"]).name for one in said["images"]] == ["a.png"]
    (one,) = said["videos"]
    assert (one["file"], one["folder"], one["frames"]) == (str(video), str(output / "clip"), 3)
    for frame, ids in zip(frames, expected(video, 2, strength=0.4), strict=True):
        assert np.array_equal(read_id_png(output / frame), ids)
    records = list(open_root(output / "clip"))
    assert [(record.image_id, record.file_name) for record in records] == [(n, f"frame_{n:06d}.png") for n in (1, 3, 5)]
    assert one["segments"] == len({s.id for record in records for s in record.read_map().segments})
    assert json.loads((output / "clip" / "panoptic.json").read_text())["info"]["inference"]["strength"] == 0.4
    facts = video_facts(output / "clip" / "overlay.mp4")
    assert (facts.frames, facts.size, facts.rate) == (3, (32, 48), 5)

    again = done(capsys, "segment", video, *asked[:-1], "--no-overlay")  # over an earlier run's folder
    assert "3 frames" in again.err and str(output / "clip") in again.err
    said = done(capsys, "segment", video, "-o", tmp_path / "alone", "--model", model, "--no-overlay", "--every", 5, "--json").json()
    assert (said["images"], said["panoptic"]) == ([], None)
    assert files_in(tmp_path / "alone") == {"clip/panoptic.json", "clip/frame_000001.png"}


@pytest.mark.slow
def test_a_video_is_completed_from_its_first_frame(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    video, ids = clip(tmp_path / "clip.mp4", pictures(2)), np.zeros((32, 48), dtype=np.int32)
    ids[4:20, 4:12], ids[24:] = 700, 9
    (tmp_path / "partial").mkdir()
    write_id_png(tmp_path / "partial" / "clip.png", ids)
    pictures(1)[0].save(tmp_path / "b.png")
    write_id_png(tmp_path / "partial" / "b.png", ids)
    done(capsys, "inpaint", video, tmp_path / "b.png", "--partial", tmp_path / "partial", "-o", tmp_path / "out", "--model", model)
    from ldmseg.panoptic import PanopticMap

    for number, drawn in enumerate(expected(video, 1, partial=PanopticMap(ids)), start=1):
        assert np.array_equal(read_id_png(tmp_path / "out" / "clip" / f"frame_{number:06d}.png"), drawn)
    for first in ("clip/frame_000001.png", "b.png"):
        assert (read_id_png(tmp_path / "out" / first)[ids > 0] == ids[ids > 0]).all()
    write_id_png(tmp_path / "partial" / "clip.png", ids[:-1])
    small = ["inpaint", video, "--partial", tmp_path / "partial", "-o", tmp_path / "no", "--model", model]
    assert "expected 48x32" in refused(capsys, *small)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_what_a_video_is_refused_for(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    video, photo = clip(tmp_path / "clip.mp4", pictures(1)), tmp_path / "a.png"
    pictures(1)[0].save(photo)
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "b").mkdir()
    clip(tmp_path / "b" / "clip.mp4", pictures(1))
    captions = tmp_path / "captions.json"
    captions.write_text("{}")
    for args, message in [
        ((photo, "--every", 2), "--every: expected with videos only"),
        ((photo, "--strength", 0.5), "--strength: expected with videos only"),
        ((video, "--strength", 2), "--strength: expected above 0 to 1"),
        ((video, "--captions", captions), "--captions: expected with photos only, got the video"),
        ((video, "--task", "depth"), "--task: expected with photos only, got the video"),
        ((video, tmp_path / "text.mp4"), "video: cannot read"),
        ((video, tmp_path / "b" / "clip.mp4"), "would both be written to 'clip/'"),
        ((video, "--max-pixels", 100), "expected at most 100 pixels a frame, got 1,536"),
        ((tmp_path / "none.mp4",), "no such file"),
    ]:
        assert message in refused(capsys, "segment", *args, "-o", tmp_path / "out", "--model", model)
    assert not (tmp_path / "out").exists()
    extracted = tmp_path / "clip" / "frame_000001.png"  # a user's own, beside the video
    extracted.parent.mkdir()
    extracted.write_bytes(b"mine")
    assert "where it holds other files" in refused(capsys, "segment", video, "-o", tmp_path, "--model", model)
    assert extracted.read_bytes() == b"mine"


@pytest.mark.slow
def test_what_lies_at_an_address(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, output = tmp_path / "shown", tmp_path / "out"
    shown.mkdir()
    pictures(1)[0].save(shown / "cat.png")
    clip(shown / "clip.mp4", pictures(1))
    with serving(shown, tmp_path, monkeypatch) as address:
        named = [f"{address}/cat.png", f"{address}/clip.mp4"]
        said = done(capsys, "segment", *named, "-o", output, "--model", model, "--json").json()
        missing = refused(capsys, "segment", f"{address}/dog.png", "-o", tmp_path / "no", "--model", model)
    assert "cannot fetch" in missing and not (tmp_path / "no").exists()
    assert [one["file"] for one in (*said["images"], *said["videos"])] == named
    done(capsys, "segment", shown / "cat.png", "-o", tmp_path / "local", "--model", model)
    assert (output / "cat.png").read_bytes() == (tmp_path / "local" / "cat.png").read_bytes()
    assert (output / "clip" / "frame_000001.png").is_file()
    assert "begins with https://" in refused(capsys, "segment", "http://localhost/cat.png", "-o", tmp_path / "no", "--model", model)
