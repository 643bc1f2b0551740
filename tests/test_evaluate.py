from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import build_tiny

from ldmseg import LDMSegPipeline, PanopticMap, load_dataset
from ldmseg.config import MaskAugmentConfig
from ldmseg.data.datasets import SceneDataset
from ldmseg.data.mask_augment import augment_mask, random_crop, speckle
from ldmseg.data.partial import displaced
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate, reconstruct

SCENES = SceneDataset(3, 0, size=32, segments=(2, 4))


class Oracle:
    """A segmenter that answers with the labels."""

    settings = {"num_inference_steps": 4}  # noqa: RUF012

    def __init__(self) -> None:
        self.given: list[PanopticMap] = []

    def __call__(
        self,
        images: Sequence[np.ndarray],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        self.given += partials or ()
        return [next(SCENES.map(i) for i in range(3) if np.array_equal(SCENES.image(i), image)) for image in images]


def test_an_oracle_is_perfect() -> None:
    seen: list[tuple[int, int]] = []
    report = evaluate(Oracle(), SCENES, batch_size=2, on_progress=lambda done, total: seen.append((done, total)))
    assert report.quality.all.pq == 1.0
    assert seen == [(2, 3), (3, 3)]
    assert report.to_dict()["images"] == 3
    assert report.to_dict()["settings"]["num_inference_steps"] == 4
    aware = evaluate(Oracle(), SCENES, class_agnostic=False)
    assert aware.quality.all.pq == 1.0
    assert aware.quality.all.n > 1


def test_segments_without_categories_are_of_no_category() -> None:
    """They were taken for segments of category 1."""
    with pytest.raises(InputError, match=r"class_agnostic: expected true .*prediction: segment \d+ has none"):
        evaluate(build_tiny(), SCENES, class_agnostic=False, limit=1)


def test_completion_gets_what_the_drop_rate_leaves() -> None:
    oracle = Oracle()
    evaluate(oracle, SCENES, drop_rate=0.75, block_size=4, limit=2)
    assert len(oracle.given) == 2
    assert np.mean([(g.ids == 0).mean() for g in oracle.given]) == pytest.approx(0.75, abs=0.1)


@pytest.mark.slow
def test_result_does_not_depend_on_the_batch_size() -> None:
    pipe: LDMSegPipeline = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    assert evaluate(pipe, SCENES, batch_size=1).quality == evaluate(pipe, SCENES, batch_size=3).quality
    with pytest.raises(InputError, match="limit, batch_size"):
        evaluate(pipe, SCENES, limit=0)


def test_reconstruction_keeps_the_maps_ids() -> None:
    pmap = PanopticMap(SCENES.map(0).ids * 1000)
    result = reconstruct(build_tiny().mask_autoencoder, pmap)
    assert result.shape == pmap.shape
    assert (result.ids > 0).all()
    assert torch.is_grad_enabled()


def test_data_set_names() -> None:
    assert len(load_dataset("scenes:5:val")) == 5
    assert load_dataset("scenes:5:val").name(0) == "scene_10000000.png"
    for wrong in ("scenes", "scenes:", "scenes:0", "scenes:5:test", "voc:here", "scenes:20000000"):
        with pytest.raises(InputError, match="data: expected"):
            load_dataset(wrong)
    with pytest.raises(InputError):
        load_dataset("coco-panoptic:nowhere")


def test_augmented_masks_are_a_function_of_the_generator() -> None:
    ids = SceneDataset(1, 5, size=96).ids(0)
    config = MaskAugmentConfig(crop=40, ragged=3.0, speckle=1.0, void=1.0)
    first, again, other = (augment_mask(ids, config, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == (40, 40)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first == 0).any()


def test_each_augmentation_does_its_own() -> None:
    ids = SceneDataset(1, 5, size=96).ids(0)
    rng = np.random.default_rng(0)
    assert set(np.unique(displaced(ids, 3.0, rng))) <= set(np.unique(ids))
    assert 0 < (displaced(ids, 3.0, rng) != ids).mean() < 0.4
    assert len(np.unique(speckle(ids, rng))) > len(np.unique(ids))
    assert random_crop(ids[:10, :10], 64, rng).shape == (64, 64)
