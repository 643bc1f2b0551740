from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.tools.coco_instances import coco_instances_document, open_coco_instances
from ldmseg.panoptic import PanopticMap, Segment

HEIGHT, WIDTH = 6, 8
CATS = [{"id": 3, "name": "car", "supercategory": "vehicle"}, {"id": 9, "name": "sky", "isthing": 0}]


def ring(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def entry(segmentation: Any, category: int = 3, **further: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **further}


def document(*annotations: dict[str, Any], **change: Any) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    return {"images": images, "annotations": list(annotations), "categories": CATS, **change}


def only_map(tmp_path: Path, *annotations: dict[str, Any], **change: Any) -> PanopticMap:
    return open_coco_instances(data_trees.write(tmp_path / "instances.json", document(*annotations, **change))).records[0].read_map()


def test_outlines_run_lengths_and_what_lies_on_top(tmp_path: Path) -> None:
    pmap = only_map(
        tmp_path,
        entry([ring(0, 0, 2, 2), ring(6, 0, 8, 2)]),  # two parts of one object
        entry([ring(0, 0, 6, 4)], 9),
        entry({"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}, iscrowd=1),
    )
    assert pmap.segments == (Segment(1, 3, True), Segment(2, 9, False), Segment(3, 3, True, iscrowd=True))
    assert pmap.ids.tolist() == [[1, 1, 2, 2, 2, 2, 1, 1]] * 2 + [[2] * 6 + [3] * 2] * 2 + [[3] * 8] * 2


def test_compressed_counts_and_scores(tmp_path: Path) -> None:
    pmap = only_map(tmp_path, entry({"size": [HEIGHT, WIDTH], "counts": "0`1"}, score=0.25))
    assert pmap.segments == (Segment(1, 3, True, score=0.25),) and (pmap.ids == 1).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"segmentation: expected outlines or run lengths, got \[\] \(is this a file of boxes\?\)"),
        (None, "expected outlines or run lengths, got None"),
        ([[1, 2, 3, 4]], r"expected 3 or more points"),
        ([["a"] * 6], r"expected 3 or more points"),
        ({"size": [1, 1], "counts": [1]}, r"expected the size \[6, 8\], got \[1, 1\]"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "expected run lengths of 48 pixels in all, got 3"),
        ({"size": [HEIGHT, WIDTH]}, "expected counts as a list or text, got None"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~"}, "expected COCO's compressed run lengths"),
    ],
)
def test_broken_segmentations(tmp_path: Path, segmentation: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"image 1: annotations\[0\]: .*{message}"):
        only_map(tmp_path, entry(segmentation))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [entry([], image_id=7)]}, "is of image 7, which is not in images"),
        ({"annotations": [entry([], 5)]}, "category 5 is not one of the categories"),
        ({"images": []}, "images: expected at least one"),
        ({"images": [{"id": 1, "file_name": "../a.png"}]}, "file_name: expected a photo's name below the data set's folder"),
        ({"categories": [*CATS, CATS[0]]}, "id 3 occurs twice"),
    ],
)
def test_broken_files(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        only_map(tmp_path, **change)


@pytest.mark.parametrize(
    ("json_name", "photo", "split"),
    [
        ("annotations/instances_val.json", "val/a.png", "val"),
        ("annotations/instances_default.json", "images/default/a.png", None),  # CVAT's export
        ("train/_annotations.coco.json", "train/a.png", "train"),  # Roboflow's
        ("_annotations.coco.json", "a.png", None),
        ("instances.json", "images/a.png", None),
    ],
)
def test_layouts(tmp_path: Path, json_name: str, photo: str, split: str | None) -> None:
    data_trees.write(tmp_path / json_name, document(entry([ring(0, 0, 2, 2)])))
    data_trees.photo(tmp_path / photo, HEIGHT, WIDTH)
    record = open_coco_instances(tmp_path, split).records[0]
    assert record.read_image().size == (WIDTH, HEIGHT) and record.read_map().areas.tolist() == [4]
    with pytest.raises(InputError, match=r"split: expected one of|root: found no instances_"):
        open_coco_instances(tmp_path, "nothing")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"root: found no instances_<split>\.json"):
        open_coco_instances(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_maps_come_back_exactly(tmp_path: Path, seed: int) -> None:
    pmap = random_map(seed)
    written = data_trees.write(tmp_path / "instances.json", coco_instances_document([(1, "a.png", pmap)], CATEGORIES))
    assert open_coco_instances(written).records[0].read_map() == pmap
    assert json.loads(written.read_text())["annotations"][0]["bbox"] == pmap.boxes[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pycocotools", "supervision", "datumaro"])
def test_other_readers_find_the_same_masks(tmp_path: Path, package: str) -> None:
    maps = [random_map(seed) for seed in range(4)]
    (tmp_path / "annotations").mkdir()
    for number, pmap in enumerate(maps):
        data_trees.photo(tmp_path / "images" / "default" / f"{number}.png", *pmap.shape)
    images = [(number + 1, f"{number}.png", pmap) for number, pmap in enumerate(maps)]
    path = data_trees.write(tmp_path / "annotations" / "instances_default.json", coco_instances_document(images, CATEGORIES))
    code = {
        "pycocotools": """
from pycocotools.coco import COCO
coco = COCO(given["json"])
answer = [[[a["category_id"], coco.annToMask(a).tolist()] for a in coco.imgToAnns[i + 1]] for i in range(4)]
""",
        "supervision": """
import supervision
from pathlib import Path
data = supervision.DetectionDataset.from_coco(given["photos"], given["json"], force_masks=True)
found = {Path(path).stem: labels for path, _, labels in data}
ids = [1, 2, 7]
answer = [[[ids[c], m.astype(int).tolist()] for c, m in zip(found[str(i)].class_id.tolist(), found[str(i)].mask)] for i in range(4)]
""",
        "datumaro": """
from datumaro.components.dataset import Dataset
found = {item.id: [a for a in item.annotations if hasattr(a, "image")] for item in Dataset.import_from(given["root"], "coco_instances")}
names = [c.name for c in Dataset.import_from(given["root"], "coco_instances").categories()[__import__("datumaro").AnnotationType.label]]
ids = {"cell": 1, "café au lait": 2, "wall <&>": 7}
answer = [[[ids[names[a.label]], a.image.astype(int).tolist()] for a in found[str(i)]] for i in range(4)]
""",
    }[package]
    given = {"json": str(path), "photos": str(tmp_path / "images" / "default"), "root": str(tmp_path)}
    for pmap, found in zip(maps, ask(package, code, given), strict=True):
        theirs = sorted((category, np.array(mask).tobytes()) for category, mask in found)
        ours = sorted((s.category_id or 0, (pmap.ids == s.id).astype(int).tobytes()) for s in pmap.segments)
        assert theirs == ours
