from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.brush_rle import encode_brush
from ldmseg.formats.tools.label_studio import (
    Control,
    MaskKind,
    label_config,
    map_regions,
    open_label_studio,
    task_document,
    task_photo,
)
from ldmseg.formats.tools.label_studio_regions import geometry_of, read_regions, region_patch, task_regions
from ldmseg.panoptic import PanopticMap

HEIGHT, WIDTH = 20, 40
NAMES = {c.id: c.name for c in CATEGORIES}


def region(kind: str, value: dict[str, Any], identity: str = "r1", label: str | None = "cell", **further: Any) -> dict[str, Any]:
    named = {} if label is None else {kind: [label]}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": identity, "type": kind, "from_name": "tag", "to_name": "image", **size, "value": value | named, **further}


def data_url(alpha: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(np.stack([np.zeros_like(alpha)] * 3 + [alpha], axis=-1).astype(np.uint8)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


SQUARE = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
SQUARE[5:15, 10:30] = 255


@pytest.mark.parametrize(
    ("kind", "value", "box"),
    [
        ("brushlabels", {"format": "rle", "rle": encode_brush(SQUARE)}, (10, 5, 20, 10)),
        ("bitmasklabels", {"imageDataURL": data_url(SQUARE)}, (10, 5, 20, 10)),
        ("polygonlabels", {"points": [[25, 25], [75, 25], [75, 75], [25, 75]], "closed": True}, (10, 5, 20, 10)),
        ("rectanglelabels", {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}, (10, 5, 20, 10)),
        ("rectanglelabels", {"x": 75, "y": 25, "width": 25, "height": 25, "rotation": 90}, (25, 5, 5, 10)),  # about its first corner
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0}, (10, 5, 20, 10)),
        ("keypointlabels", {"x": 50, "y": 50, "width": 0.2}, (18, 8, 4, 4)),
        ("brushlabels", {"touches": [{"type": "add", "relativePoints": [25, 50, 75, 50], "relativeStrokeWidth": 10}]}, (8, 8, 24, 4)),
    ],
)
def test_every_kind_of_region(kind: str, value: dict[str, Any], box: tuple[int, ...]) -> None:
    mask = region_patch(region(kind, value), HEIGHT, WIDTH, "here").full(HEIGHT, WIDTH)
    assert tuple(PanopticMap(mask.astype(int)).boxes[0].tolist()) == box


def test_an_eraser_takes_away_what_was_drawn_before_it() -> None:
    strokes = [("add", [25, 50, 75, 50]), ("eraser", [50, 0, 50, 100]), ("add", [50, 50])]
    touches = [{"type": kind, "relativePoints": points, "relativeStrokeWidth": 5} for kind, points in strokes]
    mask = region_patch(region("brushlabels", {"touches": touches}), HEIGHT, WIDTH, "here").full(HEIGHT, WIDTH)
    assert not mask[:9, 19:21].any() and mask[9:11, 19:21].all() and mask[10, 12]


def test_labels_of_a_tag_of_their_own_and_results_without_pixels() -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    results = [
        region("rectangle", value, label=None),
        region("labels", value | {"labels": ["wall <&>"]}, label=None),
        {"id": "c", "type": "choices", "value": {"choices": ["x"]}},
        {"type": "relation", "from_id": "r1", "to_id": "c"},
        region("keypointlabels", {"x": 90, "y": 90, "width": 1}, "r2"),
    ]
    assert [geometry_of(r) for r in results] == ["rectangle", "rectangle", None, None, "keypoint"]
    task = task_regions(results, "here")
    assert task is not None and (task.height, task.width) == (HEIGHT, WIDTH)
    assert [r.category_id for r in read_regions(task, CATEGORIES, "here")] == [7, 1]
    assert task_regions(results[2:4], "here") is None


def test_a_label_beside_the_geometry_of_the_same_region() -> None:
    value = {"format": "rle", "rle": encode_brush(SQUARE)}
    results = (region("brush", value, label=None), region("brushlabels", value, label="wall <&>"))
    task = task_regions(results, "here")
    assert task is not None
    assert [r.category_id for r in read_regions(task, CATEGORIES, "here")] == [7]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("brushlabels", {"rle": [1, 2]}, "rle: expected the bytes of Label Studio's run lengths"),
        ("brushlabels", {}, r"expected run lengths \(rle\) or strokes \(touches\)"),
        ("brushlabels", {"touches": [3]}, "touches: expected strokes, got 3"),
        ("brushlabels", {"touches": [{"relativePoints": []}]}, "relativePoints: expected 1 or more points"),
        ("brushlabels", {"touches": [{"relativePoints": [1, 2]}]}, "relativeStrokeWidth: expected a number, got None"),
        ("bitmasklabels", {"imageDataURL": "https://host/a.png"}, "imageDataURL: expected a picture as a data URL"),
        ("bitmasklabels", {"imageDataURL": "data:image/png;base64,????"}, "imageDataURL: "),
        ("bitmasklabels", {"imageDataURL": data_url(SQUARE[:3])}, "imageDataURL: expected 40 x 20 pixels, got 40 x 3"),
        ("polygonlabels", {"points": [[0, 0]]}, "points: expected 3 or more points"),
        ("rectanglelabels", {"x": "a", "y": 0, "width": 1, "height": 1}, "x: expected a number, got 'a'"),
        ("videorectangle", {}, "expected one of brush, bitmask, polygon"),
    ],
)
def test_broken_regions(kind: str, value: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"here: .*{message}"):
        region_patch(region(kind, value), HEIGHT, WIDTH, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original_width": 41}, "expected regions on one photo that was not turned"),
        ({"image_rotation": 90}, "expected regions on one photo that was not turned"),
        ({"original_width": None, "original_height": None}, "expected a width and a height"),
    ],
)
def test_regions_that_do_not_fit_together(change: dict[str, Any], message: str) -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50}
    with pytest.raises(InputError, match=message):
        task_regions([region("rectanglelabels", value), region("rectanglelabels", value) | change], "here")
    with pytest.raises(InputError, match="expected a width and a height"):
        task_regions([region("rectanglelabels", value) | {"original_width": 10**9}], "here")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/upload/3/1a2b3c4d-my%20photo.jpg", "1a2b3c4d-my photo.jpg"),
        ("/data/local-files/?d=sub%2Fa.jpg", "a.jpg"),
        ("https://host/x/a.jpg?token=1", "a.jpg"),
        ("s3://bucket/folder/a.jpg", "a.jpg"),
    ],
)
def test_names_of_photos(url: str, name: str) -> None:
    assert task_photo({"data": {"image": url, "text": "x"}}, "task") == name
    assert task_photo({"data": {"picture": url}}, "task") == name


@pytest.mark.parametrize("data", [None, {}, {"image": "https://host/"}, {"image": "/data/local-files/?d=.."}])
def test_tasks_without_a_photo(data: Any) -> None:
    with pytest.raises(InputError, match="task: data: expected"):
        task_photo({"data": data}, "task")


def test_an_export(tmp_path: Path) -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    first, last = [region("rectanglelabels", value)], [region("rectanglelabels", value, label="wall <&>")]
    tasks = [
        {"id": 4, "data": {"image": "/data/upload/1/1a2b3c4d-a.png"}, "annotations": [{"result": first}, {"result": last}]},
        {"id": 5, "data": {"image": "/data/upload/1/b.png"}, "annotations": [{"result": first}, {"result": last, "was_cancelled": True}]},
        {"id": 6, "data": {"image": "/data/upload/1/c.png"}, "annotations": []},
        {"id": 7, "data": {"image": "/data/upload/1/d.png"}, "annotations": [{"result": []}]},
        {"id": 8, "data": {}, "annotations": [{"result": first}]},
    ]
    path = data_trees.write(tmp_path / "export.json", tasks)
    data_trees.photo(tmp_path / "images" / "a.png", HEIGHT, WIDTH)
    for root in (tmp_path, path):
        files = open_label_studio(root)
        assert [c.name for c in files.categories] == ["cell", "wall <&>"]
        assert [record.name for record in files.records] == ["a.png", "b.png", "d.png", "export.json"]
    records = files.records
    assert records[0].read_image().size == (WIDTH, HEIGHT) and records[0].read_map().segments[0].category_id == 2
    assert records[1].read_map().segments[0].category_id == 1
    for record, message in zip(records[2:], ("found none, so the photo's size", "expected the address of a photo"), strict=True):
        with pytest.raises(InputError, match=message):
            record.read_map()


@pytest.mark.parametrize(
    ("document", "message"),
    [({}, "expected a list of tasks"), ([3], "expected a list of tasks"), ([], "expected a task with"), ([{}], "expected a task with")],
)
def test_what_is_no_export(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_label_studio(data_trees.write(tmp_path / "export.json", document))
    with pytest.raises(InputError, match="split: expected none"):
        open_label_studio(tmp_path, "train")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match=r"root: expected one \*\.json in .*, found 2"):
        open_label_studio(tmp_path)


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
@pytest.mark.parametrize("seed", range(3))
def test_maps_come_back_exactly(tmp_path: Path, kind: MaskKind, seed: int) -> None:
    pmap = random_map(seed)
    control = Control(kind=kind)
    task = task_document("/data/local-files/?d=a.png", pmap, NAMES, control, "v1")
    path = data_trees.write(tmp_path / "tasks.json", [task | {"annotations": task["predictions"]}])
    back = open_label_studio(path).records[0].read_map()
    order = sorted(pmap.segments, key=lambda s: -int((pmap.ids == s.id).sum()))
    assert (back.ids == pmap.relabel({s.id: n for n, s in enumerate(order, start=1)}).ids).all()


def test_scores_and_a_choice_of_segments() -> None:
    pmap = random_map(0)
    wanted = pmap.segments[1].id
    (only,) = map_regions(pmap, {}, Control(), only=[wanted])
    assert only["id"] == f"ldmseg{wanted}" and only["value"]["brushlabels"] == ["segment"] and "score" not in only
    assert json.loads(json.dumps(only)) == only


@pytest.mark.parametrize("kind", ["brush", "bitmask", "polygon"])
def test_an_interface_for_the_regions(kind: MaskKind) -> None:
    view = ElementTree.fromstring(label_config(NAMES.values(), Control("labels", "photo", kind)))
    picture, labels = view
    assert picture.attrib["name"] == labels.attrib["toName"] == "photo" and labels.attrib["name"] == "labels"
    assert labels.tag.lower() == f"{kind}labels" and [one.attrib["value"] for one in labels] == list(NAMES.values())
    assert ("smoothing" in picture.attrib) == (kind == "bitmask")
