from __future__ import annotations

from pathlib import Path

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.tools.yolo_seg import open_yolo_seg, read_yolo_seg, yolo_seg_text, yolo_seg_yaml
from ldmseg.panoptic import Segment

HEIGHT, WIDTH = 4, 8
YAML = "path: .\ntrain: ../train/images\nnames: [car, 'a: b']\n"  # paths as Roboflow writes them, which are not used


def make(root: Path, text: str | None, split: str = "", names: str = YAML) -> Path:
    data_trees.photo(root / "images" / split / "a.jpg", HEIGHT, WIDTH)
    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    if text is not None:
        (root / "labels" / split / "a.txt").write_text(text, encoding="utf-8")
    (root / "data.yaml").write_text(names, encoding="utf-8")
    return root


def test_rings_are_shares_of_the_photo_and_smaller_ones_lie_on_top(tmp_path: Path) -> None:
    files = open_yolo_seg(make(tmp_path, "1 0 0 0.25 0 0.25 0.5 0 0.5\n\n0 0 0 0.5 0 0.5 1 0 1\n"))
    assert [(c.id, c.name) for c in files.categories] == [(1, "car"), (2, "a: b")]
    pmap = files.records[0].read_map()
    assert pmap.segments == (Segment(1, 2, True), Segment(2, 1, True))
    assert pmap.ids.tolist() == [[1, 1, 2, 2, 0, 0, 0, 0]] * 2 + [[2, 2, 2, 2, 0, 0, 0, 0]] * 2


def test_a_photo_without_a_text_has_no_object(tmp_path: Path) -> None:
    make(tmp_path, None)
    (tmp_path / "labels" / "b.txt").write_text("")
    data_trees.photo(tmp_path / "images" / "b.jpg", HEIGHT, WIDTH)
    assert [len(record.read_map()) for record in open_yolo_seg(tmp_path).records] == [0, 0]


@pytest.mark.parametrize("around", [True, False])
def test_splits_in_the_folders_or_around_them(tmp_path: Path, around: bool) -> None:
    for split in ("train", "val"):
        if around:
            make(tmp_path / split, "0 0 0 1 0 1 1\n")
        else:
            make(tmp_path, "0 0 0 1 0 1 1\n", split)
    (tmp_path / "data.yaml").write_text("names: {0: car, 4: bus}", encoding="utf-8")
    files = open_yolo_seg(tmp_path, "val")
    assert [c.id for c in files.categories] == [1, 5] and files.records[0].image_path.parts[-3:].count("val") == 1
    with pytest.raises(InputError, match="name one of: train, val"):
        open_yolo_seg(tmp_path)


def test_classes_from_a_text(tmp_path: Path) -> None:
    make(tmp_path, "0 0 0 1 0 1 1\n")
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"expected the names of the classes in data.yaml or dataset.yaml or classes.txt"):
        open_yolo_seg(tmp_path)
    (tmp_path / "classes.txt").write_text("car\nbus\n")
    assert [c.name for c in open_yolo_seg(tmp_path).categories] == ["car", "bus"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"line 1: expected three or more points as shares of the photo's size, got 4 numbers \(a box\)"),
        ("0 1 2 3 4 5 6", "expected three or more points as shares"),
        ("0 0 0 1 0 1 1 1", "got 7 numbers"),
        ("0 0 0 1 0 1 nan", "expected three or more points as shares"),
        ("car 0 0 1 0 1 1", "expected a class and numbers, got 'car"),
        ("7 0 0 1 0 1 1", "expected a class from 0 to 1, got 7"),
        ("-1 0 0 1 0 1 1", "expected a class from 0 to 1, got -1"),
        ("\xff", "expected a class and numbers"),
    ],
)
def test_broken_lines(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_yolo_seg(make(tmp_path, line)).records[0].read_map()


@pytest.mark.parametrize("names", ["[", "3", "names: 3", "names: {a: b}", "names: [[1"])
def test_broken_names(tmp_path: Path, names: str) -> None:
    with pytest.raises(InputError, match="names: "):
        open_yolo_seg(make(tmp_path, "", names=names))


@pytest.mark.parametrize("seed", range(5))
def test_maps_with_holes_and_parts_come_back_exactly(tmp_path: Path, seed: int) -> None:
    pmap = random_map(seed)
    photo = data_trees.photo(tmp_path / "a.png", *pmap.shape)
    path = tmp_path / "a.txt"
    path.write_text(yolo_seg_text(pmap, {c.id: n for n, c in enumerate(CATEGORIES)}))
    back = read_yolo_seg(path, photo)
    assert (back.ids == pmap.ids).all()
    numbers = {n + 1: c.id for n, c in enumerate(CATEGORIES)}
    assert [numbers[s.category_id or 0] for s in back.segments] == [s.category_id for s in pmap.segments]


def test_the_size_is_that_of_the_upright_photo(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    photo = tmp_path / "a.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(photo, exif=exif)
    assert read_yolo_seg(tmp_path / "none.txt", photo).shape == (WIDTH, HEIGHT)


@pytest.mark.slow
def test_supervision_finds_the_same_masks_by_opencv_s_rule(tmp_path: Path) -> None:
    """It fills rings with OpenCV, which takes a point as the middle of a pixel and the edges as inside: one row below and one column to the
    right more than the centres that lie inside, by which this library, COCO's tools and labelme count. Beside this the masks agree."""
    y, x = np.mgrid[:200, :300]
    ids = np.zeros((200, 300), dtype=int)
    ids[np.hypot(x - 80, y - 90) < 60] = 1
    ids[np.hypot(x - 220, y - 90) < 70] = 2
    from ldmseg.panoptic import PanopticMap

    pmap = PanopticMap(ids, (Segment(1, 1), Segment(2, 2)))
    data_trees.photo(tmp_path / "images" / "a.png", 200, 300)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(yolo_seg_text(pmap, {1: 0, 2: 1}))
    (tmp_path / "data.yaml").write_text(yolo_seg_yaml({0: "x", 1: "y"}, None))
    code = """
import supervision
data = supervision.DetectionDataset.from_yolo(given + "/images", given + "/labels", given + "/data.yaml", force_masks=True)
_, _, found = next(iter(data))
answer = [found.class_id.tolist(), found.mask.astype(int).tolist()]
"""
    classes, found = ask("supervision", code, str(tmp_path))
    assert classes == [0, 1]
    for number, mask in enumerate(np.array(found, dtype=bool), start=1):
        ours = ids == number
        theirs = ours.copy()
        theirs[1:] |= ours[:-1]
        theirs[:, 1:] |= theirs[:, :-1].copy()
        assert (theirs & mask).sum() / (theirs | mask).sum() >= 0.99
