"""Ensembles whose samples see the photo mirrored."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import NUM_IDS, build_tiny

from ldmseg.choices import EnsembleFlips
from ldmseg.errors import InputError
from ldmseg.inference.boundaries import refine_boundaries
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.known import mirror
from ldmseg.inference.samples import VIEWS
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.pipeline import LDMSegPipeline

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def pipe() -> LDMSegPipeline:
    built = build_tiny()
    built.set_progress_bar_config(disable=True)
    return built


def photo(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(pipe: LDMSegPipeline, copies: int) -> torch.Tensor:
    sides = -(-pipe.config["image_size"] // pipe.mask_autoencoder.downscale)
    return torch.randn(copies, pipe.mask_autoencoder.config["latent_channels"], sides, sides, generator=seeded(7))


@pytest.mark.slow
@pytest.mark.parametrize("flips", ["horizontal", "both"])
@pytest.mark.parametrize("boundaries", ["drawn", "photo"])
def test_each_sample_is_what_the_model_draws_of_the_mirrored_photo(pipe: LDMSegPipeline, flips, boundaries) -> None:
    copies, start = 5, noise(pipe, 5)
    drawn = []
    for k in range(copies):
        axes = VIEWS[flips][k % len(VIEWS[flips])]
        seen = np.ascontiguousarray(np.flip(photo(), tuple(a - 1 for a in axes)))  # of (H, W, 3)
        drawn.append(mirror(pipe(seen, latents=start[k : k + 1], boundaries="drawn").maps[0], axes))
    agreed = consensus(drawn)
    out = pipe(photo(), ensemble_size=copies, ensemble_flips=flips, latents=start, boundaries=boundaries)
    assert out.samples[0] == agreed.samples
    if boundaries == "drawn":
        assert out.maps[0] == agreed.map
        assert np.array_equal(out.confidence[0], agreed.confidence)
    else:  # borders are put once, on what the samples agree on
        assert out.maps[0] == refine_boundaries(agreed.map, photo(), np.zeros((HEIGHT, WIDTH), dtype=int)) != agreed.map
    plain = pipe(photo(), ensemble_size=copies, latents=start, boundaries=boundaries)
    assert plain.maps[0] != out.maps[0]


def test_without_flips_a_sample_is_the_same_however_it_is_drawn(pipe: LDMSegPipeline) -> None:
    """One of a pair is not mirrored: it is the ensemble's first sample without flips."""
    plain, mirrored = (pipe(photo(), ensemble_size=2, ensemble_flips=f, generator=seeded(3)).samples[0] for f in ("none", "horizontal"))
    first = [consensus([s]).map.ids for s in (plain[0], mirrored[0])]
    assert np.array_equal(*(np.unique(ids, return_inverse=True)[1] for ids in first))


@pytest.mark.slow
@given(
    st.sampled_from(["horizontal", "both"]),
    st.sampled_from(["condition", "project", "refine"]),
    st.sampled_from([0, 30]),
    st.integers(0, 99),
)
@settings(max_examples=12)
def test_what_is_given_comes_back(pipe: LDMSegPipeline, flips, method, tile_size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    partial = PanopticMap(np.where(rng.random((HEIGHT, WIDTH)) < 0.2, rng.integers(1, NUM_IDS, (HEIGHT, WIDTH)) * 10, VOID))
    asked = {"ensemble_size": 3, "ensemble_flips": flips, "num_inference_steps": 2, "generator": seeded(seed)}
    known = partial.ids != VOID
    if method == "refine":
        asked["certain"] = known & (rng.random(known.shape) < 0.5)
        out = pipe.inpaint(photo(seed), partial, method=method, **asked)
        known = asked["certain"]
    else:
        out = pipe.inpaint(photo(seed), partial, method=method, tile_size=tile_size, **asked)
    assert (out.maps[0].ids[known] == partial.ids[known]).all()
    assert all((sample.ids[known] == partial.ids[known]).all() for sample in out.samples[0])


@pytest.mark.slow
def test_pieces_of_the_agreed_map_are_no_smaller_than_asked(pipe: LDMSegPipeline) -> None:
    from scipy import ndimage

    for flips in ("none", "both"):
        pmap = pipe(photo(), ensemble_size=4, ensemble_flips=flips, min_component_area=12, generator=seeded(1)).maps[0]
        for segment in pmap.segments:
            pieces, count = ndimage.label(pmap.ids == segment.id)
            assert count == 1
            assert (pieces > 0).sum() >= 12


@pytest.mark.slow
def test_it_is_the_models_own_default_and_nothing_alone(pipe: LDMSegPipeline, tmp_path) -> None:
    build_tiny(ensemble_flips="both").save_pretrained(tmp_path)
    loaded = LDMSegPipeline.from_pretrained(tmp_path)
    asked = pipe(photo(), ensemble_size=4, ensemble_flips="both", generator=seeded(2)).maps[0]
    assert loaded(photo(), ensemble_size=4, generator=seeded(2)).maps[0] == asked
    latents = loaded(photo(), ensemble_size=2, output_type="latent", generator=seeded(2)).maps[0]
    assert torch.equal(latents, pipe(photo(), ensemble_size=2, output_type="latent", generator=seeded(2)).maps[0])
    assert loaded(photo(), generator=seeded(2)).maps[0] == pipe(photo(), generator=seeded(2)).maps[0]


def test_bad_input(pipe: LDMSegPipeline) -> None:
    with pytest.raises(InputError, match="ensemble_flips: expected one of none, horizontal, both, got 'vertical'"):
        pipe(photo(), ensemble_size=2, ensemble_flips="vertical")
    with pytest.raises(InputError, match="output_type: expected another than 'latent' with ensemble_flips"):
        pipe(photo(), ensemble_size=2, ensemble_flips="both", output_type="latent")


def test_every_choice_of_flips_has_its_views() -> None:
    assert tuple(VIEWS) == get_args(EnsembleFlips)
