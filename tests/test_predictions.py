"""The maps of an evaluation as files: COCO's format, the reference program's figures, and going on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import files_in
from oracle import ask

from ldmseg import PanopticMap, load_dataset
from ldmseg.data.datasets import SceneDataset
from ldmseg.data.partial import make_noisy
from ldmseg.errors import InputError
from ldmseg.evaluate import EvaluationReport, evaluate
from ldmseg.formats.coco_panoptic import CocoPanoptic, write_coco_panoptic
from ldmseg.metrics.score import score_files
from ldmseg.segmenters import RegionSegmenter

SCENES = SceneDataset(5, 0, size=48, segments=(3, 6))


class Noisy:
    """A segmenter that answers with wrong labels, and remembers for which photos it was asked."""

    settings = {"noise": 0.05}  # noqa: RUF012

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.stop_at = stop_at

    def __call__(
        self,
        images: Sequence[np.ndarray],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        found = []
        for image, seed in zip(images, seeds, strict=True):
            index = next(i for i in range(len(SCENES)) if np.array_equal(SCENES.image(i), image))
            if index == self.stop_at:
                raise KeyboardInterrupt
            self.asked.append(index)
            shifted = make_noisy(SCENES.map(index), "shifted", 0.05, np.random.default_rng(seed))
            found.append(shifted.keep(s.id for s in shifted.segments[1:]))
        return found


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def without_time(report: EvaluationReport) -> dict[str, Any]:
    return replace(report, seconds_per_image=0.0).to_dict()


@pytest.mark.slow
def test_maps_and_report_are_written_and_score_gives_the_same(tmp_path: Path) -> None:
    plain = evaluate(Noisy(), SCENES)
    saved = evaluate(Noisy(), SCENES, output=tmp_path / "out", origin={"model": "noisy"}, batch_size=2)
    assert without_time(saved) == without_time(plain) and 0 < plain.quality.all.pq < 1
    names = {f"panoptic/scene_{index:08d}.png" for index in range(5)}
    assert files_in(tmp_path / "out") == {"panoptic.json", "report.json", "predictions.jsonl", *names}
    assert json.loads((tmp_path / "out/report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(saved.to_dict()))

    written = CocoPanoptic.open(tmp_path / "out/panoptic.json")
    assert [(record.image_id, record.file_name) for record in written][3] == (3, "scene_00000003.png")
    info = json.loads((tmp_path / "out/panoptic.json").read_text(encoding="utf-8"))["info"]
    assert info["origin"] == {"model": "noisy"} and info["settings"]["noise"] == 0.05
    truth = write_coco_panoptic(tmp_path / "truth.json", ((SCENES.name(i), i, SCENES.map(i)) for i in range(5)), SCENES.categories)
    assert truth is not None
    assert score_files(truth, tmp_path / "out/panoptic.json", class_agnostic=True) == plain.quality


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_interrupted_evaluation_goes_on(tmp_path: Path, batch_size: int) -> None:
    first, second, third = Noisy(stop_at=3), Noisy(), Noisy()
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, SCENES, output=tmp_path, batch_size=batch_size)
    finished = 3 // batch_size * batch_size
    assert not finished or len(lines_of(tmp_path)) == 1 + finished
    assert not (tmp_path / "panoptic.json").exists()
    report = evaluate(second, SCENES, output=tmp_path, batch_size=batch_size)
    assert second.asked == list(range(finished, 5))
    assert without_time(report) == without_time(evaluate(Noisy(), SCENES))
    assert without_time(evaluate(third, SCENES, output=tmp_path, batch_size=2)) == without_time(report)
    assert third.asked == []
    seconds = [line["seconds"] for line in lines_of(tmp_path)[1:]]
    assert evaluate(third, SCENES, output=tmp_path).seconds_per_image == pytest.approx(sum(seconds) / 5)


def test_a_crash_costs_the_photo_it_hit(tmp_path: Path) -> None:
    whole = evaluate(Noisy(), SCENES, output=tmp_path)
    text = (tmp_path / "predictions.jsonl").read_bytes()
    (tmp_path / "predictions.jsonl").write_bytes(text[:-20])  # half a line
    (tmp_path / "panoptic/scene_00000001.png").unlink()
    again = Noisy()
    assert without_time(evaluate(again, SCENES, output=tmp_path)) == without_time(whole)
    assert again.asked == [1, 4]
    assert [record.image_id for record in CocoPanoptic.open(tmp_path / "panoptic.json")] == [0, 1, 2, 3, 4]


def test_a_smaller_limit_is_a_part_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    assert evaluate(Noisy(), SCENES, output=tmp_path, limit=2).images == 2
    assert len(CocoPanoptic.open(tmp_path / "panoptic.json").records) == 2
    more = Noisy()
    assert evaluate(more, SCENES, output=tmp_path, limit=4).images == 4 and more.asked == [2, 3]
    assert evaluate(more, SCENES, output=tmp_path, limit=2).quality == evaluate(Noisy(), SCENES, limit=2).quality
    assert len(CocoPanoptic.open(tmp_path / "panoptic.json").records) == 2


def test_another_evaluation_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    evaluate(Noisy(), SCENES, output=tmp_path, origin={"model": "a"}, limit=2)
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    for change, named in (
        ({"seed": 1}, "settings"),
        ({"origin": {"model": "b"}}, "origin"),
        ({"drop_rate": 0.5}, "settings"),
        ({"class_agnostic": False}, "settings"),
    ):
        with pytest.raises(InputError, match=f"output: expected the folder of this evaluation .*{named} is"):
            evaluate(Noisy(), SCENES, output=tmp_path, **{"origin": {"model": "a"}, **change})
    with pytest.raises(InputError, match="data_sha256"):
        evaluate(Noisy(), SceneDataset(5, 1, size=48), output=tmp_path, origin={"model": "a"})
    (tmp_path / "other").mkdir()
    for mine in ('{"mine": 1}\n', "no line of ours", ""):
        (tmp_path / "other/predictions.jsonl").write_text(mine, encoding="utf-8")
        with pytest.raises(InputError, match="output: expected the folder of this evaluation"):
            evaluate(Noisy(), SCENES, output=tmp_path / "other")
        assert (tmp_path / "other/predictions.jsonl").read_text(encoding="utf-8") == mine
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_segmenter_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="partials: expected none"):
        evaluate(RegionSegmenter("slic"), SCENES, output=tmp_path / "out", drop_rate=0.5)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Renamed:
    """The scenes under one name."""

    categories = SCENES.categories

    def __len__(self) -> int:
        return 2

    def image(self, index: int) -> np.ndarray:
        return SCENES.image(index)

    def map(self, index: int) -> PanopticMap:
        return SCENES.map(index)

    def name(self, index: int) -> str:
        return ("photo.png", "photo.jpg")[index]


def test_photos_need_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected photos of different names, got 'photo.png' and 'photo.jpg', both 'photo.png'"):
        evaluate(Noisy(), Renamed(), output=tmp_path)
    assert files_in(tmp_path) == set()


def test_categories_are_written_where_they_count(tmp_path: Path) -> None:
    report = evaluate(Noisy(), SCENES, output=tmp_path, class_agnostic=False)
    written = CocoPanoptic.open(tmp_path / "panoptic.json")
    assert [(c.id, c.name, c.isthing) for c in written.categories] == [(c.id, c.name, c.isthing) for c in SCENES.categories]
    assert len({s.category_id for record in written for s in record.read_map().segments}) > 1
    assert evaluate(Noisy(), SCENES, output=tmp_path, class_agnostic=False).quality == report.quality


class Answers:
    """Maps of a COCO panoptic file, in order, for photos that are not there."""

    def __init__(self, records: CocoPanoptic, truth: CocoPanoptic) -> None:
        self.records, self.truth = records, truth
        self.categories = truth.categories

    def __len__(self) -> int:
        return len(self.truth.records)

    def image(self, index: int) -> np.ndarray:
        return np.full((1, 1, 3), index, dtype=np.uint8)

    def map(self, index: int) -> PanopticMap:
        return self.truth.records[index].read_map()

    def name(self, index: int) -> str:
        return self.truth.records[index].file_name

    def __call__(self, images: Sequence[np.ndarray], partials: object, seeds: Sequence[int], captions: object = None) -> list[PanopticMap]:
        return [self.records.records[int(image[0, 0, 0])].read_map() for image in images]


@pytest.mark.slow
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_reference_programs_figures_from_saved_maps(shared: Path, tmp_path: Path, class_agnostic: bool) -> None:
    reference = shared / "reference"
    truth = CocoPanoptic.open(reference / "pq_case_gt.json", shared / "data/coco100/annotations/panoptic_train2017")
    both = Answers(CocoPanoptic.open(reference / "pq_case_pred.json", reference / "pq_case"), truth)
    expected = json.loads((reference / "pq_case_expected.json").read_text(encoding="utf-8"))
    evaluate(both, both, output=tmp_path, class_agnostic=class_agnostic, limit=17)
    quality = evaluate(both, both, output=tmp_path, class_agnostic=class_agnostic).quality
    wanted = expected["class_agnostic"] if class_agnostic else expected["class_aware"]["All"]
    for figure, value in wanted.items():
        assert getattr(quality.all, figure) == pytest.approx(value, abs=1e-12)


def test_panopticapi_gives_the_same_for_the_written_files(tmp_path: Path) -> None:
    truth = write_coco_panoptic(tmp_path / "truth.json", ((SCENES.name(i), i, SCENES.map(i)) for i in range(5)), SCENES.categories)
    report = evaluate(Noisy(), load_dataset(f"coco-panoptic:{_with_photos(tmp_path)}"), output=tmp_path / "out", class_agnostic=False)
    code = (
        "from panopticapi.evaluation import pq_compute\n"
        "found = pq_compute(*given)\n"
        "answer = [[found[g][f] for f in ('pq', 'sq', 'rq', 'n')] for g in ('All', 'Things', 'Stuff')]"
    )
    given = [str(truth), str(tmp_path / "out/panoptic.json"), str(tmp_path / "truth"), str(tmp_path / "out/panoptic")]
    theirs = ask("panopticapi", code, given)
    groups = (report.quality.all, report.quality.things, report.quality.stuff)
    ours = [[getattr(group, figure) for figure in ("pq", "sq", "rq", "n")] for group in groups]
    assert ours == [pytest.approx(row, abs=1e-12) for row in theirs]
    assert 0 < ours[0][0] < 1


def _with_photos(folder: Path) -> Path:
    """A data set of files with the scenes' photos, maps and image ids."""
    from PIL import Image

    (folder / "set/images").mkdir(parents=True)
    for index in range(5):
        Image.fromarray(SCENES.image(index)).save(folder / "set/images" / SCENES.name(index))
    write_coco_panoptic(folder / "set/panoptic.json", ((SCENES.name(i), i, SCENES.map(i)) for i in range(5)), SCENES.categories)
    return folder / "set/panoptic.json"
