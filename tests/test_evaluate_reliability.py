from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import build_tiny

from ldmseg.data.datasets import SceneDataset
from ldmseg.data.partial import drop_blocks
from ldmseg.errors import InputError
from ldmseg.evaluate.reliability import draw_reliability, measure_confidence
from ldmseg.images import load_images
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.finish import with_borders
from ldmseg.metrics.confidence import ConfidenceQuality
from ldmseg.options import Boundaries, InferenceOptions
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegOutput

SCENES = SceneDataset(3, 0, size=32, segments=(2, 4))


class Noisy:
    """Samples are the labels, some of them with one segment merged into another."""

    def __init__(self, merged: tuple[bool, ...], boundaries: Boundaries = "drawn") -> None:
        self.options = InferenceOptions(num_inference_steps=4, boundaries=boundaries)
        self.merged = merged
        self.given: list[PanopticMap] = []

    def __call__(self, image: NDArray[np.uint8], **options: Any) -> LDMSegOutput:
        assert options["ensemble_size"] == len(self.merged)
        target = next(SCENES.map(i) for i in range(3) if np.array_equal(SCENES.image(i), image))
        low, high = target.segments[0].id, target.segments[-1].id
        other = PanopticMap(np.where(target.ids == high, low, target.ids))
        samples = tuple(other if m else target for m in self.merged)
        agreed = consensus(samples)
        found = with_borders(agreed.map, load_images(image)[0], None, self.options)
        return LDMSegOutput(maps=[found], confidence=[agreed.confidence], samples=[samples])

    def inpaint(self, image: NDArray[np.uint8], partial: PanopticMap, **options: Any) -> LDMSegOutput:
        self.given.append(partial)
        return self(image, **options)


def test_a_consensus_of_mostly_right_samples_is_right_and_knows_where_they_differ() -> None:
    report = measure_confidence(Noisy((False, True, False, False)), SCENES, ensemble_size=4)  # type: ignore[arg-type]
    assert [s.pq == 1 for s in report.samples] == [True, False, True, True]
    assert report.best.pq == 1
    assert [c.size for c in report.consensus] == [2, 4]
    assert report.consensus[-1].quality.pq == 1
    assert report.gain == pytest.approx((1 - report.samples[1].pq) / 4)
    assert report.pixels.accuracy == 1
    assert report.pixels.auroc is None
    assert report.pixels.confidence < 1
    assert report.images == 3
    assert report.alone is None  # these samples have no scores


def test_a_consensus_of_mostly_wrong_samples_is_wrong_where_it_is_less_sure() -> None:
    report = measure_confidence(Noisy((True, True, True, False)), SCENES, ensemble_size=4)  # type: ignore[arg-type]
    assert report.consensus[-1].quality.pq < 1 == report.best.pq
    assert report.pixels.auroc is not None
    assert report.pixels.auroc > 0.5
    assert report.segments.count == sum(len(SCENES.map(i)) - 1 for i in range(3))


def test_single_samples_get_the_border_step_that_the_consensus_has() -> None:
    report = measure_confidence(Noisy((False, False), "photo"), SCENES, ensemble_size=2)  # type: ignore[arg-type]
    assert report.consensus[-1].quality.pq < 1  # the border step moved borders of true maps
    assert report.gain == 0


def test_completion_is_looked_at_where_nothing_was_given() -> None:
    pipe = Noisy((False, True))

    def left_half(index: int, target: PanopticMap) -> PanopticMap:
        return target.with_ids(np.where(np.arange(32) < 16, target.ids, 0))

    report = measure_confidence(pipe, SCENES, ensemble_size=2, partial=left_half, limit=2)  # type: ignore[arg-type]
    assert [np.array_equal(g.ids[:, :16], SCENES.map(i).ids[:, :16]) for i, g in enumerate(pipe.given)] == [True, True]
    assert report.pixels.count == 2 * 32 * 16
    new = [len(SCENES.map(i)) - len(left_half(i, SCENES.map(i))) for i in range(2)]
    assert report.segments.count <= sum(new)


@pytest.mark.slow
def test_a_real_pipeline_is_measured_the_same_way_twice() -> None:
    pipe, seen = build_tiny(), []
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"ensemble_size": 3, "steps": 1, "limit": 2, "on_progress": lambda *p: seen.append(p)}
    first, second = (measure_confidence(pipe, SCENES, **options).to_dict() for _ in range(2))
    assert seen == [(1, 2), (2, 2)] * 2
    for report in (first, second):
        report.pop("seconds_per_image")
    assert first == second
    assert sorted(first["consensus"]) == ["2", "3"]
    assert len(first["sample_pq"]) == 3
    assert first["settings"] == {"ensemble_size": 3, "steps": 1, "seed": 0}
    assert first["pixels"]["count"] == 2 * 32 * 32
    assert first["alone"]["count"] == 2 * 32 * 32
    completed = measure_confidence(pipe, SCENES, **options, partial=lambda i, target: drop_blocks(target, 0.5, 8, np.random.default_rng(i)))
    assert 0 < completed.pixels.count < 2 * 32 * 32


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="expected at least 1 and 2, got None and 1"):
        measure_confidence(Noisy((True,)), SCENES, ensemble_size=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="results: expected at least one"):
        draw_reliability([], "plot.png")


@pytest.mark.slow
def test_reliability_is_drawn(tmp_path: Path) -> None:
    quality = ConfidenceQuality()
    quality.update([0.1, 0.6, 0.9, 1.0], [False, True, True, True])
    draw_reliability([("pixels", quality.compute())], tmp_path / "one.png")
    draw_reliability([("pixels", quality.compute()), ("nothing", ConfidenceQuality().compute())], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.width > 1.8 * one.width
        assert len(np.unique(np.asarray(one.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    with pytest.raises(InputError, match="output: cannot write"):
        draw_reliability([("pixels", quality.compute())], tmp_path)
