from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.tools.labelme import labelme_document, open_labelme, read_labelme

HEIGHT, WIDTH = 20, 30


def png(mask: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(kind: str, points: list[list[float]], label: str = "cell", **further: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **further}


def document(*shapes: dict[str, Any], image_path: str = "a.png", **further: Any) -> dict[str, Any]:
    return {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image_path, "imageData": None} | {
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **further,
    }


def ids(tmp_path: Path, *shapes: dict[str, Any]) -> np.ndarray:
    return read_labelme(data_trees.write(tmp_path / "a.json", document(*shapes))).ids


@pytest.mark.parametrize(
    ("kind", "points", "area", "box"),
    [
        ("polygon", [[2, 3], [10, 3], [10, 8], [2, 8]], 40, (2, 3, 8, 5)),
        ("rectangle", [[10, 8], [2, 3]], 40, (2, 3, 8, 5)),
        ("oriented_rectangle", [[2, 3], [10, 3], [10, 8], [2, 8]], 40, (2, 3, 8, 5)),
        ("circle", [[10, 10], [14, 10]], 52, (6, 6, 8, 8)),
        ("line", [[2.5, 10.5], [12.5, 10.5]], None, (0, 8, 15, 5)),
        ("linestrip", [[2.5, 10.5], [12.5, 10.5], [12.5, 3.5]], None, (0, 1, 15, 12)),
        ("point", [[10.5, 10.5]], 21, (8, 8, 5, 5)),
        ("points", [[10.5, 10.5], [20.5, 10.5]], 42, (8, 8, 15, 5)),
    ],
)
def test_every_kind_of_shape(tmp_path: Path, kind: str, points: list[list[float]], area: int | None, box: tuple[int, ...]) -> None:
    pmap = read_labelme(data_trees.write(tmp_path / "a.json", document(shape(kind, points))))
    assert tuple(pmap.boxes[0].tolist()) == box
    assert area is None or pmap.areas.tolist() == [area]
    assert (pmap.ids == 0).any()  # the rest stays void


def test_masks_lie_in_the_box_of_their_points_with_its_last_row_and_column(tmp_path: Path) -> None:
    mask = np.array([[1, 0, 1], [1, 1, 1]])
    found = ids(tmp_path, shape("mask", [[4, 5], [6, 6]], mask=png(mask)))
    assert found[5:7, 4:7].tolist() == mask.tolist() and found.sum() == 5


def test_groups_labels_and_order(tmp_path: Path) -> None:
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    shapes = [
        shape("polygon", square, group_id=3),
        shape("polygon", [[10, 10], [12, 10], [12, 12]], group_id=3),
        shape("polygon", [[2, 2], [6, 2], [6, 6], [2, 6]], "wall", group_id=3),
        shape("polygon", [[3, 3], [4, 3], [4, 4], [3, 4]], "_background_"),
    ]
    pmap = read_labelme(data_trees.write(tmp_path / "a.json", document(*shapes)))
    assert [(s.id, s.category_id) for s in pmap.segments] == [(1, 1), (2, 2)]
    assert pmap.ids[0, 0] == pmap.ids[10, 11] == 1 and pmap.ids[2, 2] == 2 and pmap.ids[3, 3] == 0


def test_a_folder_with_photos_windows_names_and_a_list_of_labels(tmp_path: Path) -> None:
    data_trees.photo(tmp_path / "sub" / "a.png", HEIGHT, WIDTH)
    data_trees.write(tmp_path / "a.json", document(shape("point", [[5, 5]], "wall"), image_path="sub\\a.png"))
    data_trees.write(tmp_path / "b.json", document(shape("point", [[5, 5]], "cell")))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nwall\n\n", encoding="utf-8")
    files = open_labelme(tmp_path)
    assert [(c.id, c.name, c.isthing) for c in files.categories] == [(1, "wall", True), (2, "cell", True)]
    assert files.records[0].name == "sub/a.png" and files.records[0].read_image().size == (WIDTH, HEIGHT)
    assert files.records[1].read_map().segments[0].category_id == 2
    with pytest.raises(InputError, match=r"image: cannot read '.*a\.png': no such file"):
        files.records[1].read_image()


OUTSIDE = ["../a.png", "..\\a.png", "sub/../../a.png", "/etc/a.png", "C:\\photos\\a.png", "\\\\host\\share\\a.png", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_photos_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    data_trees.write(tmp_path / "a.json", document(image_path=name))
    data_trees.write(tmp_path / "b.json", document(shape("point", [[5, 5]])))
    broken, fine = open_labelme(tmp_path).records
    for read in (broken.read_map, broken.read_image):
        with pytest.raises(InputError, match="imagePath: expected a photo's name below the data set's folder, got"):
            read()
    assert len(fine.read_map()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [shape("cube", [[1, 1], [2, 2]])]}, "shape_type: expected one of polygon, .* got 'cube'"),
        ({"shapes": [shape("polygon", [[1, 1], [2, 2]])]}, r"points: expected 3 or more points"),
        ({"shapes": [shape("mask", [[1, 1], [2, 2]], mask="????")]}, "mask: expected a PNG in base64, but"),
        ({"shapes": [shape("mask", [[1, 1], [2, 2]], mask=png(np.ones((3, 3))))]}, "mask: expected 2 x 2 pixels, .* got 3 x 3"),
        ({"shapes": [shape("mask", [[1, 1], [2, 2]])]}, "mask: expected a PNG in base64, got None"),
        ({"shapes": [{"label": 3, "points": []}]}, "label: expected str, got 3"),
        ({"shapes": 3}, "shapes: expected a list, got int"),
        ({"imageHeight": 10**9}, "expected a width and a height"),
        ({"imageHeight": None}, "expected a width and a height"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = data_trees.write(tmp_path / "a.json", document() | change)
    with pytest.raises(InputError, match=message) as caught:
        read_labelme(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_a_map_comes_back_exactly(tmp_path: Path, seed: int) -> None:
    pmap = random_map(seed)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(labelme_document(pmap, {c.id: c.name for c in CATEGORIES}, "a.png")), encoding="utf-8")
    assert read_labelme(path, CATEGORIES) == pmap


def test_folders_without_annotations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"root: found no \*\.json"):
        open_labelme(tmp_path)
    for split in ("train", "val"):
        data_trees.write(tmp_path / split / "a.json", document())
    with pytest.raises(InputError, match=r"split: .* has several; name one of: train, val"):
        open_labelme(tmp_path)
    assert len(open_labelme(tmp_path, "val").records) == 1
    with pytest.raises(InputError, match="split: expected a path below"):
        open_labelme(tmp_path, "../..")
