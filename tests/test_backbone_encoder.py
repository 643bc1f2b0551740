"""The image encoder with a pretrained backbone: sizes, what is trained, saving, and the model that is begun from another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_pipeline

from ldmseg import LDMSegPipeline
from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.models.backbone_encoder import BackboneImageEncoder
from ldmseg.models.backbones import EfficientNetBackbone, load_backbone
from ldmseg.models.efficientnet import EfficientNetLite0
from ldmseg.models.image_encoder import ConvImageEncoder, load_image_encoder
from ldmseg.training.launch import parameter_groups
from ldmseg.training.networks import begin_diffusion
from ldmseg.training.stages.diffusion import DiffusionStage


def small_dinov2() -> dict[str, object]:
    return {
        "model_type": "dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "patch_size": 14,
        "image_size": 56,
        "out_indices": [2, 3],
    }


def encoder(stem: int = 8, **more: int) -> BackboneImageEncoder:
    torch.manual_seed(0)
    own = {"latent_channels": stem, "widths": (8, 16)}
    return BackboneImageEncoder({"kind": "efficientnet-lite0"}, own, adapter_channels=16, **more).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of EfficientNet-Lite0, with random weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(EfficientNetLite0(classifier=True).state_dict(), path)
    return path


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (50, 33)])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_photo_is_larger_than_the_map_and_any_size_will_do(height: int, width: int, scale: int) -> None:
    latents = encoder(input_scale=scale).encode(torch.rand(2, 3, scale * height, scale * width) * 2 - 1)
    assert tuple(latents.shape) == (2, 24, -(-height // 8), -(-width // 8))
    assert latents[:, 8:].std().item() == pytest.approx(1, abs=0.1)  # the adapter's part is normalised per image


def test_the_stem_sees_the_photo_at_the_maps_size() -> None:
    model = encoder()
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(model.encode(photo)[:, :8], model.stem.encode(torch.nn.functional.avg_pool2d(photo, 2)))


def test_the_backbone_is_frozen_and_stays_in_evaluation_mode() -> None:
    model = encoder().train()
    assert not any(weight.requires_grad for weight in model.backbone.parameters())
    assert all(weight.requires_grad for part in (model.stem, model.adapter) for weight in part.parameters())
    assert model.adapter.training and not any(part.training for part in model.backbone.modules())
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.encode(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    assert model.adapter.reduce[0].weight.grad is not None  # type: ignore[union-attr]


def test_it_is_loaded_as_it_was_saved_and_strictly(tmp_path: Path) -> None:
    model = encoder()
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(load_image_encoder(tmp_path).encode(photo), model.encode(photo))
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    rest = {name: value.contiguous() for name, value in model.state_dict().items() if "adapter" not in name}
    save_file(rest, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="missing keys: adapter"):
        load_image_encoder(tmp_path)


@pytest.mark.slow
def test_dinov2_of_a_folder_has_one_patch_for_each_latent_cell(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    config = transformers.Dinov2Config(**{key: value for key, value in small_dinov2().items() if key != "model_type"})
    network = transformers.Dinov2Backbone(config).eval()
    network.save_pretrained(tmp_path / "dinov2")
    backbone = load_backbone(tmp_path / "dinov2")
    assert (backbone.channels, backbone.strides, backbone.grid) == ((32, 32), (14, 14), 14)
    model = BackboneImageEncoder.around(ConvImageEncoder(8, (8, 16)), backbone, adapter_channels=16).eval()
    photo = torch.rand(1, 3, 96, 64) * 2 - 1
    assert [tuple(feature.shape) for feature in model.features(photo)] == [(1, 32, 6, 4)] * 2
    pixels = torch.nn.functional.interpolate(photo, (84, 56), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        known = network(((pixels + 1) / 2 - mean) / std).feature_maps
    torch.testing.assert_close(model.features(photo)[1], known[1], atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path / "encoder")
    torch.testing.assert_close(load_image_encoder(tmp_path / "encoder").encode(photo), model.encode(photo))


def test_a_convolutional_backbone_of_transformers_has_its_own_strides(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**sizes, out_features=["stage2", "stage4"])
    transformers.ResNetBackbone(config).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path)
    assert (backbone.channels, backbone.strides, backbone.grid) == ((16, 32), (8, 32), 1)
    model = BackboneImageEncoder.around(ConvImageEncoder(8, (8, 16)), backbone, adapter_channels=16)
    assert tuple(model.encode(torch.rand(1, 3, 96, 64)).shape) == (1, 24, 6, 4)


def test_what_is_no_backbone_is_said(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=r"source: expected config\.json in"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InputError, match=r"backbone: expected a model that transformers has a backbone for in .*, got clip"):
        load_backbone(tmp_path)
    with pytest.raises(InputError, match=r"expected one of a .safetensors file of EfficientNet-Lite0, an existing folder or a Hub id"):
        load_backbone("nowhere")
    with pytest.raises(InputError, match="backbone: expected kind efficientnet-lite0 or transformers, got 'vgg'"):
        BackboneImageEncoder({"kind": "vgg"}, {})
    with pytest.raises(InputError, match="backbone: expected a model type that transformers knows, got 'none'"):
        BackboneImageEncoder({"kind": "transformers", "config": {"model_type": "none"}, "mean": [0, 0, 0], "std": [1, 1, 1]}, {})


# ------------------------------------------------------------------------------------------------------------------------ training
def overrides(start: Path, weights: Path) -> list[str]:
    sets = ["data.train=scenes:4", "data.val=scenes:2:val", "data.size=32", "cache=false", "optim.precision=fp32"]
    return [f"init={start}", f"image_encoder.backbone={weights}", "image_encoder.adapter_channels=16", *sets]


@pytest.mark.slow
def test_a_model_goes_on_with_a_backbone_beside_its_stem(tmp_path: Path, weights: Path) -> None:
    start = tiny_pipeline(tmp_path)
    before = LDMSegPipeline.from_pretrained(start)
    networks = begin_diffusion(load_config("finetune", overrides(start, weights))).networks  # type: ignore[arg-type]
    encoder = networks.image_encoder
    assert isinstance(encoder, BackboneImageEncoder) and isinstance(encoder.backbone, EfficientNetBackbone)
    old = before.image_encoder.latent_channels
    assert networks.denoiser.config["image_channels"] == old + 16
    assert networks.denoiser.conv_in.weight[:, 8 + old : 8 + old + 16].abs().sum() == 0 or before.unet.config["mask_channels"] != 8
    for name, value in before.image_encoder.state_dict().items():
        torch.testing.assert_close(encoder.stem.state_dict()[name], value)


@pytest.mark.slow
def test_the_adapter_learns_faster_and_the_backbone_is_in_no_group(tmp_path: Path, weights: Path) -> None:
    config = load_config("finetune", [*overrides(tiny_pipeline(tmp_path), weights), "image_encoder.adapter_lr=3"])
    stage = DiffusionStage(config)  # type: ignore[arg-type]
    groups = {group["lr_factor"]: group["params"] for group in parameter_groups(stage)}
    assert set(groups) == {1.0, 3.0}
    encoder = stage.image_encoder
    assert isinstance(encoder, BackboneImageEncoder)
    assert {id(weight) for weight in groups[3.0]} == {id(weight) for weight in encoder.adapter.parameters()}
    backbone = {id(weight) for weight in encoder.backbone.parameters()}
    assert not backbone & {id(weight) for weights in groups.values() for weight in weights}


@pytest.mark.slow
def test_a_step_an_export_and_a_photo(tmp_path: Path, weights: Path) -> None:
    config = load_config("finetune", overrides(tiny_pipeline(tmp_path), weights))
    stage = DiffusionStage(config)  # type: ignore[arg-type]
    batch = stage.collate([stage.load_sample(number) for number in range(2)])
    assert tuple(batch.photos.shape) == (2, 3, 64, 64) and tuple(batch.ids.shape) == (2, 32, 32)
    stage(batch)["loss"].backward()
    stage.export(tmp_path / "pipeline")
    pipe = LDMSegPipeline.from_pretrained(tmp_path / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.image_encoder, BackboneImageEncoder)
    assert pipe(torch.rand(3, 40, 24), num_inference_steps=1).maps[0].shape == (40, 24)
    with pytest.raises(InputError, match=r"image_encoder\.backbone: expected none beside the BackboneImageEncoder"):
        begin_diffusion(load_config("finetune", overrides(tmp_path / "pipeline", weights)))  # type: ignore[arg-type]


def test_a_source_is_a_whole_encoder() -> None:
    with pytest.raises(InputError, match="backbone: expected none beside a source"):
        load_config("coco-diffusion", ["image_encoder.backbone=x.safetensors"])
