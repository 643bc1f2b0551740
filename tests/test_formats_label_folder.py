from __future__ import annotations

from pathlib import Path

import data_trees
import numpy as np
import pytest
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.label_folder import open_label_folder


def test_maps_without_photos_are_enough(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    folder = open_label_folder(tmp_path)
    assert folder.image_dir is None
    records = folder.records()
    assert [r.stem for r in records] == ["a", "b", "c"] and records[0].read_map().shape == (2, 2)
    with pytest.raises(InputError, match=r"a\.png' has no photo 'a\.\*' in '.*images'"):
        records[0].read_image()


def test_photos_without_a_map_are_items_that_cannot_be_read(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    data_trees.photo(tmp_path / "images" / "z.jpg", 2, 2)
    record = open_label_folder(tmp_path).records()[-1]
    assert record.read_image().size == (2, 2)
    with pytest.raises(InputError, match=r"z\.jpg' has no map 'z\.\*' in '.*masks'"):
        record.read_map()


def test_only_pictures_count(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    for name in ("images/.DS_Store", "masks/._a.png", "masks/labels.json", "images/notes.txt"):
        (tmp_path / name).write_text("x")
    assert [r.stem for r in open_label_folder(tmp_path).records()] == ["a", "b", "c"]


def test_masks_are_preferred_to_labels(tmp_path: Path) -> None:
    data_trees.labels(tmp_path, masks="labels")
    assert open_label_folder(tmp_path).mask_dir == tmp_path / "labels"
    data_trees.labels(tmp_path, masks="masks")
    assert open_label_folder(tmp_path).mask_dir == tmp_path / "masks"


def test_32_bit_pictures(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    Image.fromarray(np.array([[0, 2**31 - 1], [70000, 70000]], np.int32)).save(tmp_path / "masks" / "b.tif")
    assert open_label_folder(tmp_path).records()[1].read_map().ids.tolist() == [[0, 2**31 - 1], [70000, 70000]]


def test_a_whole_folder_goes_before_its_splits(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    data_trees.labels(tmp_path, "images/val", "masks/val")
    (tmp_path / "masks" / "val" / "c.png").unlink()
    assert len(open_label_folder(tmp_path).masks) == 3 and len(open_label_folder(tmp_path, "val").masks) == 2


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    data_trees.photo(tmp_path / "images" / "a.jpg", 2, 2)
    with pytest.raises(InputError, match="found no pictures in a folder 'masks' or 'labels'"):
        open_label_folder(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="found no pictures in a folder 'masks' or 'labels'"):
        open_label_folder(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "panoptic_val.json").write_text("{}")
    with pytest.raises(InputError, match="it looks like a data set of the format coco-panoptic"):
        open_label_folder(tmp_path)
    with pytest.raises(InputError, match="root: expected a folder"):
        open_label_folder(tmp_path / "images" / "a.jpg")
