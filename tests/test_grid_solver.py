from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import spsolve

from ldmseg.inference.grid_solver import GridSystem


def random_system(height: int, width: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Couplings over many orders of magnitude, some of them 0."""
    right, down = (10.0 ** rng.uniform(-8, 0, shape) * (rng.random(shape) < 0.9) for shape in ((height, width - 1), (height - 1, width)))
    diagonal = 10.0 ** rng.uniform(-6, 0, (height, width))
    diagonal[:, :-1] += right
    diagonal[:, 1:] += right
    diagonal[:-1] += down
    diagonal[1:] += down
    return torch.from_numpy(diagonal), torch.from_numpy(right), torch.from_numpy(down)


def dense(diagonal: torch.Tensor, right: torch.Tensor, down: torch.Tensor) -> np.ndarray:
    """(H W, H W)."""
    numbers = np.arange(diagonal.numel()).reshape(diagonal.shape)
    matrix = np.diag(diagonal.numpy().ravel())
    for one, other, coupling in ((numbers[:, :-1], numbers[:, 1:], right), (numbers[:-1], numbers[1:], down)):
        matrix[one, other] -= coupling.numpy()
        matrix[other, one] -= coupling.numpy()
    return matrix


@pytest.mark.slow
@given(st.integers(1, 26), st.integers(1, 26), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_equals_a_dense_solution(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    system = random_system(height, width, rng)
    b = rng.random((height, width, count)) * (rng.random((height, width, count)) < 0.5)
    found = GridSystem(*system).solve(torch.from_numpy(b))
    expected = np.linalg.solve(dense(*system), b.reshape(-1, count)).reshape(b.shape)
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("height, width", [(1, 200), (97, 3), (134, 135), (80, 160)])
def test_solves_larger_grids_of_any_shape(height: int, width: int) -> None:
    diagonal, right, down = random_system(height, width, np.random.default_rng(0))
    b = np.random.default_rng(1).random((height, width, 2))
    found = GridSystem(diagonal, right, down).solve(torch.from_numpy(b))
    across = np.pad(right.numpy(), ((0, 0), (0, 1))).ravel()[:-1]
    diagonals = [diagonal.numpy().ravel(), -across, -across, -down.numpy().ravel(), -down.numpy().ravel()]
    matrix = sparse.diags_array(diagonals, offsets=[0, 1, -1, width, -width], format="csc")
    assert found.numpy() == pytest.approx(spsolve(matrix, b.reshape(-1, 2)).reshape(b.shape), rel=1e-4)


def test_autocast_changes_nothing() -> None:
    system = GridSystem(*random_system(20, 30, np.random.default_rng(2)))
    b = torch.rand(20, 30, 2, generator=torch.Generator().manual_seed(0))
    expected = system.solve(b)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(system.solve(b), expected)
