"""`ldmseg data convert`, `check` and `show` on every format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import data_trees
import pytest
from command import done, files_in, refused, run
from PIL import Image

SOURCES = {
    "coco-panoptic": (data_trees.coco, ":val2017", 2, 1),
    "cityscapes": (data_trees.cityscapes, ":val", 3, 1),
    "ade20k": (data_trees.ade20k, ":train", 2, 1),
    "labels": (data_trees.labels, "", 3, 1),
    "bsds500": (data_trees.annotators, ":val", 2, 3),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_show_draws_every_format(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    make, split, images, maps = SOURCES[kind]
    make(tmp_path / "data")
    result = done(capsys, "data", "show", "--data", f"{kind}:{tmp_path / 'data'}{split}", "-o", tmp_path / "sheet.png")
    assert result.err == f"{images} of {images} images drawn in {tmp_path / 'sheet.png'}\n"
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 + (1 + maps) * 244  # a photo and everybody's map


def test_show_names_a_broken_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    (tmp_path / "masks" / "b.png").write_bytes(b"")
    message = refused(capsys, "data", "show", "--data", f"labels:{tmp_path}", "-o", tmp_path / "sheet.png")
    assert message == f"label: cannot read '{tmp_path / 'masks' / 'b.png'}': it is empty"


@pytest.mark.parametrize("kind", ["coco-panoptic", "cityscapes", "labels", "bsds500"])
def test_check_of_a_sound_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    make, split, images, _ = SOURCES[kind]
    make(tmp_path)
    spec = f"{kind}:{tmp_path}{split}"
    result = done(capsys, "data", "check", "--data", spec)
    assert result.out == "" and result.err == f"{images} images checked: nothing is wrong\n"
    assert done(capsys, "data", "check", "--data", spec, "--json").json() == {"data": spec, "images": images, "kinds": {}, "findings": []}


@pytest.mark.slow
def test_check_says_what_is_wrong_per_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data_trees.coco(tmp_path, count=5)
    pngs = tmp_path / "annotations" / "panoptic_val2017"
    (pngs / "000000000278.png").write_bytes(b"")
    (tmp_path / "val2017" / "000000000695.jpg").unlink()
    spec = f"coco-panoptic:{tmp_path}"
    result = run(capsys, "data", "check", "--data", spec, "--workers", 2)
    assert result.code == 1
    assert result.out.splitlines() == [
        f"{pngs / '000000000278.png'}: broken-file: it is empty",
        f"{tmp_path / 'val2017' / '000000000695.jpg'}: missing-file: no such file",
    ]
    assert result.err == "5 images checked: 1 broken-file, 1 missing-file\n"
    told = run(capsys, "data", "check", "--data", spec, "--json")
    assert told.code == 1 and told.err == ""
    assert told.json()["kinds"] == {"broken-file": 1, "missing-file": 1}
    assert told.json()["findings"][0] == {"kind": "broken-file", "file": str(pngs / "000000000278.png"), "message": "it is empty"}
    assert run(capsys, "data", "check", "--data", spec, "--ignore", "broken-file").code == 1
    done(capsys, "data", "check", "--data", spec, "--ignore", "broken-file", "--ignore", "missing-file")


@pytest.mark.slow
def test_check_refuses_what_is_no_data_set(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "data: expected FORMAT" in refused(capsys, "data", "check", "--data", "voc:x")
    assert "does not exist" in refused(capsys, "data", "check", "--data", f"labels:{tmp_path / 'nowhere'}")
    assert "--ignore: expected one of" in refused(capsys, "data", "check", "--data", "scenes:1", "--ignore", "noise")
    assert "--workers" in refused(capsys, "data", "check", "--data", "scenes:1", "--workers", 0)


def test_convert_says_what_it_wrote_and_what_is_lost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data_trees.coco(tmp_path / "coco")
    args = ["data", "convert", "--data", f"coco-panoptic:{tmp_path / 'coco'}:val2017"]
    out = tmp_path / "labels"
    result = done(capsys, *args, "-o", out, "--to", "labels", "--split", "val")
    assert result.out == "" and result.err.splitlines() == [
        f"2 images with 6 segments written; use them as labels:{out}:val",
        "not kept, because labels does not hold it: the categories",
        "not kept, because labels does not hold it: the mark of 2 crowds, which are now plain segments",
        "not kept, because labels does not hold it: the JSON's fields beside the annotations (licences, origin)",
    ]
    stems = ("000000000139", "000000000278")
    assert files_in(out) == {*(f"images/val/{stem}.jpg" for stem in stems), *(f"masks/val/{stem}.png" for stem in stems)}
    report = done(capsys, *args, "-o", tmp_path / "ade", "--to", "ade20k", "--split", "val", "--json").json()
    assert report == {"data": f"ade20k:{tmp_path / 'ade'}:val", "images": 2, "segments": 6, "lost": []}
    done(capsys, "data", "check", "--data", report["data"])
    assert "ade20k_panoptic_val.json" in files_in(tmp_path / "ade")
    assert {f"images/validation/{stem}.jpg" for stem in stems} < files_in(tmp_path / "ade")


@pytest.mark.slow
def test_convert_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data_trees.coco(tmp_path / "coco")
    args = ["data", "convert", "--data", f"coco-panoptic:{tmp_path / 'coco'}"]
    before = files_in(tmp_path)
    for extra, reason in (
        (["-o", tmp_path / "out", "--to", "cityscapes"], "split: expected a name, because cityscapes data sets have splits, got none"),
        (["-o", tmp_path / "out", "--to", "cityscapes", "--split", "val"], "the category 'sky-other-merged' (stuff) is not one"),
        (["-o", tmp_path / "out", "--to", "voc"], "'--to'"),
        (["-o", tmp_path / "coco", "--to", "labels"], "output: expected another folder than the data set's own"),
        (["-o", tmp_path / "coco" / "annotations" / "panoptic_val2017.json", "--to", "labels"], "--output"),
    ):
        assert reason in refused(capsys, *args, *extra)
    assert files_in(tmp_path) == before and not (tmp_path / "out").exists()


def test_convert_onto_a_full_disk(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_trees.labels(tmp_path / "source")

    def full(source: object, target: object) -> None:
        raise OSError(28, os.strerror(28), str(target))

    monkeypatch.setattr("shutil.copyfileobj", full)
    message = refused(capsys, "data", "convert", "--data", f"labels:{tmp_path / 'source'}", "-o", tmp_path / "out", "--to", "coco-panoptic")
    assert message.startswith("output: cannot write") and os.strerror(28) in message
    assert not (tmp_path / "out").exists()


def test_convert_reads_what_scenes_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done(capsys, "data", "scenes", "-o", tmp_path / "scenes", "--count", 2, "--size", 32)
    done(capsys, "data", "convert", "--data", f"coco-panoptic:{tmp_path / 'scenes'}", "-o", tmp_path / "out", "--to", "coco-panoptic")
    for name in ("scenes", "out"):
        assert files_in(tmp_path / name) >= {"panoptic.json", "panoptic/scene_00000000.png", "images/scene_00000001.png"}
    first, second = (json.loads((tmp_path / name / "panoptic.json").read_text()) for name in ("scenes", "out"))
    assert first == second
