from __future__ import annotations

import json
from pathlib import Path

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map

from ldmseg.connect.exchange import export_label_studio, export_tool, import_tool, named_dataset
from ldmseg.data.datasets import load_dataset
from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import CocoPanopticWriter
from ldmseg.formats.label_png import read_label_png
from ldmseg.formats.tools.label_studio import Control
from ldmseg.formats.tools.labelme import labelme_document
from ldmseg.panoptic import PanopticMap


def labelme(root: Path, pmap: PanopticMap) -> Path:
    data_trees.photo(root / "a.png", *pmap.shape)
    data_trees.write(root / "a.json", labelme_document(pmap, {c.id: c.name for c in CATEGORIES}, "a.png"))
    (root / "labels.txt").write_text("".join(f"{c.name}\n" for c in CATEGORIES), encoding="utf-8")
    return root


def completed(root: Path, pmap: PanopticMap) -> tuple[str, PanopticMap]:
    """As `inpaint` writes it: given ids stay, new ones follow, nothing is named and there are no photos."""
    full = PanopticMap(np.where(pmap.ids > 0, pmap.ids, 50))
    with CocoPanopticWriter(root, png_dir=root) as writer:
        writer.add("a.png", 1, full)
    return f"coco-panoptic:{root}", full


def test_half_a_label_goes_into_inpaint_and_comes_back_with_its_names(tmp_path: Path) -> None:
    pmap = random_map(1)
    report = import_tool("labelme", labelme(tmp_path / "labelme", pmap), tmp_path / "given")
    assert report.data == f"coco-panoptic:{tmp_path / 'given'}" and report.images == 1
    assert (read_label_png(tmp_path / "given" / "panoptic" / "a.png").ids == pmap.ids).all()  # what inpaint --partial reads
    done, full = completed(tmp_path / "done", pmap)
    with pytest.raises(InputError, match="name the folder of photos"):
        export_tool("labelme", done, tmp_path / "back")
    report = export_tool("labelme", done, tmp_path / "back", photos=tmp_path / "given" / "images", names=report.data)
    back = load_dataset(report.data)
    assert [c.name for c in back.categories] == [*(c.name for c in CATEGORIES), "segment"]
    order = {s.id: n for n, s in enumerate(full.segments, start=1)}
    assert (back.map(0).ids == full.relabel(order).ids).all()
    names = {c.id: c.name for c in back.categories}
    given = {c.id: c.name for c in CATEGORIES}
    assert [names[s.category_id or 0] for s in back.map(0).segments] == [*(given[s.category_id or 0] for s in pmap.segments), "segment"]


def test_a_split_is_imported_into_the_same_folders(tmp_path: Path) -> None:
    labelme(tmp_path / "labelme" / "val", random_map(1))
    labelme(tmp_path / "labelme" / "train", random_map(2))
    import_tool("labelme", tmp_path / "labelme", tmp_path / "given", split="val")
    assert (read_label_png(tmp_path / "given" / "panoptic" / "a.png").ids == random_map(1).ids).all()
    assert (tmp_path / "given" / "images" / "a.png").is_file()


def test_tasks_for_label_studio(tmp_path: Path) -> None:
    pmap = random_map(1)
    given = import_tool("labelme", labelme(tmp_path / "labelme", pmap), tmp_path / "given").data
    done, _ = completed(tmp_path / "done", pmap)
    report = export_label_studio(done, tmp_path / "out", Control(kind="bitmask"), prefix="/data/local-files/?d=x/", names=given)
    (task,) = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    assert task["data"] == {"image": "/data/local-files/?d=x/a.png"}
    assert len(task["predictions"][0]["result"]) == report.segments == len(pmap) + 1
    assert "café" in (tmp_path / "out" / "label_config.xml").read_text(encoding="utf-8")
    export_label_studio(done, tmp_path / "labels", Control(), prefix="", as_annotations=True)
    assert len(load_dataset(f"label-studio:{tmp_path / 'labels'}").map(0)) == report.segments
    with pytest.raises(InputError, match="output: expected a folder without"):
        export_label_studio(done, tmp_path / "out", Control(), prefix="")


def test_names_need_files_and_photos_of_other_names_keep_none(tmp_path: Path) -> None:
    pmap = random_map(1)
    given = import_tool("labelme", labelme(tmp_path / "labelme", pmap), tmp_path / "given").data
    with pytest.raises(InputError, match="--names: expected with a data set in files"):
        named_dataset("scenes:1", given)
    with CocoPanopticWriter(tmp_path / "other", png_dir=tmp_path / "other") as writer:
        writer.add("b.png", 1, PanopticMap(pmap.ids))
    segments = named_dataset(f"coco-panoptic:{tmp_path / 'other'}", given).map(0).segments
    assert {s.category_id for s in segments} == {len(CATEGORIES) + 1}
