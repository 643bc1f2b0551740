from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_json import read_provenance
from ldmseg.formats.coco_layout import CocoFiles
from ldmseg.formats.coco_panoptic import Category, CocoPanoptic, CocoPanopticWriter, open_root, write_coco_panoptic
from ldmseg.formats.id_png import write_id_png
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(3, "cat", True, "animal", (1, 2, 3)), Category(7, "sky", False))
IDS = np.array([[0, 5, 5, 9], [0, 5, 70000, 9]])
MAP = PanopticMap(IDS, (Segment(5, 3, True), Segment(9, 7, False), Segment(70000, 3, True, iscrowd=True, score=0.5)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with CocoPanopticWriter(tmp_path, CATEGORIES) as writer:
        writer.add("a.jpg", 1, MAP)
        writer.add("sub/b.jpg", "two", MAP)
    return tmp_path


def change(root: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    path = root / "panoptic.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return path


def test_what_is_written_is_what_coco_has(root: Path) -> None:
    document = json.loads((root / "panoptic.json").read_text())
    assert document["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 4, "height": 2}
    assert document["annotations"][1]["file_name"] == "sub/b.png"
    assert document["annotations"][0]["segments_info"] == [
        {"id": 5, "category_id": 3, "area": 3, "bbox": [1, 0, 2, 2], "iscrowd": 0},
        {"id": 9, "category_id": 7, "area": 2, "bbox": [3, 0, 1, 2], "iscrowd": 0},
        {"id": 70000, "category_id": 3, "area": 1, "bbox": [2, 1, 1, 1], "iscrowd": 1, "score": 0.5},
    ]
    assert document["categories"][0] == {"id": 3, "name": "cat", "supercategory": "animal", "isthing": 1, "color": [1, 2, 3]}
    pixels = np.asarray(Image.open(root / "panoptic" / "a.png"))
    assert pixels[1, 2].tolist() == [70000 % 256, 70000 // 256 % 256, 70000 // 65536]


def test_what_is_written_is_read_back(root: Path) -> None:
    data = open_root(root)
    assert len(data) == 2 and [r.image_id for r in data] == [1, "two"]
    assert data[1].file_name == "sub/b.jpg" and (data[0].height, data[0].width) == (2, 4)
    assert data.categories[0] == CATEGORIES[0]
    assert all(record.read_map() == MAP for record in data)
    with pytest.raises(InputError, match=r"image_dir: the photo 'a\.jpg' was not found"):
        data[0].read_image()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_map_survives(tmp_path: Path, data: st.DataObject) -> None:
    ids = data.draw(
        arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.sampled_from([0, 1, 255, 256, 2**24 - 1]))
    )
    segments = tuple(Segment(int(i), 3, True, data.draw(st.booleans())) for i in np.unique(ids) if i)
    pmap = PanopticMap(ids, segments)
    path = write_coco_panoptic(tmp_path / "x.json", [("x.png", 4, pmap)], CATEGORIES)
    assert path is not None
    assert CocoPanoptic.open(path)[0].read_map() == pmap


def test_segments_without_a_category_are_of_category_one(tmp_path: Path) -> None:
    write_coco_panoptic(tmp_path, [("x.png", 1, PanopticMap(IDS))])
    data = open_root(tmp_path)
    assert data.categories == (Category(1, "segment", True, "segment"),)
    assert {s.category_id for s in data[0].read_map().segments} == {1}


def test_nothing_is_left_when_nothing_was_added(tmp_path: Path) -> None:
    assert write_coco_panoptic(tmp_path / "new", []) is None
    assert list(tmp_path.iterdir()) == []


def test_an_older_json_stays_after_an_exception_and_is_replaced_whole_after_none(root: Path) -> None:
    before = (root / "panoptic.json").read_text()
    with pytest.raises(KeyboardInterrupt), CocoPanopticWriter(root, CATEGORIES) as writer:
        writer.add("c.jpg", 1, MAP)
        raise KeyboardInterrupt
    assert (root / "panoptic.json").read_text() == before
    write_coco_panoptic(root, [("c.jpg", 1, MAP)], CATEGORIES)
    assert [r.file_name for r in open_root(root)] == ["c.jpg"]


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (("b.jpg", 1, MAP), "image_id: 1 was added before"),
        (("a.png", 2, MAP), "both be written as 'a.png'"),
        (("../a.png", 2, MAP), "relative"),
        (("/a.png", 2, MAP), "relative"),
        (("c.png", 2, PanopticMap(IDS)), "category None, which is not one"),
        (("c.png", 2, PanopticMap([[1]], (Segment(1, 4),))), "category 4, which is not one"),
        (("c.png", 2, PanopticMap([[2**24]], (Segment(2**24, 3),))), "ids up to 16777215"),
    ],
)
def test_images_that_cannot_be_added(tmp_path: Path, add: tuple, reason: str) -> None:
    writer = CocoPanopticWriter(tmp_path, CATEGORIES)
    writer.add("a.jpg", 1, MAP)
    with pytest.raises(InputError, match=reason):
        writer.add(*add)
    writer.close()
    assert len(open_root(tmp_path)) == 1


def test_coco_s_own_layout_and_photos(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        with CocoPanopticWriter(tmp_path / "annotations" / f"panoptic_{split}.json", CATEGORIES) as writer:
            writer.add("a.jpg", 1, MAP)
        (tmp_path / split).mkdir()
        Image.new("RGB", (4, 2)).save(tmp_path / split / "a.jpg")
    data = open_root(tmp_path, "val2017")
    assert data.png_dir == tmp_path / "annotations" / "panoptic_val2017" and data.image_dir == tmp_path / "val2017"
    assert data[0].image_path == tmp_path / "val2017" / "a.jpg" and data[0].read_image().size == (4, 2)
    with pytest.raises(InputError, match=r"split: .* name one of: train2017, val2017"):
        open_root(tmp_path)
    with pytest.raises(InputError, match=r"expected one of train2017, val2017 .* got 'test'"):
        open_root(tmp_path, "test")


def test_other_layouts(tmp_path: Path) -> None:
    nested, flat = tmp_path / "nested", tmp_path / "flat"
    with CocoPanopticWriter(nested / "panoptic_val_all.json", CATEGORIES, nested / "panoptic" / "val") as writer:
        writer.add("a.jpg", 1, MAP)
    (nested / "images" / "val").mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(nested / "images" / "val" / "a.jpg")
    data = open_root(nested)
    assert data.png_dir == nested / "panoptic" / "val" and data.image_dir == nested / "images" / "val"

    with CocoPanopticWriter(flat / "val", CATEGORIES, flat / "val") as writer:
        writer.add("a.jpg", 1, MAP)
    assert open_root(flat, "val").png_dir == flat / "val"
    assert open_root(flat / "val" / "panoptic.json")[0].read_map() == MAP


def test_roots_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no panoptic\.json"):
        open_root(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_root(tmp_path / "nothing")


def test_folders_that_are_named(root: Path) -> None:
    (root / "panoptic").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"png_dir: found no 'a\.png'"):
        open_root(root)
    assert CocoPanoptic.open(root / "panoptic.json", root / "elsewhere")[0].read_map() == MAP
    for name in ("png_dir", "image_dir"):
        with pytest.raises(InputError, match=f"{name}: expected a folder, got .* does not exist"):
            CocoPanoptic.open(root / "panoptic.json", **{"png_dir": root, name: root / "nothing"})


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda d: d.pop("images"), "the key 'images' is missing"),
        (lambda d: d.pop("annotations"), "the key 'annotations' is missing"),
        (lambda d: d.pop("categories"), "the key 'categories' is missing"),
        (lambda d: d["annotations"].clear(), "at least one"),
        (lambda d: d.update(images={}), "images: expected a list, got dict"),
        (lambda d: d["images"].append(3), r"images\[2\]: expected an object, got int"),
        (lambda d: d["images"][0].pop("id"), r"images\[0\]: the key 'id' is missing"),
        (lambda d: d["images"][1].update(id=1), "id 1 occurs twice"),
        (lambda d: d["images"][0].update(width="4"), "width: expected int, got '4'"),
        (lambda d: d["images"].pop(0), "annotation of image 1, which is not in images"),
        (lambda d: d["annotations"][0].pop("file_name"), "annotation of image 1: the key 'file_name' is missing"),
        (lambda d: d["annotations"][0].update(segments_info=None), "image 1|segments_info: expected a list"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "image 1 has two annotations 'a.png'"),
        (lambda d: d["annotations"][0].pop("segments_info"), "'segments_info' is missing"),
        (lambda d: d["annotations"][0]["segments_info"][0].pop("category_id"), "image 1: the key 'category_id' is missing"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(category_id=4), "segment 5 has category 4"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=9), "image 1: segment 9 occurs twice"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=0), "expected 1 or more"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=True), "id: expected int, got True"),
        (lambda d: d["categories"][0].pop("isthing"), "boxes or instances"),
        (lambda d: d["categories"][0].update(color="red"), "color: expected three numbers"),
        (lambda d: d["categories"].append(d["categories"][0]), "id 3 occurs twice"),
    ],
)
def test_broken_json_is_named_in_one_line(root: Path, edit: Callable[[dict], Any], reason: str) -> None:
    path = change(root, edit)
    with pytest.raises(InputError, match=reason) as caught:
        CocoPanoptic.open(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "nul\x00", '"\\ud800"', "[" * 100_000])
def test_files_that_are_no_data_set(tmp_path: Path, content: str) -> None:
    (tmp_path / "panoptic.json").write_text(content)
    with pytest.raises(InputError, match=r"json: .*panoptic\.json"):
        open_root(tmp_path)
    (tmp_path / "panoptic.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read"):
        open_root(tmp_path)


def test_pngs_that_are_not_what_the_json_says(root: Path) -> None:
    png = root / "panoptic" / "a.png"
    whole = png.read_bytes()
    png.write_bytes(whole[:40])
    with pytest.raises(InputError, match=r"annotation of image 1: cannot read '.*a\.png'"):
        open_root(root)[0].read_map()
    png.write_bytes(whole)
    write_id_png(png, IDS.T)
    with pytest.raises(InputError, match=r"image 1: .* expected height 2, got 4"):
        open_root(root)[0].read_map()
    png.unlink()
    data = open_root(root)
    with pytest.raises(InputError, match="no such file"):
        data[0].read_map()
    assert data[1].read_map() == MAP


def test_ids_that_disagree(root: Path) -> None:
    write_id_png(root / "panoptic" / "a.png", np.where(IDS == 9, 10, IDS))
    with pytest.raises(InputError, match=r"image 1: .*a\.png'.*: 10 not listed, 9 without a pixel"):
        open_root(root)[0].read_map()
    kept = open_root(root, strict=False)[0].read_map()
    assert kept.segments == (MAP[5], MAP[70000]) and kept.ids.tolist() == np.where(IDS == 9, 0, IDS).tolist()


def test_annotations_of_unknown_images_can_be_left_out(root: Path) -> None:
    change(root, lambda d: d["images"].pop(0))
    assert [r.image_id for r in open_root(root, strict=False)] == ["two"]


def test_an_image_may_have_several_annotations(root: Path) -> None:
    change(root, lambda d: d["annotations"][1].update(image_id=1))
    assert [r.image_id for r in open_root(root)] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split", "count", "things"),
    [("coco100", None, 100, 80), ("bsds500", "val", 100, 1), ("bsds500", "val_all", 546, 1), ("dsb2018", "train", 531, 1)],
)
def test_real_data(shared: Path, name: str, split: str | None, count: int, things: int) -> None:
    data = open_root(shared / "data" / name, split)
    assert len(data) == count and sum(c.isthing for c in data.categories) == things
    record = data[count // 2]
    photo, pmap = record.read_image(), record.read_map()
    assert photo.size == pmap.shape[::-1]
    listed = json.loads(data.json_path.read_text())["annotations"][count // 2]["segments_info"]
    areas = dict(zip((s.id for s in pmap.segments), pmap.areas.tolist(), strict=True))
    assert areas == {entry["id"]: entry["area"] for entry in listed}


def test_a_real_crowd_is_known(shared: Path) -> None:
    data = open_root(shared / "data" / "coco100")
    record = next(r for r in data if any(s.iscrowd for s in r.segments))
    crowd = [s for s in record.read_map().segments if s.iscrowd]
    assert crowd and all(s.isthing for s in crowd)


def test_several_people_s_maps_of_one_photo(tmp_path: Path) -> None:
    with CocoPanopticWriter(tmp_path, CATEGORIES) as writer:
        for number, name in enumerate(("x/1.png", "x/2.png")):
            writer.add("a.jpg", 1, MAP, png_name=name, annotator=number)
        with pytest.raises(InputError, match="image_id: 1 was added before"):
            writer.add("a.jpg", 1, MAP, png_name="3.png")
        with pytest.raises(InputError, match="image_id: 1 was added before"):
            writer.add("b.jpg", 1, MAP, png_name="3.png", annotator=3)
    data = open_root(tmp_path)
    assert [(r.annotator, r.png_path.name) for r in data] == [(0, "1.png"), (1, "2.png")]
    assert len(json.loads((tmp_path / "panoptic.json").read_text())["images"]) == 1


def test_where_a_data_set_comes_from_is_written(root: Path) -> None:
    change(root, lambda d: d.update(info={"year": 2018}, licenses=[{"id": 3}]))
    change(root, lambda d: d["images"][0].update(license=3, flickr_url="http://x"))
    known = read_provenance(root / "panoptic.json")
    assert known and known.images == {1: {"license": 3, "flickr_url": "http://x"}}
    with CocoPanopticWriter(root / "new", CATEGORIES, provenance=known) as writer:
        writer.add("a.jpg", 1, MAP)
    document = json.loads((root / "new" / "panoptic.json").read_text())
    assert document["info"] == {"year": 2018} and document["licenses"] == [{"id": 3}]
    assert document["images"] == [{"license": 3, "flickr_url": "http://x", "id": 1, "file_name": "a.jpg", "width": 4, "height": 2}]


def test_empty_segments_are_left_out_where_they_are_expected(root: Path) -> None:
    change(root, lambda d: d["annotations"][0]["segments_info"].append({"id": 8, "category_id": 3}))
    files = CocoFiles(root / "panoptic.json", empty_segments=True)
    assert CocoPanoptic.at(files)[0].read_map() == MAP
    change(root, lambda d: d["annotations"][0]["segments_info"].pop(0))
    with pytest.raises(InputError, match="5 not listed, 8 without a pixel"):
        CocoPanoptic.at(files)[0].read_map()
