from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import refused
from forked import ended
from safetensors import SafetensorError
from tiny import build_tiny, tiny_pipeline

from ldmseg.errors import InputError
from ldmseg.models import manifest
from ldmseg.models.denoiser import Denoiser
from ldmseg.models.image_encoder import ConvImageEncoder, load_image_encoder
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.manifest import MANIFEST, check_manifest, exported
from ldmseg.pipeline import LDMSegPipeline

UNET = "unet/diffusion_pytorch_model.safetensors"


def weights(folder: Path) -> torch.Tensor:
    """Of encoder and denoiser together, so that a mixture is neither's."""
    pipe = LDMSegPipeline.from_pretrained(folder)
    return torch.cat([p.detach().flatten() for part in (pipe.image_encoder, pipe.unet) for p in part.parameters()])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_killed_export_leaves_what_was_there(tmp_path: Path) -> None:
    """It left a new image encoder beside the old denoiser, and both were accepted."""
    folder = tmp_path / "run" / "pipeline"
    before = contents(tiny_pipeline(folder))

    def killed_while_exporting() -> None:
        Denoiser.save_pretrained = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        build_tiny(seed=1).save_pretrained(folder)

    assert ended(killed_while_exporting) == -signal.SIGKILL
    assert contents(folder) == before
    assert torch.equal(weights(tiny_pipeline(folder, seed=1)), weights(tiny_pipeline(tmp_path / "other", seed=1)))
    assert [path.name for path in folder.parent.iterdir()] == ["pipeline"]  # what the killed process left is gone


@pytest.mark.slow
@pytest.mark.parametrize("name", [UNET, "image_encoder/config.json", "model_index.json", "scheduler/scheduler_config.json"])
def test_a_mixture_is_refused(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = tiny_pipeline(tmp_path / "model"), build_tiny(seed=1)
    other.register_to_config(image_size=40)
    other.scheduler.register_to_config(prediction_type="sample")
    other.image_encoder.register_to_config(blocks=1, extra=1)
    other.save_pretrained(tmp_path / "other")
    (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(InputError, match=rf"--model: '.*{name}' is not the file that was exported with the others; export again, or"):
        LDMSegPipeline.from_pretrained(folder)
    assert name in refused(capsys, "info", folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"--model: expected '.*{name}', which manifest.json lists, got no such file"):
        LDMSegPipeline.from_pretrained(folder)


def test_parts_of_an_export_are_checked_by_themselves(tmp_path: Path) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    (folder / UNET).write_bytes(b"")
    load_image_encoder(folder), load_mask_autoencoder(folder)
    for part in ("image_encoder", "mask_autoencoder"):
        with (folder / part / "config.json").open("a") as file:
            file.write("\n")
    with pytest.raises(InputError, match=r"source: '.*image_encoder/config.json' is not"):
        load_image_encoder(folder)
    with pytest.raises(InputError, match=r"autoencoder: '.*mask_autoencoder/config.json' is not"):
        load_mask_autoencoder(folder)


@pytest.mark.slow
def test_a_folder_without_a_manifest_loads(tmp_path: Path) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    (folder / MANIFEST).unlink()
    (folder / "README.md").write_text("mine")
    LDMSegPipeline.from_pretrained(folder)
    (folder / MANIFEST).write_text('{"name": "a web page"}')  # somebody else's
    LDMSegPipeline.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values | {"version": 2},
        lambda values: values | {"files": {"../other/unet": "0"}},
        lambda values: values | {"files": {"/etc/hostname": "0"}},
        lambda values: values | {"files": ["unet"]},
        lambda values: {"format": values["format"]},
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, change: Callable[[dict], dict]) -> None:
    path = tiny_pipeline(tmp_path / "model") / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=rf"--model: '.*{MANIFEST}' is damaged or of a later version"):
        LDMSegPipeline.from_pretrained(path.parent)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="is damaged"):
        LDMSegPipeline.from_pretrained(path.parent)
    tiny_pipeline(path.parent, seed=1)  # exporting again mends it
    LDMSegPipeline.from_pretrained(path.parent)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")])
@pytest.mark.parametrize("writer", ["save_file", "json"])
def test_a_full_disk_is_told_in_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, writer: str
) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    before, other = contents(folder), build_tiny(seed=1)

    def full(*args: object, **kwargs: object) -> None:
        raise error

    if writer == "json":
        monkeypatch.setattr(ConvImageEncoder, "to_json_file", full)
    else:
        monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match=r"^output: cannot write '.*/model': .*No space left on device$"):
        other.save_pretrained(folder)
    assert contents(folder) == before and [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_files_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_pipeline(tmp_path / "model")
    (folder / "README.md").write_text("mine")
    tiny_pipeline(folder, seed=1)
    assert (folder / "README.md").read_text() == "mine"
    assert torch.equal(weights(folder), weights(tiny_pipeline(tmp_path / "other", seed=1)))

    real, moved = os.replace, []

    def stopped(source: Path, target: Path) -> None:
        real(source, target)
        moved.append(Path(target).name)
        if len(moved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(manifest.os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny_pipeline(folder, seed=2)
    monkeypatch.undo()
    with pytest.raises(InputError, match="is not the file that was exported with the others"):
        LDMSegPipeline.from_pretrained(folder)


def test_shards_of_an_earlier_export_go_and_another_variant_stays(tmp_path: Path) -> None:
    def export(*names: str) -> None:
        with exported(tmp_path / "model") as folder:
            (folder / "unet").mkdir()
            for name in names:
                (folder / "unet" / name).write_text(name)

    def present() -> set[str]:
        check_manifest(tmp_path / "model")
        return {path.name for path in (tmp_path / "model" / "unet").iterdir()}

    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
    export(*shards)
    export("model.fp16.safetensors")
    assert present() == {*shards, "model.fp16.safetensors"}
    export("model.safetensors")
    assert present() == {"model.safetensors", "model.fp16.safetensors"}
    (tmp_path / "model" / "unet" / "model.fp16.safetensors").write_text("changed")
    with pytest.raises(InputError, match="fp16"):
        present()


@pytest.mark.slow
def test_a_folder_that_cannot_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted one."""
    folder = tiny_pipeline(tmp_path / "model")
    real = os.replace

    def mounted(source: Path, target: Path) -> None:
        if Path(source) == folder:
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, target)

    monkeypatch.setattr(manifest.os, "replace", mounted)
    tiny_pipeline(folder, seed=1)
    assert torch.equal(weights(folder), weights(tiny_pipeline(tmp_path / "other", seed=1)))


def test_something_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output: cannot write '.*/file': something that is no folder is there"):
        build_tiny().save_pretrained(tmp_path / "file")
