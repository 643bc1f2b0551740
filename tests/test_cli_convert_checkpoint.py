from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command import done, files_in, refused, run
from official_files import IMAGE_SIZE, Sources, build_sources, save, stage_1, stage_2
from PIL import Image
from safetensors.torch import load_file

from ldmseg.formats.coco_panoptic import open_root
from ldmseg.models.denoiser import build_denoiser
from ldmseg.models.image_encoder import load_image_encoder
from ldmseg.models.loading import load_mask_autoencoder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.options import InferenceOptions, Thresholds
from ldmseg.pipeline import LDMSegPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"
STAGE_2_FILES = {
    "manifest.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"{part}/{file}" for part in ("mask_autoencoder", "image_encoder", "unet") for file in ("config.json", WEIGHTS)),
}
STAGE_1_FILES = {"manifest.json", "mask_autoencoder/config.json", f"mask_autoencoder/{WEIGHTS}"}


@pytest.fixture(scope="module")
def sources() -> Sources:
    return build_sources()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Path:
    return save(tmp_path_factory.mktemp("stage-2") / "model.pt", stage_2(sources, prefix="module.", old_attention_names=True))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> Path:
    return save(tmp_path_factory.mktemp("stage-1") / "ae.pt", stage_1(sources.autoencoder))


def photo(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@torch.no_grad()
def sampled_by_hand(sources: Sources, image: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Mask latents by algorithm 2, written out for the networks as diffusers has them: trailing DDIM with self-conditioning.

    Args:
        image: (1, 3, S, S) in [-1, 1].
        noise: (1, 4, S / 8, S / 8).
    """
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, dim=0)
    latents, x, clean = sources.vae.encode(image).latent_dist.mode() * 0.18215, noise, torch.zeros_like(noise)
    timesteps = [1000 - 1000 * i // steps - 1 for i in range(steps)]
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        epsilon = sources.unet(torch.cat([x, latents, clean], dim=1), t, encoder_hidden_states=None).sample
        clean = (x - (1 - alpha_bar[t]).sqrt() * epsilon) / alpha_bar[t].sqrt()
        if following is not None:
            x = alpha_bar[following].sqrt() * clean + (1 - alpha_bar[following]).sqrt() * epsilon
    return clean


# --------------------------------------------------------------------------------------------------------------------- stage 2
@pytest.mark.slow
def test_the_folder_segments_as_the_checkpoints_networks_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, sources: Sources, checkpoint: Path
) -> None:
    folder = tmp_path / "new" / "model"
    said = done(capsys, "convert-checkpoint", checkpoint, "-o", folder)
    assert said.out == "" and said.err.startswith("stage 2 (step 200000): mask_autoencoder 0.07 M, image_encoder 0.58 M, unet 2.33 M")
    assert said.err.endswith(f"in fp32, written to {folder}; not used: scaler\n")
    assert files_in(folder.parent) == {f"model/{name}" for name in STAGE_2_FILES}

    done(capsys, "segment", photo(tmp_path / "a.png"), "--model", folder, "-o", tmp_path / "out", "--steps", 2, "--min-area", 0)
    assert [record.read_map().shape for record in open_root(tmp_path / "out")] == [(40, 56)]

    pipe = LDMSegPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    pixels = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    noise = torch.randn(1, 4, 8, 8)
    for steps in (1, 4):
        latents = pipe(pixels, latents=noise, num_inference_steps=steps, output_type="latent").maps[0]
        expected = sampled_by_hand(sources, pixels * 2 - 1, noise, steps)[0]
        assert torch.allclose(latents, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


@pytest.mark.slow
def test_defaults_are_those_of_the_papers_evaluation(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path) -> None:
    done(capsys, "convert-checkpoint", checkpoint, "-o", tmp_path / "model")
    model = done(capsys, "info", tmp_path / "model", "--json").json()["model"]
    thresholds = Thresholds(probability=0.5, min_area=512, overlap=0.5, support=0.0)
    expected = InferenceOptions(num_inference_steps=50, sampler="ddim", thresholds=thresholds, boundaries="drawn")
    assert model["defaults"] == expected.to_dict()
    assert model["trained"] == {"id_policy": "random", "prediction_type": "epsilon", "beta_schedule": "scaled_linear"}
    assert (model["image_size"], model["num_ids"], model["code"], model["latents"]) == (IMAGE_SIZE, 128, "bits", [4, 8, 8])
    assert (model["self_condition"], model["partial"]) == (True, False)
    assert LDMSegPipeline.from_pretrained(tmp_path / "model").options == expected


@pytest.mark.slow
def test_training_can_go_on_from_each_network(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "model"
    done(capsys, "convert-checkpoint", checkpoint, "-o", folder)
    assert load_mask_autoencoder(folder).config["scaling_factor"] == 0.2
    encoder = load_image_encoder(folder)
    assert (encoder.latent_channels, encoder.downscale, encoder.trainable) == (4, 8, False)
    old, wide = build_denoiser(folder), build_denoiser(folder, partial=True)
    assert wide.config["partial"] is True and wide.conv_in.in_channels == 12 + 5
    assert torch.equal(wide.conv_in.weight[:, :12], old.conv_in.weight) and not wide.conv_in.weight[:, 12:].any()


@pytest.mark.slow
def test_half_precision_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, sources: Sources, checkpoint: Path) -> None:
    folder = tmp_path / "model"
    result = done(capsys, "convert-checkpoint", checkpoint, "-o", folder, "--dtype", "fp16", "--json")
    facts = result.json()
    assert result.err == ""
    assert (facts["file"], facts["output"], facts["stage"], facts["step"]) == (str(checkpoint), str(folder), 2, 200000)
    assert (facts["dtype"], facts["unused"]) == ("fp16", ["scaler"])
    assert facts["parameters"]["unet"] == sum(p.numel() for p in sources.unet.parameters())
    assert (facts["settings"]["mask_scale"], facts["settings"]["image_size"]) == (0.2, IMAGE_SIZE)
    for part in ("mask_autoencoder", "image_encoder", "unet"):
        assert {value.dtype for value in load_file(folder / part / WEIGHTS).values()} == {torch.float16}
    done(capsys, "segment", photo(tmp_path / "a.png"), "--model", folder, "-o", tmp_path / "out", "--steps", 1)


@pytest.mark.slow
def test_settings_that_the_user_knows_better(capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "model"
    settings = done(capsys, "convert-checkpoint", checkpoint, "-o", folder, "--mask-scale", 0.3, "--prediction", "sample", "--json").json()[
        "settings"
    ]
    assert (settings["mask_scale"], settings["prediction_type"]) == (0.3, "sample")
    pipe = LDMSegPipeline.from_pretrained(folder)
    assert pipe.mask_autoencoder.config["scaling_factor"] == 0.3
    assert pipe.scheduler.config["prediction_type"] == "sample"


# --------------------------------------------------------------------------------------------------------------------- stage 1
@pytest.mark.slow
def test_stage_1_is_what_training_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path, sources: Sources, small: Path) -> None:
    folder = tmp_path / "autoencoder"
    said = done(capsys, "convert-checkpoint", small, "-o", folder).err
    assert said == f"stage 1 (step 66000): mask_autoencoder 0.07 M parameters in fp32, written to {folder}; not used: opt\n"
    assert files_in(folder) == STAGE_1_FILES
    ids = torch.randint(0, 128, (1, 32, 32))
    with torch.no_grad():
        assert torch.equal(load_mask_autoencoder(folder).eval().encode(ids), sources.autoencoder.encode(ids) * 0.2)
    shown = done(capsys, "train", "diffusion", "--config", "id-policies", "--dry-run", "--set", f"autoencoder={folder}").out
    assert str(folder) in shown


# ---------------------------------------------------------------------------------------------------------------------- output
def test_an_empty_folder_may_be_there(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path) -> None:
    (tmp_path / "model").mkdir()
    done(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
    assert files_in(tmp_path) == {f"model/{name}" for name in STAGE_1_FILES}


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_files_may_be_read_by_whom_the_umask_allows(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path) -> None:
    before = os.umask(0o027)
    try:
        done(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
    finally:
        os.umask(before)
    assert {(tmp_path / "model" / name).stat().st_mode & 0o777 for name in STAGE_1_FILES} == {0o640}


def test_a_folder_with_files_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    line = refused(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
    assert line == f"--output: expected a new or empty folder, got '{tmp_path / 'model'}', which holds 1 file"
    assert files_in(tmp_path) == {"model/mine.txt"}


def test_a_file_in_the_way(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path) -> None:
    (tmp_path / "model").write_text("a file")
    assert "--output: expected a folder" in refused(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt(), RuntimeError("bug")])
def test_whatever_happens_nothing_is_half_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def save_half(self: MaskAutoencoder, folder: Path) -> None:
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(b"half")
        assert list(tmp_path.iterdir()), "it is written beside the target"
        raise error

    monkeypatch.setattr(MaskAutoencoder, "save_pretrained", save_half)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="bug"):
            run(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
    else:
        result = run(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
        assert result.code == (130 if isinstance(error, KeyboardInterrupt) else 2)
        assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="no limit on file sizes there")
def test_a_file_that_cannot_grow(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path) -> None:
    """As on a full disk: the system's own refusal, through the library that writes the weights."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        line = refused(capsys, "convert-checkpoint", small, "-o", tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"cannot write '{tmp_path / 'model'}'" in line
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------------------- refusals
def test_code_in_the_file_is_one_line_and_never_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, sources: Sources) -> None:
    evidence = tmp_path / "it-ran"

    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(evidence),)

    path = save(tmp_path / "model.pt", {**stage_1(sources.autoencoder), "opt": Code()})
    line = refused(capsys, "convert-checkpoint", path, "-o", tmp_path / "model")
    assert "mkdir" in line and "is not read" in line
    assert {entry.name for entry in tmp_path.iterdir()} == {"model.pt"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mask-scale", "0"], "--mask-scale: expected a positive number, got 0.0"),
        (["--mask-scale", "nan"], "--mask-scale: expected a positive number, got nan"),
        (["--dtype", "int8"], "--dtype"),
        (["--prediction", "noise"], "--prediction"),
    ],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], tmp_path: Path, small: Path, options: list[str], said: str) -> None:
    assert said in refused(capsys, "convert-checkpoint", small, "-o", tmp_path / "model", *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_other_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, sources: Sources) -> None:
    assert "nowhere.pt', which does not exist" in refused(capsys, "convert-checkpoint", tmp_path / "nowhere.pt", "-o", tmp_path / "m")
    other = save(tmp_path / "unet.pt", sources.unet.state_dict())
    assert "expected the entries" in refused(capsys, "convert-checkpoint", other, "-o", tmp_path / "m")
    path = save(tmp_path / "model.pt", stage_2(sources, unet={"conv_in.weight": torch.zeros(3)}))
    assert "unet: expected a layer conv_out.weight" in refused(capsys, "convert-checkpoint", path, "-o", tmp_path / "m")
    assert {entry.name for entry in tmp_path.iterdir()} == {"unet.pt", "model.pt"}
