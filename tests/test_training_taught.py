"""Where maps teach: dense ones, those of things only, and figure and ground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_pipeline

from ldmseg.config import load_config
from ldmseg.panoptic import PanopticMap, Segment
from ldmseg.training.stages.diffusion import DiffusionStage
from ldmseg.training.taught import area_weights, taught_cells, without_ground


def figure_and_ground() -> PanopticMap:
    ids = np.full((16, 24), 2, dtype=np.int32)
    ids[4:12, 8:20] = 1
    return PanopticMap(ids, (Segment(1, isthing=True), Segment(2, isthing=False)))


def test_cells_of_a_dense_map_need_one_labelled_pixel_and_others_all() -> None:
    ids = np.zeros((16, 20), dtype=np.int32)
    ids[0, 0] = 1
    ids[8:, 8:] = 2
    assert taught_cells(ids, "dense", 8).tolist() == [[1, 0, 0], [0, 1, 1]]
    assert taught_cells(ids, "things_only", 8).tolist() == [[0, 0, 0], [0, 1, 1]]  # the last cell's padding goes on as its pixels do


def test_a_segment_counts_by_its_area_to_the_power_that_is_left() -> None:
    ids = np.zeros((16, 32), dtype=np.int32)
    ids[:, 8:] = 2
    ids[:8, 16:24] = 1  # one cell of the second, 5 of the first; the left cells teach nothing
    cells = taught_cells(ids, "dense", 8)
    weights = area_weights(ids, cells, 8, 0.5)
    assert (weights[:, 0] == 0).all() and weights.sum() == pytest.approx(cells.sum())
    assert weights[0, 2] / weights[0, 1] == pytest.approx(np.sqrt(5))
    assert area_weights(ids, cells, 8, 0.0) == pytest.approx(cells)
    assert (area_weights(np.zeros_like(ids), np.zeros_like(cells), 8, 0.5) == 0).all()


def test_the_ground_is_left_out_unless_a_partial_map_shows_it() -> None:
    pmap = figure_and_ground()
    nothing = np.zeros(pmap.shape, dtype=bool)
    assert set(np.unique(without_ground(pmap, nothing).ids)) == {0, 1}
    on_figure, on_ground = nothing.copy(), nothing.copy()
    on_figure[5, 9] = on_ground[0, 0] = True
    assert set(np.unique(without_ground(pmap, on_figure).ids)) == {0, 1}
    assert np.array_equal(without_ground(pmap, on_ground).ids, pmap.ids)


class OneMap:
    """A data set of one photo."""

    categories = ()

    def __init__(self, ids: np.ndarray) -> None:
        self.pmap = PanopticMap(ids)

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> np.ndarray:
        return np.zeros((*self.pmap.shape, 3), dtype=np.uint8)

    def map(self, index: int) -> PanopticMap:
        return self.pmap

    def name(self, index: int) -> str:
        return "photo.png"


@pytest.mark.slow
@pytest.mark.parametrize("known_rate", [0.0, 1.0])
def test_the_unlabelled_of_a_things_only_set_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_rate: float) -> None:
    """Whatever the network says there: the loss does not hear of it, with a partial map or without."""
    labelled = np.zeros((32, 32), dtype=np.int32)
    labelled[:, :12] = 1
    data = OneMap(labelled)
    monkeypatch.setattr("ldmseg.data.datasets.loading.load_dataset", lambda spec, **_: data)
    sets: list[dict[str, Any]] = [{"data": "coco-panoptic:none", "labelling": "things_only"}]
    values = [f"init={tiny_pipeline(tmp_path)}", "data.val=scenes:2:val", "data.size=32", "cache=false", f"partial.rate={known_rate}"]
    config = load_config("finetune", [*values, "loss.self_condition_rate=0"])
    seen_as = type(config.data).model_validate({**config.data.model_dump(), "train": sets, "flip": False})
    config = config.model_copy(update={"data": seen_as})
    stage = DiffusionStage(config)  # type: ignore[arg-type]
    batch = stage.collate([stage.load_sample(0)])
    f = stage.autoencoder.downscale
    assert batch.cells[0, 0].sum() == (12 // f) * (32 // f)
    seen = []

    class Loud(torch.nn.Module):
        """A denoiser whose output can be set where nothing is taught."""

        config = stage.denoiser.config

        def __init__(self, loudness: float) -> None:
            super().__init__()
            self.loudness = loudness

        def forward(self, x_t: torch.Tensor, timestep: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.where(batch.cells.bool(), x_t, torch.full_like(x_t, self.loudness))

    for loudness in (0.0, 100.0):
        stage.denoiser = Loud(loudness)  # type: ignore[assignment]
        seen.append(stage(batch)["loss"].item())
    assert seen[0] == seen[1] > 0
