"""The classifier's stage: what a sample teaches, what is trained, resuming, cached features, and what it exports."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from naming import CATEGORIES, SCENES, build_named
from tiny import build_tiny

from ldmseg import LDMSegPipeline, PanopticMap
from ldmseg.config import load_config, validate_config
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter
from ldmseg.training.loop import train
from ldmseg.training.plan import plan
from ldmseg.training.stages.classifier import ClassifierStage
from ldmseg.training.stages.diffusion import DiffusionStage


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "pipeline"
    build_tiny().save_pretrained(folder)
    return folder


def config_of(start: Path, **settings: Any) -> Any:
    values = {
        "stage": "classifier",
        "init": str(start),
        "data": {"train": "scenes:6", "val": "scenes:2:val"},
        "model": {"width": 8, "stem_widths": [8], "rates": [1, 2]},
        "optim": {"steps": 2, "batch_size": 2, "precision": "fp32", "ema": 0.5},
        "validation": {"every": 2, "samples": 1},
        "checkpoint": {"every": 1},
    }
    return validate_config(values | settings)


@pytest.mark.slow
def test_the_loss_is_that_of_segments_and_of_pixels(start: Path) -> None:
    stage = ClassifierStage(config_of(start)).eval()
    assert stage.config.data.size == 32  # the pipeline's
    samples = [stage.load_sample(number) for number in range(2)]
    batch = stage.collate(samples)
    terms = stage(batch)
    logits = stage.classifier.of_photos(stage.image_encoder, batch.photos.float() / 127.5 - 1)
    each, cells = [], []
    for index, sample in enumerate(samples):
        pixels = sample.covered.flatten(1)  # (n, h w)
        means = torch.stack([(logits[index].flatten(1) * row).sum(1) / row.sum() for row in pixels])
        each.append(torch.nn.functional.cross_entropy(means, torch.from_numpy(sample.places)))
        wrong = torch.stack([-logits[index].flatten(1).log_softmax(0)[place] for place in sample.places.tolist()])
        cells.append((wrong * pixels).sum() / pixels.sum())
    torch.testing.assert_close(terms["segments"], torch.stack(each).mean())
    torch.testing.assert_close(terms["cells"], torch.stack(cells).mean())
    torch.testing.assert_close(terms["loss"], terms["segments"] + terms["cells"])
    alone = [stage(stage.collate([sample]))["loss"] for sample in samples]
    torch.testing.assert_close(torch.stack(alone).mean(), terms["loss"])  # however a step is divided


def test_only_the_classifier_is_trained(start: Path) -> None:
    stage = ClassifierStage(config_of(start)).train()
    assert not stage.image_encoder.training
    assert {name.split(".")[0] for name, p in stage.named_parameters() if p.requires_grad} == {"classifier"}
    stage(stage.collate([stage.load_sample(0)]))["loss"].backward()
    assert all(p.grad is not None for p in stage.classifier.parameters())


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(start: Path, tmp_path: Path) -> None:
    whole = train(ClassifierStage(config_of(start)), ClassifierStage(config_of(start)).config, tmp_path / "whole")
    for steps in (1, 2):
        optim = {"steps": steps, "batch_size": 2, "precision": "fp32", "ema": 0.5}
        stage = ClassifierStage(config_of(start, optim=optim))
        parts = train(stage, stage.config, tmp_path / "parts")
    first, second = (LDMSegPipeline.from_pretrained(folder) for folder in (whole, parts))
    assert first.classifier is not None and second.classifier is not None
    for name, weight in first.classifier.state_dict().items():
        assert torch.equal(weight, second.classifier.state_dict()[name]), name
    lines = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert {"segments", "cells", "right"} <= set(lines[0]) and 0 <= lines[-1]["val_pq"] <= 1
    assert list((tmp_path / "whole/samples").iterdir())
    assert [c.name for c in first.classifier.categories] == [c.name for c in CATEGORIES]
    unet = LDMSegPipeline.from_pretrained(start).unet.state_dict()
    assert all(torch.equal(weight, unet[name]) for name, weight in first.unet.state_dict().items())  # the rest is as it was
    assert first.options == LDMSegPipeline.from_pretrained(start).options


@pytest.mark.slow
def test_it_learns(start: Path) -> None:
    """Two scenes are known by heart after some steps."""
    config = config_of(start, data={"train": "scenes:2", "val": "scenes:2", "flip": False})
    stage = ClassifierStage(config).train()
    batch = stage.collate([stage.load_sample(n) for n in range(2)])
    optimizer = torch.optim.Adam(stage.classifier.parameters(), lr=1e-2)
    with torch.no_grad():
        before = stage(batch)
    for _ in range(60):
        optimizer.zero_grad()
        stage(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        after = stage.eval()(batch)
    assert float(after["loss"]) < 0.5 * float(before["loss"]) and float(after["right"]) > 0.7


def coco(folder: Path, categories: list[Category], numbers: tuple[int, int]) -> str:
    from PIL import Image

    (folder / "images" / "train").mkdir(parents=True)
    with CocoPanopticWriter(folder / "panoptic_train.json", categories, png_dir=folder / "panoptic" / "train") as writer:
        for index in range(2):
            pmap = SCENES.map(index)
            ids = np.where(pmap.dense % 2 == 0, 1, 2)
            name = f"{index}.png"
            Image.fromarray(SCENES.image(index)).save(folder / "images" / "train" / name)
            from ldmseg import Segment

            writer.add(name, index, PanopticMap(ids, tuple(Segment(i, n) for i, n in zip((1, 2), numbers, strict=True))))
    return f"coco-panoptic:{folder}:train"


@pytest.mark.slow
def test_sets_with_other_numbers_are_matched_by_name(start: Path, tmp_path: Path) -> None:
    sky, cat, dog = Category(1, "sky", False), Category(2, "cat"), Category(3, "dog")
    first = coco(tmp_path / "a", [sky, cat], (1, 2))
    second = coco(tmp_path / "b", [replaced(cat, 50), replaced(dog, 51)], (50, 51))
    data = {"train": [{"data": first}, {"data": second}], "val": first}
    stage = ClassifierStage(config_of(start, data=data))
    assert [c.name for c in stage.classifier.categories] == ["sky", "cat"]  # those of the first set
    for item, places in ((0, [0, 1]), (2, [1, -1])):
        assert stage.table.places(stage.train_data.map(item), item).tolist() == places
    numbers = [n for n in range(40) if len(stage.load_sample(n).places) == 1]
    assert numbers and all(stage.load_sample(n).places.tolist() == [1] for n in numbers[:3])  # the dog teaches nothing
    other = coco(tmp_path / "other", [dog, replaced(dog, 4)], (3, 4))
    with pytest.raises(InputError, match=r"data.train: expected a data set with some of the .* categories, got '.*other:train' with none"):
        ClassifierStage(config_of(start, data={"train": [{"data": first}, {"data": other}], "val": first}))


def replaced(category: Category, number: int) -> Category:
    return Category(number, category.name, category.isthing)


@pytest.mark.slow
def test_diffusion_keeps_a_classifier_whose_features_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`build_named` reads a trained stem, so training the denoiser leaves the classifier out, and says so."""
    build_named().save_pretrained(tmp_path / "named")
    data = {"train": "scenes:2", "val": "scenes:1:val"}
    config: Any = validate_config({"stage": "diffusion", "init": str(tmp_path / "named"), "data": data})
    with caplog.at_level(logging.WARNING):
        stage = DiffusionStage(config)
    assert stage.pipeline().classifier is None and "the classifier is left out" in caplog.text
    pipe = LDMSegPipeline.from_pretrained(tmp_path / "named")
    from ldmseg.training.networks import still_valid

    pipe.image_encoder.trainable = False  # type: ignore[misc]  # as a frozen VAE
    kept = still_valid(pipe.classifier, pipe.image_encoder)
    assert kept is pipe.classifier and not any(p.requires_grad for p in kept.parameters())  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_dry_run_counts_what_is_built(start: Path) -> None:
    config = config_of(start)
    found, stage = plan(config), ClassifierStage(config)
    counted = {part.name: (part.parameters, part.trained) for part in found.parts}
    assert counted == {
        name: (sum(p.numel() for p in part.parameters()), sum(p.numel() for p in part.parameters() if p.requires_grad))
        for name, part in stage.named_children()
    }
    assert found.samples == 6 and (found.memory.activations or 0) > 0


def test_presets_are_of_the_stage() -> None:
    for name in ("scenes-classifier", "photos-classifier"):
        config = load_config(name)
        assert config.stage == "classifier" and config.model.rates == (6, 12, 18)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"train": "scenes:2", "size": 64}}, "data.size: expected 32, at which .* draws .*, got 64"),
        ({"data": {"latents": "somewhere"}}, "data.latents: expected none with stage classifier"),
        ({"loss": {"segments": 0, "cells": 0}}, "loss: expected segments or cells above 0"),
        ({"model": {"width": 12}}, "width: expected a multiple of 8, got 12"),
        ({"model": {"depth": 3}}, "model.depth"),
    ],
)
def test_mistakes(start: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassifierStage(config_of(start, **settings))


def test_a_set_without_classes_is_refused(start: Path, tmp_path: Path) -> None:
    only = coco(tmp_path / "a", [Category(1, "segment"), Category(2, "x")], (1, 2))
    text = (tmp_path / "a/panoptic_train.json").read_text()
    values = json.loads(text)
    values["categories"] = values["categories"][:1]
    for entry in values["annotations"]:
        for segment in entry["segments_info"]:
            segment["category_id"] = 1
    (tmp_path / "a/panoptic_train.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"categories: expected a data set with at least 2 categories, got .* with 1"):
        ClassifierStage(config_of(start, data={"train": only, "val": only}))


@pytest.mark.slow
def test_a_run_begins_with_the_classifier_that_its_pipeline_has(tmp_path: Path) -> None:
    pipe = build_named()
    pipe.save_pretrained(tmp_path / "named")
    assert pipe.classifier is not None
    model = {"width": 8, "stem_widths": [8], "rates": [1, 2]}
    same = ClassifierStage(config_of(tmp_path / "named", model=model)).classifier.state_dict()
    assert all(torch.equal(weight, same[name]) for name, weight in pipe.classifier.state_dict().items())
    first = coco(tmp_path / "a", [Category(1, "sky", False), Category(2, "cat")], (1, 2))
    data = {"train": first, "val": first}
    other = ClassifierStage(config_of(tmp_path / "named", model=model, data=data)).classifier.state_dict()
    taken = {name for name, weight in pipe.classifier.state_dict().items() if torch.equal(weight, other[name])}
    assert taken == {name for name in other if not name.startswith("head.")} and other["head.bias"].shape == (2,)
    rates = ClassifierStage(config_of(tmp_path / "named", model={**model, "rates": [1, 3]})).classifier.state_dict()
    assert not torch.equal(rates["reduce.0.weight"], same["reduce.0.weight"])  # other layers: nothing
