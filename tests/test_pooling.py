from __future__ import annotations

import numpy as np
import pytest
import torch

from ldmseg.models.pooling import coverage
from ldmseg.panoptic import PanopticMap


def test_shares_of_a_known_map() -> None:
    ids = np.array([[1, 1, 2, 2], [1, 1, 2, 0], [1, 3, 3, 3], [1, 3, 3, 3]])
    found = coverage(PanopticMap(ids), (2, 2))
    torch.testing.assert_close(found, torch.tensor([[[1, 0], [0.5, 0]], [[0, 0.75], [0, 0]], [[0, 0], [0.5, 1]]]))


@pytest.mark.parametrize(("shape", "grid"), [((37, 53), (5, 7)), ((3, 40), (8, 8)), ((2, 2), (4, 4)), ((1, 1), (3, 2))])
def test_shares_of_a_map_without_void_sum_to_one_for_every_size(shape: tuple[int, int], grid: tuple[int, int]) -> None:
    ids = np.random.default_rng(0).integers(1, 5, shape)
    found = coverage(PanopticMap(ids), grid)
    assert tuple(found.shape) == (len(np.unique(ids)), *grid) and found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(grid))
    assert (found.flatten(1).sum(1) > 0).all() or shape != (37, 53)


def test_one_segment_covers_every_cell_exactly() -> None:
    assert (coverage(PanopticMap(np.ones((13, 29), dtype=int)), (7, 7)) == 1).all()


def test_nothing_is_covered_by_no_segment() -> None:
    assert coverage(PanopticMap(np.zeros((4, 4), dtype=int)), (2, 2)).shape == (0, 2, 2)
