"""The rival of the benchmark: its loss, its masks on the partial map, and that it trains on the diffusion model's samples."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny import build_tiny

from ldmseg import PanopticMap
from ldmseg.config import DiffusionRunConfig, load_config

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def rival() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_set_decoder", BENCHMARKS / "_set_decoder.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_perfect_queries_cost_next_to_nothing_in_any_order(rival: ModuleType) -> None:
    """Features are one-hot in the segment, so that a query with the same one-hot claims it."""
    ids = torch.zeros(1, 4, 8, dtype=torch.long).repeat(1, 2, 1)
    ids[..., :3], ids[..., 3:6] = 7, 2  # the last two columns are unlabelled
    features = torch.zeros(1, rival.WIDTH, 8, 8)
    features[:, 0], features[:, 1] = (ids == 7).float(), (ids == 2).float()
    queries = torch.zeros(1, 5, rival.WIDTH)
    classes = torch.tensor([-9.0, 9.0]).repeat(1, 5, 1)
    for query, channel in ((3, 0), (1, 1)):
        queries[0, query] = -30
        queries[0, query, channel] = 30
        classes[0, query] = torch.tensor([9.0, -9.0])
    labelled = (ids[0].flatten() > 0).nonzero().flatten()[None]
    cost = rival.set_loss([rival.Predictions(classes, queries)], features, ids, labelled)
    assert 0 <= cost < 0.01
    shuffled = [4, 1, 0, 3, 2]
    swapped = rival.Predictions(classes[:, shuffled], queries[:, shuffled])
    assert rival.set_loss([swapped], features, ids, labelled) == pytest.approx(float(cost), abs=1e-6)
    wrong = rival.Predictions(classes, queries.roll(1, dims=1))  # the masks are no longer those of the sure queries
    assert rival.set_loss([wrong], features, ids, labelled) > 1
    assert rival.set_loss([swapped, wrong], features, ids, labelled) > 1


def test_unlabelled_pixels_are_never_points(rival: ModuleType) -> None:
    ids = torch.zeros(6, 6, dtype=torch.long)
    ids[2, 3:5] = 9
    assert set(rival._points(ids, torch.Generator().manual_seed(0)).tolist()) == {15, 16}


def test_drawn_segments_get_the_given_ids_they_cover_most(rival: ModuleType) -> None:
    drawn = PanopticMap(np.repeat([[1, 1, 1, 2, 2, 2, 3, 3]], 2, axis=0))
    partial = np.zeros((2, 8), dtype=int)
    partial[0, [0, 1]], partial[0, 2], partial[0, 4] = 40, 50, 60
    named, found = rival.with_given_ids(drawn, PanopticMap(partial))
    assert named.ids[0].tolist() == [40, 40, 40, 60, 60, 60, 63, 63] and found == {40, 60}


@pytest.mark.slow
def test_the_rival_sees_the_samples_of_the_diffusion_model_and_learns(rival: ModuleType, tmp_path: Path) -> None:
    build_tiny().save_pretrained(tmp_path / "tiny")
    changes = [
        f"autoencoder={tmp_path / 'tiny'}",
        "data.size=32",
        "data.train=scenes:2:train",
        "data.val=scenes:1:val",
        "data.scene_segments=[2, 3]",
        "image_encoder.latent_channels=8",
        "image_encoder.widths=[8, 8]",
        "denoiser.source=tiny",
        "cache=false",
        "partial.rate=1.0",
    ]
    config = load_config("scenes-diffusion", changes)
    assert isinstance(config, DiffusionRunConfig)
    stage = rival.RivalStage(config).train()
    from ldmseg.training.stages.diffusion import DiffusionStage

    other = DiffusionStage(config)
    for number in range(3):
        ours, theirs = stage.load_sample(number), other.load_sample(number)
        assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("photo", "ids", "known", "cells"))
    batch = stage.collate([stage.load_sample(number) for number in range(4)])
    optimizer = torch.optim.AdamW([weight for weight in stage.parameters() if weight.requires_grad], lr=1e-3)
    costs = []
    for _ in range(12):
        cost = stage(batch)["loss"]
        cost.backward()
        optimizer.step()
        optimizer.zero_grad()
        costs.append(float(cost.detach()))
    assert costs[-1] < 0.8 * costs[0]

    data = stage.val_data
    partial = PanopticMap(np.where(np.arange(32) < 9, data.map(0).ids, 0))
    unaided, completed = stage.segmenter()([data.image(0)], None, [0])[0], stage.segmenter()([data.image(0)], [partial], [0])[0]
    assert unaided.shape == completed.shape == (32, 32) and (completed.ids > 0).all()
    assert (completed.ids[partial.ids > 0] == partial.ids[partial.ids > 0]).all()
