from __future__ import annotations

from pathlib import Path

import data_trees
import pytest

from ldmseg.errors import InputError
from ldmseg.formats.ade20k import locate_ade20k
from ldmseg.formats.coco_layout import CocoFiles, locate_coco


def test_the_pngs_of_coco_and_of_detectron2(tmp_path: Path) -> None:
    for name, detectron2 in (("shipped", False), ("detectron2", True)):
        data_trees.coco(tmp_path / name, detectron2=detectron2)
        files = locate_coco(tmp_path / name)
        assert files == CocoFiles(tmp_path / name / "annotations" / "panoptic_val2017.json")
        folder = files.find_png_dir(["000000000139.png"])
        assert folder == tmp_path / name / ("panoptic_val2017" if detectron2 else "annotations/panoptic_val2017")
        assert files.find_image_dir(["000000000139.jpg"]) == tmp_path / name / "val2017"


def test_the_folder_above_is_looked_at_only_for_annotations(tmp_path: Path) -> None:
    data_trees.coco(tmp_path, detectron2=True)
    (tmp_path / "annotations").rename(tmp_path / "json")
    with pytest.raises(InputError, match=r"png_dir: found no '000000000139\.png'"):
        CocoFiles(tmp_path / "json" / "panoptic_val2017.json").find_png_dir(["000000000139.png"])


def test_folders_that_are_named(tmp_path: Path) -> None:
    files = CocoFiles(tmp_path / "panoptic.json", tmp_path, tmp_path / "nowhere")
    assert files.find_png_dir([]) == tmp_path
    with pytest.raises(InputError, match=r"image_dir: expected a folder, got .* does not exist"):
        files.find_image_dir([])


@pytest.mark.parametrize("names", [("training", "validation"), ("train", "val")])
def test_ade20k_s_photos_under_either_name(tmp_path: Path, names: tuple[str, str]) -> None:
    data_trees.ade20k(tmp_path)
    for old, new in zip(("training", "validation"), names, strict=True):
        (tmp_path / "images" / old).rename(tmp_path / "images" / new)
    for split, folder in (("train", names[0]), ("validation", names[1])):
        files = locate_ade20k(tmp_path, split)
        assert files.image_dir == tmp_path / "images" / folder and files.empty_segments
        assert files.png_dir == tmp_path / f"ade20k_panoptic_{'train' if split == 'train' else 'val'}"
    with pytest.raises(InputError, match=r"expected one of train, val .* got 'test'"):
        locate_ade20k(tmp_path, "test")
