from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from coco_set import make_coco_set, truncate
from command import done, files_in, refused, run
from safetensors.torch import load_file
from sd_folder import make_sd_folder
from tiny import tiny_pipeline

from ldmseg import atomic
from ldmseg.config import load_config
from ldmseg.data.datasets import load_dataset
from ldmseg.data.latent_cache import LatentCache, encoder_identity, read_manifest
from ldmseg.data.latent_writer import CacheSettings, build_latent_cache
from ldmseg.data.transforms import View
from ldmseg.errors import InputError
from ldmseg.locking import LOCK, locked
from ldmseg.models.image_encoder import FrozenImageEncoder, ImageEncoder, load_image_encoder
from ldmseg.training.loop import train
from ldmseg.training.stages.diffusion import DiffusionStage

SIZE, COUNT = 32, 6
SETTINGS = CacheSettings(SIZE, batch_size=2, items_per_shard=2)
SHARDS = ["latents-00000.safetensors", "latents-00001.safetensors", "latents-00002.safetensors"]


class World(NamedTuple):
    """Folders that every test reads and none changes: a Stable Diffusion, a tiny pipeline, a data set's name and its finished cache."""

    sd: Path
    model: Path
    data: str
    cache: Path

    @property
    def encoder(self) -> ImageEncoder:
        return load_image_encoder(self.sd)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    made = World(make_sd_folder(folder / "sd"), tiny_pipeline(folder / "model"), make_coco_set(folder / "set", COUNT), folder / "cache")
    build_latent_cache(made.cache, load_dataset(made.data), made.data, made.encoder, SETTINGS)
    return made


def open_cache(world: World, folder: Path | None = None, **changes: Any) -> LatentCache:
    options = {"encoder": world.encoder, "dataset": load_dataset(world.data), "size": SIZE, "flip": True, **changes}
    return LatentCache.open(folder or world.cache, **options)


def copy_of(world: World, folder: Path) -> Path:
    return shutil.copytree(world.cache, folder / "copy")


def count_encoded(monkeypatch: pytest.MonkeyPatch, on_call: Callable[[int], None] = lambda photos: None) -> list[int]:
    """Photos of each later call of the encoder; `on_call` is told how many there were before."""
    real, calls = FrozenImageEncoder._latents, []

    def counted(self: FrozenImageEncoder, images: torch.Tensor) -> torch.Tensor:
        on_call(sum(calls))
        calls.append(len(images))
        return real(self, images)

    monkeypatch.setattr(FrozenImageEncoder, "_latents", counted)
    return calls


# ----------------------------------------------------------------------------------------------------------------------- what it holds
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_it_holds_what_the_encoder_gives(dtype: Any, tolerance: float, world: World, tmp_path: Path) -> None:
    encoder, data = world.encoder, load_dataset(world.data)
    build_latent_cache(tmp_path, data, world.data, encoder, CacheSettings(SIZE, dtype=dtype, batch_size=3, items_per_shard=4))
    cache = open_cache(world, tmp_path)
    for item in (5, 0, 3):
        for flip in (False, True):
            photo = View(SIZE, SIZE, 0, 0, SIZE, flip).image(data.image(item))
            expected = encoder.encode(torch.from_numpy(photo)[None].float() / 127.5 - 1)[0]
            found = cache.read(item, flip)
            assert found.dtype == (np.float32 if dtype == "fp32" else np.float16) and found.shape == (4, 4, 4)
            assert np.abs(found - expected.numpy()).max() <= tolerance
    assert not np.allclose(cache.read(0), cache.read(0, flip=True), atol=1e-2)
    assert files_in(tmp_path) == {"manifest.json", *SHARDS[:2]}


@pytest.mark.slow
def test_the_manifest_tells_everything(world: World) -> None:
    manifest = json.loads((world.cache / "manifest.json").read_text())
    assert manifest["encoder"]["class_name"] == "FrozenImageEncoder" and len(manifest["encoder"]["weights_sha256"]) == 64
    assert manifest["transform"] == {"size": SIZE, "resize": "square", "flip": True}
    assert manifest["data"] == {"spec": world.data, "names": [f"{number:03d}.png" for number in range(COUNT)]}
    assert [shard["file"] for shard in manifest["shards"]] == SHARDS


@pytest.mark.slow
def test_an_encoder_is_known_wherever_it_lies(world: World, tmp_path: Path) -> None:
    encoder = world.encoder
    encoder.save_pretrained(tmp_path / "image_encoder")
    assert (
        encoder_identity(load_image_encoder(tmp_path))
        == encoder_identity(encoder)
        == encoder_identity(load_image_encoder(world.sd / "vae"))
    )


def test_a_worker_process_maps_the_files_itself(world: World) -> None:
    cache = open_cache(world)
    expected = cache.read(4)
    assert np.array_equal(pickle.loads(pickle.dumps(cache)).read(4), expected)


# ---------------------------------------------------------------------------------------------------------------------------- training
def make_stage(world: World, folder: Path, *overrides: str) -> DiffusionStage:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(f"""
stage: diffusion
autoencoder: "{world.model}"
data: {{train: "{world.data}", val: "{world.data}", size: {SIZE}}}
denoiser: {{source: tiny}}
image_encoder: {{source: "{world.sd}"}}
optim: {{steps: 4, batch_size: 3, lr: 1.0e-3, precision: fp32}}
validation: {{samples: 0}}
inference: {{num_inference_steps: 1}}
""")
    config = load_config(folder / "config.yaml", overrides)
    assert config.stage == "diffusion"
    return DiffusionStage(config)


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [[], ["cache=true", "id_policy=spatial"]])
def test_training_from_it_is_training_on_the_photos(
    in_memory: list[str], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    weights = []
    for name, overrides in (("photos", []), ("latents", [f"data.latents={world.cache}"])):
        stage = make_stage(world, tmp_path / name, *overrides, *in_memory)
        with monkeypatch.context() as patched:
            if overrides:  # neither a photo nor the encoder is used
                patched.setattr(type(stage.train_data), "image", lambda self, index: pytest.fail("a photo was read"))
                patched.setattr(stage, "validate", lambda: ({}, None))
                calls = count_encoded(patched)
            exported = train(stage, stage.config, tmp_path / name / "run")
            assert not overrides or calls == []
        weights.append(load_file(exported / "unet" / "diffusion_pytorch_model.safetensors"))
    photos, latents = weights
    assert all(torch.allclose(photos[key], latents[key], rtol=0, atol=1e-6) for key in photos)
    start = load_file(train_start(world, tmp_path, monkeypatch) / "unet" / "diffusion_pytorch_model.safetensors")
    assert max(float((photos[key] - start[key]).abs().max()) for key in photos) > 1e-4  # it did move


def train_start(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_stage(world, folder / "start").export(folder / "start" / "pipeline")
    return folder / "start" / "pipeline"


def test_photos_are_not_needed_any_more(world: World, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(world.data.partition(":")[2], tmp_path / "moved"))
    shutil.rmtree(moved / "images")
    stage = make_stage(world, tmp_path / "run", f"data.latents={world.cache}", f"data.train=coco-panoptic:{moved}")
    assert torch.isfinite(stage(stage.collate([stage.load_sample(0), stage.load_sample(1)]))["loss"])


@pytest.mark.slow
def test_a_photo_that_could_not_be_read(world: World, tmp_path: Path) -> None:
    data = make_coco_set(tmp_path / "set", COUNT)
    truncate(tmp_path / "set" / "images" / "003.png")
    settings = CacheSettings(SIZE, items_per_shard=2)
    with pytest.raises(InputError, match=r"image: cannot read '.*003\.png'.*--on-error skip leaves it out; 1 of 3 shards are kept$"):
        build_latent_cache(tmp_path / "cache", load_dataset(data), data, world.encoder, settings)
    skipping = CacheSettings(SIZE, items_per_shard=2, on_error="skip")
    manifest = build_latent_cache(tmp_path / "cache", load_dataset(data), data, world.encoder, skipping)
    assert [shard.unreadable for shard in manifest.shards] == [(), (3,), ()]
    here = [f"data.train={data}", f"data.latents={tmp_path / 'cache'}"]
    stage = make_stage(world, tmp_path / "run", *here, "data.on_error=skip")
    assert {stage.load_sample(number).item for number in range(COUNT)} == {0, 1, 2, 4, 5}
    stopping = make_stage(world, tmp_path / "run", *here)
    with pytest.raises(InputError, match=r"data.latents: .*has nothing of '003.png', which could not be read"):
        [stopping.load_sample(number) for number in range(COUNT)]


# ----------------------------------------------------------------------------------------------------------------------- what is refused
def refusal(world: World, folder: Path | None = None, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_cache(world, folder, **changes)
    line = str(caught.value)
    assert line.startswith("data.latents: ") and "\n" not in line
    return line


@pytest.mark.slow
def test_another_encoder(world: World, tmp_path: Path) -> None:
    other = load_image_encoder(make_sd_folder(tmp_path / "other", seed=1))
    assert "was made by an encoder with other weights (sha256 " in refusal(world, encoder=other)
    scaled = world.encoder
    scaled.register_to_config(vae_config={**scaled.config["vae_config"], "scaling_factor": 1.0})
    assert "was made by an encoder with other config" in refusal(world, encoder=scaled)
    trained = load_image_encoder(world.model)
    assert "expected a frozen image encoder, got ConvImageEncoder, which is trained along" in refusal(world, encoder=trained)
    with pytest.raises(InputError, match="encoder: expected a frozen image encoder"):
        build_latent_cache(tmp_path / "cache", load_dataset(world.data), world.data, trained, SETTINGS)


@pytest.mark.slow
def test_another_size_or_flip(world: World, tmp_path: Path) -> None:
    assert "was made at 32 pixels, got a size of 64" in refusal(world, size=64)
    build_latent_cache(tmp_path, load_dataset(world.data), world.data, world.encoder, CacheSettings(SIZE, flip=False))
    assert "holds no mirrored photos; set data.flip=false" in refusal(world, tmp_path)
    cache = open_cache(world, tmp_path, flip=False)
    assert np.abs(cache.read(1) - open_cache(world).read(1)).max() <= 1e-6


@pytest.mark.slow
def test_another_data_set(world: World, tmp_path: Path) -> None:
    fewer = load_dataset(make_coco_set(tmp_path / "fewer", COUNT - 1))
    assert f"was made of 6 items ({world.data}), got a data set of 5" in refusal(world, dataset=fewer)
    scenes = load_dataset("scenes:6", size=SIZE)
    assert "its item 0 is '000.png', got 'scene_00000000.png'" in refusal(world, dataset=scenes)
    same_names = load_dataset(make_coco_set(tmp_path / "same-names", COUNT, seed=50))
    assert "was made of other photos: '000.png' has changed since" in refusal(world, dataset=same_names)
    moved = shutil.copytree(world.data.partition(":")[2], tmp_path / "moved")
    open_cache(world, dataset=load_dataset(f"coco-panoptic:{moved}"))


@pytest.mark.slow
def test_a_damaged_cache(world: World, tmp_path: Path) -> None:
    assert "expected a folder with a manifest.json, as `ldmseg data cache` makes it" in refusal(world, tmp_path / "nowhere")
    folder = copy_of(world, tmp_path)
    shard, manifest = folder / SHARDS[1], folder / "manifest.json"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"has a damaged shard: the checksum of '{SHARDS[1]}' is not the manifest's" in refusal(world, folder)
    shard.unlink()
    assert f"has a shard that cannot be read: '{SHARDS[1]}': no such file" in refusal(world, folder)
    shard.write_bytes(whole)
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "shards": values["shards"][:1]}))
    assert "is not complete (1 of 3 shards); the `ldmseg data cache` that began it goes on" in refusal(world, folder)
    for text, reason in (("{", "Invalid JSON"), (json.dumps({**values, "version": 2}), "version"), ("", "Invalid JSON")):
        manifest.write_text(text)
        assert reason in refusal(world, folder)


@pytest.mark.slow
def test_a_folder_holds_one_cache(world: World) -> None:
    data = load_dataset(world.data)
    before = {name: (world.cache / name).read_bytes() for name in files_in(world.cache)}
    for settings, reason in (
        (CacheSettings(64, items_per_shard=2), "was made at 32 pixels, got a size of 64"),
        (CacheSettings(SIZE, items_per_shard=3), "was made with items_per_shard=2, got 3"),
        (CacheSettings(SIZE, items_per_shard=2, dtype="fp16"), "was made with dtype=fp32, got fp16"),
        (CacheSettings(SIZE, items_per_shard=2, flip=False), "was made with flip=True, got False"),
    ):
        with pytest.raises(InputError, match=f"output: '.*' holds another cache, which {reason}; choose another folder"):
            build_latent_cache(world.cache, data, world.data, world.encoder, settings)
    assert before == {name: (world.cache / name).read_bytes() for name in files_in(world.cache)}


# ------------------------------------------------------------------------------------------------------------------ full disks
@pytest.mark.slow
def test_an_interrupted_one_goes_on(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, folder = load_dataset(world.data), tmp_path / "cache"

    def interrupt(encoded: int) -> None:
        if encoded == 6:  # in the middle of the second shard: two photos and their mirror images, then one more batch
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        count_encoded(patched, interrupt)
        build_latent_cache(folder, data, world.data, world.encoder, SETTINGS)
    assert [shard.file for shard in read_manifest(folder).shards] == SHARDS[:1]
    assert "is not complete (1 of 3 shards)" in refusal(world, folder)
    (folder / ".latents-00001.0123456789ab.tmp.safetensors").write_bytes(b"of a killed process")
    (folder / LOCK).touch()
    first = (folder / SHARDS[0]).stat().st_mtime_ns
    calls = count_encoded(monkeypatch)
    progress: list[tuple[int, int]] = []
    build_latent_cache(folder, data, world.data, world.encoder, SETTINGS, lambda done, of: progress.append((done, of)))
    assert sum(calls) == 8 and (folder / SHARDS[0]).stat().st_mtime_ns == first
    assert progress[0] == (2, 6) and progress[-1] == (6, 6) and progress == sorted(progress)
    assert files_in(folder) == {"manifest.json", *SHARDS}
    assert all((folder / name).read_bytes() == (world.cache / name).read_bytes() for name in files_in(folder))
    build_latent_cache(folder, data, world.data, world.encoder, SETTINGS)
    assert sum(calls) == 8  # all was there


def test_two_processes_make_no_cache_together(world: World, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match=r"output: .* is in use by process"):
        build_latent_cache(tmp_path, load_dataset(world.data), world.data, world.encoder, SETTINGS)
    assert files_in(tmp_path) == set()


def test_a_damaged_shard_is_made_anew(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of(world, tmp_path)
    truncate(folder / SHARDS[0])
    (folder / SHARDS[2]).unlink()
    calls = count_encoded(monkeypatch)
    build_latent_cache(folder, load_dataset(world.data), world.data, world.encoder, SETTINGS)
    assert sum(calls) == 8
    assert all((folder / name).read_bytes() == (world.cache / name).read_bytes() for name in files_in(world.cache))


@pytest.mark.slow
@pytest.mark.parametrize(("files", "shards"), [(0, 0), (1, 0), (2, 1), (3, 1), (5, 2)])
def test_a_full_disk(files: int, shards: int, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shard is followed by the manifest: after `files` of them the disk takes no more."""
    data, folder, real, written = load_dataset(world.data), tmp_path / "cache", atomic.sync, []

    def sync(path: Path) -> None:
        if len(written) == files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        real(path)

    with monkeypatch.context() as patched, pytest.raises(InputError) as caught:
        patched.setattr(atomic, "sync", sync)
        build_latent_cache(folder, data, world.data, world.encoder, SETTINGS)
    line = str(caught.value)
    assert line.startswith("output: cannot write ") and os.strerror(errno.ENOSPC) in line and "\n" not in line
    assert line.endswith(f"; {shards} of 3 shards are kept") if shards else "kept" not in line
    assert not any(Path(name).name.startswith(".") for name in files_in(folder))
    assert len(read_manifest(folder).shards) == shards if shards else not (folder / "manifest.json").exists()
    refusal(world, folder)
    build_latent_cache(folder, data, world.data, world.encoder, SETTINGS)
    assert np.array_equal(open_cache(world, folder).read(5), open_cache(world).read(5))


@pytest.mark.slow
def test_a_disk_that_will_be_full_is_told_before(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_encoded(monkeypatch)
    needed = 6 * 2 * 4 * 4 * 4 * 4
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(InputError, match=r"output: cannot write '.*cache': the cache takes 0.0 MB, and 0.0 MB are free"):
        build_latent_cache(tmp_path / "cache", load_dataset(world.data), world.data, world.encoder, SETTINGS)
    assert calls == [] and not (tmp_path / "cache").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    build_latent_cache(tmp_path / "cache", load_dataset(world.data), world.data, world.encoder, SETTINGS)


def test_values_that_are_no_numbers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = world.encoder
    encoder.register_to_config(vae_config={**encoder.config["vae_config"], "scaling_factor": 1e9})
    settings = CacheSettings(SIZE, dtype="fp16")
    with pytest.raises(InputError, match=r"encoder: expected finite latents of items 0\.\.5 in fp16, got NaN or infinity"):
        build_latent_cache(tmp_path, load_dataset(world.data), world.data, encoder, settings)


# -------------------------------------------------------------------------------------------------------------------------- command line
@pytest.mark.slow
def test_the_command(capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path) -> None:
    args = ["data", "cache", "--data", world.data, "--encoder", world.sd, "--size", SIZE, "--device", "cpu", "--per-shard", 2]
    result = done(capsys, *args, "-o", tmp_path / "cache", "--json")
    assert result.json() == {"cache": str(tmp_path / "cache"), "items": 6, "unreadable": 0, "shards": 3}
    assert "train with --set data.latents=" in done(capsys, *args, "-o", tmp_path / "cache").err
    assert np.array_equal(open_cache(world, tmp_path / "cache").read(3), open_cache(world).read(3))

    line = refused(capsys, *args[:-4], "-o", tmp_path / "cache", "--dtype", "fp16", "--per-shard", 2)
    assert "holds another cache, which was made with dtype=fp32, got fp16" in line
    assert "encoder: expected a frozen image encoder" in refused(capsys, *args, "-o", tmp_path / "x", "--encoder", world.model)
    assert "--size" in refused(capsys, *args, "-o", tmp_path / "x", "--size", 0)
    assert not (tmp_path / "x").exists()


def test_the_command_interrupted(capsys: pytest.CaptureFixture[str], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(encoded: int) -> None:
        raise KeyboardInterrupt

    count_encoded(monkeypatch, interrupt)
    result = run(
        capsys, "data", "cache", "--data", world.data, "--encoder", world.sd, "--size", SIZE, "-o", tmp_path / "cache", "--device", "cpu"
    )
    assert (result.code, result.err) == (130, f"ldmseg: interrupted; the same command goes on with {tmp_path / 'cache'}\n")
