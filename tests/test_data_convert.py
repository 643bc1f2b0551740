from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from command import files_in
from forked import ended
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ldmseg.data.check import check_dataset
from ldmseg.data.convert import TARGETS, convert_dataset, staging
from ldmseg.data.convert.staging import staged
from ldmseg.data.datasets import AnnotatedDataset, FileDataset, PanopticDataset, load_dataset
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import Category, CocoPanopticWriter
from ldmseg.panoptic import PanopticMap, Segment

SOURCES = {
    "coco-panoptic": (data_trees.coco, "val2017"),
    "cityscapes": (data_trees.cityscapes, "val"),
    "ade20k": (data_trees.ade20k, "val"),
    "labels": (data_trees.labels, None),
    "bsds500": (data_trees.annotators, "val"),
}
WHOLE = ("coco-panoptic", "ade20k")
"""Formats that hold any categories and ids."""


def source(tmp_path: Path, kind: str) -> str:
    make, split = SOURCES[kind]
    make(tmp_path / "source")
    return f"{kind}:{tmp_path / 'source'}" + (f":{split}" if split else "")


def partition(pmap: PanopticMap) -> list[tuple[tuple[int, ...], str]]:
    """The pixels of each segment: what is left of a map if its ids are of no importance."""
    flat = pmap.ids.ravel()
    return sorted((tuple(np.flatnonzero(flat == s.id).tolist()), "crowd" if s.iscrowd else "") for s in pmap.segments)


def named(dataset: PanopticDataset, pmap: PanopticMap) -> list[tuple[int, str, bool, bool]]:
    names = {c.id: c for c in dataset.categories}
    return [(s.id, names[s.category_id or 0].name, names[s.category_id or 0].isthing, s.iscrowd) for s in pmap.segments]


@pytest.mark.parametrize("target", WHOLE)
@pytest.mark.parametrize("kind", SOURCES)
def test_formats_that_hold_everything(tmp_path: Path, kind: str, target: str) -> None:
    spec = source(tmp_path, kind)
    report = convert_dataset(spec, tmp_path / "out", target, split="train")
    assert report.data == f"{target}:{tmp_path / 'out'}:train"
    before, after = load_dataset(spec), load_dataset(report.data)
    assert len(before) == report.images == len({after.name(i) for i in range(len(after))})
    if kind != "bsds500":
        assert report.lost == ()
        assert [c.name for c in before.categories] == [c.name for c in after.categories]
        for index in range(len(before)):
            assert after.name(index) == before.name(index)
            assert np.array_equal(after.map(index).ids, before.map(index).ids)
            assert named(after, after.map(index)) == named(before, before.map(index))
            assert isinstance(before, FileDataset) and isinstance(after, FileDataset)
            assert after.image_path(index).read_bytes() == before.image_path(index).read_bytes()
            assert after.image_id(index) == before.image_id(index)
    assert check_dataset(report.data).findings == ()


def test_there_and_back_again(tmp_path: Path) -> None:
    """Cityscapes -> COCO -> ADE20K -> Cityscapes: the same files."""
    data_trees.cityscapes(tmp_path / "source", panoptic=True)
    convert_dataset(f"cityscapes:{tmp_path / 'source'}:val", tmp_path / "coco", "coco-panoptic")
    convert_dataset(f"coco-panoptic:{tmp_path / 'coco'}:val", tmp_path / "ade", "ade20k")
    report = convert_dataset(f"ade20k:{tmp_path / 'ade'}:val", tmp_path / "back", "cityscapes")
    assert report.data == f"cityscapes:{tmp_path / 'back'}:val"
    written = files_in(tmp_path / "back")
    assert {name for name in files_in(tmp_path / "source") if not name.endswith(("_color.png", "_polygons.json"))} == written
    for name in sorted(written):
        ours, theirs = tmp_path / "back" / name, tmp_path / "source" / name
        if name.endswith(".json"):
            first, second = json.loads(ours.read_text()), json.loads(theirs.read_text())
            assert first["annotations"] == [a | {"segments_info": _sorted(a["segments_info"])} for a in second["annotations"]]
            assert first["images"] == second["images"] and len(first["categories"]) == 19
        elif name.startswith("gtFine/val"):
            counted = np.asarray(Image.open(theirs)).astype(int)
            labels = np.where(counted >= 1000, counted // 1000, counted)
            void = np.isin(labels, [0, 1, 29, 30])
            assert np.array_equal(np.asarray(Image.open(ours)), np.where(void, 0, counted)), name
        else:
            assert np.array_equal(np.asarray(Image.open(ours)), np.asarray(Image.open(theirs))), name
    photo = "leftImg8bit/val/bochum/bochum_000000_000313_leftImg8bit.png"
    assert (tmp_path / "back" / photo).read_bytes() == (tmp_path / "source" / photo).read_bytes()


def _sorted(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(segments, key=lambda s: s["id"])


@pytest.mark.parametrize("kind", SOURCES)
def test_label_pictures_hold_ids_and_say_what_they_do_not_hold(tmp_path: Path, kind: str) -> None:
    spec = source(tmp_path, kind)
    report = convert_dataset(spec, tmp_path / "out", "labels")
    before, after = load_dataset(spec), load_dataset(report.data)
    for index in range(len(before)):
        name = before.name(index).replace("/", "-")
        found = next(i for i in range(len(after)) if after.name(i) == name)
        assert np.array_equal(after.map(found).ids, before.map(index).ids)
        assert np.array_equal(after.image(found), before.image(index))
    text = " ".join(report.lost)
    assert ("categories" in text) == (kind != "labels")
    assert ("crowds" in text) == (kind in ("coco-panoptic", "cityscapes"))
    assert ("2 maps of further annotators" in text) == (kind == "bsds500")
    assert ("licences" in text) == (kind == "coco-panoptic")
    assert check_dataset(report.data).findings == ()


def test_everybodys_maps_are_kept(tmp_path: Path) -> None:
    report = convert_dataset(source(tmp_path, "bsds500"), tmp_path / "out", "coco-panoptic")
    assert report.images == 2 and report.segments == 3 + 1 + 2 + 1 and report.lost == ()
    before, after = (load_dataset(f"bsds500:{tmp_path / name}:val") for name in ("source", "out"))
    assert isinstance(before, AnnotatedDataset) and isinstance(after, AnnotatedDataset)
    assert [after.annotators(i) for i in (0, 1)] == [before.annotators(i) for i in (0, 1)]
    with pytest.raises(InputError, match="several of one; open it as bsds500"):
        convert_dataset(f"coco-panoptic:{tmp_path / 'out'}:val", tmp_path / "more", "labels")


def test_licences_stay_with_the_photos(tmp_path: Path) -> None:
    spec = source(tmp_path, "coco-panoptic")
    before = json.loads((tmp_path / "source" / "annotations" / "panoptic_val2017.json").read_text())
    convert_dataset(spec, tmp_path / "out", "coco-panoptic")
    after = json.loads((tmp_path / "out" / "annotations" / "panoptic_val2017.json").read_text())
    assert all(after[key] == before[key] for key in ("info", "licenses", "images", "categories"))


def test_scenes_can_be_written_in_any_format_that_holds_them(tmp_path: Path) -> None:
    for target in ("coco-panoptic", "labels", "ade20k"):
        report = convert_dataset("scenes:2:val", tmp_path / target, target)
        dataset, scenes = load_dataset(report.data), load_dataset("scenes:2:val")
        assert np.array_equal(dataset.image(1), scenes.image(1)) and np.array_equal(dataset.map(1).ids, scenes.map(1).ids)


def test_without_a_split(tmp_path: Path) -> None:
    data_trees.labels(tmp_path / "source")
    report = convert_dataset(f"labels:{tmp_path / 'source'}", tmp_path / "out", "coco-panoptic")
    assert report.data == f"coco-panoptic:{tmp_path / 'out'}"
    assert {name.split("/")[0] for name in files_in(tmp_path / "out")} == {"images", "panoptic", "panoptic.json"}
    for target in ("cityscapes", "ade20k"):
        with pytest.raises(InputError, match=f"split: expected a name, because {target}"):
            convert_dataset(f"labels:{tmp_path / 'source'}", tmp_path / "more", target)


def test_two_splits_in_one_folder(tmp_path: Path) -> None:
    data_trees.coco(tmp_path / "source", "train2017")
    data_trees.coco(tmp_path / "source", "val2017", count=1)
    for target in ("coco-panoptic", "ade20k", "labels"):
        for split in ("train", "val"):
            convert_dataset(f"coco-panoptic:{tmp_path / 'source'}:{split}2017", tmp_path / target, target, split=split)
        for split, count in (("train", 2), ("val", 1)):
            assert len(load_dataset(f"{target}:{tmp_path / target}:{split}")) == count


# ------------------------------------------------------------------------------------------------------------------- refusals
STREET = (Category(1, "Car", True), Category(2, "sky", False), Category(3, "tree", False))


def street(root: Path, *maps: PanopticMap, name: str = "{}.png") -> str:
    with CocoPanopticWriter(root / "source" / "panoptic_val.json", STREET) as writer:
        for number, pmap in enumerate(maps):
            writer.add(name.format(number), number, pmap)
            data_trees.photo(root / "source" / "val" / name.format(number), *pmap.shape)
    return f"coco-panoptic:{root / 'source'}:val"


def many(count: int, category: int = 1, crowd: bool = False) -> PanopticMap:
    ids = np.arange(1, count + 1).reshape(1, -1)
    return PanopticMap(ids, tuple(Segment(int(i), category, iscrowd=crowd) for i in ids[0]))


@pytest.mark.parametrize(
    ("pmap", "reason"),
    [
        (many(1001), "'1.png': expected at most 1000 segments of 'car' .* got 1001"),
        (many(1, 3), r"'1.png': segment 1: the category 'tree' \(stuff\) is not one of Cityscapes' classes"),
        (many(2, 2), "'1.png': expected one 'sky' .*stuff.* got 2"),
        (many(3, 1, crowd=True), "'1.png': expected one 'car' .*groups.* got 3"),
    ],
)
def test_what_cityscapes_cannot_hold(tmp_path: Path, pmap: PanopticMap, reason: str) -> None:
    spec = street(tmp_path, many(1000), pmap)
    with pytest.raises(InputError, match=reason):
        convert_dataset(spec, tmp_path / "new" / "out", "cityscapes")
    assert not (tmp_path / "new").exists()


def test_a_thousand_cars_fit(tmp_path: Path) -> None:
    report = convert_dataset(street(tmp_path, many(1000), name="sub/{}.png"), tmp_path / "out", "cityscapes", split="train")
    dataset = load_dataset(report.data)
    assert dataset.name(0) == "images/images_000000_sub-0_leftImg8bit.png"
    assert dataset.map(0).ids.tolist() == [list(range(26000, 27000))]
    with Image.open(tmp_path / "out" / "gtFine" / "train" / "images" / "images_000000_sub-0_gtFine_instanceIds.png") as picture:
        assert picture.mode == "I;16"


def test_jpegs_become_pngs_with_the_same_pixels(tmp_path: Path) -> None:
    spec = street(tmp_path, many(3), name="{}.jpg")
    before, after = load_dataset(spec), load_dataset(convert_dataset(spec, tmp_path / "out", "cityscapes").data)
    assert np.array_equal(before.image(0), after.image(0))


def test_ids_beyond_the_depth_of_a_png(tmp_path: Path) -> None:
    data_trees.labels(tmp_path / "source")
    wide = np.array([[[0, 0, 0, 1], [1, 0, 0, 0]], [[0, 0, 0, 0], [1, 0, 0, 0]]], np.uint8)
    Image.fromarray(wide).save(tmp_path / "source" / "masks" / "b.png")
    with pytest.raises(InputError, match=r"'b\.jpg': expected ids up to 16777215 .* got 16777216"):
        convert_dataset(f"labels:{tmp_path / 'source'}", tmp_path / "out", "coco-panoptic")
    assert not (tmp_path / "out").exists()
    report = convert_dataset(f"labels:{tmp_path / 'source'}", tmp_path / "out", "labels")
    assert load_dataset(report.data).map(1).ids.tolist() == [[2**24, 1], [0, 1]]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_overwritten(tmp_path: Path, target: str) -> None:
    data_trees.cityscapes(tmp_path / "source")
    spec, out = f"cityscapes:{tmp_path / 'source'}:val", tmp_path / "out"
    convert_dataset(spec, out, target)
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out)}
    with pytest.raises(InputError, match=r"output: expected a folder without '.*val.*', got '.*out'"):
        convert_dataset(spec, out, target)
    assert {name: (out / name).stat().st_mtime_ns for name in files_in(out)} == before
    (tmp_path / "link").symlink_to(tmp_path / "source")
    for own in ("source", "link"):
        with pytest.raises(InputError, match="output: expected another folder than the data set's own"):
            convert_dataset(spec, tmp_path / own, target, split="other")


@pytest.mark.parametrize("damage", ["map", "photo"])
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_left_after_an_error(tmp_path: Path, target: str, damage: str) -> None:
    data_trees.cityscapes(tmp_path / "source")
    name = list(data_trees.CITIES)[1]
    if damage == "map":
        (tmp_path / "source" / "gtFine" / "val" / "aachen" / f"{name}_gtFine_instanceIds.png").write_bytes(b"")
    else:
        (tmp_path / "source" / "leftImg8bit" / "val" / "aachen" / f"{name}_leftImg8bit.png").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match=name):
        convert_dataset(f"cityscapes:{tmp_path / 'source'}", tmp_path / "out", target, split="train")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_interrupted_move_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"), staged(tmp_path / "a" / "b", ["x/first", "second", "missing"]) as stage:
        (stage / "x" / "first").mkdir(parents=True)
        (stage / "second").write_text("2")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "a", ["x"]) as stage:
        (stage / "x").write_text("1")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="to: expected one of"):
        convert_dataset("scenes:1", tmp_path / "out", "voc")
    for split in ("a/b", "..", "", "a\\b"):
        with pytest.raises(InputError, match="split: expected a plain name"):
            convert_dataset("scenes:1", tmp_path / "out", "labels", split=split)
    assert list(tmp_path.iterdir()) == []


def test_names_that_meet(tmp_path: Path) -> None:
    data_trees.labels(tmp_path / "source")
    data_trees.photo(tmp_path / "source" / "images" / "a_b.jpg", 2, 2)
    Image.new("L", (2, 2), 1).save(tmp_path / "source" / "masks" / "a_b.png")
    data_trees.photo(tmp_path / "source" / "images" / "a-b.jpg", 2, 2)
    Image.new("L", (2, 2), 1).save(tmp_path / "source" / "masks" / "a-b.png")
    for stem in "abc":
        Image.new("L", (2, 2)).save(tmp_path / "source" / "masks" / f"{stem}.png")
    for path in (tmp_path / "source" / "masks").iterdir():
        Image.new("L", (2, 2)).save(path)
    with pytest.raises(InputError, match=r"'a_b.jpg': expected names that differ .* 'a-b.jpg' also becomes 'images_000000_a-b'"):
        convert_dataset(f"labels:{tmp_path / 'source'}", tmp_path / "out", "cityscapes", split="val")


def killed_at(call: int, spec: str, out: Path) -> None:
    """Convert, and die in place of that one of the calls that change what can be seen."""
    left = call

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return counted

    for module, name in ((os, "rename"), (staging, "write_json"), (staging.shutil, "rmtree")):
        setattr(module, name, counting(getattr(module, name)))
    convert_dataset(spec, out, "coco-panoptic", split="val")


@pytest.mark.slow
@pytest.mark.parametrize("survived", range(5))
def test_a_killed_conversion_can_be_run_again(tmp_path: Path, survived: int) -> None:
    """Killed before its parts were complete, before each of three moves, or after them, when only the hidden folder was left to remove."""
    spec, out = source(tmp_path, "labels"), tmp_path / "out"
    convert_dataset(spec, tmp_path / "whole", "coco-panoptic", split="val")
    out.mkdir()
    (out / "mine.txt").touch()
    assert ended(lambda: killed_at(survived, spec, out)) == -signal.SIGKILL
    assert list(out.glob(".converting.*"))
    if survived < 4:
        convert_dataset(spec, out, "coco-panoptic", split="val")
    else:
        with pytest.raises(InputError, match="where it would be overwritten"):
            convert_dataset(spec, out, "coco-panoptic", split="val")
    assert files_in(out) == files_in(tmp_path / "whole") | {"mine.txt"}


def test_a_list_of_moves_that_leads_elsewhere_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    leftover = tmp_path / "out" / ".converting.0"
    for number, moves in enumerate((["../mine", "x"], [str(tmp_path / "mine"), "x"], ["."], {}, [1], [])):
        leftover.mkdir(parents=True)
        (leftover / "moving.json").write_text(json.dumps(moves))
        with staged(tmp_path / "out", [f"x{number}"]) as stage:
            (stage / f"x{number}").touch()
        assert not leftover.exists()
    assert (tmp_path / "mine").is_dir() and files_in(tmp_path / "out") == {f"x{n}" for n in range(6)}


def test_two_conversions_into_one_folder(tmp_path: Path) -> None:
    with staged(tmp_path / "out", ["x"]) as stage:
        with pytest.raises(InputError, match=r"output: '.*out' is in use by process"):
            convert_dataset(source(tmp_path, "labels"), tmp_path / "out", "coco-panoptic")
        (stage / "x").touch()
    assert files_in(tmp_path / "out") == {"x"}


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_street_survives_cityscapes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Ids change, but not which pixels belong together, to which class, and whether they are a crowd."""
    ids = np.array(data.draw(st.lists(st.lists(st.sampled_from([0, 1, 5, 26001, 70000]), min_size=3, max_size=3), min_size=1, max_size=3)))
    kinds = {1: Segment(1, 2), 5: Segment(5, 1), 26001: Segment(26001, 1), 70000: Segment(70000, 1, iscrowd=True)}
    pmap = PanopticMap(ids, tuple(kinds[int(i)] for i in np.unique(ids) if i))
    root = tmp_path_factory.mktemp("street")
    report = convert_dataset(street(root, pmap), root / "out", "cityscapes")
    dataset = load_dataset(report.data)
    assert partition(dataset.map(0)) == partition(pmap)
    if 26001 in ids:
        assert 26001 in [s.id for s in dataset.map(0).segments]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "images", "segments"),
    [
        ("coco-panoptic:coco100", 100, 1111),
        ("coco-panoptic:dsb2018:val", 67, 2672),
    ],
)
def test_real_data_there_and_back(shared: Path, tmp_path: Path, spec: str, images: int, segments: int) -> None:
    kind, _, rest = spec.partition(":")
    spec = f"{kind}:{shared / 'data'}/{rest}"
    report = convert_dataset(spec, tmp_path / "ade", "ade20k", split="train")
    assert (report.images, report.segments) == (images, segments)
    convert_dataset(report.data, tmp_path / "coco", "coco-panoptic")
    before, after = load_dataset(spec), load_dataset(f"coco-panoptic:{tmp_path / 'coco'}:train")
    for index in range(0, images, 10):
        assert before.map(index) == after.map(index) and before.name(index) == after.name(index)
