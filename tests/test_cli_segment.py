from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from command import Result, done, files_in, refused, run
from PIL import Image
from tiny import NUM_IDS, build_tiny, tiny_pipeline

from ldmseg import __version__, atomic
from ldmseg.choices import Sampler
from ldmseg.formats.coco_panoptic import open_root
from ldmseg.formats.id_png import read_id_png
from ldmseg.labelling.photos import photo_generator
from ldmseg.locking import locked
from ldmseg.models.manifest import fingerprint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


def photo(path: Path, width: int = 40, height: int = 24, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def segment(capsys: pytest.CaptureFixture[str], model: Path, *args: object) -> Result:
    return done(capsys, "segment", "--model", model, "--device", "cpu", *args)


@pytest.mark.slow
def test_windows_see_more_than_the_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    one = photo(tmp_path / "a.png", 64, 64)
    segments = []
    for name, asked in (("whole", ()), ("tiles", ("--tile-size", 0.5)), ("many", ("--tile-size", 0.5, "--tile-overlap", 0.6))):
        segments.append(segment(capsys, model, one, "-o", tmp_path / name, "--json", *asked).json()["images"][0]["segments"])
    assert segments[0] < segments[1] < segments[2]
    assert "--tile-size" in refused(capsys, "segment", one, "--model", model, "-o", tmp_path / "no", "--tile-size", -1)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_samples_may_see_the_photo_mirrored(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    one = photo(tmp_path / "a.png", 40, 56)
    maps = []
    for flips in ("none", "horizontal", "both"):
        segment(capsys, model, one, "-o", tmp_path / flips, "--ensemble-size", 4, "--ensemble-flips", flips)
        maps.append((tmp_path / flips / "a.png").read_bytes())
    assert len(set(maps)) == 3
    wrong = ["--ensemble-size", 4, "--ensemble-flips", "vertical"]
    assert "--ensemble-flips" in refused(capsys, "segment", one, "--model", model, "-o", tmp_path / "no", *wrong)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_writes_maps_overlays_and_one_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    folder, output = tmp_path / "photos", tmp_path / "new" / "out"
    photo(folder / "b.png", 40, 24, seed=1)
    photo(folder / "a.jpg", 17, 31, seed=2)
    alone = photo(tmp_path / "c.bmp", 32, 32, seed=3)
    result = segment(capsys, model, folder, alone, "-o", output, "--json")

    stems = ["a", "b", "c"]
    assert files_in(output) == {"panoptic.json", *(f"{s}.png" for s in stems), *(f"{s}_overlay.png" for s in stems)}
    assert result.err == ""
    said = result.json()
    assert said["panoptic"] == str(output / "panoptic.json")
    assert [Path(one["file"]).name for one in said["images"]] == ["a.jpg", "b.png", "c.bmp"]
    data = open_root(output)
    assert [record.image_id for record in data] == [1, 2, 3]
    for record, one, size in zip(data, said["images"], [(31, 17), (24, 40), (32, 32)], strict=True):
        pmap = record.read_map()
        assert pmap.shape == size
        assert one["segments"] == len(pmap) >= 1
        assert one["map"] == str(output / f"{Path(one['file']).stem}.png")
        assert one["seconds"] > 0
        with Image.open(one["overlay"]) as overlay:
            assert (overlay.height, overlay.width) == size
        assert (pmap.ids > 0).all()  # the tiny model's thresholds leave no gap


@pytest.mark.slow
def test_a_photo_is_segmented_the_same_whatever_else_is(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    photos = [photo(tmp_path / f"{name}.png", 30 + i, 20, seed=i) for i, name in enumerate("abc")]
    segment(capsys, model, *photos, "-o", tmp_path / "all", "--batch-size", 3)
    segment(capsys, model, *reversed(photos), "-o", tmp_path / "two", "--batch-size", 2)
    segment(capsys, model, photos[1], "-o", tmp_path / "one")
    together = read_id_png(tmp_path / "all" / "b.png")
    assert np.array_equal(read_id_png(tmp_path / "two" / "b.png"), together)
    assert np.array_equal(read_id_png(tmp_path / "one" / "b.png"), together)
    segment(capsys, model, photos[1], "-o", tmp_path / "other", "--seed", 1)
    assert not np.array_equal(read_id_png(tmp_path / "other" / "b.png"), together)


def test_the_noise_comes_from_seed_and_stem() -> None:
    draws = [
        photo_generator(seed, Path(name)).initial_seed() for seed, name in [(0, "x/a.png"), (0, "y/a.jpg"), (1, "a.png"), (0, "b.png")]
    ]
    assert draws[0] == draws[1] and len(set(draws)) == 3
    assert photo_generator(0, Path(os.fsdecode(b"\xff.png"))).initial_seed()  # a name that is no text


def test_options_reach_the_pipeline(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    path = photo(tmp_path / "a.png")
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    generator = photo_generator(5, path)
    expected = pipe([Image.open(path)], num_inference_steps=3, sampler="ddpm", generator=[generator]).maps[0]
    segment(capsys, model, path, "-o", tmp_path / "out", "--steps", 3, "--sampler", "ddpm", "--seed", 5, "--no-overlay")
    assert np.array_equal(read_id_png(tmp_path / "out" / "a.png"), expected.ids)
    assert files_in(tmp_path / "out") == {"a.png", "panoptic.json"}


@pytest.mark.slow
def test_thresholds_reach_the_pipeline(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    path = photo(tmp_path / "a.png")
    for option, value in (("--min-area", 40 * 24 + 1), ("--probability-threshold", 1.0)):
        result = segment(capsys, model, path, "-o", tmp_path / "void", option, value, "--json").json()
        assert result["images"][0]["segments"] == 0
        assert not read_id_png(tmp_path / "void" / "a.png").any()
    assert segment(capsys, model, path, "-o", tmp_path / "full", "--overlap-threshold", 0.0, "--json").json()["images"][0]["segments"]


@pytest.mark.slow
def test_the_json_tells_where_the_maps_come_from(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    args = [photo(tmp_path / "a.png"), "--seed", 5, "--sampler", "ddim", "--no-overlay"]
    infos = []
    for steps in (2, 3):
        segment(capsys, model, *args, "--steps", steps, "-o", tmp_path / "out")
        infos.append(json.loads((tmp_path / "out" / "panoptic.json").read_text())["info"])
    first, second = infos
    assert first["description"] == "ldmseg segment" and first["version"] == __version__
    assert (first["model"], first["seed"], first["steps"], second["steps"]) == (str(model), 5, 2, 3)
    assert first["inference"]["sampler"] == "ddim"
    assert datetime.fromisoformat(first["date_created"]).tzinfo is not None
    assert first["model_sha256"] == second["model_sha256"] == fingerprint(model)
    other = tmp_path / "other"
    shutil.copytree(model, other)
    assert fingerprint(other) == first["model_sha256"]
    (other / "scheduler" / "scheduler_config.json").write_text("{}")
    assert fingerprint(other) != first["model_sha256"]


@pytest.mark.slow
def test_images_keep_their_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    photos = [photo(tmp_path / f"{name}.png") for name in ("000000000139", "000000000785")]
    segment(capsys, model, *photos, "-o", tmp_path / "out", "--no-overlay")
    assert [record.image_id for record in open_root(tmp_path / "out")] == [139, 785]
    others = [photo(tmp_path / f"{name}.png") for name in ("cat", "1", "0139")]
    segment(capsys, model, others[0], *photos, *others[1:], "-o", tmp_path / "more", "--no-overlay")
    assert [record.image_id for record in open_root(tmp_path / "more")] == [2, 139, 785, 1, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1, 1), (10000, 3), (3, 2000)])
def test_odd_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, width: int, height: int) -> None:
    path = photo(tmp_path / "a.png", width, height)
    segment(capsys, model, path, "-o", tmp_path / "out")
    ids = read_id_png(tmp_path / "out" / "a.png")
    assert ids.shape == (height, width) and ids.min() > 0 and ids.max() < NUM_IDS


def test_the_summary_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    result = segment(capsys, model, photo(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert result.out == ""
    assert result.err.startswith("1 photo, ") and result.err.count("\n") == 1


def test_the_samplers_are_the_librarys() -> None:
    assert Sampler == Sampler


# ---------------------------------------------------------------------------------------------------------------- a user's mistakes
@pytest.mark.slow
def test_bad_photos_are_refused_before_anything_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = photo(tmp_path / "good.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no picture", encoding="utf-8")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "zero.png").touch()
    for bad in ("nowhere.png", "empty", "text.jpg", "cut.png", "zero.png"):
        assert bad in refused(capsys, "segment", good, tmp_path / bad, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_a_file_name_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))
    assert "file names" in refused(capsys, "segment", path, "-o", tmp_path / "out")


@pytest.mark.slow
def test_outputs_never_replace_photos_or_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    a = photo(tmp_path / "a.png")
    before = a.read_bytes()
    assert "replaced" in refused(capsys, "segment", a, "-o", tmp_path)
    assert a.read_bytes() == before
    assert "a_overlay.png" in refused(capsys, "segment", a, photo(tmp_path / "a_overlay.jpg"), "-o", tmp_path / "out")
    assert "'a'" in refused(capsys, "segment", a, photo(tmp_path / "x" / "a.png"), "-o", tmp_path / "out")
    assert "--output" in refused(capsys, "segment", a, "-o", a)
    segment(capsys, model, photo(tmp_path / "b.jpg"), "-o", tmp_path)  # beside the photo is fine
    assert (tmp_path / "b.png").is_file() and (tmp_path / "b.jpg").is_file()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x"])
def test_unknown_devices(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, device: str) -> None:
    line = refused(capsys, "segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model, "--device", device)
    assert device in line and "--device" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_models_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    a = photo(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty", "a.png"):
        line = refused(capsys, "segment", a, "-o", tmp_path / "out", "--model", tmp_path / name, "--device", "cpu")
        assert "--model" in line and name in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "mask_autoencoder", "image_encoder"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "config"])
def test_damaged_models(capsys: pytest.CaptureFixture[str], tmp_path: Path, part: str, damage: str) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    weights = next((folder / part).glob("*.safetensors"))
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "missing":
        weights.unlink()
    else:
        (folder / part / "config.json").write_text("{", encoding="utf-8")
    line = refused(capsys, "segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", folder, "--device", "cpu")
    assert "--model" in line and str(folder) in line
    assert not (tmp_path / "out").exists()


def _disk_is_full_after(monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """The system refuses to sync the file after so many."""
    real, count = atomic.sync, 0

    def sync(path: Path) -> None:
        nonlocal count
        count += 1
        if count > files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path)

    monkeypatch.setattr(atomic, "sync", sync)


@pytest.mark.slow
@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_full_disk_leaves_nothing_half_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, files: int
) -> None:
    photos = [photo(tmp_path / f"{name}.png", seed=i) for i, name in enumerate("abcd")]
    _disk_is_full_after(monkeypatch, files)
    line = refused(capsys, "segment", *photos, "-o", tmp_path / "out", "--model", model, "--device", "cpu", "--batch-size", 1)
    assert os.strerror(errno.ENOSPC) in line
    left = files_in(tmp_path / "out")
    assert len(left) == files and not any(Path(name).name.startswith(".") for name in left)
    for name in left:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.load()


@pytest.mark.slow
def test_what_was_done_before_an_interruption_is_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path
) -> None:
    from ldmseg.pipeline import LDMSegPipeline

    photos = [photo(tmp_path / f"{name}.png", seed=i) for i, name in enumerate("abc")]
    real, count = LDMSegPipeline.__call__, 0

    def interrupted(self: LDMSegPipeline, *args: object, **kwargs: object) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LDMSegPipeline, "__call__", interrupted)
    result = run(capsys, "segment", *photos, "-o", tmp_path / "out", "--model", model, "--device", "cpu", "--batch-size", 1)
    assert (result.code, result.out, result.err) == (130, "", "ldmseg: interrupted\n")
    assert [record.file_name for record in open_root(tmp_path / "out")] == ["a.png", "b.png"]
    assert all(record.read_map().shape == (24, 40) for record in open_root(tmp_path / "out"))


@pytest.mark.slow
def test_two_processes_do_not_write_into_one_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    """Each left a panoptic.json of its own maps alone."""
    args = ["segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model, "--device", "cpu"]
    with locked(tmp_path / "out"):
        assert "out' is in use by process" in refused(capsys, *args)
    done(capsys, *args)
    assert files_in(tmp_path / "out") == {"a.png", "a_overlay.png", "panoptic.json"}


@pytest.mark.slow
def test_photos_of_too_many_pixels(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    args = ["segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model, "--device", "cpu", "--max-pixels"]
    assert "expected at most 959 pixels, got 40 x 24; --max-pixels" in refused(capsys, *args, 959)
    done(capsys, *args, 960)


def test_a_circle_of_links_in_the_output_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("a_overlay.png")
    (tmp_path / "out" / "a_overlay.png").symlink_to("a.png")
    result = run(capsys, "segment", photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--model", model, "--device", "cpu")
    assert result.code in (0, 2) and "Traceback" not in result.err and result.err.count("\n") == 1
