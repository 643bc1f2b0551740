"""The script of the ablations, at the smallest size that runs all of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # for its `_results`
    spec = importlib.util.spec_from_file_location("ablations", BENCHMARKS / "ablations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ablations", module)
    spec.loader.exec_module(module)
    return module


SMALL = [
    *("--data", "scenes:2:val", "--limit", "2", "--steps", "2", "--steps2", "2"),
    *("--stage1", "data.size=32", "--stage1", "augment.crop=32", "--stage1", "optim.batch_size=2", "--stage1", "loss.points=16"),
    *("--stage1", "data.train=scenes:4", "--stage1", "data.val=scenes:1:val"),
    *("--stage2", "data.train=scenes:4", "--stage2", "data.val=scenes:1:val", "--stage2", "data.size=32", "--stage2", "optim.batch_size=2"),
    *("--stage2", "denoiser.source=tiny"),
]


def test_a_sum_is_a_mean_with_another_weight(ablations: ModuleType) -> None:
    arguments = ablations.parser().parse_args(["--study", "kl", "--runs", "x", "--stage1", "augment.crop=32"])
    assert ablations.latent_numbers(arguments) == 8 * 4 * 4
    assert ablations._meant("loss.kl=sum:0.001", arguments) == "loss.kl=0.128"
    assert ablations._meant("loss.kl=0.001", arguments) == "loss.kl=0.001"


def test_every_variant_is_a_configuration(ablations: ModuleType) -> None:
    arguments = ablations.parser().parse_args(["--study", "kl", "--runs", "x"])
    for variants in ablations.STUDIES.values():
        for variant in variants.values():
            ablations.load_config("scenes-autoencoder", [ablations._meant(one, arguments) for one in variant.stage1])
            ablations.load_config("scenes-diffusion", variant.stage2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "only"),
    [
        ("finer", ["128 px, f = 8, bundled", "128 px, f = 4"]),
        pytest.param("kl", ["mean 0.0001", "sum 0.0001"], marks=pytest.mark.long),
        ("codes", ["color"]),
        ("scale", ["s = 0.5"]),
    ],
)
def test_a_study_runs_and_its_trainings_are_kept(ablations: ModuleType, study: str, only: list[str], tmp_path: Path) -> None:
    arguments = ablations.parser().parse_args(["--study", study, "--runs", str(tmp_path), *SMALL, "--only", *only])
    found = ablations.measured(study, arguments, lambda text: None)
    assert list(found["rows"]) == only
    for row in found["rows"].values():
        assert 0 <= row["pq"] <= 100 and row["latent_std"] > 0 and row["images"] == 2
    if study == "finer":
        assert [row["latents"] for row in found["rows"].values()] == [[8, 16, 16], [8, 32, 32]]
        assert all(row["denoiser_cpu_seconds"] > 0 for row in found["rows"].values())
    if study == "kl":
        mean, total = found["rows"].values()
        assert mean["kl_as_mean"] == 1e-4 and total["kl_as_sum"] == pytest.approx(1e-4)
        assert set(mean["stage2_pq_by_sampling_steps"]) == {"4", "20"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = ablations.measured(study, arguments, lambda text: None)
    assert {name: row["pq"] for name, row in again["rows"].items()} == {name: row["pq"] for name, row in found["rows"].items()}
    assert {path: path.stat().st_mtime_ns for path in before if "checkpoints" in str(path)} == {
        path: when for path, when in before.items() if "checkpoints" in str(path)
    }
