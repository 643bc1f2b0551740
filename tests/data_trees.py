"""Small data sets laid out as the real ones are, written with Pillow and json alone so that the package's own writers are not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CITIES = {"aachen_000000_000019": "aachen", "aachen_000001_000019": "aachen", "bochum_000000_000313": "bochum"}
CITYSCAPES_VALUES = np.array(
    [
        [0, 1, 7, 7, 11, 11],
        [7, 7, 7, 26, 26001, 26001],
        [24000, 24000, 26000, 26, 29000, 23],
        [24001, 21, 26000, 33002, 30, 23],
    ]
)
"""Instance ids: stuff, single things, a group of cars (26), and labels that do not count (0, 1, 29, 30)."""

COCO_CATEGORIES = [
    {"supercategory": "person", "isthing": 1, "id": 1, "name": "person"},
    {"supercategory": "vehicle", "isthing": 1, "id": 3, "name": "car"},
    {"supercategory": "sky", "isthing": 0, "id": 187, "name": "sky-other-merged"},
]
COCO_IDS = np.array([[0, 5, 5, 9], [0, 5, 70000, 9], [0, 0, 70000, 9]])
COCO_SEGMENTS = [
    {"id": 70000, "category_id": 3, "iscrowd": 0, "bbox": [2, 1, 1, 2], "area": 2},
    {"id": 5, "category_id": 1, "iscrowd": 1, "bbox": [1, 0, 2, 2], "area": 3},
    {"id": 9, "category_id": 187, "iscrowd": 0, "bbox": [3, 0, 1, 3], "area": 3},
]


def photo(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A noisy picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def id_png(path: Path, ids: np.ndarray) -> Path:
    """COCO's colours: R + 256 G + 65536 B."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(path)
    return path


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def coco(root: Path, split: str = "val2017", *, detectron2: bool = False, count: int = 2) -> Path:
    """As COCO ships it, or with the PNGs where detectron2 expects them, beside `annotations`."""
    stems = [f"{139 * (number + 1):012d}" for number in range(count)]
    pngs = root / f"panoptic_{split}" if detectron2 else root / "annotations" / f"panoptic_{split}"
    for number, stem in enumerate(stems):
        photo(root / split / f"{stem}.jpg", 3, 4, number)
        id_png(pngs / f"{stem}.png", COCO_IDS)
        if detectron2:
            for other in ("panoptic_stuff", "panoptic_semseg"):
                (root / f"{other}_{split}").mkdir(exist_ok=True)
                Image.fromarray(np.zeros((3, 4), np.uint8)).save(root / f"{other}_{split}" / f"{stem}.png")
    images = [
        {
            "license": 3,
            "file_name": f"{stem}.jpg",
            "coco_url": f"http://images.cocodataset.org/{split}/{stem}.jpg",
            "height": 3,
            "width": 4,
            "id": int(stem),
        }
        for stem in stems
    ]
    annotations = [{"segments_info": COCO_SEGMENTS, "file_name": f"{stem}.png", "image_id": int(stem)} for stem in stems]
    return write(
        root / "annotations" / f"panoptic_{split}.json",
        {
            "info": {"description": "COCO 2018 Panoptic Dataset", "year": 2018},
            "licenses": [{"id": 3, "name": "Attribution-NonCommercial-NoDerivs License", "url": "http://creativecommons.org/"}],
            "images": images,
            "annotations": annotations,
            "categories": COCO_CATEGORIES,
        },
    )


def cityscapes(root: Path, split: str = "val", *, panoptic: bool = False) -> Path:
    """`leftImg8bit` and `gtFine` as they are downloaded; with `panoptic` also what cityscapesScripts' createPanopticImgs makes."""
    height, width = CITYSCAPES_VALUES.shape
    for seed, (name, city) in enumerate(CITIES.items()):
        photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", height, width, seed)
        folder = root / "gtFine" / split / city
        folder.mkdir(parents=True, exist_ok=True)
        values = np.roll(CITYSCAPES_VALUES, seed, axis=1)
        labels = np.where(values >= 1000, values // 1000, values)
        Image.fromarray(values.astype(np.uint16)).save(folder / f"{name}_gtFine_instanceIds.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / f"{name}_gtFine_labelIds.png")
        photo(folder / f"{name}_gtFine_color.png", height, width)
        write(folder / f"{name}_gtFine_polygons.json", {"imgHeight": height, "imgWidth": width, "objects": []})
        if panoptic:
            id_png(root / "gtFine" / f"cityscapes_panoptic_{split}" / f"{name}_gtFine_panoptic.png", _counted(values))
    if panoptic:
        _cityscapes_json(root / "gtFine" / f"cityscapes_panoptic_{split}.json")
    return root


CITYSCAPES_STUFF = {7: "road", 11: "building", 21: "vegetation", 23: "sky"}
CITYSCAPES_THINGS = {24: "person", 26: "car", 33: "bicycle"}


def _counted(values: np.ndarray) -> np.ndarray:
    labels = np.where(values >= 1000, values // 1000, values)
    return np.where(np.isin(labels, [*CITYSCAPES_STUFF, *CITYSCAPES_THINGS]), values, 0)


def _cityscapes_json(path: Path) -> None:
    images, annotations = [], []
    for seed, name in enumerate(CITIES):
        ids = _counted(np.roll(CITYSCAPES_VALUES, seed, axis=1))
        height, width = ids.shape
        # createPanopticImgs derives this name from the annotation's; there is no such file.
        images.append({"id": name, "width": width, "height": height, "file_name": f"{name}_gtFine_leftImg8bit.png"})
        segments = []
        for value in np.unique(ids[ids > 0]).tolist():
            ys, xs = np.nonzero(ids == value)
            label = value if value < 1000 else value // 1000
            box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
            crowd = int(value < 1000 and label in CITYSCAPES_THINGS)
            segments.append({"id": value, "category_id": label, "area": len(xs), "bbox": box, "iscrowd": crowd})
        annotations.append({"image_id": name, "file_name": f"{name}_gtFine_panoptic.png", "segments_info": segments})
    named = CITYSCAPES_STUFF | CITYSCAPES_THINGS
    categories = [
        {"id": i, "name": name, "color": [i, i, i], "supercategory": "any", "isthing": int(i in CITYSCAPES_THINGS)}
        for i, name in sorted(named.items())
    ]
    write(path, {"images": images, "annotations": annotations, "categories": categories})


ADE_IDS = np.array([[7895160, 7895160, 3], [7895160, 2, 3]])


def ade20k(root: Path) -> Path:
    """As the usual converter leaves it: category ids from 0, no supercategory, and stuff that things were drawn over without a recount."""
    categories = [{"name": f"class {i}", "id": i, "isthing": int(i >= 100), "color": [i, i, i]} for i in range(150)]
    categories[0]["name"], categories[12]["name"] = "wall", "person"
    categories[12]["isthing"] = 1
    for split, folder in (("train", "training"), ("val", "validation")):
        names = [f"ADE_{split}_{number:08d}" for number in (1, 2)]
        images, annotations = [], []
        for name in names:
            photo(root / "images" / folder / f"{name}.jpg", 2, 3)
            for other in ("annotations", "annotations_instance"):
                photo(root / other / folder / f"{name}.png", 2, 3)
            id_png(root / f"ade20k_panoptic_{split}" / f"{name}.png", ADE_IDS)
            images.append({"id": name, "file_name": f"{name}.jpg", "width": 3, "height": 2})
            segments = [
                {"id": 7895160, "category_id": 0, "area": 4, "bbox": [0, 0, 2, 2], "iscrowd": 0},
                {"id": 99, "category_id": 2, "area": 1, "bbox": [2, 0, 1, 1], "iscrowd": 0},
                {"id": 2, "category_id": 12, "area": 1, "bbox": [1, 1, 1, 1], "iscrowd": 0},
                {"id": 3, "category_id": 12, "area": 2, "bbox": [2, 0, 1, 2], "iscrowd": 0},
            ]
            annotations.append({"image_id": name, "file_name": f"{name}.png", "segments_info": segments})
        write(root / f"ade20k_panoptic_{split}.json", {"images": images, "annotations": annotations, "categories": categories})
    (root / "objectInfo150.txt").write_text("Idx\tRatio\n", encoding="utf-8")
    return root


LABEL_IDS = {
    "a": np.array([[0, 1], [255, 2]]),
    "b": np.array([[0, 65535], [256, 2]]),
    "c": np.array([[0, 2**24 - 1], [70000, 70000]]),
}


def labels(root: Path, images: str = "images", masks: str = "masks") -> Path:
    """8-bit gray, 16-bit gray and RGB id pictures beside JPEG photos."""
    (root / masks).mkdir(parents=True, exist_ok=True)
    for seed, (stem, ids) in enumerate(LABEL_IDS.items()):
        photo(root / images / f"{stem}.jpg", 2, 2, seed)
        if stem == "c":
            id_png(root / masks / "c.png", ids)
        else:
            Image.fromarray(ids.astype(np.uint8 if stem == "a" else np.uint16)).save(root / masks / f"{stem}.png")
    return root


def annotators(root: Path, split: str = "val") -> Path:
    """BSDS500 as a COCO panoptic file of everybody: image 8 by three people, whose maps have 3, 1 and 2 segments, image 3 by one."""
    maps = {8: [[[1, 2], [3, 3]], [[1, 1], [1, 1]], [[1, 1], [2, 2]]], 3: [[[4, 4], [4, 4]]]}
    images, everybody, one = [], [], []
    for image_id, drawn in maps.items():
        photo(root / "images" / split / f"{image_id}.jpg", 2, 2, image_id)
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": 2, "height": 2})
        for number, ids in enumerate(drawn):
            name = f"{image_id}_ann{number}.png"
            id_png(root / "panoptic" / split / name, np.array(ids))
            segments = [{"id": i, "category_id": 1, "iscrowd": 0} for i in sorted({*ids[0], *ids[1]})]
            everybody.append({"image_id": image_id, "file_name": name, "annotator": number, "segments_info": segments})
        one.append(everybody[-1])
    categories = [{"id": 1, "name": "region", "supercategory": "region", "isthing": 1}]
    write(root / f"panoptic_{split}.json", {"images": images, "annotations": one, "categories": categories})
    write(root / f"panoptic_{split}_all.json", {"images": images, "annotations": everybody, "categories": categories})
    return root
