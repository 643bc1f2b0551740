from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import build_tiny

from ldmseg import PanopticMap
from ldmseg.errors import InputError
from ldmseg.segmenters import BaselineSegmenter, PipelineSegmenter, as_segmenter

PIPE = build_tiny()
PIPE.set_progress_bar_config(disable=True)
PHOTOS = [np.random.default_rng(i).integers(0, 256, (24 + i, 30, 3), dtype=np.uint8) for i in range(2)]


def marks(photo: np.ndarray) -> PanopticMap:
    ids = np.zeros(photo.shape[:2], dtype=int)
    ids[2:5, 2:5], ids[15:18, 20:24] = 4, 9
    return PanopticMap(ids)


def test_a_pipeline_answers_with_its_options_and_the_seeds_of_the_photos() -> None:
    segment = PipelineSegmenter(PIPE, num_inference_steps=1, boundaries="drawn")
    maps = segment(PHOTOS, None, [3, 4])
    for index, seed in enumerate((3, 4)):
        alone = PIPE(PHOTOS[index], generator=torch.Generator().manual_seed(seed), num_inference_steps=1, boundaries="drawn").maps[0]
        assert maps[index].shape == PHOTOS[index].shape[:2]
        assert np.mean(maps[index].ids == alone.ids) > 0.99  # a batch may round otherwise
    assert segment.settings["num_inference_steps"] == 1 and segment.settings["sampler"] == PIPE.options.sampler
    with pytest.raises(InputError, match="options: expected some of"):
        PipelineSegmenter(PIPE, speed=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("segment", [PipelineSegmenter(PIPE), *(BaselineSegmenter(name) for name in ("nearest", "watershed", "walker"))])
def test_every_segmenter_keeps_what_is_given(segment) -> None:
    partials = [marks(photo) for photo in PHOTOS]
    for drawn, partial in zip(segment(PHOTOS, partials, [0, 1]), partials, strict=True):
        assert (drawn.ids > 0).all()
        assert (drawn.ids[partial.ids > 0] == partial.ids[partial.ids > 0]).all()


def test_without_trust_in_the_drawing_the_pipeline_is_the_walker_alone() -> None:
    partials = [marks(photo) for photo in PHOTOS]
    alone = BaselineSegmenter("walker")(PHOTOS, partials, [0, 1])
    drawn = PipelineSegmenter(PIPE, boundary_trust=0.0)(PHOTOS, partials, [0, 1])
    assert [m.ids.tolist() for m in drawn] == [m.ids.tolist() for m in alone]
    trusting = PipelineSegmenter(PIPE, boundary_trust=1e6)(PHOTOS, partials, [0, 1])
    assert [m.ids.tolist() for m in trusting] != [m.ids.tolist() for m in alone]


def test_a_baseline_needs_something_given() -> None:
    with pytest.raises(InputError, match="partials: expected a partial map of each photo for the baseline 'nearest', got none"):
        BaselineSegmenter("nearest")(PHOTOS, None, [0, 1])
    with pytest.raises(InputError, match="baselines: expected some of"):
        BaselineSegmenter("magic")  # type: ignore[arg-type]


def test_a_segmenter_is_taken_as_it_is() -> None:
    segment = BaselineSegmenter("nearest")
    assert as_segmenter(segment) is segment
    assert isinstance(as_segmenter(PIPE, num_inference_steps=1), PipelineSegmenter)
