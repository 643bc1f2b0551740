from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from coco_set import make_coco_set, truncate
from command import done, refused
from tiny import tiny_pipeline

from ldmseg.config import load_config
from ldmseg.data.datasets import load_dataset
from ldmseg.errors import InputError
from ldmseg.training.batches import steps
from ldmseg.training.items import Items
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.base import Stage
from ldmseg.training.stages.diffusion import DiffusionStage

AUTOENCODER = """
stage: autoencoder
data: {{train: "{data}", val: "{data}", size: 32}}
model: {{num_ids: 16, encoder_widths: [8, 8, 8, 16], decoder_width: 16, norm_groups: 8}}
loss: {{points: 32}}
optim: {{steps: 2, batch_size: 2, precision: fp32}}
validation: {{samples: 1}}
latent_std: 0.5
"""
DIFFUSION = """
stage: diffusion
autoencoder: "{model}"
data: {{train: "{data}", val: "{data}", size: 32}}
denoiser: {{source: tiny}}
image_encoder: {{latent_channels: 8, widths: [8, 16]}}
optim: {{steps: 2, batch_size: 2, precision: fp32}}
validation: {{samples: 1}}
inference: {{num_inference_steps: 1}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """Six photos, of which one is damaged, and the map of another."""
    name = make_coco_set(tmp_path / "set")
    truncate(tmp_path / "set" / "images" / "002.png")
    truncate(tmp_path / "set" / "panoptic" / "004.png")
    return name


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged about items."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("ldmseg.training.items")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


def make_stage(kind: str, folder: Path, model: Path, data: str, *overrides: str) -> Stage:
    path = folder / f"{kind}.yaml"
    path.write_text((AUTOENCODER if kind == "autoencoder" else DIFFUSION).format(data=data, model=model))
    config: Any = load_config(path, overrides)
    return AutoencoderStage(config) if kind == "autoencoder" else DiffusionStage(config)


@pytest.mark.parametrize(("kind", "files"), [("autoencoder", {"004.png"}), ("diffusion", {"002.png", "004.png"})])
def test_a_broken_file_is_named_or_skipped(
    kind: str, files: set[str], tmp_path: Path, model: Path, broken: str, warnings: list[str]
) -> None:
    stopping = make_stage(kind, tmp_path, model, broken)
    refused = 0
    for number in range(6):
        try:
            stopping.load_sample(number)
        except InputError as error:
            refused += 1
            assert any(f"{file}'" in str(error) for file in files) and "on_error=skip" in str(error) and "\n" not in str(error)
    assert refused == len(files) and warnings == []

    skipping = make_stage(kind, tmp_path, model, broken, "data.on_error=skip")
    samples = [skipping.load_sample(number) for number in range(18)]  # three epochs
    assert [sample[0] for sample in samples] == list(range(18))
    assert len(warnings) == len(files) and all(sum(f"{file}'" in line for line in warnings) == 1 for file in files)


def test_what_takes_a_broken_items_place_is_a_function_of_the_number(tmp_path: Path, model: Path, broken: str) -> None:
    forwards, again = (make_stage("diffusion", tmp_path, model, broken, "data.on_error=skip") for _ in range(2))
    expected = [forwards.load_sample(number) for number in range(12)]
    backwards = [again.load_sample(number) for number in reversed(range(12))][::-1]
    for one, other in zip(expected, backwards, strict=True):
        assert one.item == other.item and all(np.array_equal(a, b) for a, b in zip(one[2:], other[2:], strict=True))
    assert {sample.item for sample in expected} == {0, 1, 3, 5}


@pytest.mark.slow
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_workers_change_nothing(on_error: str, tmp_path: Path, model: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    log = logging.FileHandler(tmp_path / "log")  # a worker process writes to it, too
    logger = logging.getLogger("ldmseg.training.items")
    logger.addHandler(log)
    try:
        seen = []
        for workers in (0, 2):
            stage: Any = make_stage(
                "diffusion", tmp_path, model, broken, f"data.on_error={on_error}", f"data.workers={workers}", "optim.steps=9"
            )
            stream = steps(stage, stage.config, 0, Accelerator())
            if on_error == "stop":
                with pytest.raises(InputError, match=r"^(image|annotation).*'[^']*/00[24].png'.*on_error=skip goes on without it$"):
                    list(stream)
                continue
            seen.append([batch for (batch,) in stream])
            assert sorted(line.split("/")[-1][:7] for line in (tmp_path / "log").read_text().splitlines()) == ["002.png", "004.png"]
            (tmp_path / "log").open("w").close()
    finally:
        logger.removeHandler(log)
    for one, other in zip(*seen, strict=True) if seen else ():
        assert one.items == other.items and torch.equal(one.photos, other.photos) and torch.equal(one.ids, other.ids)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_a_run_with_broken_files_ends(kind: str, tmp_path: Path, model: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training set, the validation set and what the export measures are all read."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    stage: Any = make_stage(kind, tmp_path, model, broken, "data.on_error=skip")
    exported = train(stage, stage.config, tmp_path / "run")
    assert exported.is_dir()
    assert "val_pq" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_nothing_readable(tmp_path: Path, model: Path) -> None:
    data = make_coco_set(tmp_path / "set", 3)
    for photo in (tmp_path / "set" / "images").iterdir():
        truncate(photo)
    stage: Any = make_stage("diffusion", tmp_path, model, data, "data.on_error=skip")
    with pytest.raises(InputError, match=r"data.train: expected at least one item that can be read, got none of 3"):
        stage.load_sample(0)
    with pytest.raises(InputError, match=r"data.val: expected at least one item that can be read, got none of 3"):
        stage.validate()


def test_a_part_of_a_data_set_is_a_data_set(broken: str) -> None:
    data = load_dataset(broken)
    part = Items(6, "skip", "data.val").readable(data)
    assert [part.name(index) for index in range(len(part))] == ["000.png", "001.png", "003.png", "005.png"]
    assert part.map(2) == data.map(3) and np.array_equal(part.image(3), data.image(5)) and part.categories == data.categories
    assert Items(6, "stop", "data.val").readable(data) is data


@pytest.mark.parametrize("resize", ["crop", "jitter"])
@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_every_resize_trains(kind: str, resize: str, tmp_path: Path, model: Path) -> None:
    """Also on windows in which there is next to nothing."""
    color = ["data.color={brightness: 0.4, contrast: 0.4, saturation: 0.4}"] if kind == "diffusion" else []
    data = make_coco_set(tmp_path / "set", 3, height=20)
    stage: Any = make_stage(kind, tmp_path, model, data, f"data.resize={resize}", "data.scale_range=[0.05, 2]", *color)
    samples = [stage.load_sample(number) for number in range(8)]
    assert all(torch.isfinite(value) for value in stage(stage.collate(samples)).values())
    assert all(
        np.array_equal(a, b)
        for one, other in zip(samples, map(stage.load_sample, range(8)), strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.slow
def test_the_command_stops_with_the_name_and_resumes_without_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    (tmp_path / "a.yaml").write_text(AUTOENCODER.format(data=broken))
    args = ["train", "autoencoder", "--config", tmp_path / "a.yaml", "-o", tmp_path / "run", "--device", "cpu", "--set", "optim.steps=3"]
    line = refused(capsys, *args)
    assert "annotation of image 4" in line and "004.png'" in line and line.endswith("; data.on_error=skip goes on without it")
    result = done(capsys, *args, "--on-error", "skip", "--json")
    assert result.json()["step"] == 3 and "skipped in data.train: annotation of image 4" in result.err
    assert "--on-error" in refused(capsys, *args, "--on-error", "ignore")


@pytest.mark.slow
def test_a_run_that_is_older_than_a_key_can_be_resumed(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    data = make_coco_set(tmp_path / "set", 3)
    stage: Any = make_stage("autoencoder", tmp_path, model, data)
    train(stage, stage.config, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    del values["data"]["resize"], values["data"]["color"]
    config.write_text(yaml.safe_dump(values))
    longer: Any = make_stage("autoencoder", tmp_path, model, data, "optim.steps=3")
    train(longer, longer.config, tmp_path / "run")
    values["data"]["flip"] = False
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"was started with data\.flip=False, got True"):
        train(longer, longer.config, tmp_path / "run")
