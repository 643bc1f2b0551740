from __future__ import annotations

from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.tools.segments_ai import label_attributes, open_segments, read_release, release_document, write_bitmap
from ldmseg.panoptic import PanopticMap, Segment

IDS = np.array([[0, 1, 1, 70000], [0, 1, 300, 300]])


def sample(uuid: str = "u1", name: str = "a.png", labelset: str = "ground-truth", **further: Any) -> dict[str, Any]:
    annotations = [{"id": 1, "category_id": 2}, {"id": 300, "category_id": 1}, {"id": 70000, "category_id": 1}, {"id": 9, "category_id": 1}]
    attributes = {"format_version": "0.1", "annotations": annotations, "segmentation_bitmap": {"url": "https://h/b.png"}}
    label = {"label_status": "LABELED", "attributes": attributes}
    return {"uuid": uuid, "name": name, "attributes": {"image": {"url": "https://h/a.png"}}, "labels": {labelset: label}, **further}


def release(*samples: dict[str, Any], **change: Any) -> dict[str, Any]:
    categories = [{"id": 1, "name": "car", "color": [1, 2, 3, 255]}, {"id": 2, "name": "sky", "has_instances": False}]
    dataset = {
        "name": "d",
        "owner": "o",
        "task_type": "segmentation-bitmap",
        "task_attributes": {"categories": categories},
        "labelsets": [{"name": "ground-truth"}, {"name": "model"}],
        "samples": list(samples),
    }
    return {"name": "v1", "dataset": dataset | change}


def make(root: Path, *samples: dict[str, Any], ids: np.ndarray = IDS) -> Path:
    data_trees.write(root / "release.json", release(*samples))
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536, np.full_like(ids, 255)], axis=-1).astype(np.uint8)
    (root / "bitmaps").mkdir(exist_ok=True)
    Image.fromarray(pixels).save(root / "bitmaps" / "u1.png")
    data_trees.photo(root / "images" / "a.png", *ids.shape)
    return root


def test_ids_categories_stuff_and_colours(tmp_path: Path) -> None:
    unlabelled = sample("u2", "b.png") | {"labels": {"ground-truth": None}}
    files = open_segments(make(tmp_path, sample(), unlabelled))
    assert [(c.name, c.isthing, c.color) for c in files.categories] == [("car", True, (1, 2, 3)), ("sky", False, None)]
    (record,) = files.records
    assert record.name == "a.png" and record.read_image().size == (4, 2)
    pmap = record.read_map()
    assert pmap.ids.tolist() == IDS.tolist()
    assert pmap.segments == (Segment(1, 2, False), Segment(300, 1, True), Segment(70000, 1, True))


def test_labelsets(tmp_path: Path) -> None:
    path = data_trees.write(tmp_path / "release.json", release(sample(), sample("u2", "b.png", "model")))
    assert [s.name for s in read_release(path).samples] == ["a.png"]
    assert [s.name for s in read_release(path, "model").samples] == ["b.png"]
    with pytest.raises(InputError, match="split: expected one of ground-truth, model"):
        read_release(path, "other")


def test_ids_that_are_not_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"u1\.png': expected the ids that the release lists, got also \[5\]"):
        open_segments(make(tmp_path, sample(), ids=np.array([[5, 1]]))).records[0].read_map()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_type": "vector"}, "task_type: expected one of segmentation-bitmap, segmentation-bitmap-highres, got 'vector'"),
        ({"samples": []}, "samples: expected at least one with a label"),
        ({"samples": [sample(), sample("u2")]}, "expected names of which no two are the same"),
        ({"samples": [sample(name="../a.png")]}, "name: expected a photo's name below the data set's folder"),
        ({"labelsets": 3}, "labelsets: expected a list"),
        ({"task_attributes": {"categories": [{"id": 1, "name": "x"}]}}, "segment 1 has category 2, which is not one of the categories"),
    ],
)
def test_broken_releases(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_release(data_trees.write(tmp_path / "release.json", release(sample(), **change)))


def test_bitmaps_outside_of_the_folder(tmp_path: Path) -> None:
    data_trees.write(tmp_path / "release.json", release(sample("../u1")))
    with pytest.raises(InputError, match="uuid: expected a path below"):
        open_segments(tmp_path)


def test_maps_come_back_under_their_ids(tmp_path: Path) -> None:
    pmap = random_map(3).relabel({1: 70000})
    write_bitmap(tmp_path / "bitmaps" / "u1.png", pmap)
    with Image.open(tmp_path / "bitmaps" / "u1.png") as picture:
        assert picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255)
    one = sample() | {"labels": {"ground-truth": {"attributes": label_attributes(pmap, "b.png")}}}
    data_trees.write(tmp_path / "release.json", release_document([one], CATEGORIES))
    assert open_segments(tmp_path).records[0].read_map() == pmap
    assert label_attributes(PanopticMap(np.ones((1, 1), int)), "")["annotations"] == [{"id": 1, "category_id": 1}]
