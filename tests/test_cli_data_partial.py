from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from command import done, files_in, refused
from tiny import tiny_pipeline

from ldmseg import VOID, PanopticMap, load_dataset
from ldmseg.cli.data.partial import partial as command
from ldmseg.data.cases import KINDS, NOISY, Case
from ldmseg.formats.coco_panoptic import CocoPanopticWriter
from ldmseg.formats.label_png import read_label_png, write_label_png

SCENES = ["data", "partial", "--data", "scenes:2:val"]
STEMS = ["scene_10000000", "scene_10000001"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_as_the_protocol_makes_it(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "new" / kind
    density = ["--amount", 0.1] if kind in NOISY else ["--share", 0.1]
    result = done(capsys, *SCENES, "-o", folder, "--kind", kind, *density, "--seed", 3)
    assert result.out == "" and result.err.startswith("2 partial maps written")
    assert files_in(folder) == {f"{stem}.png" for stem in STEMS}
    case, data = Case(kind, 0.1, 16 if kind == "blocks" else None), load_dataset("scenes:2:val")
    for index, stem in enumerate(STEMS):
        assert np.array_equal(read_label_png(folder / f"{stem}.png").ids, case.make(data.map(index), 3, index).ids)


def test_kinds_take_turns_and_json_tells_what_was_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = [*SCENES, "-o", tmp_path, "--kind", "blocks,merged", "--share", 0.25, "--block-size", 8, "--amount", 0.5]
    figures = done(capsys, *args, "--json").json()
    assert (figures["images"], figures["partial"], figures["seed"]) == (2, str(tmp_path), 0)
    blocks, merged = figures["maps"]
    assert (blocks["kind"], blocks["drop_rate"], blocks["block_size"]) == ("blocks", 0.75, 8)
    assert (merged["kind"], merged["amount"], merged["known"]) == ("merged", 0.5, 1.0)
    for one in (blocks, merged):
        written = read_label_png(one["file"])
        assert one["segments"] == len(written)
        assert one["known"] == pytest.approx((written.ids != VOID).mean(), abs=1e-4)

    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    done(capsys, *args)
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


@pytest.mark.slow
def test_inpaint_takes_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "data", "scenes", "-o", tmp_path / "scenes", "--count", 2, "--size", 48)
    done(capsys, "data", "partial", "--data", f"coco-panoptic:{tmp_path / 'scenes'}", "-o", tmp_path / "partial")
    model = tiny_pipeline(tmp_path / "model")
    photos = tmp_path / "scenes" / "images"
    done(capsys, "inpaint", photos, "--partial", tmp_path / "partial", "-o", tmp_path / "out", "--model", model, "--device", "cpu")
    for photo in photos.iterdir():
        given, result = read_label_png(tmp_path / "partial" / photo.name), read_label_png(tmp_path / "out" / photo.name)
        known = given.ids != VOID
        assert known.any() and np.array_equal(result.ids[known], given.ids[known])


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--kind", "lassos"], "--kind"),
        (["--kind", ","], "--kind"),
        (["--share", 1.5], "--share"),
        (["--kind", "merged", "--share", 0.5], "--share"),
        (["--kind", "points,boxes", "--block-size", 8], "--block-size"),
        (["--kind", "points", "--amount", 0.1], "--amount"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[object], named: str) -> None:
    assert named in refused(capsys, *SCENES, "-o", tmp_path / "x", *args)
    assert "--output" in refused(capsys, *SCENES, "-o", Path(__file__))
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_nothing_of_the_data_set_is_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "data", "scenes", "-o", tmp_path, "--count", 1, "--size", 32)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    for folder in ("images", "panoptic"):
        assert "--output" in refused(capsys, "data", "partial", "--data", f"coco-panoptic:{tmp_path}", "-o", tmp_path / folder)
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_labels_without_photos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    write_label_png(tmp_path / "labels" / "a.png", PanopticMap(np.full((8, 8), 300)))
    done(capsys, "data", "partial", "--data", f"labels:{tmp_path}", "-o", tmp_path / "out", "--kind", "points", "--share", 1)
    assert read_label_png(tmp_path / "out" / "a.png").areas.tolist() == [1]


def test_two_photos_of_one_stem(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with CocoPanopticWriter(tmp_path / "data") as writer:
        for number, name in enumerate(("left.jpg", "right.jpg"), start=1):
            writer.add(name, number, PanopticMap(np.ones((4, 4), int)))
    listing = tmp_path / "data" / "panoptic.json"
    listing.write_text(listing.read_text(encoding="utf-8").replace("right.jpg", "left.png"), encoding="utf-8")
    message = refused(capsys, "data", "partial", "--data", f"coco-panoptic:{tmp_path / 'data'}", "-o", tmp_path / "out")
    assert "left.jpg" in message and "left.png" in message
    assert not (tmp_path / "out").exists()


def test_help_names_every_kind() -> None:
    told = inspect.signature(command).parameters["kind"].annotation
    assert all(kind in told for kind in KINDS)
