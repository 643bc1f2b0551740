from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import Category, write_coco_panoptic
from ldmseg.formats.id_png import write_id_png
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.metrics.score import score_files
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = (Category(1, "a"), Category(2, "b", isthing=False))


def pmap(seed: int) -> PanopticMap:
    ids = np.random.default_rng(seed).choice([0, 1, 256, 2**24 - 1], size=(6, 8), p=[0.1, 0.3, 0.3, 0.3])
    return PanopticMap(ids, tuple(Segment(int(i), 1 + int(i) % 2, bool(i % 2 == 0), iscrowd=i == 256) for i in np.unique(ids) if i))


def guess(seed: int) -> PanopticMap:
    true = pmap(seed)
    ids = np.where(np.arange(8) < 2, 0, true.ids)
    return PanopticMap(ids, tuple(Segment(s.id, s.category_id) for s in true.segments if s.id in ids))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_coco_panoptic(tmp_path / "gt", [(f"{k}.jpg", k, pmap(k)) for k in range(5)], CATEGORIES)
    write_coco_panoptic(tmp_path / "pred.json", [(f"{k}.jpg", k, guess(k)) for k in range(5)], CATEGORIES)
    return tmp_path / "gt" / "panoptic.json", tmp_path / "pred.json"


def change(path: Path, edit: object) -> None:
    document = json.loads(path.read_text())
    edit(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("workers", [1, 3, None])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_files_score_as_their_maps_do(files: tuple[Path, Path], workers: int | None, class_agnostic: bool) -> None:
    quality = PanopticQuality(CATEGORIES, class_agnostic)
    for k in range(5):
        quality.update(guess(k), pmap(k))
    seen: list[tuple[int, int]] = []
    result = score_files(*files, class_agnostic=class_agnostic, workers=workers, on_progress=lambda *at: seen.append(at))
    assert result == quality.compute() and result.all.tp > 0
    assert seen == [(k, 5) for k in range(1, 6)]


@pytest.mark.slow
def test_the_reference_program_s_figures(shared: Path) -> None:
    reference = shared / "reference"
    names = reference / "pq_case_gt.json", reference / "pq_case_pred.json"
    folders = shared / "data/coco100/annotations/panoptic_train2017", reference / "pq_case"
    expected = json.loads((reference / "pq_case_expected.json").read_text())
    result = score_files(*names, *folders)
    for group, name in ((result.all, "All"), (result.things, "Things"), (result.stuff, "Stuff")):
        for figure, value in expected["class_aware"][name].items():
            assert getattr(group, figure) == pytest.approx(value, abs=1e-12)
    for category, figures in expected["per_class"].items():
        for figure, value in figures.items():
            assert getattr(result.per_category[int(category)], figure) == pytest.approx(value, abs=1e-12)
    agnostic = score_files(*names, *folders, class_agnostic=True).all
    for figure, value in expected["class_agnostic"].items():
        assert getattr(agnostic, figure) == pytest.approx(value, abs=1e-12)


def test_only_annotations_of_the_predictions_are_read(files: tuple[Path, Path]) -> None:
    expected = score_files(*files)
    change(files[1], lambda d: [d.pop(key) for key in ("images", "categories", "info")])
    change(files[1], lambda d: [s.pop("area") for a in d["annotations"] for s in a["segments_info"]])
    change(files[1], lambda d: d["annotations"].append(d["annotations"][0] | {"image_id": 99}))
    assert score_files(*files) == expected


def test_missing_predictions(files: tuple[Path, Path]) -> None:
    change(files[1], lambda d: d["annotations"].pop(0))
    (files[1].with_suffix("") / "1.png").write_bytes(b"broken")
    (files[1].with_suffix("") / "2.png").unlink()
    with pytest.raises(InputError, match=r"pred: '.*pred\.json': image 0 \('0'\) has no annotation \(1 images have none\)"):
        score_files(*files)
    expected = PanopticQuality(CATEGORIES)
    for k in range(5):
        expected.update(guess(k) if k > 2 else PanopticMap(np.zeros((6, 8), np.int32)), pmap(k))
    assert score_files(*files, allow_missing=True) == expected.compute()
    change(files[1], lambda d: d["annotations"].clear())
    nothing = score_files(*files, allow_missing=True).all
    assert (nothing.tp, nothing.fp) == (0, 0) and nothing.fn > 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (None, r"prediction of image 3: cannot read '.*3\.png': no such file"),
        (np.zeros((8, 6), int), r"prediction of image 3: '.*3\.png': expected the ground truth's size \(6, 8\)"),
        (np.full((6, 8), 77), r"image 3: '.*3\.png' holds id 77, which segments_info does not list"),
        (np.zeros((6, 8), int), r"image 3: segments_info lists id 1, of which '.*3\.png' has no pixel"),
    ],
)
def test_broken_predictions(files: tuple[Path, Path], picture: np.ndarray | None, reason: str, workers: int) -> None:
    path = files[1].with_suffix("") / "3.png"
    path.unlink()
    if picture is not None:
        write_id_png(path, picture)
    with pytest.raises(InputError, match=reason):
        score_files(*files, workers=workers)


def test_unknown_categories_of_predictions_matter_only_with_classes(files: tuple[Path, Path]) -> None:
    change(files[1], lambda d: d["annotations"][0]["segments_info"][0].update(category_id=50))
    with pytest.raises(InputError, match="image 0: segment 1 has category 50"):
        score_files(*files)
    assert score_files(*files, class_agnostic=True).all.n == 1


def test_a_ground_truth_s_unlisted_ids_are_neither_segments_nor_void(tmp_path: Path) -> None:
    target = PanopticMap([[1, 1, 2, 2]], (Segment(1, 1), Segment(2, 1)))
    write_coco_panoptic(tmp_path / "gt", [("x.jpg", 1, target)], CATEGORIES)
    write_coco_panoptic(tmp_path / "pred", [("x.jpg", 1, PanopticMap([[3, 3, 4, 4]], (Segment(3, 1), Segment(4, 1))))], CATEGORIES)
    change(tmp_path / "gt" / "panoptic.json", lambda d: d["annotations"][0]["segments_info"].pop())
    result = score_files(tmp_path / "gt" / "panoptic.json", tmp_path / "pred" / "panoptic.json").all
    assert (result.tp, result.fp, result.fn) == (1, 1, 0)


def test_an_alpha_channel_does_not_matter(files: tuple[Path, Path]) -> None:
    expected = score_files(*files)
    path = files[1].with_suffix("") / "0.png"
    picture = Image.open(path).convert("RGBA")
    picture.putalpha(Image.effect_noise(picture.size, 90))
    picture.save(path)
    assert score_files(*files) == expected


def test_arguments(files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="workers: expected at least 1, got 0"):
        score_files(*files, workers=0)
    with pytest.raises(InputError, match="gt_dir: expected a folder"):
        score_files(*files, gt_dir=files[0])
    with pytest.raises(InputError, match="json: cannot read"):
        score_files(files[0], files[1].with_name("no.json"))


def renumbered(path: Path) -> None:
    """Ids from 1, as a run over the photos' files gives them."""

    def edit(document: dict) -> None:
        new = {image["id"]: number for number, image in enumerate(document["images"], start=1)}
        for image in document["images"]:
            image["id"] = new[image["id"]]
        for annotation in document["annotations"]:
            annotation["image_id"] = new[annotation["image_id"]]

    change(path, edit)


def test_predictions_that_are_numbered_otherwise_are_found_by_name(files: tuple[Path, Path]) -> None:
    expected = score_files(*files)
    renumbered(files[1])  # 1..5 against 0..4: four ids are the ground truth's, of other files
    assert score_files(*files) == expected
    change(files[1], lambda d: [image.update(file_name=f"photos/{image['file_name']}") for image in d["images"]])
    assert score_files(*files) == expected


def test_ids_count_where_names_tell_nothing(files: tuple[Path, Path]) -> None:
    expected = score_files(*files)
    change(files[1], lambda d: [image.update(file_name=f"{image['id']}/photo.jpg") for image in d["images"]])
    assert score_files(*files) == expected
    change(files[1], lambda d: d.pop("images"))
    assert score_files(*files) == expected


def test_only_what_was_predicted_counts_where_asked(files: tuple[Path, Path]) -> None:
    change(files[1], lambda d: d.update(annotations=d["annotations"][:2]))
    with pytest.raises(InputError, match=r"image 2 \('2'\) has no annotation \(3 images have none\).*--allow-missing.*--only-predicted"):
        score_files(*files)
    quality = PanopticQuality(CATEGORIES)
    for k in range(2):
        quality.update(guess(k), pmap(k))
    assert score_files(*files, only_predicted=True) == quality.compute()
    change(files[1], lambda d: [d.update(annotations=[]), d.pop("images")])
    with pytest.raises(InputError, match="expected a prediction of at least one image"):
        score_files(*files, only_predicted=True)
    with pytest.raises(InputError, match="expected one of them, got both"):
        score_files(*files, only_predicted=True, allow_missing=True)
