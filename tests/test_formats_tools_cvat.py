from __future__ import annotations

from pathlib import Path

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.tools.cvat import cvat_document, open_cvat
from ldmseg.panoptic import PanopticMap

HEIGHT, WIDTH = 20, 30
META = "<meta><task><labels><label><name>cell</name><color>#ff0080</color></label><label><name>wall</name></label></labels></task></meta>"


def write(path: Path, *shapes: str, meta: str = META, image: str = 'id="0" name="sub/a.png" width="30" height="20"') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotations><version>1.1</version>{meta}<image {image}>{''.join(shapes)}</image></annotations>", encoding="utf-8")
    return path


def only_map(tmp_path: Path, *shapes: str) -> PanopticMap:
    return open_cvat(write(tmp_path / "annotations.xml", *shapes)).records[0].read_map()


@pytest.mark.parametrize(
    ("shape", "area", "box"),
    [
        ('<polygon label="cell" points="2,3;10,3;10,8;2.00,8"/>', 40, (2, 3, 8, 5)),
        ('<box label="cell" xtl="2" ytl="3" xbr="10" ybr="8"/>', 40, (2, 3, 8, 5)),
        ('<box label="cell" xtl="4" ytl="6" xbr="12" ybr="10" rotation="90.0"/>', 32, (6, 4, 4, 8)),
        ('<ellipse label="cell" cx="10" cy="10" rx="6" ry="6"/>', 112, (4, 4, 12, 12)),
        ('<polyline label="cell" points="2.5,10.5;12.5,10.5"/>', None, (0, 8, 15, 5)),
        ('<points label="cell" points="10.5,10.5;20.5,10.5"/>', 42, (8, 8, 15, 5)),
        ('<mask label="cell" rle="1, 1, 2, 2" left="4" top="5" width="3" height="2"/>', 3, (5, 5, 2, 2)),
    ],
)
def test_every_kind_of_shape(tmp_path: Path, shape: str, area: int | None, box: tuple[int, ...]) -> None:
    pmap = only_map(tmp_path, shape, '<tag label="wall"/>')
    assert tuple(pmap.boxes[0].tolist()) == box and pmap.segments[0].category_id == 1
    assert area is None or pmap.areas.tolist() == [area]


def test_layers_groups_and_categories(tmp_path: Path) -> None:
    pmap = only_map(
        tmp_path,
        '<box label="cell" xtl="0" ytl="0" xbr="4" ybr="4" z_order="1" group_id="5"/>',
        '<box label="wall" xtl="2" ytl="0" xbr="8" ybr="4" z_order="0" group_id="5"/>',
        '<box label="cell" xtl="20" ytl="0" xbr="24" ybr="4" z_order="-3" group_id="5"/>',
        '<box label="new" xtl="28" ytl="0" xbr="30" ybr="4"/>',
    )
    assert pmap.ids[0].tolist() == [1] * 4 + [2] * 4 + [0] * 12 + [1] * 4 + [0] * 4 + [3] * 2
    assert [s.category_id for s in pmap.segments] == [1, 2, 3]
    files = open_cvat(tmp_path)
    assert [(c.name, c.color) for c in files.categories] == [("cell", (255, 0, 128)), ("wall", None), ("new", None)]


def test_photos_and_subsets(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.xml", image='id="0" name="sub/a.png" width="30" height="20" subset="train"')
    text = path.read_text().replace("</image>", '</image><image id="1" name="b.png" width="30" height="20" subset="val"/>')
    path.write_text(text)
    data_trees.photo(tmp_path / "images" / "train" / "sub" / "a.png", HEIGHT, WIDTH)
    data_trees.photo(tmp_path / "images" / "b.png", HEIGHT, WIDTH)
    assert [record.name for record in open_cvat(tmp_path).records] == ["sub/a.png", "b.png"]
    for split, name in (("train", "sub/a.png"), ("val", "b.png")):
        record = open_cvat(tmp_path, split).records[0]
        assert record.name == name and record.read_image().size == (WIDTH, HEIGHT) and len(record.read_map()) == 0
    with pytest.raises(InputError, match="split: expected one of train, val"):
        open_cvat(tmp_path, "test")


def test_a_folder_per_split(tmp_path: Path) -> None:
    for split in ("a", "b"):
        write(tmp_path / split / "annotations.xml")
    assert len(open_cvat(tmp_path, "b").records) == 1
    with pytest.raises(InputError, match="name one of: a, b"):
        open_cvat(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"root: found no annotations\.xml"):
        open_cvat(tmp_path / "empty")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<cuboid label="cell"/>', "shape 0: expected one of mask, polygon, .* got <cuboid>"),
        ('<polygon label="cell" points="1,1;2,2"/>', "points: expected 3 or more points"),
        ('<polygon label="cell" points="1,1;2,2;x"/>', "points: expected 3 or more points"),
        ('<box label="cell" xtl="a" ytl="0" xbr="1" ybr="1"/>', "xtl: expected a number, got 'a'"),
        ('<box label="cell" ytl="0" xbr="1" ybr="1"/>', "xtl: expected a number, got None"),
        ('<box label="cell" xtl="inf" ytl="0" xbr="1" ybr="1"/>', "xtl: expected a number, got 'inf'"),
        ('<mask label="cell" rle="1, a" left="0" top="0" width="2" height="1"/>', "rle: expected numbers and commas"),
        ('<mask label="cell" rle="1, 5" left="0" top="0" width="2" height="1"/>', "rle: expected run lengths"),
        ('<mask label="cell" rle="1" left="0" top="0" width="1000000" height="1000000"/>', "expected a width and a height"),
    ],
)
def test_broken_shapes(tmp_path: Path, shape: str, message: str) -> None:
    with pytest.raises(InputError, match=f"image 'sub/a.png'.*{message}"):
        only_map(tmp_path, shape)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no element found"),
        ("<a/>", "expected <annotations>, got <a>"),
        ("<annotations/>", "expected photos"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "expected no document type or entities"),
        ('<annotations><image id="0" name="../a.png" width="3" height="3"/></annotations>', "name: expected a photo's name below"),
        ("<annotations>" * 10, "no element found|unclosed"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_cvat(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_maps_come_back_exactly(tmp_path: Path, seed: int) -> None:
    pmap = random_map(seed)
    (tmp_path / "annotations.xml").write_bytes(cvat_document([("a.png", pmap)], CATEGORIES))
    back = open_cvat(tmp_path).records[0].read_map()
    assert (back.ids == pmap.ids).all()
    names = {c.id: c.name for c in CATEGORIES}
    own = {c.id: c.name for c in open_cvat(tmp_path).categories}
    assert [own[s.category_id or 0] for s in back.segments] == [names[s.category_id or 0] for s in pmap.segments]


@pytest.mark.slow
def test_datumaro_finds_the_same_masks(tmp_path: Path) -> None:
    maps = [random_map(seed) for seed in range(4)]
    for number, pmap in enumerate(maps):
        data_trees.photo(tmp_path / "images" / f"{number}.png", *pmap.shape)
    xml = cvat_document([(f"{number}.png", pmap) for number, pmap in enumerate(maps)], CATEGORIES)
    (tmp_path / "annotations.xml").write_bytes(xml)
    code = """
from datumaro.components.dataset import Dataset
from datumaro import AnnotationType
data = Dataset.import_from(given, "cvat")
names = [c.name for c in data.categories()[AnnotationType.label]]
found = {item.id: item.annotations for item in data}
answer = [[[names[a.label], a.image.astype(int).tolist()] for a in found[str(i)]] for i in range(4)]
"""
    named = {c.id: c.name for c in CATEGORIES}
    for pmap, found in zip(maps, ask("datumaro", code, str(tmp_path)), strict=True):
        theirs = sorted((name, np.array(mask).tobytes()) for name, mask in found)
        assert theirs == sorted((named[s.category_id or 0], (pmap.ids == s.id).astype(int).tobytes()) for s in pmap.segments)
