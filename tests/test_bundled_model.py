"""The model that ships with the package does what the model card says of it, within what a few scenes can tell."""

from __future__ import annotations

import numpy as np
import pytest

from ldmseg import LDMSegPipeline, PanopticQuality, load_dataset
from ldmseg.evaluate import evaluate, reconstruct


@pytest.fixture(scope="module")
def pipe() -> LDMSegPipeline:
    loaded = LDMSegPipeline.from_pretrained("default")
    loaded.set_progress_bar_config(disable=True)
    return loaded


SCENES = load_dataset("scenes:12:val", size=128)


def test_segments_scenes_it_has_never_seen(pipe: LDMSegPipeline) -> None:
    quality = evaluate(pipe, SCENES, num_inference_steps=8).quality.all
    assert quality.pq > 0.25
    assert quality.sq > 0.7


def test_what_is_given_helps(pipe: LDMSegPipeline) -> None:
    alone = evaluate(pipe, SCENES, num_inference_steps=4).quality.all.pq
    helped = evaluate(pipe, SCENES, num_inference_steps=4, drop_rate=0.5, block_size=16).quality.all.pq
    assert helped > alone + 0.1


def test_reconstructs_maps(pipe: LDMSegPipeline) -> None:
    quality = PanopticQuality(class_agnostic=True)
    for index in range(len(SCENES)):
        target = SCENES.map(index)
        quality.update(reconstruct(pipe.mask_autoencoder, target), target)
    assert quality.compute().all.pq > 0.75


def test_gap_free_at_the_photos_size(pipe: LDMSegPipeline) -> None:
    photo = np.asarray(SCENES.image(0)).repeat(3, 0).repeat(2, 1)
    drawn = pipe(photo, num_inference_steps=2).maps[0]
    assert drawn.shape == photo.shape[:2]
    assert (drawn.ids > 0).all()
    assert 1 < len(drawn) < 30
