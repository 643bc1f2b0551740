from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from sd_folder import edit_config, make_sd_folder, rename
from torch import Tensor

from ldmseg.errors import InputError
from ldmseg.models.denoiser import (
    DENOISER_PRESETS,
    Condition,
    Denoiser,
    build_denoiser,
    freeze_time_embedding,
    input_channels,
    widen_input,
)

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sd_folder(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tiny(**settings: object) -> Denoiser:
    return build_denoiser("tiny", **{"image_channels": 3, **settings}).eval()  # type: ignore[arg-type]


def condition_for(denoiser: Denoiser, size: tuple[int, int], batch: int = 2) -> Condition:
    config = denoiser.config
    partial = torch.randn(batch, config["mask_channels"], *size) if config["partial"] else None
    validity = torch.rand(batch, 1, *size) if config["partial"] else None
    return Condition(torch.randn(batch, config["image_channels"], *size), partial, validity)


def numbers(denoiser: Denoiser) -> int:
    return sum(parameter.numel() for parameter in denoiser.parameters())


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@torch.no_grad()
def without_cross_attention(unet: UNet2DConditionModel, x: Tensor, timestep: int) -> Tensor:
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock):
            module.attn2 = module.norm2 = None  # type: ignore[assignment]
    return unet.eval()(x, timestep, encoder_hidden_states=None).sample


@pytest.mark.parametrize(("name", "millions"), [("tiny", (0.1, 0.3)), ("small", (4.5, 6)), ("base", (13, 16)), ("sd-v1", (815, 816))])
def test_presets_have_the_sizes_they_are_named_for(name: str, millions: tuple[float, float]) -> None:
    with init_empty_weights():
        denoiser = build_denoiser(name, image_channels=4)
    assert millions[0] < numbers(denoiser) / 1e6 < millions[1]


def test_small_attends_at_every_level() -> None:
    denoiser = build_denoiser("small")
    levels = {name.split(".")[1] for name, _ in denoiser.named_modules() if name.startswith("down_blocks") and name.endswith("attn1")}
    assert levels == {"0", "1", "2"}
    attention = denoiser.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert attention.heads == 2 and attention.to_q.out_features == 64


@pytest.mark.parametrize(
    ("self_condition", "partial", "channels"), [(False, False, 4 + 64), (True, False, 4 + 64 + 4), (False, True, 73), (True, True, 77)]
)
def test_input_channels_follow_the_options(self_condition: bool, partial: bool, channels: int) -> None:
    denoiser = build_denoiser("tiny", image_channels=64, self_condition=self_condition, partial=partial)
    assert denoiser.config["in_channels"] == denoiser.conv_in.in_channels == channels == input_channels(4, 64, self_condition, partial)
    assert denoiser.config["out_channels"] == 4


def test_input_channel_order() -> None:
    denoiser = tiny(partial=True)
    seen: list[Tensor] = []
    denoiser.conv_in.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x, estimate, condition = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4), condition_for(denoiser, (4, 4))
    denoiser.predict(x, 7, condition, estimate)
    denoiser.predict(x, 7, Condition(condition.image))
    assert torch.equal(seen[0], torch.cat([x, condition.image, estimate, condition.partial, condition.validity], dim=1))  # type: ignore[list-item]
    assert torch.equal(seen[1], torch.cat([x, condition.image, torch.zeros(2, 9, 4, 4)], dim=1))


@pytest.mark.slow
@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(1, 9))
def test_any_size_comes_back(height: int, width: int) -> None:
    denoiser = tiny(partial=True)
    out = denoiser.predict(torch.randn(1, 4, height, width), 500, condition_for(denoiser, (height, width), 1))
    assert out.shape == (1, 4, height, width)
    assert torch.isfinite(out).all()


@torch.no_grad()
def test_padding_repeats_the_border() -> None:
    denoiser = tiny(self_condition=False)
    x, image = torch.randn(1, 4, 3, 4), torch.randn(1, 3, 3, 4)
    taller = [torch.cat([t, t[:, :, -1:]], dim=2) for t in (x, image)]
    expected = denoiser.predict(taller[0], 3, Condition(taller[1]))[:, :, :3]
    torch.testing.assert_close(denoiser.predict(x, 3, Condition(image)), expected)


@torch.no_grad()
def test_one_image_equals_its_place_in_a_batch() -> None:
    denoiser = tiny(partial=True)
    x, timesteps, condition = torch.randn(3, 4, 4, 6), torch.tensor([0, 400, 999]), condition_for(denoiser, (4, 6), 3)
    together = denoiser.predict(x, timesteps, condition)
    for i in range(3):
        alone = Condition(condition.image[i : i + 1], condition.partial[i : i + 1], condition.validity[i : i + 1])  # type: ignore[index]
        torch.testing.assert_close(denoiser.predict(x[i : i + 1], int(timesteps[i]), alone), together[i : i + 1], **TOLERANCE)


@torch.no_grad()
def test_dtypes_are_the_callers() -> None:
    denoiser = tiny().to(torch.bfloat16)
    out = denoiser.predict(torch.randn(1, 4, 2, 2), 3, Condition(torch.randn(1, 3, 2, 2)))
    assert out.dtype == torch.float32


@torch.no_grad()
def test_called_directly_it_predicts_and_without_a_condition_it_is_the_unet() -> None:
    denoiser = tiny()
    x, condition, estimate = torch.randn(2, 4, 4, 4), condition_for(denoiser, (4, 4)), torch.randn(2, 4, 4, 4)
    expected = denoiser.predict(x, 9, condition, estimate)
    assert torch.equal(denoiser(x, 9, condition=condition, estimate=estimate), expected)
    assert torch.equal(denoiser(torch.cat([x, condition.image, estimate], dim=1), 9).sample, expected)


def test_gradients_reach_every_parameter_but_a_frozen_time_embedding() -> None:
    denoiser = tiny(freeze_time=True)
    denoiser.predict(torch.randn(1, 4, 4, 4), 3, condition_for(denoiser, (4, 4), 1), torch.randn(1, 4, 4, 4)).square().sum().backward()
    without = {name for name, parameter in denoiser.named_parameters() if parameter.grad is None}
    assert without == {f"time_embedding.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}
    other = tiny()
    freeze_time_embedding(other)
    assert {name for name, parameter in other.named_parameters() if not parameter.requires_grad} == without


def test_wrong_inputs_are_named() -> None:
    plain, completing = tiny(), tiny(partial=True)
    x, condition = torch.zeros(2, 4, 4, 4), condition_for(completing, (4, 4))
    image = Condition(condition.image)
    cases = [
        ("x_t", plain, x[:, :3], image),
        ("x_t", plain, x[0], image),
        ("x_t", plain, x[:, :, :0], image),
        ("condition.image", plain, x, Condition(torch.zeros(2, 4, 4, 4))),
        ("condition.image", plain, x, Condition(torch.zeros(1, 3, 4, 4))),
        ("condition.image", plain, x[..., :3], image),
        ("condition.partial", plain, x, condition),
        ("condition.partial and condition.validity", completing, x, replace(condition, validity=None)),
        ("condition.partial", completing, x, replace(condition, partial=x[:, :3])),
        ("condition.validity", completing, x, replace(condition, validity=x)),
        ("condition.tokens", plain, x, replace(image, tokens=torch.zeros(2, 1, 8))),
    ]
    for name, denoiser, noisy, given_condition in cases:
        with pytest.raises(InputError, match=rf"^{name}: expected .*got"):
            denoiser.predict(noisy, 3, given_condition)
    with pytest.raises(InputError, match=r"^estimate: expected"):
        plain.predict(x, 3, image, x[:, :2])


@pytest.mark.slow
@torch.no_grad()
def test_cross_attention_reads_the_tokens() -> None:
    denoiser = tiny(cross_attention=True, cross_attention_dim=6)
    x, image = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 4, 4)
    one, other = (denoiser.predict(x, 3, Condition(image, tokens=torch.randn(1, 5, 6))) for _ in range(2))
    assert not torch.equal(one, other)
    with pytest.raises(InputError, match=r"^condition.tokens: expected a tensor"):
        denoiser.predict(x, 3, Condition(image))


@pytest.mark.slow
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
@pytest.mark.parametrize("cross_attention", [True, False])
def test_saved_and_loaded_bit_for_bit(
    tmp_path: Path, low_cpu_mem_usage: bool, cross_attention: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    denoiser = tiny(partial=True, cross_attention=cross_attention, cross_attention_dim=6)
    denoiser.save_pretrained(tmp_path)
    loaded, info = Denoiser.from_pretrained(tmp_path, output_loading_info=True, low_cpu_mem_usage=low_cpu_mem_usage)
    assert not any(info.values()), info
    assert_same_weights(denoiser, loaded)
    assert json.loads(loaded.to_json_string()) == json.loads(denoiser.to_json_string()) | {"_name_or_path": str(tmp_path)}
    assert not caplog.records
    assert_same_weights(build_denoiser(tmp_path, image_channels=3, partial=True, cross_attention=cross_attention), denoiser)


@pytest.mark.slow
def test_inside_a_diffusers_pipeline(tmp_path: Path) -> None:
    class Pipeline(DiffusionPipeline):
        def __init__(self, unet: Denoiser) -> None:
            super().__init__()
            self.register_modules(unet=unet)

    denoiser = tiny()
    Pipeline(unet=denoiser).save_pretrained(tmp_path)
    loaded = Pipeline.from_pretrained(tmp_path).unet
    assert type(loaded) is Denoiser
    assert_same_weights(loaded, denoiser)
    assert_same_weights(build_denoiser(tmp_path, image_channels=3), denoiser)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("self_condition", "partial"), [(False, False), (True, False), (True, True)])
def test_surgery_starts_as_stable_diffusion_without_cross_attention(sd_folder: Path, self_condition: bool, partial: bool) -> None:
    denoiser = build_denoiser(sd_folder, image_channels=5, self_condition=self_condition, partial=partial).eval()
    x, condition = torch.randn(2, 4, 8, 8), condition_for(denoiser, (8, 8))
    expected = without_cross_attention(UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet"), x, 321)
    torch.testing.assert_close(denoiser.predict(x, 321, condition, torch.randn(2, 4, 8, 8)), expected, **TOLERANCE)
    assert not any("attn2" in key or "transformer_blocks.0.norm2" in key for key in denoiser.state_dict())
    assert not denoiser.conv_in.weight[:, 4:].any()


@pytest.mark.slow
@torch.no_grad()
def test_surgery_can_keep_cross_attention(sd_folder: Path) -> None:
    denoiser = build_denoiser(sd_folder / "unet", cross_attention=True).eval()
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()
    x, tokens = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 12)
    out = denoiser.predict(x, 5, Condition(torch.randn(1, 4, 8, 8), tokens=tokens))
    torch.testing.assert_close(out, unet(x, 5, tokens).sample, **TOLERANCE)


@pytest.mark.slow
def test_surgery_survives_saving(sd_folder: Path, tmp_path: Path) -> None:
    denoiser = build_denoiser(sd_folder)
    denoiser.save_pretrained(tmp_path)
    assert_same_weights(build_denoiser(tmp_path), denoiser)


@torch.no_grad()
def test_widening_changes_no_output() -> None:
    denoiser = tiny(self_condition=False)
    x, condition = torch.randn(2, 4, 4, 4), condition_for(denoiser, (4, 4))
    before, weight = denoiser.predict(x, 77, condition), denoiser.conv_in.weight.clone()
    assert widen_input(denoiser, self_condition=True, partial=True) is denoiser
    richer = replace(condition, partial=torch.randn(2, 4, 4, 4), validity=torch.rand(2, 1, 4, 4))
    torch.testing.assert_close(denoiser.predict(x, 77, richer, torch.randn(2, 4, 4, 4)), before, **TOLERANCE)
    widen_input(denoiser, image_channels=6)
    assert torch.equal(denoiser.conv_in.weight[:, :7], weight)
    assert denoiser.config["in_channels"] == denoiser.conv_in.in_channels == 4 + 6 + 4 + 5
    with pytest.raises(InputError, match=r"^partial: expected at least"):
        widen_input(denoiser, partial=False)


def test_widening_moves_the_estimate_behind_new_image_channels() -> None:
    denoiser = tiny()
    estimate = denoiser.conv_in.weight[:, 7:].clone()
    widen_input(denoiser, image_channels=5)
    assert torch.equal(denoiser.conv_in.weight[:, 9:], estimate)
    assert not denoiser.conv_in.weight[:, 7:9].any()


@pytest.mark.slow
def test_a_saved_denoiser_gains_partial_channels(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    assert build_denoiser(tmp_path, image_channels=3, partial=True).config["partial"] is True
    with pytest.raises(InputError, match=r"^image_channels: expected 3.*got 4"):
        build_denoiser(tmp_path)
    with pytest.raises(InputError, match=r"^cross_attention: expected False.*got True"):
        build_denoiser(tmp_path, image_channels=3, cross_attention=True)
    tiny(partial=True).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^partial: expected at least"):
        build_denoiser(tmp_path, image_channels=3)


@pytest.mark.slow
def test_every_key_of_stable_diffusion_is_accounted_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    unet = make_sd_folder(tmp_path / "renamed") / "unet"
    rename(unet, lambda key: "conv_out.wait" if key == "conv_out.weight" else key)
    with pytest.raises(InputError, match=r"1 missing keys: conv_out\.weight$"):
        build_denoiser(tmp_path / "renamed")
    unet = make_sd_folder(tmp_path / "extra") / "unet"
    rename(unet, lambda key: "extra.weight" if key.endswith("mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight") else key)
    with pytest.raises(InputError, match=r"1 unexpected keys: extra\.weight$"):
        build_denoiser(tmp_path / "extra")
    edit_config(make_sd_folder(tmp_path / "wide") / "unet", block_out_channels=[16, 16, 32, 64])
    with pytest.raises(InputError, match=r"^source: expected weights of Denoiser in .*expected shape"):
        build_denoiser(tmp_path / "wide")
    assert not caplog.records  # the error says it all


@pytest.mark.slow
def test_another_kind_of_unet_is_refused(tmp_path: Path) -> None:
    folder = make_sd_folder(tmp_path / "inpainting", in_channels=9)
    with pytest.raises(InputError, match=r"^mask_channels: expected 4.*takes 9 channels and returns 4"):
        build_denoiser(folder)
    edit_config(make_sd_folder(tmp_path / "other") / "unet", class_embed_type="timestep")
    with pytest.raises(InputError, match=r"^source: expected a UNet of Stable Diffusion's kind.*class_embed_type=timestep"):
        build_denoiser(tmp_path / "other")


def test_mask_channels_other_than_stable_diffusions(sd_folder: Path) -> None:
    with pytest.raises(InputError, match=r"^mask_channels: expected 4.*got 8"):
        build_denoiser(sd_folder, mask_channels=8)
    assert build_denoiser("tiny", mask_channels=8).config["in_channels"] == 8 + 4 + 8


def test_unknown_sources_and_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("huge", "./nowhere/at-all", tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"^source: expected one of tiny, small, base, sd-v1, an existing folder or a Hub id"):
            build_denoiser(source)
    with pytest.raises(InputError, match=r"^source: expected unet/config\.json or config\.json"):
        build_denoiser(tmp_path)
    with pytest.raises(InputError, match=r"^overrides: expected arguments of Denoiser, got widht"):
        build_denoiser("tiny", widht=3)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"^source: expected a readable config\.json"):
        build_denoiser(tmp_path)


def test_a_hub_id_without_a_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^source: expected a readable config.json in nobody/nothing/unet") as caught:
        build_denoiser("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_overrides_reach_the_network(sd_folder: Path) -> None:
    assert build_denoiser("tiny", dropout=0.25).config["dropout"] == 0.25
    assert build_denoiser(sd_folder, dropout=0.25).config["dropout"] == 0.25
    assert DENOISER_PRESETS["tiny"].get("dropout") is None


@pytest.mark.slow
def test_stable_diffusion_v1_has_its_known_size() -> None:
    with init_empty_weights():
        full = build_denoiser("sd-v1", image_channels=0, self_condition=False, cross_attention=True)
        ours = build_denoiser("sd-v1")
    assert numbers(full) == 859_520_964  # as published
    cross_attention = sum(
        count * (2 * width**2 + 2 * 768 * width + 3 * width) for width, count in ((320, 5), (640, 5), (1280, 6))
    )  # to_q and to_out, to_k and to_v, the bias of to_out and norm2
    assert numbers(ours) == 859_520_964 - cross_attention + 8 * 320 * 9 == 815_556_484


@pytest.mark.slow
@torch.no_grad()
def test_stable_diffusion_v1_in_full_size() -> None:
    with init_empty_weights():
        denoiser = build_denoiser("sd-v1", image_channels=4)
    assert denoiser.config["in_channels"] == 12
    denoiser.to_empty(device="cpu").eval()
    for name, parameter in denoiser.named_parameters():
        parameter.fill_(float("norm" in name and name.endswith("weight"))) if parameter.ndim == 1 else parameter.normal_(std=0.02)
    assert numbers(denoiser) == 815_556_484
    out = denoiser.predict(torch.randn(1, 4, 32, 32), 999, Condition(torch.randn(1, 4, 32, 32)))
    assert out.shape == (1, 4, 32, 32)
    assert torch.isfinite(out).all() and out.std() > 0
