from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from official_files import CONFIG, Sources, autoencoder_state, build_sources, save, stage_1, stage_2
from safetensors import safe_open

from ldmseg.errors import InputError, shortened
from ldmseg.models.denoiser import Condition
from ldmseg.models.official import OfficialNetworks, OfficialSettings, build_networks, open_official, reading
from ldmseg.models.official.names import listed

Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return build_sources()


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def convert(path: Path, dtype: torch.dtype = torch.float32) -> OfficialNetworks:
    return build_networks(open_official(path), dtype)


def refusal(path: Path, dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(InputError) as caught:
        convert(path, dtype)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("checkpoint: ") and str(path) in line
    return line


@torch.no_grad()
def assert_same_outputs(networks: OfficialNetworks, sources: Sources, scale: float, self_condition: bool = True) -> None:
    """The converted networks compute what diffusers' own and the original mask autoencoder compute."""
    assert networks.image_encoder is not None and networks.unet is not None
    images = torch.rand(2, 3, 64, 48) * 2 - 1
    image = sources.vae.encode(images).latent_dist.mode() * 0.18215  # (2, 4, 8, 6)
    assert torch.equal(networks.image_encoder.encode(images), image)

    ids = torch.randint(0, 128, (2, 64, 48))
    mask = networks.mask_autoencoder.encode(ids)
    assert torch.equal(mask, sources.autoencoder.encode(ids) * scale)  # the source's own scale is 1
    assert torch.allclose(networks.mask_autoencoder.decode(mask), sources.autoencoder.decode(mask / scale), atol=1e-5)

    x_t, estimate = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    image = torch.randn(2, 4, 8, 8)
    inputs = torch.cat([x_t, image, estimate][: 3 if self_condition else 2], dim=1)  # the release's order
    expected = sources.unet(inputs, torch.tensor([999, 19]), encoder_hidden_states=None).sample
    assert torch.allclose(networks.unet.predict(x_t, torch.tensor([999, 19]), Condition(image), estimate), expected, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------- conversion
@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("old_attention_names", [False, True])
def test_stage_2_computes_what_its_sources_do(tmp_path: Path, sources: Sources, prefix: str, old_attention_names: bool) -> None:
    entries = stage_2(sources, prefix=prefix, old_attention_names=old_attention_names)
    assert any("proj_attn" in key for key in entries["vae_image"]) is old_attention_names
    assert f"{prefix}post_quant_conv.weight" in entries["vae_image"] and not any("attn2" in key for key in entries["unet"])
    file = open_official(save(tmp_path / "model.pt", entries))
    assert (file.stage, file.step, file.unused) == (2, 200000, ("scaler",))
    networks = build_networks(file)
    assert_same_outputs(networks, sources, scale=CONFIG["vae_model_kwargs"]["scaling_factor"])
    assert networks.unet is not None and networks.unet.config["self_condition"] is True
    assert not any(module.training for module in (networks.mask_autoencoder, networks.unet))


@pytest.mark.slow
def test_without_self_conditioning(tmp_path: Path) -> None:
    sources = build_sources(self_condition=False)
    networks = convert(save(tmp_path / "model.pt", stage_2(sources)))
    assert networks.unet is not None and networks.unet.config["self_condition"] is False
    assert_same_outputs(networks, sources, scale=0.2, self_condition=False)


@pytest.mark.slow
def test_sizes_are_the_tensors_own(tmp_path: Path) -> None:
    wide = {
        "block_out_channels": (32, 64, 96),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    }
    sources = build_sources(**wide)
    assert_same_outputs(convert(save(tmp_path / "model.pt", stage_2(sources))), sources, scale=0.2)


def test_stage_1(tmp_path: Path, sources: Sources) -> None:
    file = open_official(save(tmp_path / "model.pt", stage_1(sources.autoencoder)))
    assert (file.stage, file.step, file.unused) == (1, 66000, ("opt",))
    networks = build_networks(file)
    assert networks.image_encoder is None and networks.unet is None
    ids = torch.randint(0, 128, (1, 32, 32))
    assert torch.equal(networks.mask_autoencoder.encode(ids), sources.autoencoder.encode(ids) * 0.2)


def test_the_released_mask_autoencoders_own_names_and_sizes(tmp_path: Path, shared: Path, sources: Sources) -> None:
    with safe_open(shared / "reference" / "autoencoder_weights.safetensors", "pt") as reference:
        released = {key: reference.get_tensor(key) for key in reference.keys()}  # noqa: SIM118  # it is no dictionary
    assert released.keys() == autoencoder_state(sources.autoencoder).keys()
    model = convert(save(tmp_path / "model.pt", {"vae": released})).mask_autoencoder
    assert (model.config["num_ids"], model.config["encoder_widths"], model.config["decoder_width"]) == (128, (32, 64, 128, 256), 256)
    assert model.dtype == torch.float32
    with safe_open(shared / "reference" / "autoencoder_io.safetensors", "pt") as expected:
        latents = model.encode(expected.get_tensor("ids").long())
        assert torch.allclose(latents, expected.get_tensor("latents") * 0.18215, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float16, torch.float32),
        (torch.float32, torch.float16),
        *((kind, kind) for kind in (torch.float32, torch.float16)),
    ],
)
def test_types(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch, stored: torch.dtype, dtype: torch.dtype) -> None:
    monkeypatch.setattr(reading, "BATCH", 4_000_000)  # several batches
    entries = stage_2(sources)
    entries["vae_image"] = {key: value.to(stored) for key, value in entries["vae_image"].items()}  # the release has it in half precision
    networks = convert(save(tmp_path / "model.pt", entries), dtype)
    assert networks.unet is not None and networks.image_encoder is not None
    assert {p.dtype for part in (networks.unet, networks.image_encoder, networks.mask_autoencoder) for p in part.parameters()} == {dtype}
    for key, value in networks.unet.state_dict().items():
        assert torch.equal(value, sources.unet.state_dict()[key].to(dtype))
    for key, value in networks.image_encoder.state_dict().items():
        assert torch.equal(value, sources.vae.state_dict()[key].to(stored).to(dtype))


@pytest.mark.slow
def test_weights_that_lie_in_another_order_or_in_common_memory(tmp_path: Path, sources: Sources) -> None:
    """As after training with channels_last, or of tensors that were views; safetensors writes neither."""
    entries = stage_2(sources)
    unet = entries["unet"]
    unet["conv_in.weight"] = unet["conv_in.weight"].contiguous(memory_format=torch.channels_last)
    both = torch.cat([unet["conv_norm_out.weight"], unet["conv_norm_out.bias"]])
    unet["conv_norm_out.weight"], unet["conv_norm_out.bias"] = both[:32], both[32:]
    unet["down_blocks.0.resnets.0.norm1.bias"] = unet["down_blocks.0.resnets.0.norm2.bias"]
    networks = convert(save(tmp_path / "model.pt", entries))
    assert networks.unet is not None
    for key, value in networks.unet.state_dict().items():
        assert torch.equal(value, unet[key]) and value.is_contiguous()
    networks.unet.save_pretrained(tmp_path / "unet")


@pytest.mark.slow
def test_a_file_written_on_a_gpu(tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        path = save(tmp_path / "model.pt", stage_2(sources))
    with zipfile.ZipFile(path) as archive:
        assert b"cuda:0" in archive.read("model/data.pkl")
    assert_same_outputs(convert(path), sources, scale=0.2)


# ------------------------------------------------------------------------------------------------------------------------ settings
@pytest.mark.slow
def test_a_file_without_a_configuration_is_taken_for_the_released_model(tmp_path: Path, sources: Sources) -> None:
    entries = {name: stage_2(sources)[name] for name in ("unet", "vae_image", "vae_semseg")}
    file = open_official(save(tmp_path / "model.pt", entries))
    assert file.settings == OfficialSettings()
    assert (file.settings.mask_scale, file.settings.image_scale, file.settings.image_size) == (0.18215, 0.18215, 512)
    assert (file.step, file.unused) == (None, ())
    assert_same_outputs(build_networks(file), sources, scale=0.18215)


@pytest.mark.slow
def test_the_files_own_configuration_is_used(tmp_path: Path, sources: Sources) -> None:
    config = {
        "image_scaling_factor": 0.5,
        "vae_model_kwargs": {"scaling_factor": 1},
        "noise_scheduler_kwargs": {"prediction_type": "sample", "beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.02},
        "transformation_kwargs": {"size": 256},
    }
    file = open_official(save(tmp_path / "model.pt", stage_2(sources, p=config)))
    assert file.settings == OfficialSettings(1.0, 0.5, "sample", "linear", 0.001, 0.02, 256)
    networks = build_networks(file)
    assert networks.image_encoder is not None
    assert networks.mask_autoencoder.config["scaling_factor"] == 1.0
    assert networks.image_encoder.config["vae_config"]["scaling_factor"] == 0.5
    assert open_official(save(tmp_path / "model.pt", stage_2(sources, p=["of another form"]))).settings == OfficialSettings()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vae_model_kwargs": {"scaling_factor": -1}}, "vae_model_kwargs.scaling_factor: expected a positive number, got -1"),
        ({"image_scaling_factor": "big"}, "image_scaling_factor: expected a positive number, got 'big'"),
        ({"noise_scheduler_kwargs": {"prediction_type": "flow"}}, "expected one of epsilon, sample, got 'flow'"),
        ({"transformation_kwargs": {"size": 51.5}}, "transformation_kwargs.size: expected a positive number, got 51.5"),
        ({"transformation_kwargs": {"size": [512, 512]}}, "transformation_kwargs.size: expected a positive number, got [512, 512]"),
    ],
)
def test_a_configuration_that_makes_no_sense(tmp_path: Path, sources: Sources, config: dict[str, Any], said: str) -> None:
    assert said in refusal(save(tmp_path / "model.pt", stage_1(sources.autoencoder) | {"p": config}))


# ----------------------------------------------------------------------------------------------------------------------- bad files
class Code:
    """What a hostile pickle holds: a call, made when it is read."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.evidence),)


@pytest.mark.slow
def test_code_is_refused_and_not_run(tmp_path: Path, sources: Sources) -> None:
    evidence = tmp_path / "it-ran"
    path = save(tmp_path / "model.pt", stage_2(sources, opt=Code(evidence)))
    line = refusal(path)
    assert f"{os.mkdir.__module__}.mkdir" in line and "can run code, and is not read" in line
    assert not evidence.exists()
    torch.load(path, weights_only=False)
    assert evidence.exists(), "the test's own pickle does nothing"


def test_objects_are_refused_by_name(tmp_path: Path, sources: Sources) -> None:
    line = refusal(save(tmp_path / "model.pt", stage_2(sources, p=OfficialSettings())))
    assert "ldmseg.models.official.reading.OfficialSettings" in line


def test_names_of_objects_are_text_that_can_be_shown() -> None:
    assert listed(["torch\0utils.f", "x" * 5000]) == f"torch?utils.f, {shortened('x' * 5000)}"


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no weights")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b""), "truncated, of another kind"),
        (lambda path: path.write_text("<html>Virus scan warning</html>"), "truncated, of another kind"),
        (lambda path: torch.save({"vae": {}}, path, _use_new_zipfile_serialization=False), "older than PyTorch 1.6"),
        (_archive, "expected a file as torch.save writes it"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
        (lambda path: torch.save([torch.zeros(1)], path), "got list"),
        (lambda path: torch.save({}, path), "got 0 entries"),
        (lambda path: torch.save({"vae": {}}, path), "vae: expected tensors by name, got no tensors"),
        (lambda path: torch.save({"vae": [1]}, path), "vae: expected tensors by name, got list"),
        (lambda path: torch.save({"vae": {"encoder.0.weight": 3}}, path), "vae: expected tensors by name, got int"),
        (lambda path: torch.save({"vae": {"a": torch.zeros(1, dtype=torch.int8)}}, path), "dense floating-point tensors, got others at a"),
        (lambda path: torch.save({"vae": {"a": torch.zeros(1), "module.a": torch.zeros(1)}}, path), "with and without module."),
        (lambda path: torch.save({"state_dict": {}, "global_step": 1}, path), "got 2 entries: global_step, state_dict"),
        (lambda path: torch.save({f"layer{i}.weight": torch.zeros(1) for i in range(62)}, path), "layer15.weight and 54 more"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, write: Callable[[Path], Any], said: str) -> None:
    path = tmp_path / "model.pt"
    write(path)
    assert said in refusal(path)


def test_truncated_anywhere(tmp_path: Path, sources: Sources) -> None:
    path = save(tmp_path / "model.pt", stage_1(sources.autoencoder))
    whole = path.read_bytes()
    for kept in (1, len(whole) // 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        assert "truncated" in refusal(path)


def test_a_damaged_pickle(tmp_path: Path, sources: Sources) -> None:
    path = save(tmp_path / "model.pt", stage_1(sources.autoencoder))
    whole = path.read_bytes()
    start = whole.index(b"exp_avg")
    path.write_bytes(whole[: start - 40] + bytes(40) + whole[start:])
    refusal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path, sources: Sources) -> None:
    path = save(tmp_path / "model.pt", stage_1(sources.autoencoder))
    path.chmod(0)
    with pytest.raises(PermissionError):
        open_official(path)


# -------------------------------------------------------------------------------------------------------------- other architectures
def _rename(network: str, old: str, new: str) -> Change:
    def change(entries: dict[str, Any]) -> None:
        entries[network] = {key.replace(old, new): value for key, value in entries[network].items()}

    return change


def _add(network: str, key: str, *shape: int) -> Change:
    return lambda entries: entries[network].update({key: torch.zeros(shape)})


def _drop(network: str, *keys: str) -> Change:
    return lambda entries: [entries[network].pop(key) for key in keys] and None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entries: entries.pop("vae_semseg") and None, "expected the entries vae_semseg, vae_image, unet .stage 2. or vae"),
        (_drop("unet", "mid_block.resnets.1.conv2.bias"), "unet: .* got 1 missing keys: mid_block.resnets.1.conv2.bias$"),
        (
            _drop("unet", "conv_in.weight"),
            "unet: expected a layer conv_in.weight, found none among 571 keys: conv_in.bias, .* and 563 more$",
        ),
        (_add("unet", "label_emb.weight", 3, 3), "unet: .* got 1 unexpected keys: label_emb.weight$"),
        (
            _add("unet", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight", 64, 64),
            "unet: .* got 1 unexpected keys: mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight$",
        ),
        (_add("unet", "conv_in.weight", 32, 4, 3, 3), "unet: conv_in.weight: expected 8 .* or 12 .*, got 4"),
        (
            _add("unet", "time_embedding.linear_1.weight", 7, 32),
            r"unet: .* 1 mismatched keys: time_embedding.* \(7, 32\) instead of \(128",
        ),
        (
            _rename("unet", "mid_block.resnets", "middle"),
            "unet: .* got 20 missing keys: mid_block.resnets.0.conv1.bias, .* and 12 more; 20 unexpected keys: middle.* and 12 more",
        ),
        (_add("unet", "down_blocks.1.resnets.0.conv1.weight", 48, 32, 3, 3), "unet: expected widths that are multiples of 32"),
        (_rename("vae_image", "quant_conv", "quantize"), "vae_image: expected a layer quant_conv.weight"),
        (_add("vae_image", "encoder.conv_in.weight", 32, 4, 3, 3), r"vae_image: .* mismatched keys: encoder.conv_in.weight \(32, 4"),
        (
            _add("vae_image", "encoder.mid_block.attentions.0.query.weight", 64, 64),
            "vae_image: .* 1 unexpected keys: encoder.mid_block.attentions.0.query.weight",
        ),
        (_add("vae_semseg", "encoder.12.weight", 1), "vae_semseg: .* 1 unexpected keys: encoder.12.weight"),
        (_drop("vae_semseg", "encoder.13.bias"), "vae_semseg: .* 1 missing keys: encoder.13.bias"),
        (_add("vae_semseg", "encoder.0.weight", 8, 3, 3, 3), "vae_semseg: encoder.0.weight: expected .* N = 128 ids, got 3"),
    ],
)
def test_another_architecture_is_refused_with_the_keys(tmp_path: Path, sources: Sources, change: Change, said: str) -> None:
    entries = stage_2(sources)
    change(entries)
    line = refusal(save(tmp_path / "model.pt", entries))
    assert re.search(said, line), line


@pytest.mark.slow
def test_networks_that_do_not_belong_together(tmp_path: Path, sources: Sources) -> None:
    entries = stage_2(sources)
    autoencoder = entries["vae_semseg"]
    autoencoder["encoder.15.weight"], autoencoder["encoder.15.bias"] = torch.zeros(6, 32, 3, 3), torch.zeros(6)
    autoencoder["decoder.0.weight"] = torch.zeros(32, 3, 3, 3)
    assert "unet: expected 3 output channels, the mask latents', got 4" in refusal(save(tmp_path / "model.pt", entries))


@pytest.mark.slow
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, sources: Sources, bad: float) -> None:
    entries = stage_2(sources)
    entries["unet"]["conv_out.bias"] = torch.tensor([0.0, bad, 0.0, 0.0])
    assert "unet.conv_out.bias: expected numbers that are finite in float32" in refusal(save(tmp_path / "model.pt", entries))


@pytest.mark.slow
def test_weights_beyond_half_precision(tmp_path: Path, sources: Sources) -> None:
    entries = stage_2(sources)
    entries["unet"]["conv_out.bias"] = torch.tensor([0.0, 1e5, 0.0, 0.0])
    path = save(tmp_path / "model.pt", entries)
    convert(path)
    assert "unet.conv_out.bias: expected numbers that are finite in float16" in refusal(path, torch.float16)


# -------------------------------------------------------------------------------------------------------------------------- memory
MEASURE = """
import sys
from pathlib import Path
from ldmseg.cli import main
import ldmseg.models.official, ldmseg.pipeline

def kilobytes(field):  # getrusage would count the parent's peak
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0])

small, large, dtype, out = sys.argv[1:]
assert main(["convert-checkpoint", small, "-o", out + "-small", "--dtype", dtype]) == 0  # loads what is loaded on first use
before = kilobytes("VmRSS")
assert main(["convert-checkpoint", large, "-o", out, "--dtype", dtype]) == 0
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_memory_is_at_most_a_fifth_more_than_the_file(tmp_path: Path, sources: Sources, dtype: str) -> None:
    """The peak of resident memory, pages of the file itself included, beyond what the program takes for a small file."""
    small = save(tmp_path / "small.pt", stage_2(sources))
    large = save(tmp_path / "large.pt", stage_2(build_sources(block_out_channels=(96, 192, 384, 384))))
    size = large.stat().st_size
    assert size > 250e6
    script = [sys.executable, "-c", MEASURE, small, large, dtype, tmp_path / "out"]
    done = subprocess.run(list(map(str, script)), capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1.2 * size, f"{int(done.stdout) / size:.2f} of the file"
