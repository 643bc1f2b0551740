"""Classical segmenters of whole photos."""

from __future__ import annotations

import numpy as np
import pytest

from ldmseg import PanopticMap
from ldmseg.errors import InputError
from ldmseg.segmenters import RegionSegmenter, RegionSettings
from ldmseg.segmenters.regions import merge_alike

HALVES = np.zeros((60, 80, 3), dtype=np.uint8)
HALVES[:, :40], HALVES[:, 40:] = (200, 40, 30), (20, 60, 190)
HALVES += np.random.default_rng(0).integers(0, 6, HALVES.shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["felzenszwalb", "slic"])
@pytest.mark.parametrize("side", [288, 40])
def test_two_colours_are_two_segments(name: str, side: int) -> None:
    segment = RegionSegmenter(name, RegionSettings(side=side, superpixels=40, min_size=300))  # type: ignore[arg-type]
    pmap = segment([HALVES], None, [0])[0]
    assert pmap.shape == (60, 80) and len(pmap) == 2
    assert len(np.unique(pmap.ids[:, :39])) == len(np.unique(pmap.ids[:, 41:])) == 1
    assert pmap.ids[0, 0] != pmap.ids[0, -1]
    assert segment.settings["segmenter"] == name and segment.settings["side"] == side
    with pytest.raises(InputError, match="completes no map"):
        segment([HALVES], [PanopticMap(np.ones((60, 80), dtype=int))], [0])


def test_merging_follows_the_colours_and_only_joins_neighbours() -> None:
    pieces = np.repeat(np.array([[3, 5, 7, 9, 11]]), 2, axis=0)
    colors = np.repeat(np.array([[0.0, 4.0, 30.0, 33.0, 1.0]]), 2, axis=0)[..., None] * np.array([1.0, 0, 0])
    assert merge_alike(pieces, colors, 5.0)[0].tolist() == [0, 0, 1, 1, 2]  # the last is like the first and does not touch it
    assert merge_alike(pieces, colors, 0.5)[0].tolist() == [0, 1, 2, 3, 4]
    assert set(merge_alike(pieces, colors, 100.0).ravel()) == {0}
    assert merge_alike(pieces[:, :1], colors[:, :1], 5.0).tolist() == [[0], [0]]


def test_merged_colours_are_weighted_by_area() -> None:
    """Four at 0 and one at 2 make a mean of 0.4, which is 8.6 away from 9."""
    pieces = np.array([[0, 0, 0, 0, 1, 2]])
    colors = np.array([[0.0, 0, 0, 0, 2.0, 9.0]])[..., None] * np.array([1.0, 0, 0])
    assert merge_alike(pieces, colors, 8.0)[0].tolist() == [0, 0, 0, 0, 0, 1]
    assert merge_alike(pieces, colors, 8.7)[0].tolist() == [0] * 6


def test_mistakes() -> None:
    with pytest.raises(InputError, match="segmenter: expected one of felzenszwalb, slic, got 'canny'"):
        RegionSegmenter("canny")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scale: expected more than 0"):
        RegionSettings(scale=0)
