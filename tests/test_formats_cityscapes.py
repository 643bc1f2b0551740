from __future__ import annotations

from pathlib import Path

import data_trees
import numpy as np
import pytest
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.cityscapes import (
    CATEGORIES,
    IGNORED,
    CityscapesFiles,
    core_name,
    from_instance_ids,
    locate_cityscapes,
    photo_name,
    with_instance_ids,
)
from ldmseg.formats.coco_json import Category, ImageEntry
from ldmseg.formats.coco_layout import CocoFiles
from ldmseg.panoptic import PanopticMap, Segment


def test_the_classes_are_those_that_are_evaluated() -> None:
    assert len(CATEGORIES) == 19 and sum(c.isthing for c in CATEGORIES) == 8
    assert [c.id for c in CATEGORIES if c.isthing] == [24, 25, 26, 27, 28, 31, 32, 33]
    assert {c.id for c in CATEGORIES} | IGNORED == set(range(34))
    names = {c.id: c.name for c in CATEGORIES}
    assert (names[7], names[13], names[26], names[33]) == ("road", "fence", "car", "bicycle")


def test_what_instance_ids_mean() -> None:
    pmap, unknown = from_instance_ids(np.array([[24999, 24, 23, 29001, 34, 35000, 0]], np.int32))
    assert pmap.ids.tolist() == [[24999, 24, 23, 0, 0, 0, 0]]
    assert pmap.segments == (Segment(23, 23, False), Segment(24, 24, True, iscrowd=True), Segment(24999, 24, True))
    assert unknown == (34, 35000)


def test_a_label_that_cityscapes_does_not_have_is_named(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path)
    record = locate_cityscapes(tmp_path).records[0]  # type: ignore[union-attr]
    Image.fromarray(np.array([[7, 40, 40001]], np.uint16)).save(record.instance_path)
    with pytest.raises(InputError, match=r"image aachen_000000_000019: '.*_instanceIds\.png': expected .*labels.*, got 40, 40001"):
        record.read_map()


def test_ids_that_are_instance_ids_already_stay() -> None:
    ids = np.array([[26001, 3, 9, 26, 7]])
    kinds = (Segment(3, 26), Segment(7, 7), Segment(9, 26), Segment(26, 26, iscrowd=True), Segment(26001, 26))
    pmap = with_instance_ids(PanopticMap(ids, kinds), CATEGORIES, "x")
    assert pmap.ids.tolist() == [[26001, 26000, 26002, 26, 7]]
    assert [(s.id, s.category_id, s.isthing, s.iscrowd) for s in pmap.segments] == [
        (7, 7, False, False),
        (26, 26, True, True),
        (26000, 26, True, False),
        (26001, 26, True, False),
        (26002, 26, True, False),
    ]
    assert with_instance_ids(pmap, CATEGORIES, "x") == pmap


def test_a_class_has_the_same_name_and_the_same_kind() -> None:
    pmap = PanopticMap([[5]], (Segment(5, 1),))  # type: ignore[arg-type]
    assert with_instance_ids(pmap, [Category(1, " Car ", True)], "x").ids.tolist() == [[26000]]
    with pytest.raises(InputError, match=r"x: segment 5: the category ' car' \(stuff\) is not one"):
        with_instance_ids(pmap, [Category(1, " car", False)], "x")
    with pytest.raises(InputError, match="x: segment 5: the category 1 is not one"):
        with_instance_ids(pmap, [], "x")
    with pytest.raises(InputError, match="the category None is not one"):
        with_instance_ids(PanopticMap([[5]]), CATEGORIES, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("aachen/aachen_000000_000019_leftImg8bit.png", "aachen_000000_000019"),
        ("aachen_000000_000019_gtFine_leftImg8bit.png", "aachen_000000_000019"),
        ("ADE_val_00000001.jpg", "ADE_val_00000001"),
        ("000000000139.jpg", "images_000000_000000000139"),
        ("my photos/été_1.tif", "images_000000_my-photos--t--1"),
    ],
)
def test_names_in_cityscapes_scheme(name: str, core: str) -> None:
    assert core_name(name) == core


def test_photos_are_found_by_the_images_id() -> None:
    assert photo_name(ImageEntry("bad-honnef_000000_000001", "x_gtFine_leftImg8bit.png")) == (
        "bad-honnef/bad-honnef_000000_000001_leftImg8bit.png"
    )
    assert photo_name(ImageEntry(7, "aachen/7.png")) == "aachen/7.png"


def test_which_annotations_are_read(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path, "train", panoptic=True)
    data_trees.cityscapes(tmp_path, "val")
    gt = tmp_path / "gtFine"
    assert isinstance(locate_cityscapes(tmp_path, "train"), CocoFiles)
    val = locate_cityscapes(tmp_path, "val")
    assert isinstance(val, CityscapesFiles) and [r.name for r in val.records] == list(data_trees.CITIES)
    for name in ("cityscapes_panoptic_train.json", "cityscapes_panoptic_train"):
        (gt / name).rename(gt / name.replace("train", "train_trainId"))
    files = locate_cityscapes(tmp_path, "train_trainId")
    assert isinstance(files, CocoFiles) and files.image_dir == tmp_path / "leftImg8bit" / "train"
    with pytest.raises(InputError, match="name one of: train, train_trainId, val"):
        locate_cityscapes(tmp_path)


def test_photos_and_annotations_that_lack_the_other_are_listed(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path)
    first, second, _ = data_trees.CITIES
    photo = tmp_path / "leftImg8bit" / "val" / "aachen" / f"{first}_leftImg8bit.png"
    annotation = tmp_path / "gtFine" / "val" / "aachen" / f"{second}_gtFine_instanceIds.png"
    photo.unlink()
    annotation.unlink()
    records = locate_cityscapes(tmp_path).records  # type: ignore[union-attr]
    assert len(records) == 3 and records[0].image_path == photo and records[1].instance_path == annotation
