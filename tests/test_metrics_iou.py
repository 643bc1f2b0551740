from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg.errors import InputError
from ldmseg.metrics.iou import pair_iou
from ldmseg.panoptic import PanopticMap

maps = arrays(np.int32, (4, 5), elements=st.sampled_from([0, 1, 2, 300, 2**31 - 1])).map(PanopticMap)


@pytest.mark.slow
@settings(max_examples=80)
@given(maps, maps)
def test_agrees_with_masks_looked_at_one_by_one(prediction: PanopticMap, target: PanopticMap) -> None:
    found = pair_iou(prediction, target)
    seen = {
        (prediction.segments[p].id, target.segments[t].id): iou for p, t, iou in zip(found.prediction, found.target, found.iou, strict=True)
    }
    expected = {}
    for p in prediction.segments:
        for t in target.segments:
            mine, true = (prediction.ids == p.id) & (target.ids != 0), target.ids == t.id
            if (mine & true).any():
                expected[p.id, t.id] = (mine & true).sum() / (mine | true).sum()
    assert seen == pytest.approx(expected)


def test_void_maps_share_nothing() -> None:
    nothing = PanopticMap(np.zeros((2, 3), dtype=np.int32))
    assert len(pair_iou(nothing, nothing).iou) == 0
    assert len(pair_iou(PanopticMap(np.ones((2, 3), dtype=np.int32)), nothing).iou) == 0


def test_sizes_must_agree() -> None:
    with pytest.raises(InputError, match=r"prediction: expected the target's size \(2, 2\)"):
        pair_iou(PanopticMap(np.ones((2, 3), dtype=np.int32)), PanopticMap(np.ones((2, 2), dtype=np.int32)))
