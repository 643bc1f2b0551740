from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from ldmseg import VOID, PanopticMap, Segment, Thresholds
from ldmseg.errors import InputError
from ldmseg.inference import postprocess
from ldmseg.inference.postprocess import GAP_FREE, resized_argmax, split_components, to_panoptic, unused_ids

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


@pytest.mark.parametrize("least", [0.0, 1e-9])  # by cells, and by bands where each pixel's probability is asked for
@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 50), (3, 2)])
def test_the_map_is_that_of_all_logits_resized(size: tuple[int, int], least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0)) * 4
    resized = torch.nn.functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    resized[0] = -torch.inf
    monkeypatch.setattr(postprocess, "BAND", 5 * size[1] * 2)  # two rows, or a few cells, at a time
    assert np.array_equal(to_panoptic(values, replace(NOTHING, probability=least), size).ids, resized.argmax(0).numpy())


@pytest.mark.slow
@given(*(st.integers(1, n) for n in (12, 9, 9, 40, 40)), st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_between_pixels_that_agree_nothing_else_is_largest(ids: int, h: int, w: int, height: int, width: int, seed: int) -> None:
    """Patches of few ids, as a model draws them, with a margin against which rounding does not count."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, ids, -(-h // 3), -(-w // 3), generator=generator) * 9
    values = torch.nn.functional.interpolate(coarse, size=(h, w))[0] + torch.randn(ids, h, w, generator=generator)
    resized = torch.nn.functional.interpolate(values[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    found = resized_argmax(values, torch.arange(1, ids + 1), height, width)
    assert found.dtype == torch.int32
    chosen = resized.gather(0, found.long()[None] - 1)[0]
    assert (chosen >= resized.amax(0) - 1e-4).all()


def test_scores_are_of_the_models_own_pixels() -> None:
    values = torch.full((4, 1, 2), -20.0)
    values[1, 0], values[2, 0], values[3, 0] = torch.tensor([20.0, -20.0]), torch.tensor([-20.0, 20.0]), torch.tensor([19.0, 19.0])
    pmap = to_panoptic(values, NOTHING, size=(1, 9))
    assert set(np.unique(pmap.ids)) == {1, 2, 3}  # 3 is the largest half way alone
    probability = 1 / (1 + np.exp(1.0))
    assert [s.score for s in pmap.segments] == [round(1 - probability, 4), round(1 - probability, 4), round(probability, 4)]


def test_thresholds_are_checked() -> None:
    with pytest.raises(InputError, match=r"overlap: expected 0\.\.1, got 2"):
        Thresholds(overlap=2)
    with pytest.raises(InputError, match="min_area: expected 0 pixels or more"):
        Thresholds(min_area=-1)


def test_pieces_become_segments() -> None:
    ids = np.full((20, 30), 5)
    ids[2:6, 2:6] = ids[10:16, 2:8] = ids[2:4, 20:22] = 9  # 16, 36 and 4 pixels of one segment, apart
    pmap = PanopticMap(ids, (Segment(5), Segment(9, category_id=3, isthing=True, score=0.5)))
    split = split_components(pmap, 10)
    assert set(split.ids[10:16, 2:8].flat) == {9}  # the largest keeps the id
    (other,) = set(split.ids[2:6, 2:6].flat)
    assert other not in (5, 9)
    assert split[other] == replace(pmap[9], id=other)
    assert set(split.ids[2:4, 20:22].flat) == {5}  # too small: what is around it
    assert len(split) == 3
    known = np.zeros_like(ids)
    known[2, 20] = known[2, 2] = 9
    kept = split_components(pmap, 10, known)
    assert (kept.ids == ids).all()


@pytest.mark.slow
@given(st.integers(0, 2**31), st.sets(st.sampled_from([1, 2, 3, 5, 2**24 - 3, 2**24 - 2, 2**24 - 1]), min_size=1), st.integers(0, 4))
def test_new_components_get_free_ids_that_a_png_holds(seed: int, ids: set[int], min_area: int) -> None:
    pixels = np.random.default_rng(seed).choice([0, *ids], (12, 12))
    result = split_components(PanopticMap(pixels), min_area)
    present = [s.id for s in result.segments]
    assert len(set(present)) == len(present) and max(present, default=0) < 2**24
    again = split_components(PanopticMap(np.where(pixels > 5, pixels - 2**24 + 10, pixels)), min_area)
    assert len(again) == len(result)  # the same components, whatever their ids


def test_unused_ids_are_those_above_then_those_between_then_any() -> None:
    assert list(islice(unused_ids({2, 4}), 3)) == [5, 6, 7]
    assert list(islice(unused_ids(()), 2)) == [1, 2]
    top = 2**24 - 1
    assert list(islice(unused_ids({2, top - 1}), 4)) == [top, 1, 3, 4]
    assert list(islice(unused_ids({1, 2**30}), 2)) == [2, 3]


@pytest.mark.slow
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 30), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=100)
def test_pieces_keep_what_is_given_and_invent_no_pixel(height: int, width: int, min_area: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, (height, width)) * 1000
    known = np.where(rng.random(ids.shape) < share, ids, VOID)
    pmap = PanopticMap(ids)
    split = split_components(pmap, min_area, known)
    assert (split.ids[known != VOID] == ids[known != VOID]).all()
    assert ((split.ids == VOID) == (ids == VOID)).all()
    sizes = np.bincount(label(ids, background=VOID, connectivity=1).ravel())[1:]
    for s in split.segments if (sizes >= min_area).any() else ():
        assert (split.ids == s.id).sum() >= min_area or (known == s.id).any()
    for s in split.segments:
        if s.id not in ids and min_area == 0:
            assert label(split.ids == s.id, connectivity=1).max() == 1
