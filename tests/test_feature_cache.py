"""Features of a backbone from a cache: what training sees is what it would have computed, and a cache that is another run's is refused."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_set import make_coco_set, truncate
from command import done, refused, run
from safetensors.torch import save_file
from tiny import tiny_pipeline

from ldmseg.config import DataConfig, DiffusionRunConfig, load_config
from ldmseg.data.transforms import View, draw_view_number, fixed_view, view_count
from ldmseg.errors import InputError
from ldmseg.locking import locked
from ldmseg.models.efficientnet import EfficientNetLite0
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of EfficientNet-Lite0, with random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(EfficientNetLite0().state_dict(), path)
    return path


@pytest.fixture
def overrides(tmp_path: Path, weights: Path) -> list[str]:
    """A run on six photos and three scenes with three windows each."""
    photos = make_coco_set(tmp_path / "set")
    return [
        f"init={tiny_pipeline(tmp_path / 'tiny')}",
        f"image_encoder.backbone={weights}",
        "image_encoder.adapter_channels=16",
        f"data.train=[{{data: '{photos}', weight: 2}}, {{data: 'scenes:3'}}]",
        "data.val=scenes:2:val",
        "data.size=32",
        "data.resize=zoom",
        "data.windows=3",
        "cache=false",
        "optim={steps: 2, batch_size: 2, precision: fp32}",
        "validation={samples: 1}",
        "inference={num_inference_steps: 1}",
        "schedule={}",
        "id_policy=random",
    ]


def config(overrides: list[str], *more: str) -> DiffusionRunConfig:
    loaded = load_config("scenes-diffusion", [*overrides, *more])
    assert isinstance(loaded, DiffusionRunConfig)
    return loaded


def made(capsys: pytest.CaptureFixture[str], folder: Path, overrides: list[str], *more: str) -> Path:
    sets = [argument for override in overrides for argument in ("--set", override)]
    done(capsys, "data", "cache", "--config", "scenes-diffusion", *sets, "-o", folder, "--device", "cpu", *more)
    return folder


@pytest.mark.slow
def test_training_from_the_cache_is_that_on_the_photos(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    cache = made(capsys, tmp_path / "cache", overrides, "--per-shard", "4")
    on_photos, on_features = (DiffusionStage(config(overrides, *more)) for more in ((), (f"data.features={cache}",)))
    numbers = range(12)
    seen = [stage.collate([stage.load_sample(number) for number in numbers]) for stage in (on_photos, on_features)]
    assert torch.equal(seen[0].ids, seen[1].ids) and torch.equal(seen[0].known, seen[1].known) and seen[0].items == seen[1].items
    assert not seen[0].features and [tuple(maps.shape) for maps in seen[1].features] == [(12, 40, 8, 8), (12, 112, 4, 4), (12, 320, 2, 2)]
    losses = [stage(batch)["loss"].item() for stage, batch in zip((on_photos, on_features), seen, strict=True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    with pytest.MonkeyPatch.context() as patch:  # the backbone is not asked
        patch.setattr(type(on_features.image_encoder), "features", None)
        on_features(seen[1])


@pytest.mark.slow
def test_a_run_may_go_on_with_a_cache(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    cache = made(capsys, tmp_path / "cache", overrides)
    first = config(overrides)
    train(DiffusionStage(first), first, tmp_path / "run")
    longer = config(overrides, "optim.steps=3", f"data.features={cache}")
    train(DiffusionStage(longer), longer, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3


def test_fixed_views_are_a_function_of_photo_and_number() -> None:
    data = DataConfig(size=32, resize="zoom", windows=4, scale_range=(1.0, 2.0))
    assert view_count(data) == 6 and view_count(DataConfig(size=32)) == 2 and view_count(DataConfig(size=32, flip=False)) == 1
    views = [fixed_view(7, number, data) for number in range(6)]
    assert views == [fixed_view(7, number, data) for number in range(6)] and views != [fixed_view(8, number, data) for number in range(6)]
    assert views[0] == View.square(32) and views[1] == View(32, 32, 0, 0, 32, flip=True)
    assert all(32 <= view.height == view.width <= 64 and 0 <= view.top <= view.height - 32 for view in views[2:])
    drawn = [draw_view_number(data, np.random.default_rng(seed)) for seed in range(400)]
    assert set(drawn) == set(range(6)) and 0.25 < np.mean(np.array(drawn) < 2) < 0.42
    with pytest.raises(InputError, match=r"data\.windows: expected a number of windows"):
        view_count(DataConfig(size=32, resize="zoom"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ("data.windows=2", "was made with windows 3, got 2"),
        ("data.size=40", "was made with size 32, got 40"),
        ("data.scale_range=[1, 1.5]", "was made with scale_range"),
        ("data.train=scenes:3", "was made of 9 items, got 3"),
        ("image_encoder.input_scale=1", "was made with input_scale 2, got 1"),
    ],
)
def test_the_cache_of_another_run_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str], changed: str, reason: str
) -> None:
    cache = made(capsys, tmp_path / "cache", overrides)
    with pytest.raises(InputError, match=reason) as caught:
        DiffusionStage(config(overrides, f"data.features={cache}", changed))
    assert str(caught.value).startswith(f"data.features: '{cache}' ") and "\n" not in str(caught.value)


@pytest.mark.slow
def test_another_backbone_and_damage_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    cache = made(capsys, tmp_path / "cache", overrides)
    torch.manual_seed(2)
    save_file(EfficientNetLite0().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="was made by another backbone"):
        DiffusionStage(config(overrides, f"data.features={cache}", f"image_encoder.backbone={tmp_path / 'other.safetensors'}"))
    with pytest.raises(InputError, match="expected an image encoder with a backbone, got ConvImageEncoder"):
        DiffusionStage(config(overrides, f"data.features={cache}", "image_encoder.backbone=null"))
    shard = cache / "features-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="has a damaged shard"):
        DiffusionStage(config(overrides, f"data.features={cache}"))
    made(capsys, cache, overrides)  # goes on, and makes the damaged one anew
    DiffusionStage(config(overrides, f"data.features={cache}"))


@pytest.mark.slow
def test_a_cache_goes_on_where_it_was_interrupted(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    cache = made(capsys, tmp_path / "cache", overrides, "--per-shard", "4")
    manifest = json.loads((cache / "manifest.json").read_text())
    assert len(manifest["shards"]) == 3
    kept = (cache / "features-00000.safetensors").stat().st_mtime_ns
    (cache / "manifest.json").write_text(json.dumps({**manifest, "shards": manifest["shards"][:1]}))
    with pytest.raises(InputError, match=r"is not complete \(1 of 3 shards\)"):
        DiffusionStage(config(overrides, f"data.features={cache}"))
    made(capsys, cache, overrides, "--per-shard", "4")
    assert (cache / "features-00000.safetensors").stat().st_mtime_ns == kept
    stage = DiffusionStage(config(overrides, f"data.features={cache}"))
    assert pickle.loads(pickle.dumps(stage.features)).read(8, 2).photo.shape == (3, 32, 32)


@pytest.mark.slow
def test_two_processes_make_no_cache_together(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    sets = [argument for override in overrides for argument in ("--set", override)]
    with locked(tmp_path / "cache"):
        result = run(capsys, "data", "cache", "--config", "scenes-diffusion", *sets, "-o", tmp_path / "cache", "--device", "cpu")
        assert result.code == 2 and "cache' is in use by process" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("file", ["../elsewhere", "/dev/zero", "pipe"])
def test_a_shard_is_a_regular_file_of_the_cache(
    file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]
) -> None:
    cache = made(capsys, tmp_path / "cache", overrides)
    os.mkfifo(cache / "pipe")
    manifest = json.loads((cache / "manifest.json").read_text())
    manifest["shards"][0]["file"] = file
    (cache / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"expected a path below|it is no regular file"):
        DiffusionStage(config(overrides, f"data.features={cache}"))


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_is_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path, overrides: list[str]) -> None:
    truncate(tmp_path / "set" / "images" / "002.png")
    sets = [argument for override in overrides for argument in ("--set", override)]
    call = ("data", "cache", "--config", "scenes-diffusion", *sets, "-o", tmp_path / "cache", "--device", "cpu")
    broken = run(capsys, *call)
    assert broken.code == 2 and broken.err.endswith("; --on-error skip leaves it out\n")
    assert done(capsys, *call, "--on-error", "skip", "--json").json()["unreadable"] == 1
    stage = DiffusionStage(config(overrides, f"data.features={tmp_path / 'cache'}", "data.on_error=skip"))
    names = {stage.train_data.name(stage.load_sample(number).item) for number in range(30)}
    assert len(names) == 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["data.features=x", "data.resize=crop"], "features: expected resize square or zoom with windows.*got resize crop"),
        (["data.features=x", "data.resize=zoom"], "features: expected resize square or zoom with windows.*got resize zoom"),
        (["data.features=x", "data.color.contrast=0.1"], "features: expected .*no color.*got color"),
        (["data.features=x", "data.latents=y"], "features: expected .*no latents, got latents"),
        (["data.windows=3"], "windows: expected none with resize square, got 3"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config("scenes-diffusion", given)
    with pytest.raises(InputError, match=r"data\.features: expected none in stage 1"):
        load_config("scenes-autoencoder", ["data.features=x"])


@pytest.mark.slow
def test_the_command_wants_one_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, "data", "cache", "-o", tmp_path / "x").startswith("--data, --encoder, --size: expected all three, or --config")
    message = refused(capsys, "data", "cache", "--config", "scenes-diffusion", "--size", 32, "-o", tmp_path / "x")
    assert message.startswith("--config: expected none of --data, --encoder and --size beside it")
    message = refused(capsys, "data", "cache", "--config", "scenes-autoencoder", "-o", tmp_path / "x")
    expected = "--config: expected a configuration of stage diffusion or classifier"
    assert message == f"{expected}, got one of stage autoencoder in 'scenes-autoencoder'"
