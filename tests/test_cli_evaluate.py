from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from command import done, files_in, refused
from naming import CATEGORIES, build_named
from tiny import tiny_pipeline

from ldmseg.cli.evaluate import evaluate
from ldmseg.data.cases import KINDS
from ldmseg.models.manifest import fingerprint

GROUPS = {"all", "things", "stuff", "per_category"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.mark.slow
def test_prints_and_saves_the_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    report = tmp_path / "new" / "report.json"
    args = ["evaluate", "--data", "scenes:3:val", "--model", model, "--device", "cpu", "--report", report]
    result = done(capsys, *args, "--json", "--limit", 2, "--steps", 1, "--seed", 3)
    figures = result.json()
    assert result.err == ""
    assert set(figures) >= GROUPS and figures["images"] == 2
    expected = {"num_inference_steps": 1, "sampler": "ddim", "seed": 3, "class_agnostic": True}
    assert {key: figures["settings"][key] for key in expected} == expected
    assert 0 <= figures["all"]["pq"] <= 1 and figures["all"]["tp"] + figures["all"]["fn"] >= 8
    assert json.loads(report.read_text(encoding="utf-8")) == figures

    result = done(capsys, *args, "--limit", 1)
    assert "PQ" in result.out and "all" in result.out
    assert str(report) in result.err and "1 images" in result.err


@pytest.mark.slow
def test_the_batch_size_does_not_matter(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:3:val", "--model", model, "--device", "cpu", "--json", "--batch-size"]
    one, three = (done(capsys, *args, size).json() for size in (1, 3))
    assert one["all"] == three["all"]


@pytest.mark.slow
def test_drop_rate_measures_completion(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--model", model, "--device", "cpu", "--json", "--block-size", 32, "--drop-rate"]
    little, much = (done(capsys, *args, rate).json() for rate in (0.0, 0.9))
    assert little["settings"]["block_size"] == 32
    assert little["all"]["pq"] == 1  # nothing is dropped
    assert much["all"]["pq"] < 1


@pytest.mark.slow
def test_inpaint_measures_kinds_by_methods(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--model", model, "--device", "cpu", "--inpaint", "--no-baselines"]
    args += ["--kinds", "blocks,points,merged", "--rates", "0.5", "--block-sizes", "8,32", "--steps", 1]
    report, plot = tmp_path / "new" / "report.json", tmp_path / "new" / "curves.png"
    result = done(capsys, *args, "--methods", "condition,project", "--shares", "0.5", "--json", "--report", report, "--plot", plot)
    figures = result.json()
    assert result.err == "" and figures["images"] == 2
    assert json.loads(report.read_text(encoding="utf-8")) == figures
    assert plot.read_bytes().startswith(b"\x89PNG")
    rows = [(s["kind"], s.get("drop_rate"), s.get("block_size"), s["method"]) for s in figures["scores"]]
    blocks = [("blocks", 0.5, size) for size in (8, 32)]
    given = [*blocks, ("points", None, None), ("merged", None, None)]
    assert rows == [(*one, method) for one in given for method in ("condition", "project")]
    assert figures["scores"][4]["share"] == figures["scores"][6]["amount"] == 0.5
    for score in figures["scores"]:
        assert score["fidelity"] == 1 and score["ids_kept"] == 1
        assert 0 <= score["pq"] <= 1 and 0 <= score["miou_given"] <= 1

    result = done(capsys, *args, "--limit", 1, "--methods", "project")
    for word in ("blocks of 32 px", "50 % dropped", "100 % of segments", "project", "mIoU", "100"):
        assert word in result.out
    assert "1 images" in result.err


@pytest.mark.slow
def test_inpaint_compares_with_baselines(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:1:val", "--model", model, "--device", "cpu", "--inpaint", "--kinds", "points", "--json"]
    figures = done(capsys, *args, "--methods", "auto").json()
    assert [s["method"] for s in figures["scores"]] == ["auto", "walker", "watershed", "nearest"] * 2


@pytest.mark.slow
def test_windows_change_the_result(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--model", model, "--device", "cpu", "--json"]
    whole, tiled = done(capsys, *args).json(), done(capsys, *args, "--tile-size", "0.5").json()
    assert tiled["settings"]["tile_size"] == 0.5 and whole["settings"]["tile_size"] == 0
    assert tiled["all"]["fp"] > whole["all"]["fp"]


@pytest.mark.slow
def test_pieces_and_mirrored_samples_change_the_result(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--model", model, "--device", "cpu", "--json", "--ensemble-size", "2"]
    plain, asked = done(capsys, *args).json(), done(capsys, *args, "--min-component-area", "5", "--ensemble-flips", "both").json()
    assert asked["settings"] == {**plain["settings"], "min_component_area": 5, "ensemble_flips": "both"}
    assert asked["all"] != plain["all"]


@pytest.mark.parametrize(
    "option",
    [
        ["--kinds", "points"],
        ["--rates", "0.5"],
        ["--block-sizes", "8"],
        ["--shares", "0.5"],
        ["--methods", "project"],
        ["--no-baselines"],
        ["--plot", "curves.png"],
    ],
)
def test_options_of_inpaint_alone(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    message = refused(capsys, "evaluate", "--data", "scenes:1:val", *option)
    assert "--inpaint" in message and option[0].replace("--no-", "--") in message


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--kinds", "lassos"], "--kinds"),
        (["--rates", "0.5,2"], "--rates"),
        (["--rates", "much"], "--rates"),
        (["--block-sizes", "8,0"], "--block-sizes"),
        (["--shares", ""], "--shares"),
        (["--methods", "magic"], "--methods"),
        (["--kinds", "points", "--rates", "0.5"], "--rates"),
        (["--kinds", "points", "--block-sizes", "8"], "--block-sizes"),
        (["--kinds", "blocks", "--shares", "0.5"], "--shares"),
        (["--drop-rate", "0.5"], "--drop-rate"),
        (["--class-aware"], "--class-aware"),
        (["--plot", "."], "--plot"),
    ],
)
def test_mistakes_with_inpaint(capsys: pytest.CaptureFixture[str], option: list[str], named: str) -> None:
    assert named in refused(capsys, "evaluate", "--data", "scenes:1:val", "--inpaint", "--no-baselines", *option)


def test_without_a_classifier_there_are_no_classes_to_compare(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    told = refused(capsys, "evaluate", "--data", "scenes:1:val", "--model", model, "--class-aware")
    assert f"--class-aware: expected --class-agnostic, because '{model}' has no classifier" in told
    assert "--true-masks: expected with --class-aware" in refused(capsys, "evaluate", "--data", "scenes:1:val", "--true-masks")


@pytest.mark.slow
def test_class_aware_figures_of_drawn_and_of_true_segments(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    build_named().save_pretrained(tmp_path / "named")
    args = ["evaluate", "--data", "scenes:2:val", "--model", tmp_path / "named", "--device", "cpu", "--json"]
    agnostic, aware, true = (done(capsys, *args, *more).json() for more in ([], ["--class-aware"], ["--class-aware", "--true-masks"]))
    assert set(agnostic["per_category"]) == {"1"} and len(aware["per_category"]) == len(true["per_category"]) == len(CATEGORIES)
    assert aware["settings"]["class_agnostic"] is False and true["settings"]["true_masks"] is True
    segments = sum(stat["tp"] + stat["fn"] for stat in true["per_category"].values())
    assert segments == agnostic["all"]["tp"] + agnostic["all"]["fn"]
    assert true["all"]["sq"] in (0, 1)  # a true mask that is named right matches in full


def test_help_names_every_kind() -> None:
    told = inspect.signature(evaluate).parameters["kinds"].annotation
    assert all(kind in told for kind in KINDS)


@pytest.mark.slow
def test_output_is_saved_and_continued(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    args = ["evaluate", "--data", "scenes:3:val", "--model", model, "--device", "cpu", "--json", "--steps", 1, "-o", tmp_path / "out"]
    part = done(capsys, *args, "--limit", 1).json()
    whole = done(capsys, *args).json()
    assert (part["images"], whole["images"]) == (1, 3)
    assert json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8")) == whole
    document = json.loads((tmp_path / "out/panoptic.json").read_text(encoding="utf-8"))
    assert len(document["annotations"]) == 3
    assert document["info"]["origin"] == {"data": "scenes:3:val", "model": str(model), "model_sha256": fingerprint(model)}
    assert "got another's" in refused(capsys, *args[:2], "scenes:4:val", *args[3:])
    assert "settings is" in refused(capsys, *args, "--steps", 2)
    assert "--output: expected without --inpaint" in refused(capsys, *args, "--inpaint")


@pytest.mark.slow
def test_other_methods_stand_in_the_same_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ["evaluate", "--data", "scenes:2:val", "--json", "--segmenter"]
    for name in ("felzenszwalb", "slic"):
        figures = done(capsys, *args, name).json()
        assert figures["settings"]["segmenter"] == name and figures["all"]["fn"] + figures["all"]["tp"] >= 8
    figures = done(capsys, *args, "nearest", "--drop-rate", 0.1).json()
    assert figures["all"]["pq"] > 0.5
    assert "--segmenter: expected an existing folder or a Hub id" in refused(capsys, *args, "mask2former:a/b/c")
    assert "--model: expected 'default', a pipeline's folder, or a Hub id" in refused(capsys, *args[:-1], "--model", tmp_path / "nothing")
    assert "--segmenter: expected without --model" in refused(capsys, *args, "slic", "--model", tmp_path)
    assert "--steps: expected without --segmenter" in refused(capsys, *args, "slic", "--steps", 2)
    assert "--ensemble-size: expected without --segmenter" in refused(capsys, *args, "slic", "--ensemble-size", 2)
    assert "--segmenter: expected without --inpaint" in refused(capsys, *args, "slic", "--inpaint")
    assert "segmenter: expected one of mask2former:ID, eomt:ID, felzenszwalb" in refused(capsys, *args, "magic")
    assert "partials: expected a partial map of each photo" in refused(capsys, *args, "walker")


@pytest.mark.slow
def test_a_saved_mask2former_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (the extra `segmenters`)")
    from query_folder import query_folder

    query_folder(tmp_path, "mask2former", {index: f"class {index}" for index in range(3)})
    figures = done(capsys, "evaluate", "--data", "scenes:1:val", "--json", "--segmenter", f"mask2former:{tmp_path}").json()
    assert figures["settings"]["segmenter"] == f"mask2former:{tmp_path}"
    assert 0 <= figures["all"]["pq"] <= 1


@pytest.mark.slow
def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    scenes = ["evaluate", "--model", model, "--device", "cpu", "--data", "scenes:1:val"]
    assert "--block-size" in refused(capsys, *scenes, "--block-size", 8)
    assert "--class-aware" in refused(capsys, *scenes, "--class-aware")
    assert "--drop-rate" in refused(capsys, *scenes, "--drop-rate", 2)
    assert "--report" in refused(capsys, *scenes, "--report", tmp_path)
    assert "--model" in refused(capsys, "evaluate", "--data", "scenes:1:val", "--model", tmp_path)
    assert "data" in refused(capsys, "evaluate", "--data", "scenes", "--model", model)
    assert "nowhere" in refused(capsys, "evaluate", "--data", f"coco-panoptic:{tmp_path / 'nowhere'}", "--model", model)
    assert files_in(tmp_path) == set()
