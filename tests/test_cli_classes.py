"""Names of segments from the command line: a model's own, by CLIP, scored against a truth, and the training of a classifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from clip_folder import make_clip_folder
from command import done, files_in, refused
from naming import CATEGORIES, SCENES, build_named
from PIL import Image
from tiny import tiny_pipeline

from ldmseg import LDMSegPipeline
from ldmseg.formats.coco_json import read_coco_json
from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named") / "model"
    build_named().save_pretrained(folder)
    return folder


def photo(folder: Path, index: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(SCENES.image(index)).save(folder / f"{index + 1}.png")
    return folder / f"{index + 1}.png"


@pytest.mark.slow
def test_segment_writes_categories_that_score_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path, named: Path) -> None:
    photos = [photo(tmp_path / "photos", index) for index in range(2)]
    done(capsys, "segment", *photos, "--model", named, "--device", "cpu", "-o", tmp_path / "out")
    written = read_coco_json(tmp_path / "out/panoptic.json")
    assert [(c.id, c.name, c.isthing) for c in written.categories] == [(c.id, c.name, c.isthing) for c in CATEGORIES]
    assert all(s.score and s.category_id for a in written.annotations for s in a.segments)
    with CocoPanopticWriter(tmp_path / "truth", CATEGORIES) as writer:
        for index, path in enumerate(photos):
            writer.add(path.name, index + 1, SCENES.map(index))
    args = ["score", "--gt", tmp_path / "truth/panoptic.json", "--pred", tmp_path / "out/panoptic.json", "--json"]
    aware, agnostic = (done(capsys, *args, *more).json() for more in ([], ["--class-agnostic"]))
    assert len(aware["per_category"]) == len(CATEGORIES) and aware["things"]["n"] > 1
    assert aware["all"]["tp"] <= agnostic["all"]["tp"]


@pytest.mark.slow
def test_classes_by_clip(capsys: pytest.CaptureFixture[str], tmp_path: Path, named: Path) -> None:
    """They take the place of the model's own; stuff is one segment."""
    clip, one = make_clip_folder(tmp_path / "clip"), photo(tmp_path / "photos")
    given = tmp_path / "given.png"
    Image.new("L", (64, 64)).save(given)
    for number, command in enumerate((["segment"], ["inpaint", "--partial", given])):
        out = tmp_path / f"out{number}"
        done(capsys, *command, one, "--model", named, "--device", "cpu", "-o", out, "--classes", "dog, grass:stuff", "--clip", clip)
        written = read_coco_json(out / "panoptic.json")
        assert [(c.id, c.name, c.isthing) for c in written.categories] == [(1, "dog", True), (2, "grass", False)]
        found = [s.category_id for s in written.annotations[0].segments]
        assert set(found) <= {1, 2} and found.count(2) <= 1


@pytest.mark.slow
def test_names_are_drawn_on_the_overlay(capsys: pytest.CaptureFixture[str], tmp_path: Path, named: Path) -> None:
    one = photo(tmp_path / "photos")
    done(capsys, "segment", one, "--model", named, "--device", "cpu", "-o", tmp_path / "named")
    pipe = LDMSegPipeline.from_pretrained(named)
    pipe.register_modules(classifier=None)
    pipe.save_pretrained(tmp_path / "bare")
    done(capsys, "segment", one, "--model", tmp_path / "bare", "--device", "cpu", "-o", tmp_path / "none")
    categories = json.loads((tmp_path / "none/panoptic.json").read_text())["categories"]
    assert [c["name"] for c in categories] == ["segment"]


@pytest.mark.slow
def test_info_lists_the_categories(capsys: pytest.CaptureFixture[str], tmp_path: Path, named: Path) -> None:
    facts = done(capsys, "info", named, "--json").json()["model"]
    assert facts["categories"] == [c.name for c in CATEGORIES] and facts["components"]["classifier"]["class"] == "SegmentClassifier"
    assert "28: sky, mountain" in done(capsys, "info", named).out


@pytest.mark.slow
def test_training_a_classifier(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    start = tiny_pipeline(tmp_path / "start")
    config = {
        "stage": "classifier",
        "init": str(start),
        "data": {"train": "scenes:2", "val": "scenes:1:val"},
        "model": {"width": 8, "stem_widths": [8], "rates": [1]},
        "optim": {"steps": 1, "batch_size": 1},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    args = ["train", "classifier", "--config", tmp_path / "mine.yaml", "--device", "cpu"]
    told = done(capsys, *args, "-o", tmp_path / "none", "--dry-run").out
    assert "# classifier: " in told and yaml.safe_load(told)["data"]["size"] == 32 and not (tmp_path / "none").exists()
    done(capsys, *args, "-o", tmp_path / "run")
    classifier = LDMSegPipeline.from_pretrained(tmp_path / "run/pipeline").classifier
    assert classifier is not None and len(classifier.categories) == len(CATEGORIES)
    assert "The classifier" in (done(capsys, "report", tmp_path / "run"), (tmp_path / "run/report.html").read_text())[1]
    assert "expected a configuration of stage diffusion" in refused(capsys, "train", "diffusion", *args[2:], "-o", tmp_path / "no")


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, named: Path) -> None:
    args = ["segment", photo(tmp_path / "photos"), "--model", named, "--device", "cpu", "-o", tmp_path / "out"]
    assert "--clip: expected together with --classes, got 'here' alone" in refused(capsys, *args, "--clip", "here")
    assert "classes: expected names, each once, got ' dog' twice" in refused(capsys, *args, "--classes", "dog, dog")
    assert "--clip: expected" in refused(capsys, *args, "--classes", "dog", "--clip", tmp_path / "photos")
    assert files_in(tmp_path) == {"photos/1.png"}
