from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from skimage.segmentation import random_walker

from ldmseg.data.cases import Case
from ldmseg.data.datasets import SceneDataset
from ldmseg.inference.walker import random_walk

SCENES = SceneDataset(2, 210_000, size=64)


@pytest.mark.slow
@pytest.mark.parametrize("contrast", [25, 130, 1000])
@pytest.mark.parametrize("case", [Case("points", 1.0), Case("strokes", 1.0), Case("blocks", 0.3, 8), Case("pixels", 0.3)])
def test_without_a_prior_it_is_scikit_images_walker(case: Case, contrast: float) -> None:
    for index in range(2):
        photo, partial = SCENES.image(index), case.make(SCENES.map(index), 0, index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of probabilities that miss 0..1 by rounding
            expected = random_walker(rgb2lab(photo), partial.dense + 1, beta=contrast, mode="bf", channel_axis=-1, return_full_prob=True)
        found = random_walk(photo, partial.dense, len(partial), contrast=contrast)
        assert np.moveaxis(found, -1, 0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("given", ["two corners", "all but a hole"])
def test_the_prior_is_the_solution_of_gradys_system(given: str) -> None:
    """A dense solution of (L_U + T) x = -B m + T p on a small photo."""
    rng = np.random.default_rng(0)
    photo = rng.integers(90, 110, (5, 7, 3), dtype=np.uint8)
    seeds = np.full((5, 7), -1)
    seeds[0, 0], seeds[4, 6] = 0, 1
    if given == "all but a hole":  # only the hole's equations are solved
        seeds = rng.integers(0, 2, (5, 7))
        seeds[2:4, 1:4] = -1
    prior, trust = rng.dirichlet(np.ones(3), (5, 7)), rng.uniform(0, 0.1, (5, 7))
    lab = rgb2lab(photo).reshape(35, 3)
    laplacian = np.zeros((35, 35))
    for a in range(35):
        for b in [b for b in (a + 1, a + 7) if b < 35 and (b == a + 7 or b % 7)]:
            weight = np.exp(-50 / (10 * lab.std() * np.sqrt(3)) * np.square(lab[a] - lab[b]).sum()) + 1e-10
            laplacian[[a, b], [b, a]] -= weight
            laplacian[[a, b], [a, b]] += weight
    unknown = seeds.ravel() < 0
    marks = np.eye(3)[seeds.ravel()[~unknown]]
    t = trust.ravel()[unknown]
    right_side = -laplacian[np.ix_(unknown, ~unknown)] @ marks + t[:, None] * prior.reshape(35, 3)[unknown]
    expected = np.linalg.solve(laplacian[np.ix_(unknown, unknown)] + np.diag(t), right_side)
    found = random_walk(photo, seeds, 3, torch.from_numpy(np.moveaxis(prior, -1, 0)), trust, contrast=50)
    assert found.reshape(35, 3)[unknown] == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(found.reshape(35, 3)[~unknown], marks)


def test_a_segment_without_seeds_holds_what_the_photo_sets_apart() -> None:
    photo = np.full((30, 30, 3), 40, dtype=np.uint8)
    photo[5:15, 5:15] = 200
    seeds = np.full((30, 30), -1)
    seeds[25, 25] = 0
    prior, trust = torch.zeros(2, 30, 30), np.zeros((30, 30))
    prior[1, 8:11, 8:11], trust[8:11, 8:11] = 1, 1e-3
    assert np.array_equal(random_walk(photo, seeds, 2, prior, trust).argmax(-1), photo[..., 0] == 200)


def test_a_photo_of_one_colour_is_divided_half_way() -> None:
    seeds = np.full((9, 21), -1)
    seeds[:, 0], seeds[:, 20] = 0, 1
    found = random_walk(np.full((9, 21, 3), 7, dtype=np.uint8), seeds, 2)
    assert found[4, :, 1] == pytest.approx(np.linspace(0, 1, 21), abs=1e-5)
