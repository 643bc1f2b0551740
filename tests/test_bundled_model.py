"""The model that ships with the package does what the model card says of it, within what a few scenes can tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldmseg import LDMSegPipeline, PanopticQuality, load_dataset
from ldmseg.evaluate import evaluate, reconstruct
from ldmseg.segmenters import BaselineSegmenter


@pytest.fixture(scope="module")
def pipe() -> LDMSegPipeline:
    loaded = LDMSegPipeline.from_pretrained("default")
    loaded.set_progress_bar_config(disable=True)
    return loaded


SCENES = load_dataset("scenes:12:val", size=128)
FEW = load_dataset("scenes:4:val", size=128)


@pytest.fixture(scope="module")
def dead() -> LDMSegPipeline:
    """The same with a denoiser that has learned nothing: what the rest of the pipeline does by itself."""
    loaded = LDMSegPipeline.from_pretrained("default")
    loaded.set_progress_bar_config(disable=True)
    with torch.no_grad():
        for part in loaded.unet.conv_out.parameters():
            part.zero_()
    return loaded


@pytest.mark.slow
def test_segments_scenes_it_has_never_seen(pipe: LDMSegPipeline, dead: LDMSegPipeline) -> None:
    quality = evaluate(pipe, SCENES, num_inference_steps=8).quality.all
    assert quality.pq > 0.45
    assert quality.sq > 0.75
    assert evaluate(dead, FEW, num_inference_steps=8).quality.all.pq < 0.15


@pytest.mark.slow
def test_fills_large_holes_that_a_classical_method_cannot(pipe: LDMSegPipeline, dead: LDMSegPipeline) -> None:
    asked = {"drop_rate": 0.9, "block_size": 64}
    learned = evaluate(pipe, SCENES, num_inference_steps=8, **asked).quality.all.pq
    assert learned > 0.4
    assert evaluate(dead, FEW, num_inference_steps=8, **asked).quality.all.pq < learned - 0.15
    for other in (BaselineSegmenter("walker"), BaselineSegmenter("watershed")):
        assert evaluate(other, SCENES, **asked).quality.all.pq < learned - 0.15


@pytest.mark.slow
def test_reconstructs_maps(pipe: LDMSegPipeline) -> None:
    quality = PanopticQuality(class_agnostic=True)
    for index in range(len(SCENES)):
        target = SCENES.map(index)
        quality.update(reconstruct(pipe.mask_autoencoder, target), target)
    assert quality.compute().all.pq > 0.75


@pytest.mark.slow
def test_gap_free_at_the_photos_size(pipe: LDMSegPipeline) -> None:
    photo = np.asarray(SCENES.image(0)).repeat(3, 0).repeat(2, 1)
    drawn = pipe(photo, num_inference_steps=2).maps[0]
    assert drawn.shape == photo.shape[:2]
    assert (drawn.ids > 0).all()
    assert 1 < len(drawn) < 30
