from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from tiny import build_tiny

from ldmseg import VOID, InferenceOptions, PanopticMap, Segment
from ldmseg.choices import InpaintMethod
from ldmseg.data.cases import KINDS, NOISY, Case, make_cases
from ldmseg.data.datasets import SceneDataset
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate, evaluate_inpainting
from ldmseg.evaluate.inpainting import CompletionScore, InpaintingReport, _Tally, default_methods
from ldmseg.evaluate.plots import curves, draw_curves
from ldmseg.pipeline import LDMSegOutput

SCENES = SceneDataset(3, 0, size=32, segments=(2, 4))
BLOCKS = Case("blocks", 0.5, 8)


class Oracle:
    """Completes with the labels, and remembers what it was given."""

    options = InferenceOptions(num_inference_steps=4)
    mask_autoencoder = SimpleNamespace(config={"num_ids": 16})
    unet = SimpleNamespace(config={"partial": True})

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[PanopticMap], list[int]]] = []

    def inpaint(self, images: list[np.ndarray], partial: list[PanopticMap], *, method: str, generator: list[Any], **_: Any) -> LDMSegOutput:
        self.calls.append((method, partial, [g.initial_seed() for g in generator]))
        return LDMSegOutput(maps=[next(SCENES.map(i) for i in range(3) if np.array_equal(SCENES.image(i), image)) for image in images])


def row(*runs: tuple[int, int]) -> PanopticMap:
    """(1, n) from (id, length)."""
    return PanopticMap(np.concatenate([np.full(length, i) for i, length in runs])[None])


def scored(result: PanopticMap, partial: PanopticMap, target: PanopticMap, case: Case = BLOCKS) -> CompletionScore:
    tally = _Tally()
    tally.add(result, partial, target)
    return tally.score(case, "any")


# --------------------------------------------------------------------------------------------------------------------------- measures
def test_measures_by_hand() -> None:
    """Unknown are the middle five: the truth has 3 + 2 of them, the result 4 + 1."""
    target, partial = row((1, 5), (2, 5)), row((1, 2), (VOID, 5), (2, 3))
    score = scored(row((1, 6), (2, 4)), partial, target)
    assert score.pq == pytest.approx((5 / 6 + 4 / 5) / 2)
    # 3/4 matches; 1/2 does not, and segment 2 is not forgiven for the three known pixels it lies on
    assert score.pq_unknown == pytest.approx(3 / 4 / 2)
    assert score.miou_given == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert (score.fidelity, score.ids_kept) == (1.0, 1.0)


def test_what_is_not_kept_shows() -> None:
    target, partial = row((1, 5), (2, 5)), row((1, 2), (VOID, 5), (2, 3))
    score = scored(row((1, 1), (7, 9)), partial, target)
    assert score.fidelity == pytest.approx(1 / 5)
    assert score.ids_kept == 0.5
    assert score.miou_given == pytest.approx((1 / 5 + 0) / 2)


def test_a_segment_under_another_id_counts_for_pq_and_not_for_the_given_ids() -> None:
    score = scored(row((1, 5), (8, 5)), row((1, 1), (VOID, 9)), row((1, 5), (2, 5)))
    assert score.pq == score.pq_unknown == 1
    swapped = scored(row((2, 1), (1, 9)), row((2, 1), (VOID, 9)), row((2, 10)))
    assert swapped.miou_given == pytest.approx(1 / 10)


def test_the_truths_void_counts_for_nothing() -> None:
    score = scored(row((1, 10)), row((1, 2), (VOID, 8)), row((1, 6), (VOID, 4)))
    assert score.pq == score.pq_unknown == score.miou_given == score.fidelity == 1


def test_nothing_given_and_nothing_unknown() -> None:
    nothing = scored(row((1, 5), (2, 5)), row((VOID, 10)), row((1, 5), (2, 5)))
    assert (nothing.miou_given, nothing.fidelity, nothing.ids_kept) == (None, None, None)
    assert nothing.pq_unknown == nothing.pq == 1
    everything = scored(row((1, 5), (2, 5)), row((1, 5), (2, 5)), row((1, 5), (2, 5)))
    assert everything.pq_unknown is None and everything.fidelity == 1
    json.dumps([nothing.to_dict(), everything.to_dict()], allow_nan=False)


def test_of_a_noisy_label_only_what_is_right_is_known() -> None:
    target, noisy = row((1, 5), (2, 5)), row((1, 7), (2, 3))
    for result in (noisy, target):
        assert scored(result, noisy, target, Case("shifted", 0.1)).fidelity == 1
        assert scored(result, noisy, target, Case("shifted", 0.1)).pq_unknown is None
    assert scored(row((1, 10)), noisy, target, Case("shifted", 0.1)).fidelity == 5 / 8
    holes = row((1, 3), (VOID, 4), (2, 3))
    assert scored(row((1, 3), (7, 4), (2, 3)), holes, target, Case("eroded", 0.1)).pq_unknown == 0


# --------------------------------------------------------------------------------------------------------------------------- protocol
def test_an_oracle_is_perfect_and_everybody_gets_the_same_maps() -> None:
    oracle, seen = Oracle(), list[tuple[int, int, str]]()
    cases = (BLOCKS, Case("points", 1.0))
    report = evaluate_inpainting(
        oracle,  # type: ignore[arg-type]
        SCENES,
        cases=cases,
        methods=["condition", "project"],
        baselines=["nearest"],
        batch_size=2,
        on_progress=lambda *progress: seen.append(progress),
    )
    assert [(s.case, s.method) for s in report.scores] == [(c, m) for c in cases for m in ("condition", "project", "nearest")]
    for score in report.scores:
        if score.method != "nearest":
            assert (score.pq, score.pq_unknown, score.miou_given, score.fidelity, score.ids_kept) == (1, 1, 1, 1, 1)
        else:
            assert 0 < score.pq < 1 and (score.fidelity, score.ids_kept) == (1, 1)
    assert (seen[0][:2], seen[-1][:2]) == ((2, 18), (18, 18)) and "points" in seen[-1][2]
    for first, second in zip(oracle.calls[::2], oracle.calls[1::2], strict=True):
        assert (first[0], second[0]) == ("condition", "project")
        assert first[1:] == second[1:]
    assert oracle.calls[0][1] == [BLOCKS.make(SCENES.map(i), 0, i) for i in range(2)]
    assert report.cases == cases and report.methods == ("condition", "project", "nearest")
    assert report.score(BLOCKS, "nearest") == report.scores[2] and report.score(BLOCKS, "walker") is None


@pytest.mark.slow
def test_every_method_once_more_with_borders_as_drawn() -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    asked: Any = {"cases": [BLOCKS], "methods": ["condition"]}
    report = evaluate_inpainting(pipe, SCENES, **asked, baselines=["walker"], also_drawn=True, boundaries="photo")
    drawn = evaluate_inpainting(pipe, SCENES, **asked, baselines=[], boundaries="drawn")
    assert report.methods == ("condition", "condition, as drawn", "walker")
    assert report.scores[1].pq == drawn.scores[0].pq != report.scores[0].pq


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_every_method_of_a_real_pipeline(kind: str) -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    case = make_cases([kind])[0]
    report = evaluate_inpainting(pipe, SCENES, cases=[case], methods=get_args(InpaintMethod), baselines=["nearest"], limit=2)
    assert report.methods == (*get_args(InpaintMethod), "nearest") and report.images == 2
    for score in report.scores:
        assert 0 <= score.pq <= 1 and score.seconds_per_image > 0
        if not case.noisy and score.method != "refine":
            assert (score.fidelity, score.ids_kept) == (1, 1), score
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_one_point_is_what_evaluate_measures_with_a_drop_rate_in_any_batch() -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    case = make_cases(["blocks"], drop_rates=[0.7], block_sizes=[4])
    alone, together = (
        evaluate_inpainting(pipe, SCENES, cases=case, methods=["condition"], baselines=(), batch_size=size, seed=5).scores
        for size in (1, 3)
    )
    (one,) = alone
    assert one.pq == evaluate(pipe, SCENES, drop_rate=0.7, block_size=4, seed=5).quality.all.pq
    timeless = [[{**s.to_dict(), "seconds_per_image": 0} for s in scores] for scores in (alone, together)]
    assert timeless[0] == timeless[1]


def test_methods_that_fit() -> None:
    able, unable = Oracle(), Oracle()
    unable.unet = SimpleNamespace(config={"partial": False})
    exact, noisy = default_methods(able, BLOCKS), default_methods(able, Case("merged", 0.1))  # type: ignore[arg-type]
    assert {*exact, *noisy, "auto"} == set(get_args(InpaintMethod)) and not {*exact} & {*noisy, "auto"}
    assert "condition" in exact and "project" in exact
    assert set(default_methods(unable, BLOCKS)) == {*exact} - {"condition"}  # type: ignore[arg-type]


def test_a_map_with_more_segments_than_the_model_has_ids() -> None:
    widths = np.arange(30, 0, -1)

    class Stripes:
        def __len__(self) -> int:
            return 1

        def image(self, index: int) -> np.ndarray:
            return np.zeros((4, widths.sum(), 3), np.uint8)

        def map(self, index: int) -> PanopticMap:
            return PanopticMap(np.arange(1, 31).repeat(widths)[None].repeat(4, 0))

    pipe = build_tiny()  # 16 ids, of which 15 are for segments
    pipe.set_progress_bar_config(disable=True)
    report = evaluate_inpainting(pipe, Stripes(), cases=[Case("pixels", 1.0)], methods=["auto"], baselines=["nearest"])  # type: ignore[arg-type]
    assert [(s.fidelity, s.ids_kept) for s in report.scores] == [(1, 1), (1, 1)]
    assert report.scores[1].rq == pytest.approx(14 / 22.5)  # the 15 largest are given; one floods what nobody was told of


def test_bad_arguments() -> None:
    for wrong, match in (
        ({"limit": 0}, "limit, batch_size"),
        ({"methods": ["magic"]}, "methods: expected some of auto, .*got 'magic'"),
        ({"baselines": ["magic"]}, "baselines: expected some of"),
        ({"methods": (), "baselines": ()}, "expected at least one, got none"),
    ):
        with pytest.raises(InputError, match=match):
            evaluate_inpainting(Oracle(), SCENES, **{"baselines": ["nearest"], **wrong})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------------------------ cases
def test_cases_of_every_kind() -> None:
    cases = make_cases(KINDS, drop_rates=[0.1, 0.9], block_sizes=[16, 32])
    assert [c.density for c in cases if c.kind == "blocks"] == ["10 % dropped", "90 % dropped"] * 2
    assert {c.kind for c in cases} == set(KINDS) and len(cases) == 4 + 2 * (len(KINDS) - 1)
    assert {c.kind for c in make_cases()} == set(KINDS) - set(NOISY)
    assert make_cases(["points"], shares=[0.25]) == (Case("points", 0.25),)
    assert cases[0].to_dict() == {"kind": "blocks", "drop_rate": 0.1, "block_size": 16}
    assert Case("ragged", 0.1).to_dict() == {"kind": "ragged", "amount": 0.1}
    assert (Case("pixels", 0.01).what, Case("pixels", 0.01).density) == ("pixels", "1 % of pixels")


def test_a_partial_map_depends_on_seed_and_index_alone_and_holds_no_crowd() -> None:
    full = SCENES.map(0)
    for case in make_cases(KINDS):
        assert case.make(full, 1, 2) == case.make(full, 1, 2)
        assert (
            case.noisy
            or case.share == 1
            or case.make(full, 1, 2) != case.make(full, 1, 3)
            or case.make(full, 2, 2) != case.make(full, 1, 2)
        )
    sparse, dense = (Case("blocks", share, 4).make(full, 0, 0).ids for share in (0.1, 0.7))
    assert (dense[sparse != VOID] == sparse[sparse != VOID]).all() and (sparse != VOID).sum() < (dense != VOID).sum()
    crowd = full.segments[0].id
    marked = PanopticMap(full.ids, tuple(Segment(s.id, iscrowd=s.id == crowd) for s in full.segments))
    assert crowd not in {s.id for s in Case("pixels", 1.0).make(marked, 0, 0).segments}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("lassos", 0.5), "kind: expected one of blocks"),
        (("points", 1.5), r"share: expected 0\.\.1, got 1\.5"),
        (("merged", -1), r"amount: expected 0\.\.1"),
        (("points", 1.0, 16), "block_size: expected for blocks"),
        (("blocks", 1.0), "block_size: expected for blocks"),
        (("blocks", 1.0, 0), "block_size: expected at least 1"),
    ],
)
def test_cases_that_cannot_be(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Case(*arguments)
    with pytest.raises(InputError, match="drop_rates"):
        make_cases(["blocks"], drop_rates=[2])
    with pytest.raises(InputError, match="kind"):
        make_cases(["lassos"])


# ------------------------------------------------------------------------------------------------------------------------------ plots
def made(*cases: Case, methods: tuple[str, ...] = ("condition", "nearest")) -> InpaintingReport:
    """PQ falls by 0.1 from case to case, and the second method is worth half."""
    scores = [
        CompletionScore(case, method, (0.9 - 0.1 * n) / (m + 1), 1, 1, None, None, 1, 1, 0.1)
        for n, case in enumerate(cases)
        for m, method in enumerate(methods)
    ]
    return InpaintingReport(tuple(scores), 1, {})


@pytest.mark.slow
def test_curves_show_the_figures() -> None:
    report = made(*make_cases(["blocks", "points"], drop_rates=[0.9, 0.1], block_sizes=[16, 32]))
    figure = curves(report, "title")
    panels = {axes.get_title(): axes for axes in figure.get_axes()}
    assert {"condition", "nearest"} <= set(panels)
    lines = panels["nearest"].get_lines()
    assert [line.get_label() for line in lines] == ["16 px", "32 px"]
    assert lines[0].get_xdata() == pytest.approx([10, 90]) and lines[0].get_ydata() == pytest.approx([40, 45])
    bars = [[bar.get_height() for bar in container] for container in panels[""].containers]
    assert [values == pytest.approx(expected) for values, expected in zip(bars, ([50, 40], [25, 20]), strict=True)] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [["blocks"], ["points", "ragged"], ["blocks", "merged"]])
def test_curves_of_what_there_is(kinds: list[str], tmp_path: Path) -> None:
    methods = tuple(f"method {n}" for n in range(6)) if kinds == ["blocks"] else ("condition",)
    draw_curves(made(*make_cases(kinds), methods=methods), tmp_path / "new" / "curves.png")
    with Image.open(tmp_path / "new" / "curves.png") as drawn:
        assert drawn.format == "PNG" and drawn.width > 1000 and len(set(drawn.convert("L").tobytes())) > 20
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["curves.png"]


@pytest.mark.slow
def test_an_ensemble_is_drawn_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    sizes = []
    latents = pipe._latents
    monkeypatch.setattr(pipe, "_latents", lambda networks, samples, *rest: sizes.append(len(samples)) or latents(networks, samples, *rest))
    asked = {"num_inference_steps": 1, "ensemble_size": 2, "limit": 1}
    report = evaluate_inpainting(pipe, SCENES, cases=[BLOCKS], methods=["condition"], baselines=(), **asked)
    assert report.settings["ensemble_size"] == 2
    assert report.scores[0].fidelity == 1
    segmented = evaluate(pipe, SCENES, num_inference_steps=1, ensemble_size=3, limit=1)
    assert segmented.settings["ensemble_size"] == 3
    assert sizes == [2, 3]
    assert evaluate(pipe, SCENES, num_inference_steps=1, limit=1).settings["ensemble_size"] == 1
