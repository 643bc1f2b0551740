from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
from PIL import Image

from ldmseg.data.check import KINDS, CheckReport, check_dataset
from ldmseg.data.datasets import load_dataset
from ldmseg.errors import InputError


def found(report: CheckReport) -> set[tuple[str, str]]:
    """(kind, name of the file) of every finding."""
    return {(finding.kind, Path(finding.file).name) for finding in report.findings}


CLEAN = {
    "coco-panoptic": (data_trees.coco, "", 2),
    "cityscapes": (data_trees.cityscapes, "", 3),
    "labels": (data_trees.labels, "", 3),
    "bsds500": (data_trees.annotators, ":val", 2),
}


@pytest.mark.parametrize("kind", CLEAN)
def test_nothing_is_wrong(tmp_path: Path, kind: str) -> None:
    make, split, images = CLEAN[kind]
    make(tmp_path)
    progress: list[tuple[int, int]] = []
    report = check_dataset(f"{kind}:{tmp_path}{split}", on_progress=lambda done, total: progress.append((done, total)))
    assert report == CheckReport(images, ())
    assert progress == [(n, images) for n in range(1, images + 1)]


def test_nothing_is_wrong_with_scenes_and_panoptic_cityscapes(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path, panoptic=True)
    assert check_dataset(f"cityscapes:{tmp_path}").findings == ()
    assert check_dataset("scenes:2").findings == ()


def change(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """An edit of the JSON of `data_trees.coco`."""

    def apply(root: Path) -> None:
        path = root / "annotations" / "panoptic_val2017.json"
        document = json.loads(path.read_text())
        edit(document)
        path.write_text(json.dumps(document))

    return apply


PNG, PHOTO, JSON = "000000000278.png", "000000000278.jpg", "panoptic_val2017.json"


def segment(document: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return document["annotations"][1]["segments_info"][number]


def in_tree(name: str, action: Callable[[Path], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        folder = root / ("annotations/panoptic_val2017" if name == PNG else "val2017")
        action(folder / name)

    return apply


def flip(path: Path, chunk: bytes) -> None:
    """Change the last byte of a chunk's checksum: the pixels are as they were."""
    data = bytearray(path.read_bytes())
    start = data.index(chunk)
    data[start + 4 + int.from_bytes(data[start - 4 : start]) + 3] ^= 1
    path.write_bytes(data)


CASES: dict[str, tuple[Callable[[Path], None], set[tuple[str, str]]]] = {
    "photo gone": (in_tree(PHOTO, Path.unlink), {("missing-file", PHOTO)}),
    "png gone": (in_tree(PNG, Path.unlink), {("missing-file", PNG)}),
    "photo cut": (in_tree(PHOTO, lambda p: p.write_bytes(p.read_bytes()[:100])), {("broken-file", PHOTO)}),
    "png is text": (in_tree(PNG, lambda p: p.write_text("x")), {("broken-file", PNG)}),
    "png with another byte": (in_tree(PNG, lambda p: flip(p, b"IDAT")), {("broken-file", PNG)}),
    "png is gray": (in_tree(PNG, lambda p: Image.new("L", (4, 3)).save(p)), {("broken-file", PNG)}),
    "photo of another size": (in_tree(PHOTO, lambda p: data_trees.photo(p, 4, 3)), {("size-mismatch", PHOTO)}),
    "png of another size": (
        in_tree(PNG, lambda p: data_trees.id_png(p, np.concatenate([data_trees.COCO_IDS, [[0] * 4]]))),
        {("size-mismatch", PNG)},
    ),
    "sizes unknown to the JSON": (
        lambda root: (
            change(lambda d: [d["images"][1].pop(key) for key in ("width", "height")])(root),
            data_trees.photo(root / "val2017" / PHOTO, 3, 5),
        )[0],
        {("size-mismatch", PNG)},
    ),
    "id without a segment": (change(lambda d: d["annotations"][1]["segments_info"].pop()), {("unlisted-id", PNG)}),
    "segment without a pixel": (
        change(lambda d: d["annotations"][1]["segments_info"].append({"id": 8, "category_id": 1, "area": 3})),
        {("empty-segment", PNG)},
    ),
    "wrong area": (change(lambda d: segment(d).update(area=3)), {("wrong-area", PNG)}),
    "wrong box": (change(lambda d: segment(d).update(bbox=[2, 1, 1, 1])), {("wrong-box", PNG)}),
    "broken box": (change(lambda d: segment(d).update(bbox=[2, 1])), {("wrong-box", PNG)}),
    "unknown category": (change(lambda d: segment(d).update(category_id=2)), {("unknown-category", JSON)}),
    "segment twice": (change(lambda d: segment(d).update(id=5)), {("duplicate-id", JSON), ("unlisted-id", PNG)}),
    "category twice": (change(lambda d: d["categories"].append(d["categories"][0])), {("duplicate-id", JSON)}),
    "image twice": (change(lambda d: d["images"].append(d["images"][0])), {("duplicate-id", JSON)}),
    "two images of one photo": (
        change(lambda d: d["images"].append(d["images"][1] | {"id": 4})),
        {("shared-file", JSON), ("no-annotation", JSON)},
    ),
    "two annotations": (
        change(lambda d: d["annotations"].append(d["annotations"][1] | {"file_name": "000000000139.png", "image_id": 278})),
        {("shared-file", JSON), ("two-annotations", JSON)},
    ),
    "annotation of nothing": (
        change(lambda d: d["annotations"][1].update(image_id=7)),
        {("unknown-image", JSON), ("no-annotation", JSON)},
    ),
    "entry without a key": (
        change(lambda d: d["annotations"][1].pop("segments_info")),
        {("broken-json", JSON), ("no-annotation", JSON)},
    ),
    "segment without a category": (change(lambda d: segment(d).pop("category_id")), {("broken-json", JSON), ("unlisted-id", PNG)}),
    "image without a name": (
        change(lambda d: d["images"][1].pop("file_name")),
        {("broken-json", JSON), ("unknown-image", JSON)},
    ),
    "no object": (change(lambda d: d["categories"].append(7)), {("broken-json", JSON)}),
    "no categories": (change(lambda d: d.pop("categories")), {("broken-json", JSON)}),
    "no json": (lambda root: (root / "annotations" / JSON).write_text("{") and None, {("broken-json", JSON)}),
    "no photos": (
        lambda root: (root / "val2017").rename(root / "elsewhere") and None,
        {("missing-file", JSON)},
    ),
    "no PNGs": (
        lambda root: (root / "annotations" / "panoptic_val2017").rename(root / "elsewhere") and None,
        {("missing-file", JSON)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_can_be_wrong_with_coco_panoptic(tmp_path: Path, case: str) -> None:
    damage, expected = CASES[case]
    data_trees.coco(tmp_path)
    damage(tmp_path)
    report = check_dataset(f"coco-panoptic:{tmp_path}")
    assert found(report) == expected
    assert all(finding.kind in KINDS and "\n" not in finding.message and finding.message for finding in report.findings)


def test_a_finding_is_one_line_of_moderate_length(tmp_path: Path) -> None:
    data_trees.coco(tmp_path)
    change(lambda d: segment(d).update(bbox=[2, 1, 1, "9" * 2000], area=10**400))(tmp_path)
    messages = [finding.message for finding in check_dataset(f"coco-panoptic:{tmp_path}").findings]
    assert len(messages) == 2 and all(len(message) < 300 and "\n" not in message for message in messages)


def test_two_people_may_annotate_an_image_where_that_is_expected(tmp_path: Path) -> None:
    data_trees.annotators(tmp_path)
    path = tmp_path / "panoptic_val_all.json"
    assert check_dataset(f"coco-panoptic:{tmp_path}:val_all").findings == ()
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        del annotation["annotator"]
    (tmp_path / "panoptic_everybody.json").write_text(json.dumps(document))
    assert check_dataset(f"bsds500:{tmp_path}:everybody").images == 2
    report = check_dataset(f"coco-panoptic:{tmp_path / 'panoptic_everybody.json'}")
    assert [f.kind for f in report.findings if f.kind != "missing-file"] == ["two-annotations"] * 2
    assert "image 8 has a second annotation, '8_ann1.png'" in report.findings[0].message


def test_every_finding_is_told_in_one_go(tmp_path: Path) -> None:
    data_trees.coco(tmp_path, count=9)
    for name in CASES["wrong area"], CASES["unknown category"]:
        name[0](tmp_path)
    pngs = sorted((tmp_path / "annotations" / "panoptic_val2017").iterdir())
    pngs[3].write_bytes(b"")
    (tmp_path / "val2017" / "000000000695.jpg").unlink()
    told: list[str] = []
    report = check_dataset(f"coco-panoptic:{tmp_path}", workers=3, on_finding=lambda finding: told.append(finding.kind))
    assert told == [f.kind for f in report.findings] == ["unknown-category", "wrong-area", "broken-file", "missing-file"]
    assert report.findings[2].file == str(pngs[3]) and report.findings[2].message == "it is empty"
    assert report == check_dataset(f"coco-panoptic:{tmp_path}", workers=1)
    assert report.to_dict()["kinds"] == {"broken-file": 1, "missing-file": 1, "unknown-category": 1, "wrong-area": 1}
    left = check_dataset(f"coco-panoptic:{tmp_path}", ignore=["wrong-area", "missing-file", "broken-file"])
    assert found(left) == {("unknown-category", JSON)}


@pytest.mark.slow
def test_one_broken_png_among_many_is_named(tmp_path: Path) -> None:
    data_trees.coco(tmp_path, count=300)
    broken = tmp_path / "annotations" / "panoptic_val2017" / f"{139 * 211:012d}.png"
    broken.write_bytes(broken.read_bytes()[:50])
    report = check_dataset(f"coco-panoptic:{tmp_path}", workers=4)
    assert report.images == 300 and [f.file for f in report.findings] == [str(broken)]


def test_ade20k_says_what_its_converters_left(tmp_path: Path) -> None:
    data_trees.ade20k(tmp_path)
    report = check_dataset(f"ade20k:{tmp_path}:val")
    assert {kind for kind, _ in found(report)} == {"wrong-area", "empty-segment"}
    assert check_dataset(f"ade20k:{tmp_path}:val", ignore=("wrong-area", "empty-segment", "wrong-box")).findings == ()


def test_what_can_be_wrong_with_cityscapes(tmp_path: Path) -> None:
    data_trees.cityscapes(tmp_path)
    stems = list(data_trees.CITIES)
    folder = tmp_path / "gtFine" / "val" / "aachen"
    (folder / f"{stems[0]}_gtFine_instanceIds.png").unlink()
    Image.fromarray(np.full((4, 5), 34001, np.uint16)).save(folder / f"{stems[1]}_gtFine_instanceIds.png")
    (tmp_path / "leftImg8bit" / "val" / "bochum" / f"{stems[2]}_leftImg8bit.png").unlink()
    report = check_dataset(f"cityscapes:{tmp_path}")
    assert report.images == 3
    assert found(report) == {
        ("missing-file", f"{stems[0]}_gtFine_instanceIds.png"),
        ("size-mismatch", f"{stems[1]}_gtFine_instanceIds.png"),
        ("unknown-category", f"{stems[1]}_gtFine_instanceIds.png"),
        ("missing-file", f"{stems[2]}_leftImg8bit.png"),
    }


def test_what_can_be_wrong_with_label_folders(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    (tmp_path / "masks" / "b.png").unlink()
    data_trees.photo(tmp_path / "images" / "c.png", 3, 3)
    Image.new("L", (3, 3)).save(tmp_path / "masks" / "c.tif")
    (tmp_path / "masks" / "d.png").write_bytes(b"no picture")
    (tmp_path / "masks" / ".hidden.png").write_text("not looked at")
    report = check_dataset(f"labels:{tmp_path}")
    assert found(report) == {
        ("missing-file", "a.png"),
        ("no-annotation", "b.jpg"),
        ("duplicate-id", "c.png"),
        ("two-annotations", "c.tif"),
        ("size-mismatch", "c.png"),
        ("missing-file", "d.png"),
        ("broken-file", "d.png"),
    }
    with pytest.raises(InputError, match=r"expected one file 'c\.\*' in .* got c\.jpg, c\.png"):
        load_dataset(f"labels:{tmp_path}")


def test_label_folders_without_photos(tmp_path: Path) -> None:
    data_trees.labels(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert found(check_dataset(f"labels:{tmp_path}")) == {("missing-file", "masks")}


def test_what_is_no_data_set_cannot_be_checked(tmp_path: Path) -> None:
    for spec in ("labels", f"coco-panoptic:{tmp_path / 'nowhere'}", f"ade20k:{tmp_path}"):
        with pytest.raises(InputError):
            check_dataset(spec)
    with pytest.raises(InputError, match="workers"):
        check_dataset("scenes:1", workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["coco-panoptic:coco100", "coco-panoptic:dsb2018:val"])
def test_real_data_are_sound(shared: Path, spec: str) -> None:
    kind, _, rest = spec.partition(":")
    assert check_dataset(f"{kind}:{shared / 'data'}/{rest}", workers=2).findings == ()
