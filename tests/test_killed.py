"""Commands that are killed at random instants and run again. `LDMSEG_KILLS` says how many kills there are in all (50)."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from annotate_work import answered
from annotating import make_photos
from coco_set import make_coco_set
from killing import Case, kill_and_resume
from safetensors.torch import load_file, save_file
from sd_folder import make_sd_folder
from test_training import AUTOENCODER, DIFFUSION
from tiny import tiny_pipeline
from warm import Warm

from ldmseg.annotate.history import History
from ldmseg.annotate.photos import find_photos
from ldmseg.formats.coco_panoptic import CocoPanoptic
from ldmseg.models.efficientnet import EfficientNetLite0
from ldmseg.models.manifest import check_manifest
from ldmseg.runs.history import checkpoints

KILLS = int(os.environ.get("LDMSEG_KILLS", "50"))


def _photos(folder: Path, count: int) -> Path:
    make_coco_set(folder / "set", count)
    return folder / "set" / "images"


def _segment(folder: Path) -> Case:
    options = ("--model", str(tiny_pipeline(folder / "model")), "--batch-size", "1", "--ensemble-size", "2")
    return Case("segment", ("segment", str(_photos(folder, 4)), "-o", "OUT", *options), whole="panoptic.json")


def _inpaint(folder: Path) -> Case:
    options = ("--partial", str(folder / "set" / "panoptic"), "--model", str(tiny_pipeline(folder / "model")))
    return Case("inpaint", ("inpaint", str(_photos(folder, 3)), "-o", "OUT", *options), whole="panoptic.json")


def _convert(folder: Path) -> Case:
    data = make_coco_set(folder / "set", 6)
    arguments = ("data", "convert", "--data", data, "--to", "coco-panoptic", "--split", "val", "-o", "OUT")
    return Case("convert", arguments, complete="where it would be overwritten")


def _convert_tool(folder: Path) -> Case:
    arguments = ("data", "convert", "--data", make_coco_set(folder / "set", 6), "--to", "yolo-seg", "-o", "OUT")
    return Case("convert-tool", arguments, complete="where it would be overwritten")


def _cache_latents(folder: Path) -> Case:
    data, model = make_coco_set(folder / "set", 6), make_sd_folder(folder / "sd")
    options = ("--encoder", str(model), "--size", "32", "--per-shard", "2", "--batch-size", "2")
    return Case("cache-latents", ("data", "cache", "--data", data, "-o", "OUT", *options), grows=("manifest.json",), check=_listed_shards)


def _cache_features(folder: Path) -> Case:
    torch.manual_seed(1)
    save_file(EfficientNetLite0().state_dict(), folder / "lite0.safetensors")
    run = {
        "stage": "diffusion",
        "init": str(tiny_pipeline(folder / "model")),
        "id_policy": "random",
        "image_encoder": {"backbone": str(folder / "lite0.safetensors"), "adapter_channels": 16},
        "data": {"train": make_coco_set(folder / "set", 4), "val": "scenes:2:val", "size": 32, "resize": "zoom", "windows": 2},
    }
    options = ("--config", _written(folder, run), "--per-shard", "1")
    return Case("cache-features", ("data", "cache", "-o", "OUT", *options), grows=("manifest.json",), check=_listed_shards)


def _listed_shards(folder: Path) -> None:
    """Every shard that a manifest lists is there, with the bytes that it was listed with."""
    if (folder / "manifest.json").is_file():
        for shard in json.loads((folder / "manifest.json").read_text())["shards"]:
            assert hashlib.sha256((folder / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]


TRAINED = {
    "grows": ("metrics.jsonl", "curves.png", "checkpoints/.*"),
    "differs": ("starts.jsonl", "curves.png", r"checkpoints/.*/random_states_0\.pkl"),
}
"""A start is recorded with its time, and Python's own random numbers, which nothing draws, are different in each process."""


def _train_autoencoder(folder: Path) -> Case:
    arguments = ("train", "autoencoder", "--config", _written(folder, AUTOENCODER), "-o", "OUT")
    return Case("train-autoencoder", arguments, **TRAINED, check=_newest_checkpoint)


def _train_diffusion(folder: Path) -> Case:
    values = {**DIFFUSION, "autoencoder": str(tiny_pipeline(folder / "model") / "mask_autoencoder")}
    arguments = ("train", "diffusion", "--config", _written(folder, values), "-o", "OUT")
    return Case("train-diffusion", arguments, **TRAINED, check=_newest_checkpoint)


def _newest_checkpoint(run: Path) -> None:
    """What a run goes on from is whole, and so is an exported model."""
    for path in checkpoints(run)[-1:]:
        for file in path.glob("*.safetensors"):
            load_file(file)
    if (run / "pipeline" / "manifest.json").is_file():
        check_manifest(run / "pipeline")


def _annotate(folder: Path) -> Case:
    photos = make_photos(folder / "photos", 3)

    def nothing_is_lost(project: Path) -> None:
        """Every act that was answered is in the journal, and every data set that is there can be read in full."""
        stems = {photo.stem: photo for photo in find_photos([photos])}
        told = project.with_name(f"{project.name}.told")
        for stem, revision in answered(told).items():
            assert History(project / "journals" / f"{stem}.journal", stems[stem].edit_shape).revision >= revision
        for name in ("panoptic.json", "panoptic_drafts.json"):
            if (project / name).is_file():
                for record in CocoPanoptic.open(project / name):
                    record.read_map()

    grows = (r"panoptic(_drafts)?\.json", r"panoptic/.*", r"pins/.*", r"annotate\.json", r"journals/.*")
    arguments = (str(photos), "OUT", "OUT.told")
    return Case("annotate", arguments, call="annotate_work:work", grows=grows, check=nothing_is_lost)


def _scenes(folder: Path) -> Case:
    arguments = ("data", "scenes", "--count", "4", "--size", "48", "-o", "OUT")
    return Case("scenes", arguments, whole="panoptic.json")


def _partial(folder: Path) -> Case:
    return Case("partial", ("data", "partial", "--data", make_coco_set(folder / "set", 6), "--kind", "strokes,blocks", "-o", "OUT"))


def _written(folder: Path, values: dict[str, Any]) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


CASES: tuple[tuple[int, Callable[[Path], Case]], ...] = (
    (7, _segment),
    (3, _inpaint),
    (6, _convert),
    (4, _convert_tool),
    (4, _cache_latents),
    (4, _cache_features),
    (5, _train_autoencoder),
    (6, _train_diffusion),
    (7, _annotate),
    (2, _scenes),
    (2, _partial),
)
"""Each command with its share of the kills. A new one is one line."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm")) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["half_written", "leftovers", "forgetful"])
def test_a_careless_program_is_caught(fault: str, warm: Warm, tmp_path: Path) -> None:
    grows = ("lines.log",) if fault == "forgetful" else ()
    case = Case(fault, ("OUT",), call=f"careless:{fault}", grows=grows)
    with pytest.raises(AssertionError, match=r"half-written|killed with"):
        kill_and_resume(case, 20, warm, tmp_path, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize(("share", "make"), CASES, ids=[make.__name__.strip("_") for _, make in CASES])
def test_a_killed_command_is_run_again(share: int, make: Callable[[Path], Case], warm: Warm, tmp_path: Path) -> None:
    kills = max(1, round(KILLS * share / sum(share for share, _ in CASES)))
    tried, killed = kill_and_resume(make(tmp_path), kills, warm, tmp_path / "runs", random.Random(make.__name__))
    assert tried >= kills and killed >= tried // 2  # the others had ended before
