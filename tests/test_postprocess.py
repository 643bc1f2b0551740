from __future__ import annotations

import numpy as np
import pytest
import torch

from ldmseg import Thresholds, postprocess
from ldmseg.errors import InputError
from ldmseg.postprocess import GAP_FREE, to_panoptic

NOTHING = Thresholds(probability=0.0, min_area=0, overlap=0.0)


def logits(ids: np.ndarray, num_ids: int = 6, confident: float = 20.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(ids), num_ids).movedim(-1, 0).float() * 2 * confident - confident


def test_argmax_where_everything_is_certain() -> None:
    ids = np.array([[1, 1, 2], [3, 3, 2]])
    pmap = to_panoptic(logits(ids))
    assert np.array_equal(pmap.ids, ids)
    assert all(s.score == 1.0 for s in pmap.segments)


def test_void_channel_wins_no_pixel() -> None:
    values = logits(np.array([[1, 0, 0, 2]]))
    pmap = to_panoptic(values)
    assert (pmap.ids > 0).all()


def test_unsure_pixels_and_small_segments_become_void() -> None:
    ids = np.full((10, 10), 1)
    ids[:2, :2] = 2
    values = logits(ids)
    values[:, 9, :] = 0.01 * values[:, 9, :]
    assert (to_panoptic(values, Thresholds(0.5, 0, 0.0)).ids == np.where(np.arange(10)[:, None] == 9, 0, ids)).all()
    assert (to_panoptic(logits(ids), Thresholds(0.0, 5, 0.0)).ids == np.where(ids == 2, 0, 1)).all()
    assert (to_panoptic(logits(ids), Thresholds(0.0, 4, 0.0)).ids == ids).all()


def test_overlap_drops_what_others_cover() -> None:
    """Segment 2 claims the whole row by its own sigmoid and wins a third of it."""
    values = torch.full((4, 1, 9), -5.0)
    values[1, 0, :6], values[2, 0] = 9.0, 3.0
    assert to_panoptic(values, Thresholds(0.0, 0, 0.5)).ids.tolist() == [[1] * 9]
    assert to_panoptic(values, Thresholds(0.0, 0, 0.3)).ids.tolist() == [[1] * 6 + [2] * 3]


def test_an_id_between_two_segments_has_no_support() -> None:
    values = logits(np.array([[1, 1, 4, 2, 2]]))
    values[:, 0, 2] = torch.tensor([-20.0, 0.4, 0.5, -20.0, 1.0, -20.0])  # best by little: 4, then 2
    assert to_panoptic(values, NOTHING).ids.tolist() == [[1, 1, 4, 2, 2]]
    assert to_panoptic(values, GAP_FREE).ids.tolist() == [[1, 1, 2, 2, 2]]


def test_something_always_remains() -> None:
    assert (to_panoptic(torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(0)) * 1e-3).ids > 0).all()


def test_resized_to_the_image() -> None:
    assert to_panoptic(logits(np.array([[1, 2], [3, 4]])), size=(7, 5)).shape == (7, 5)


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 50), (3, 2)])
def test_bands_are_the_bilinear_resize(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0)) * 4
    resized = torch.nn.functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    resized[0] = -torch.inf
    monkeypatch.setattr(postprocess, "BAND", 5 * size[1] * 2)  # two rows at a time
    assert np.array_equal(to_panoptic(values, NOTHING, size).ids, resized.argmax(0).numpy())


def test_thresholds_are_checked() -> None:
    with pytest.raises(InputError, match=r"overlap: expected 0\.\.1, got 2"):
        Thresholds(overlap=2)
    with pytest.raises(InputError, match="min_area: expected 0 pixels or more"):
        Thresholds(min_area=-1)
