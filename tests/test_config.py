from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from ldmseg.config import AutoencoderRunConfig, ClassifierRunConfig, DiffusionRunConfig, load_config, preset_names
from ldmseg.errors import InputError


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str) -> None:
    config = load_config(name)
    kinds = {"autoencoder": AutoencoderRunConfig, "decoder": AutoencoderRunConfig, "classifier": ClassifierRunConfig}
    assert isinstance(config, next((kind for part, kind in kinds.items() if part in name), DiffusionRunConfig))


def test_overrides_and_inheritance(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: scenes-autoencoder\noptim: {steps: 5}\n")
    config = load_config(file, ["optim.lr=1e-5", "model.encoder_widths=[32, 64, 128]", "augment.crop=null"])
    parent = load_config("scenes-autoencoder")
    assert config.optim.steps == 5
    assert config.optim.lr == 1e-5
    assert config.model.encoder_widths == (32, 64, 128)
    assert config.augment.crop is None
    assert config.optim.batch_size == parent.optim.batch_size


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lrr=1"], "config: 'optim.lrr' is no known key; did you mean 'lr'"),
        (["steps=12"], "config: 'steps' is no known key; did you mean 'optim.steps'"),
        (["data.lr=1"], "'data.lr' is no known key; did you mean 'optim.lr'"),
        (["every=5"], "did you mean 'checkpoint.every' or 'validation.every'"),
        (["banana=1"], "config: 'banana' is no known key; expected one of"),
        (["optim.steps=0"], "config: optim.steps: .*greater than or equal to 1, got 0"),
        (["optim.steps=many"], "config: optim.steps: .*got 'many'"),
        (["optim.steps"], "--set: expected KEY=VALUE"),
        (["optim.steps.deep=1"], "goes through 'steps'"),
        (["stage=three"], "config: .*stage"),
    ],
)
def test_a_wrong_key_or_value_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config("scenes-autoencoder", overrides)
    assert "\n" not in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a file or one of .*scenes-autoencoder"):
        load_config("nowhere")
    for text, message in (("a: [", "expected YAML"), ("just text", "expected keys and values"), ("extends: loop.yaml", "--config")):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(InputError, match=message):
            load_config(tmp_path / "broken.yaml")
    circle = tmp_path / "circle.yaml"
    circle.write_text(f"extends: {circle}")
    with pytest.raises(InputError, match="no circle"):
        load_config(circle)


def test_keys_of_inference_are_found_too() -> None:
    with pytest.raises(InputError, match=r"did you mean 'inference\.num_inference_steps'"):
        load_config("finetune", ["num_inference_steps=5"])


@pytest.mark.slow
def test_the_reference_of_keys_is_current() -> None:
    docs = Path(__file__).resolve().parents[1] / "docs"
    script = runpy.run_path(str(docs / "config_reference.py"))
    page = (docs / "config.md").read_text(encoding="utf-8")
    assert page == script["reference"](), "run python docs/config_reference.py"
    assert not re.findall(r"^\| `(\w+)` .*\|\s*\|$", page, flags=re.M), "every key says what it means"
    for model in (AutoencoderRunConfig, DiffusionRunConfig):
        for key in model.model_fields:
            assert f"`{key}`" in page
