from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import done, files_in, refused
from PIL import Image

from ldmseg.data.scenes import CATEGORIES, generate_scene
from ldmseg.formats.coco_panoptic import open_root
from ldmseg.locking import locked


def test_scenes_are_a_coco_panoptic_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "scenes"
    result = done(capsys, "data", "scenes", "-o", folder, "--count", 2, "--seed", 7, "--size", 48, "--depth", "--json")
    assert result.json() == {"images": 2, "data": f"coco-panoptic:{folder}", "panoptic": str(folder / "panoptic.json")}
    stems = ["scene_00000007", "scene_00000008"]
    pictures = {f"{kind}/{stem}.png" for stem in stems for kind in ("images", "panoptic")}
    assert files_in(folder) == {"panoptic.json", *pictures, *(f"depth/{stem}.npy" for stem in stems)}

    found = open_root(folder)
    assert [c.name for c in found.categories] == [c.name for c in CATEGORIES]
    for record, seed in zip(found, (7, 8), strict=True):
        scene = generate_scene(seed, 48)
        assert record.image_id == seed
        assert np.array_equal(np.asarray(record.read_image()), scene.image)
        assert record.read_map() == scene.map
        assert np.array_equal(np.load(folder / "depth" / f"{Path(record.file_name).stem}.npy"), scene.depth)


def test_scenes_twice_are_the_same_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["data", "scenes", "-o", tmp_path, "--count", 1, "--size", 32]
    done(capsys, *args)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    done(capsys, *args)
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before
    assert not any(name.startswith("depth") for name in before)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--count", 0], "--count"),
        (["--count", 2, "--size", 8], "--size"),
        (["--count", 2, "--seed", 9_999_999], "--count"),
    ],
)
def test_scenes_that_cannot_be(capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[object], named: str) -> None:
    assert named in refused(capsys, "data", "scenes", "-o", tmp_path / "x", *args)
    assert not (tmp_path / "x").exists()


def test_scenes_do_not_replace_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for output in (tmp_path / "file", tmp_path / "file" / "inside"):
        assert "--output" in refused(capsys, "data", "scenes", "-o", output, "--count", 1)
    assert files_in(tmp_path) == {"file"}


@pytest.mark.parametrize(("count", "shown"), [(12, 3), (2, 2)])
def test_show_draws_photo_and_map_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path, count: int, shown: int) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    result = done(capsys, "data", "show", "--data", "scenes:3:val", "-o", sheet, "--count", count)
    assert result.out == "" and result.err.startswith(f"{shown} of 3 images")
    with Image.open(sheet) as drawn:
        assert drawn.height > shown * 128 and drawn.width > 2 * 128


def test_show_reads_what_scenes_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "data", "scenes", "-o", tmp_path / "scenes", "--count", 1, "--size", 32)
    done(capsys, "data", "show", "--data", f"coco-panoptic:{tmp_path / 'scenes'}", "-o", tmp_path / "sheet.png")
    done(capsys, "data", "show", "--data", "scenes:3:val", "-o", tmp_path / "wide.png", "--columns", 3, "--tile", 32)
    with Image.open(tmp_path / "wide.png") as sheet:
        assert sheet.width == 4 + 6 * 36  # photo and map, three times
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("data", ["scenes", "scenes:many", "coco:x", "coco-panoptic:nowhere"])
def test_show_refuses_what_is_no_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path, data: str) -> None:
    assert refused(capsys, "data", "show", "--data", data, "-o", tmp_path / "sheet.png")
    assert "--output" in refused(capsys, "data", "show", "--data", "scenes:1", "-o", tmp_path)
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("verb", [["scenes", "--count", 1, "--size", 32], ["partial", "--data", "scenes:1:val"]])
def test_one_process_at_a_time_writes_into_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: list[object]) -> None:
    with locked(tmp_path):
        assert "is in use by process" in refused(capsys, "data", *verb, "-o", tmp_path)
    assert files_in(tmp_path) == set()
    done(capsys, "data", *verb, "-o", tmp_path)
