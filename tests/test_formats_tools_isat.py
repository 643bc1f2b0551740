from __future__ import annotations

from pathlib import Path
from typing import Any

import data_trees
import pytest
from masks import CATEGORIES, random_map

from ldmseg.errors import InputError
from ldmseg.formats.tools.isat import isat_document, open_isat, read_isat
from ldmseg.panoptic import PanopticMap


def item(x0: float, x1: float, category: str = "cell", group: Any = 0, layer: float = 1, **further: Any) -> dict[str, Any]:
    points = [[x0, 0], [x1, 0], [x1, 1], [x0, 1]]
    return {"category": category, "group": group, "segmentation": points, "layer": layer, "iscrowd": False, "note": "", **further}


def document(*objects: dict[str, Any], **info: Any) -> dict[str, Any]:
    return {"info": {"description": "ISAT", "folder": "", "name": "a.png", "width": 8, "height": 1, "depth": 3, "note": "", **info}} | {
        "objects": list(objects)
    }


def only_map(tmp_path: Path, *objects: dict[str, Any]) -> PanopticMap:
    return read_isat(data_trees.write(tmp_path / "a.json", document(*objects)))


def test_layers_groups_and_the_background(tmp_path: Path) -> None:
    objects = [item(0, 4, group=1, layer=2), item(2, 6, "wall", group=1), item(7, 8, group=1), item(1, 2, "__background__", layer=3)]
    pmap = only_map(tmp_path, *objects)
    assert pmap.ids.tolist() == [[1, 0, 1, 1, 2, 2, 0, 1]]
    assert [s.category_id for s in pmap.segments] == [1, 2]


def test_crowds_and_what_has_few_points(tmp_path: Path) -> None:
    pmap = only_map(tmp_path, item(0, 2, iscrowd=True), item(0, 0, segmentation=[[6.5, 0.5]]))
    assert pmap.segments[0].iscrowd and pmap.ids.tolist() == [[1, 1, 0, 0, 2, 2, 2, 2]]


def test_a_folder(tmp_path: Path) -> None:
    data_trees.photo(tmp_path / "a.png", 1, 8)
    data_trees.write(tmp_path / "a.json", document(item(0, 3, "wall")))
    data_trees.write(tmp_path / "b.json", document(item(0, 3, "cell"), name="..\\b.png"))
    (tmp_path / "c.json").write_text("[]")
    files = open_isat(tmp_path)
    assert [c.name for c in files.categories] == ["cell", "wall"]
    assert files.records[0].read_image().size == (8, 1) and files.records[0].read_map().segments[0].category_id == 2
    for record, message in zip(files.records[1:], ("info: name: expected a photo's name below", "expected an object"), strict=True):
        with pytest.raises(InputError, match=message):
            record.read_map()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [item(0, 1, segmentation=[])]}, r"objects\[0\]: segmentation: expected 1 or more points"),
        ({"objects": [item(0, 1, layer="top")]}, r"objects\[0\]: layer: expected int or float, got 'top'"),
        ({"objects": [{"category": 3}]}, "category: expected str, got 3"),
        ({"info": {"width": 0, "height": 3}}, "expected a width and a height"),
        ({"info": []}, "info: expected dict"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_isat(data_trees.write(tmp_path / "a.json", document() | change))


@pytest.mark.parametrize("seed", range(5))
def test_maps_with_holes_and_parts_come_back_exactly(tmp_path: Path, seed: int) -> None:
    pmap = random_map(seed)
    path = data_trees.write(tmp_path / "a.json", isat_document(pmap, {c.id: c.name for c in CATEGORIES}, "", "a.png"))
    assert read_isat(path, CATEGORIES) == pmap
