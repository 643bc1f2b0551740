"""Data sets of annotation tools under their names: opened, checked, converted and trained on as all others are."""

from __future__ import annotations

from pathlib import Path

import data_trees
import numpy as np
import pytest
from command import done, files_in, refused
from masks import CATEGORIES, random_map

from ldmseg.data.check import check_dataset
from ldmseg.data.convert import convert_dataset
from ldmseg.data.datasets import FileDataset, load_dataset, load_mixture
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CocoPanopticWriter
from ldmseg.formats.tools.registry import TOOLS

WRITTEN = [tool for tool in TOOLS if tool != "label-studio"]


def source(root: Path, count: int = 3) -> str:
    with CocoPanopticWriter(root, CATEGORIES) as writer:
        for number in range(count):
            pmap = random_map(number)
            data_trees.photo(root / "images" / f"{number}.png", *pmap.shape, seed=number)
            writer.add(f"{number}.png", number, pmap)
    return f"coco-panoptic:{root}"


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("tool", WRITTEN)
def test_there_and_back_again(tmp_path: Path, tool: str, split: str | None) -> None:
    before = load_dataset(source(tmp_path / "source"))
    report = convert_dataset(f"coco-panoptic:{tmp_path / 'source'}", tmp_path / "there", tool, split=split)
    assert report.lost == ()
    again = convert_dataset(report.data, tmp_path / "back", "coco-panoptic")
    after = load_dataset(again.data)
    assert isinstance(after, FileDataset) and len(after) == len(before)
    names = [{c.id: c.name for c in data.categories} for data in (before, after)]
    for index in range(len(before)):
        one, other = before.map(index), after.map(index)
        assert before.name(index) == after.name(index)
        assert np.array_equal(one.ids, other.ids) and np.array_equal(before.image(index), after.image(index))
        assert [names[0][s.category_id or 0] for s in one.segments] == [names[1][s.category_id or 0] for s in other.segments]


@pytest.mark.parametrize("tool", WRITTEN)
def test_several_splits_in_one_folder_and_a_part(tmp_path: Path, tool: str) -> None:
    spec = source(tmp_path / "source")
    for split in ("train", "val"):
        convert_dataset(spec, tmp_path / "out", tool, split=split)
    assert check_dataset(f"{tool}:{tmp_path / 'out'}:val").findings == ()
    assert len(load_dataset(f"{tool}:{tmp_path / 'out'}:train[1:]")) == 2
    assert len(load_mixture(f"{tool}:{tmp_path / 'out'}:val").whole) == 3


def test_what_a_format_does_not_hold_is_told(tmp_path: Path) -> None:
    data_trees.coco(tmp_path / "source")
    spec = f"coco-panoptic:{tmp_path / 'source'}:val2017"
    lost = convert_dataset(spec, tmp_path / "a", "labelme").lost
    assert [line for line in lost if "crowd" in line or "stuff" in line] == [
        "the mark of 2 crowds, which are now plain segments",
        "that 1 categories are stuff, which are now things",
    ]
    assert not [line for line in convert_dataset(spec, tmp_path / "b", "coco-instances").lost if "crowd" in line or "stuff" in line]


def test_check_names_the_broken_files_and_goes_on(tmp_path: Path) -> None:
    report = convert_dataset(source(tmp_path / "source"), tmp_path / "out", "labelme")
    folder = tmp_path / "out" / "photos"
    (folder / "0.json").write_text("{")
    (folder / "1.png").unlink()
    data_trees.photo(folder / "2.png", 3, 4)
    found = check_dataset(report.data)
    assert found.images == 3
    assert {(f.kind, Path(f.file).name) for f in found.findings} == {
        ("broken-file", "0.json"),
        ("missing-file", "1.png"),
        ("size-mismatch", "2.json"),
    }


def test_check_tells_of_a_missing_photo_once_where_it_gives_the_size(tmp_path: Path) -> None:
    report = convert_dataset(source(tmp_path / "source"), tmp_path / "out", "yolo-seg")
    (tmp_path / "out" / "images" / "1.png").write_bytes(b"")
    (tmp_path / "out" / "labels" / "2.txt").write_text("0 1\n")
    kinds = {(f.kind, Path(f.file).name) for f in check_dataset(report.data).findings}
    assert kinds == {("broken-file", "1.png"), ("broken-file", "2.txt")}


def test_photos_from_elsewhere(tmp_path: Path) -> None:
    spec = source(tmp_path / "source")
    (tmp_path / "source" / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"image_dir: the photo '0\.png' was not found"):
        convert_dataset(spec, tmp_path / "out", "labelme")
    report = convert_dataset(spec, tmp_path / "out", "labelme", photos=tmp_path / "elsewhere")
    assert check_dataset(report.data).findings == ()
    assert (tmp_path / "out" / "photos" / "1.png").read_bytes() == (tmp_path / "elsewhere" / "1.png").read_bytes()


@pytest.mark.slow
def test_the_commands_take_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = source(tmp_path / "source")
    done(capsys, "data", "convert", "--data", spec, "--to", "cvat", "-o", tmp_path / "cvat")
    assert {"annotations.xml", "images/0.png"} <= files_in(tmp_path / "cvat")
    done(capsys, "data", "check", "--data", f"cvat:{tmp_path / 'cvat'}")
    done(capsys, "data", "show", "--data", f"cvat:{tmp_path / 'cvat'}", "-o", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").is_file()
    assert "root: expected a folder" in refused(capsys, "data", "check", "--data", f"isat:{tmp_path / 'nothing'}")
