from __future__ import annotations

import pickle
from pathlib import Path

import data_trees
import numpy as np
import pytest
from PIL import Image

from ldmseg.data.datasets import (
    AnnotatedDataset,
    AnnotatorDataset,
    CityscapesDataset,
    CocoPanopticDataset,
    FileDataset,
    LabelFolderDataset,
    PanopticDataset,
    SceneDataset,
    load_dataset,
    parse_spec,
)
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CLASS_AGNOSTIC
from ldmseg.panoptic import Segment


def opened(spec: str) -> PanopticDataset:
    """The data set, of which every item can be read and whose photo and map are of one size."""
    dataset = load_dataset(spec)
    assert isinstance(dataset, PanopticDataset)
    for index in range(len(dataset)):
        assert dataset.image(index).shape == (*dataset.map(index).shape, 3)
    again = pickle.loads(pickle.dumps(dataset))  # as worker processes get it
    assert again.map(0) == dataset.map(0)
    return dataset


@pytest.mark.parametrize("detectron2", [False, True])
def test_coco_as_shipped_and_as_detectron2_expects_it(tmp_path: Path, detectron2: bool) -> None:
    data_trees.coco(tmp_path, "train2017", detectron2=detectron2)
    data_trees.coco(tmp_path, "val2017", detectron2=detectron2, count=1)
    dataset = opened(f"coco-panoptic:{tmp_path}:train2017")
    assert isinstance(dataset, CocoPanopticDataset) and isinstance(dataset, FileDataset)
    assert len(dataset) == 2 and len(load_dataset(f"coco-panoptic:{tmp_path}:val2017")) == 1
    assert [dataset.name(i) for i in (0, 1)] == ["000000000139.jpg", "000000000278.jpg"]
    assert dataset.image_path(1) == tmp_path / "train2017" / "000000000278.jpg" and dataset.image_id(1) == 278
    pmap = dataset.map(0)
    assert np.array_equal(pmap.ids, data_trees.COCO_IDS)
    assert pmap.segments == (Segment(5, 1, True, iscrowd=True), Segment(9, 187, False), Segment(70000, 3, True))
    with pytest.raises(InputError, match="name one of: train2017, val2017"):
        load_dataset(f"coco-panoptic:{tmp_path}")


@pytest.mark.parametrize("panoptic", [False, True])
def test_cityscapes_from_panoptic_files_and_from_instance_ids(tmp_path: Path, panoptic: bool) -> None:
    data_trees.cityscapes(tmp_path, panoptic=panoptic)
    dataset = opened(f"cityscapes:{tmp_path}:val")
    assert isinstance(dataset, CocoPanopticDataset if panoptic else CityscapesDataset) and isinstance(dataset, FileDataset)
    assert [dataset.name(i) for i in range(3)] == [f"{city}/{name}_leftImg8bit.png" for name, city in data_trees.CITIES.items()]
    assert dataset.image_id(2) == "bochum_000000_000313"
    pmap = dataset.map(0)
    assert pmap.ids.tolist() == [
        [0, 0, 7, 7, 11, 11],
        [7, 7, 7, 26, 26001, 26001],
        [24000, 24000, 26000, 26, 0, 23],
        [24001, 21, 26000, 33002, 0, 23],
    ]
    assert pmap[26] == Segment(26, 26, True, iscrowd=True)
    assert pmap[26001] == Segment(26001, 26, True) and pmap[7] == Segment(7, 7, False)


def test_both_ways_to_read_cityscapes_agree(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path / "a", "train", panoptic=True)
    data_trees.cityscapes(tmp_path / "b", "train")
    ours, theirs = (load_dataset(f"cityscapes:{tmp_path / name}") for name in "ab")
    for index in range(3):
        assert ours.map(index) == theirs.map(index)
        assert np.array_equal(ours.image(index), theirs.image(index))
        assert ours.name(index) == theirs.name(index)


def test_ade20k(tmp_path: Path) -> None:
    data_trees.ade20k(tmp_path)
    for split, name in (("train", "train"), ("training", "train"), ("val", "val"), ("validation", "val")):
        dataset = opened(f"ade20k:{tmp_path}:{split}")
        assert dataset.name(0) == f"ADE_{name}_00000001.jpg"
    assert len(dataset.categories) == 150 and dataset.categories[0].id == 0
    # The stuff of which no pixel is left is not there; category 0 is one like any other.
    assert dataset.map(1).segments == (Segment(2, 12, True), Segment(3, 12, True), Segment(7895160, 0, False))
    with pytest.raises(InputError, match="name one of: train, val"):
        load_dataset(f"ade20k:{tmp_path}")
    with pytest.raises(InputError, match=r"found no 'ade20k_panoptic_<split>\.json'"):
        load_dataset(f"ade20k:{tmp_path / 'images'}")


def test_label_folders(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    dataset = opened(f"labels:{tmp_path}")
    assert isinstance(dataset, LabelFolderDataset) and isinstance(dataset, FileDataset)
    for index, (stem, ids) in enumerate(data_trees.LABEL_IDS.items()):
        assert dataset.name(index) == f"{stem}.jpg"
        assert dataset.map(index).ids.tolist() == ids.tolist()
        assert {(s.category_id, s.isthing) for s in dataset.map(index).segments} == {(1, True)}
    assert dataset.categories == (CLASS_AGNOSTIC,)


@pytest.mark.parametrize("layout", ["inside", "around"])
def test_splits_of_label_folders(tmp_path: Path, layout: str) -> None:
    for split in ("train", "val"):
        parts = (f"images/{split}", f"labels/{split}") if layout == "inside" else (f"{split}/images", f"{split}/labels")
        data_trees.labels(tmp_path, *parts)
    assert len(opened(f"labels:{tmp_path}:val")) == 3
    with pytest.raises(InputError, match="name one of: train, val"):
        load_dataset(f"labels:{tmp_path}")
    with pytest.raises(InputError, match=r"expected one of train, val .* got 'test'"):
        load_dataset(f"labels:{tmp_path}:test")


def test_several_annotators(tmp_path: Path) -> None:
    data_trees.annotators(tmp_path)
    for spec in (f"bsds500:{tmp_path}:val", f"bsds500:{tmp_path}", f"bsds500:{tmp_path}:val_all"):
        dataset = opened(spec)
        assert isinstance(dataset, AnnotatorDataset) and isinstance(dataset, AnnotatedDataset)
        assert [dataset.name(i) for i in range(len(dataset))] == ["8.jpg", "3.jpg"]
        assert [len(pmap) for pmap in dataset.annotators(0)] == [3, 1, 2] and dataset.annotator_count(0) == 3
        assert dataset.map(0) == dataset.annotators(0)[2]  # 2 is the median
        assert dataset.annotators(1) == (dataset.map(1),)
    assert len(load_dataset(f"coco-panoptic:{tmp_path}:val_all")) == 4  # one item per annotation
    with pytest.raises(InputError, match="got 'test'"):
        load_dataset(f"bsds500:{tmp_path}:test")


def test_the_older_names_are_still_there() -> None:
    assert load_dataset("scenes:2:val") == SceneDataset(2, 10_000_000)
    assert load_dataset("scenes:5-7:val") == SceneDataset(2, 10_000_005)
    assert load_dataset("scenes:0-3") == load_dataset("scenes:3:train")
    for wrong in ("scenes:0", "scenes:7-7", "scenes:7-5:val", "scenes:-3", "scenes:9999999-10000001"):
        with pytest.raises(InputError, match="data: expected"):
            load_dataset(wrong)


@pytest.mark.parametrize(
    ("spec", "kind", "root", "split"),
    [
        ("labels:a/b", "labels", "a/b", None),
        ("cityscapes:a/b:val", "cityscapes", "a/b", "val"),
        ("ade20k:a:b:val", "ade20k", "a:b", "val"),
        ("labels:a:", "labels", "a", None),
        ("scenes:12:val", "scenes", "12", "val"),
    ],
)
def test_names_are_taken_apart(spec: str, kind: str, root: str, split: str | None) -> None:
    parsed = parse_spec(spec)
    assert (parsed.kind, str(parsed.root), parsed.split) == (kind, root, split)


def test_a_colon_in_a_path_that_exists_is_no_split(tmp_path: Path) -> None:
    data_trees.labels(tmp_path / "a:b")
    assert len(load_dataset(f"labels:{tmp_path / 'a:b'}")) == 3


TREES = {
    "coco-panoptic": (data_trees.coco, "annotations/panoptic_val2017/000000000278.png", "val2017/000000000278.jpg"),
    "cityscapes": (
        data_trees.cityscapes,
        "gtFine/val/aachen/aachen_000001_000019_gtFine_instanceIds.png",
        "leftImg8bit/val/aachen/aachen_000001_000019_leftImg8bit.png",
    ),
    "ade20k": (data_trees.ade20k, "ade20k_panoptic_val/ADE_val_00000002.png", "images/validation/ADE_val_00000002.jpg"),
    "labels": (data_trees.labels, "masks/b.png", "images/b.jpg"),
    "bsds500": (data_trees.annotators, "panoptic/val/3_ann0.png", "images/val/3.jpg"),
}


@pytest.mark.parametrize("damage", ["truncated", "gone", "text"])
@pytest.mark.parametrize("kind", TREES)
def test_a_broken_file_is_named_and_the_others_are_read(tmp_path: Path, kind: str, damage: str) -> None:
    make, mask, photo = TREES[kind]
    make(tmp_path)
    for name in (mask, photo):
        path = tmp_path / name
        if damage == "gone" and kind == "labels":
            path = path.rename(path.with_name("kept.txt"))  # a photo or map without its other half
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:40] if damage == "truncated" else b"no picture")
        spec = f"{kind}:{tmp_path}" + (":val" if kind == "ade20k" else "")
        dataset = load_dataset(spec)
        read = dataset.map if name == mask else dataset.image
        with pytest.raises(InputError) as caught:
            read(1)
        assert Path(name).stem in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        assert read(0).shape
        if damage == "gone":
            make(tmp_path)


@pytest.mark.parametrize("kind", ["coco-panoptic", "cityscapes", "ade20k", "labels", "bsds500"])
def test_folders_without_a_data_set(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="root: found no"):
        load_dataset(f"{kind}:{tmp_path / 'empty'}")
    with pytest.raises(InputError, match="does not exist"):
        load_dataset(f"{kind}:{tmp_path / 'nowhere'}")


def test_gray_photos_are_rgb(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    Image.new("L", (2, 2), 7).save(tmp_path / "images" / "a.jpg")
    assert load_dataset(f"labels:{tmp_path}").image(0).tolist() == [[[7, 7, 7]] * 2] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("split", "images", "maps"), [("train", 200, 1087), ("val", 100, 546)])
def test_bsds500(shared: Path, split: str, images: int, maps: int) -> None:
    root = shared / "data" / "bsds500"
    dataset = load_dataset(f"bsds500:{root}:{split}")
    assert isinstance(dataset, AnnotatorDataset)
    assert len(dataset) == images and sum(dataset.annotator_count(i) for i in range(images)) == maps
    chosen = load_dataset(f"coco-panoptic:{root}:{split}")
    for index in range(0, images, 20):
        everybody = dataset.annotators(index)
        assert len(everybody) >= 4 and all(pmap.shape == dataset.image(index).shape[:2] for pmap in everybody)
        assert dataset.name(index) == chosen.name(index)
        assert len(dataset.map(index)) == len(chosen.map(index))


@pytest.mark.slow
def test_nuclei_and_coco(shared: Path) -> None:
    assert len(load_dataset(f"coco-panoptic:{shared / 'data' / 'dsb2018'}:val")) == 67
    assert len(load_dataset(f"coco-panoptic:{shared / 'data' / 'coco100'}")) == 100
