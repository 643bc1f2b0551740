"""A pipeline's call in two parts gives the maps of the whole call."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from tiny import build_tiny

from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters import as_segmenter
from ldmseg.segmenters.diffusion import PipelineSegmenter
from ldmseg.segmenters.drawing import DrawingSegmenter, Unfinished

OPTIONS: dict[str, dict[str, Any]] = {
    "borders": {"boundaries": "photo"},
    "components": {"boundaries": "photo", "min_component_area": 6},
    "ensemble": {"boundaries": "photo", "ensemble_size": 3, "ensemble_flips": "horizontal"},
    "tiles": {"boundaries": "photo", "tile_size": 24.0, "min_component_area": 6},
    "drawn": {"boundaries": "drawn"},
}


def photos() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (height, 40, 3), dtype=np.uint8) for height in (32, 47)]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("completes", [False, True])
def test_the_two_parts_give_the_whole(name: str, completes: bool) -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    whole = as_segmenter(pipe, **OPTIONS[name])
    assert isinstance(whole, PipelineSegmenter)
    partials = None
    if completes:
        ids = [np.zeros(photo.shape[:2], dtype=np.int32) for photo in photos()]
        for one in ids:
            one[3:9, 4:30], one[20:26, 8:20] = 70, 9
        partials = [PanopticMap(one) for one in ids]
    drawing = DrawingSegmenter(whole)
    drawn: list[Unfinished] = pickle.loads(pickle.dumps(drawing(photos(), partials, [5, 6])))
    expected = whole(photos(), partials, [5, 6])
    found = [one.finished() for one in drawn]
    for own, other in zip(found, expected, strict=True):
        assert np.array_equal(own.ids, other.ids) and own.segments == other.segments
    changes = [not np.array_equal(one.map.ids, other.ids) for one, other in zip(drawn, expected, strict=True)]
    assert any(changes) or name == "drawn"  # else the last steps would not be tested


def test_the_models_own_settings_stay() -> None:
    pipe = build_tiny(boundaries="drawn", num_inference_steps=3, min_component_area=5)
    DrawingSegmenter(PipelineSegmenter(pipe))
    assert (pipe.options.boundaries, pipe.options.num_inference_steps, pipe.options.min_component_area) == ("drawn", 3, 5)
