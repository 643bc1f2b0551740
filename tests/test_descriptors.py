from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folder import HIDDEN, LENGTH, PATCH, PIXELS, PROJECTED, make_clip_folder, make_text_folders, make_vision_folder
from command import done, refused
from PIL import Image
from sd_folder import make_sd_folder, rename
from tiny import build_tiny
from transformers import CLIPTextModel, CLIPTokenizerFast, CLIPVisionModelWithProjection

from ldmseg import InferenceOptions, LDMSegPipeline, PanopticMap, Thresholds
from ldmseg.config import load_config, validate_config
from ldmseg.data.captions import CaptionedDataset
from ldmseg.data.datasets import load_dataset
from ldmseg.diffusion.guidance import check_descriptor, guided
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate
from ldmseg.formats.captions import Captions, read_captions
from ldmseg.models.clip import PIXEL_MEAN, PIXEL_STD
from ldmseg.models.denoiser import Condition, build_denoiser
from ldmseg.models.descriptors import (
    ClipImageDescriptor,
    ClipTextDescriptor,
    Descriptor,
    LearnedDescriptor,
    build_descriptor,
)
from ldmseg.training.stages.diffusion import DiffusionStage

WIDTH = 10
KINDS = ("clip-image", "clip-text", "learned")
CAPTIONS = ["a cat", "dog"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CLIP model, and in it that of a mask autoencoder."""
    folder = make_clip_folder(tmp_path_factory.mktemp("clip"))
    build_tiny().mask_autoencoder.save_pretrained(folder / "autoencoder")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def photos(count: int = 2, size: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, size, size) * 2 - 1


def build(kind: Any, clip: Path, width: int = WIDTH, **settings: Any) -> Descriptor:
    return build_descriptor(kind, width, source=str(clip), **settings).eval()


def describe(descriptor: Descriptor, images: torch.Tensor, captions: list[str] = CAPTIONS) -> torch.Tensor:
    return descriptor(len(images), images, captions)


def trained(descriptor: Descriptor) -> set[str]:
    return {name for name, parameter in descriptor.named_parameters() if parameter.requires_grad}


# ------------------------------------------------------------------------------------------------------------------- what they tell
@pytest.mark.slow
@torch.no_grad()
def test_an_image_is_clips_embedding_of_it(clip: Path) -> None:
    descriptor, images = build("clip-image", clip, PROJECTED), photos(2, PIXELS)
    mean, std = torch.tensor(PIXEL_MEAN).reshape(3, 1, 1), torch.tensor(PIXEL_STD).reshape(3, 1, 1)
    pixels = (images / 2 + 0.5 - mean) / std
    expected = CLIPVisionModelWithProjection.from_pretrained(clip)(pixel_values=pixels).image_embeds[:, None]
    torch.testing.assert_close(descriptor(2, images), expected, atol=1e-5, rtol=1e-4)
    assert descriptor.length == 1 and trained(descriptor) == set()  # the widths agree: nothing to learn


@pytest.mark.slow
@torch.no_grad()
def test_patches_begin_with_the_image(clip: Path) -> None:
    one, all_ = build("clip-image", clip, PROJECTED), build("clip-image", clip, PROJECTED, patches=True)
    images = photos(2, 40)
    tokens = all_(2, images)
    assert tokens.shape == (2, all_.length, PROJECTED) and all_.length == 1 + (PIXELS // PATCH) ** 2
    torch.testing.assert_close(tokens[:, :1], one(2, images))
    assert not torch.equal(tokens[:, 1], tokens[:, 2])


@torch.no_grad()
@pytest.mark.parametrize("make", [make_clip_folder, make_text_folders])
def test_a_caption_is_what_stable_diffusion_reads(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path)
    encoder, words = (folder / "text_encoder", folder / "tokenizer") if make is make_text_folders else (folder, folder)
    tokenizer = CLIPTokenizerFast.from_pretrained(words)
    texts = ["A cat", "a cat and a dog go by", ""]  # one too long for the encoder
    ids = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    expected = CLIPTextModel.from_pretrained(encoder)(input_ids=ids).last_hidden_state
    descriptor = ClipTextDescriptor.from_clip(str(folder), HIDDEN).eval()
    torch.testing.assert_close(descriptor(3, captions=texts), expected)
    torch.testing.assert_close(descriptor.empty(1), expected[2:])
    assert trained(descriptor) == set() and descriptor.length == LENGTH


def test_a_vision_half_without_projection_serves_too(tmp_path: Path) -> None:
    descriptor = ClipImageDescriptor.from_clip(str(make_vision_folder(tmp_path)), HIDDEN)
    assert descriptor.clip_projection is None and trained(descriptor) == set()
    assert ClipImageDescriptor.from_clip(str(tmp_path), WIDTH).projection.in_features == HIDDEN


def test_learned_tokens_are_the_same_for_every_image(clip: Path) -> None:
    descriptor = build("learned", clip, queries=3)
    tokens = descriptor(2)
    assert tokens.shape == (2, 3, WIDTH) and torch.equal(tokens[0], tokens[1])
    tokens.sum().backward()
    assert trained(descriptor) == {"query_tokens"} and (descriptor.query_tokens.grad == 2).all()


@pytest.mark.parametrize("kind", KINDS)
def test_only_new_weights_learn(kind: str, clip: Path) -> None:
    descriptor = build(kind, clip).train()
    expected = {"query_tokens"} if kind == "learned" else {"projection.weight", "projection.bias"}
    assert trained(descriptor) == expected
    describe(descriptor, photos()).square().sum().backward()
    assert all(descriptor.get_parameter(name).grad is not None for name in expected)
    assert isinstance(descriptor, LearnedDescriptor) or not any(part.training for part in descriptor.clip.modules())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_does_not_depend_on_its_batch_nor_on_a_dtype(kind: str, clip: Path) -> None:
    descriptor, images = build(kind, clip), photos()
    together = describe(descriptor, images)
    for index in range(2):
        torch.testing.assert_close(describe(descriptor, images[index : index + 1], CAPTIONS[index : index + 1])[0], together[index])
    assert descriptor.empty(2).shape == together.shape == (2, descriptor.length, WIDTH)
    narrow = describe(descriptor.to(torch.bfloat16), images.bfloat16())
    assert narrow.dtype == torch.bfloat16 == descriptor.empty(1).dtype
    torch.testing.assert_close(narrow.float(), together, atol=0.1, rtol=0.1)


@torch.no_grad()
def test_zero_tokens_leave_no_more_than_a_bias() -> None:
    denoiser = build_denoiser("tiny", image_channels=3, cross_attention=True, cross_attention_dim=WIDTH).eval()
    attention = next(module for name, module in denoiser.named_modules() if name.endswith("attn2"))
    empty = LearnedDescriptor(4, WIDTH).empty(1)
    out = attention(torch.randn(1, 5, attention.to_q.in_features), encoder_hidden_states=empty)
    torch.testing.assert_close(out, attention.to_out[0].bias.expand_as(out))


# --------------------------------------------------------------------------------------------------------------------- mistakes
def test_what_it_sees_must_be_there(clip: Path) -> None:
    with pytest.raises(InputError, match=r"^photos: expected shape \(2, 3, H, W\), got None"):
        build("clip-image", clip)(2)
    with pytest.raises(InputError, match=r"^photos: expected shape \(1, 3, H, W\), got \(2, 3, 24, 24\)"):
        build("clip-image", clip)(1, photos())
    with pytest.raises(InputError, match=r"^captions: expected one per image \(2\), got 1"):
        build("clip-text", clip)(2, captions=["a"])


@pytest.mark.slow
def test_a_source_without_clip(tmp_path: Path, clip: Path) -> None:
    sd = make_sd_folder(tmp_path / "sd")
    with pytest.raises(InputError, match=r"expected a CLIP model \(clip or clip_vision_model\).*got no model_type"):
        build_descriptor("clip-image", WIDTH, source=str(sd / "unet"))
    with pytest.raises(InputError, match=r"text_encoder/config.json or config.json"):
        build_descriptor("clip-text", WIDTH, source=str(sd))
    with pytest.raises(InputError, match=r"expected an existing folder or a Hub id"):
        build_descriptor("clip-text", WIDTH, source="nowhere")
    texts = make_text_folders(tmp_path / "texts")
    (texts / "tokenizer" / "vocab.json").rename(texts / "vocab.json")
    with pytest.raises(InputError, match="expected a CLIP tokenizer in"):
        build_descriptor("clip-text", WIDTH, source=str(texts))
    (texts / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"expected a (CLIP )?tokenizer (in|of 56 word pieces)"):
        build_descriptor("clip-text", WIDTH, source=str(texts))
    vision = make_vision_folder(tmp_path / "vision")
    weights = vision / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"^source: expected weights of CLIPVisionModelWithProjection") as caught:
        build_descriptor("clip-image", WIDTH, source=str(vision))
    assert "\n" not in str(caught.value)


def test_every_weight_of_clip_is_there(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = make_clip_folder(tmp_path) / "model.safetensors"
    kept = {key: value for key, value in load_file(weights).items() if not key.endswith("layers.1.mlp.fc1.bias")}
    save_file(kept, weights, metadata={"format": "pt"})
    for kind in ("clip-image", "clip-text"):
        with pytest.raises(InputError, match=r"got 1 missing: .*layers\.1\.mlp\.fc1\.bias$"):
            build_descriptor(kind, WIDTH, source=str(tmp_path))


HIDE = """
import importlib.machinery, importlib.metadata, sys
class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ("transformers", "tokenizers") else super().find_spec(name, path, target)
sys.meta_path[:] = [Finder if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
version = importlib.metadata.version
def hidden(name):
    if name in ("transformers", "tokenizers"):
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = hidden
"""


@pytest.mark.slow  # another Python, which imports torch
def test_only_clip_needs_transformers(clip: Path) -> None:
    code = f"""
import numpy, ldmseg, ldmseg.training.loop, ldmseg.training.stages.diffusion
from ldmseg.errors import InputError
from ldmseg.models.descriptors import build_descriptor
pipe = ldmseg.LDMSegPipeline.from_pretrained("default")
print(pipe(numpy.zeros((40, 50, 3), numpy.uint8), num_inference_steps=1).maps[0].shape)
build_descriptor("learned", 4)
try:
    build_descriptor("clip-text", 4, source={str(clip)!r})
except InputError as error:
    print(error)
print("transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, check=False)
    refusal = "descriptor: expected the package transformers for CLIP (pip install 'ldmseg[descriptors]'), got none"
    assert done.stdout.splitlines() == ["(40, 50)", refusal, "False"], done.stderr


# ------------------------------------------------------------------------------------------------------------------- the denoiser
@pytest.mark.slow
def test_stable_diffusions_cross_attention_is_loaded_strictly(tmp_path: Path) -> None:
    sd = make_sd_folder(tmp_path)
    with pytest.raises(InputError, match=r"cross_attention_dim|size|shape|mismatched"):
        build_denoiser(sd, cross_attention=True, cross_attention_dim=WIDTH)
    lost = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    rename(sd / "unet", lambda key: None if key == lost else key)
    assert build_denoiser(sd).config["cross_attention"] is False
    with pytest.raises(InputError, match=r"1 missing keys: mid_block.*attn2\.to_k\.weight$"):
        build_denoiser(sd, cross_attention=True)


def test_tokens_of_another_shape() -> None:
    denoiser = build_denoiser("tiny", image_channels=3, cross_attention=True, cross_attention_dim=WIDTH)
    x, image = torch.zeros(2, 4, 4, 4), torch.zeros(2, 3, 4, 4)
    for shape in ((2, 5, WIDTH + 1), (1, 5, WIDTH), (2, WIDTH)):
        with pytest.raises(InputError, match=r"^condition.tokens: expected shape \(2, \d, 10\), got"):
            denoiser.predict(x, 3, Condition(image, tokens=torch.zeros(shape)))


@torch.no_grad()
def test_guidance_goes_from_the_empty_to_the_described() -> None:
    denoiser = build_denoiser("tiny", image_channels=3, partial=True, cross_attention=True, cross_attention_dim=WIDTH).eval()
    x, image, tokens, empty = torch.randn(2, 4, 4, 4), torch.randn(2, 3, 4, 4), torch.randn(2, 5, WIDTH), torch.zeros(2, 5, WIDTH)
    described = Condition(image, torch.randn(2, 4, 4, 4), torch.rand(2, 1, 4, 4), tokens)
    bare = Condition(image, described.partial, described.validity, empty)
    timestep, estimate = torch.tensor([5, 700]), torch.randn(2, 4, 4, 4)
    with_tokens, without = (denoiser.predict(x, timestep, condition, estimate) for condition in (described, bare))
    for scale in (0.0, 1.0, 2.5):
        out = guided(denoiser, described, empty, scale)(x, timestep, estimate)
        torch.testing.assert_close(out, without + scale * (with_tokens - without), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(guided(denoiser, described)(x, timestep, None), denoiser.predict(x, timestep, described))


# ------------------------------------------------------------------------------------------------------------------- the pipeline
def pipeline(kind: str, clip: Path, **settings: Any) -> LDMSegPipeline:
    """The tiny pipeline with a descriptor."""
    plain = build_tiny()
    torch.manual_seed(1)
    unet = build_denoiser("tiny", image_channels=8, partial=True, cross_attention=True, cross_attention_dim=WIDTH).eval()
    descriptor = build(kind, clip, queries=3)
    parts = {"mask_autoencoder": plain.mask_autoencoder, "image_encoder": plain.image_encoder, "scheduler": plain.scheduler}
    inference = plain.options.updated(settings)
    pipe = LDMSegPipeline(**parts, unet=unet, descriptor=descriptor, image_size=plain.config["image_size"], inference=inference)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def drawn(pipe: LDMSegPipeline, *images: np.ndarray, **settings: Any) -> torch.Tensor:
    """Latents, all from the same noise."""
    copies = len(images) * settings.get("ensemble_size", 1)
    noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0)).expand(copies, -1, -1, -1)
    return torch.stack(list(pipe(list(images), latents=noise, output_type="latent", **settings).maps))


def prompts(kind: str, *texts: str) -> dict[str, Any]:
    return {"prompt": list(texts)} if kind == "clip-text" else {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind: str, clip: Path, tmp_path: Path) -> None:
    pipe = pipeline(kind, clip, guidance_scale=2.0)
    expected = drawn(pipe, picture(), **prompts(kind, "a cat"))
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["descriptor"] == ["ldmseg", type(pipe.descriptor).__name__]
    again = LDMSegPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.options.guidance_scale == 2.0 and trained(again.descriptor) == trained(pipe.descriptor)
    torch.testing.assert_close(drawn(again, picture(), **prompts(kind, "a cat")), expected, atol=1e-4, rtol=1e-4)
    again.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "descriptor" / "config.json").is_file()


@pytest.mark.slow
def test_folders_from_before_descriptors(tmp_path: Path) -> None:
    build_tiny().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["descriptor"] == [None, None]
    del index["descriptor"], index["inference"]
    index |= {"num_inference_steps": 3, "thresholds": [0.1, 2, 0.3, 0.4], "follow_edges": False, "min_piece": 7, "rescale_std": None}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "manifest.json").unlink()
    pipe = LDMSegPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    thresholds = Thresholds(probability=0.1, min_area=2, overlap=0.3, support=0.4)
    wanted = InferenceOptions(num_inference_steps=3, thresholds=thresholds, boundaries="drawn", min_component_area=7)
    assert pipe.descriptor is None and pipe.options == wanted
    assert pipe(picture()).maps[0].shape == (40, 30)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_descriptor_and_guidance_change_what_is_drawn(kind: str, clip: Path) -> None:
    pipe, more = pipeline(kind, clip), prompts(kind, "a cat")
    plain, off, guided_, none = (drawn(pipe, picture(), guidance_scale=scale, **more) for scale in (None, 1.0, 4.0, 0.0))
    assert torch.equal(plain, off)
    assert not torch.allclose(plain, guided_) and not torch.allclose(plain, none)
    strong = pipeline(kind, clip, guidance_scale=4.0)
    assert torch.equal(drawn(strong, picture(), **more), guided_)
    if kind == "clip-text":
        assert not torch.allclose(drawn(pipe, picture(), prompt="dog"), plain)
        torch.testing.assert_close(drawn(pipe, picture(), prompt=""), none)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_batch_ensemble_and_completion(kind: str, clip: Path) -> None:
    pipe = pipeline(kind, clip, guidance_scale=2.0)
    alone = [drawn(pipe, picture(seed), **prompts(kind, text))[0] for seed, text in ((1, "a cat"), (2, "dog"))]
    together = drawn(pipe, picture(1), picture(2), **prompts(kind, "a cat", "dog"))
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=1e-4)
    copies = drawn(pipe, picture(1), picture(2), ensemble_size=2, **prompts(kind, "a cat", "dog"))
    torch.testing.assert_close(copies, together[:, None].expand(-1, 2, -1, -1, -1), atol=1e-4, rtol=1e-4)
    ids = np.zeros((40, 30), dtype=int)
    ids[:16, :16] = 7
    done = pipe.inpaint(picture(), PanopticMap(ids), **prompts(kind, "dog")).maps[0]
    assert (done.ids[:16, :16] == 7).all()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("clip-text", {}, "prompt: expected a caption per image, because this model's descriptor reads captions, got none"),
        ("clip-text", {"prompt": ["one", "two"]}, r"prompt: expected one caption per image \(1\), got 2"),
        ("clip-text", {"prompt": [3]}, r"prompt: expected text, or a list of one text per image, got \[3\]"),
        ("clip-image", {"prompt": "a cat"}, "prompt: expected none, because this model reads no captions, got 'a cat'"),
        (None, {"prompt": "a cat"}, "prompt: expected none, because this model reads no captions"),
        (None, {"guidance_scale": 2.0}, "guidance_scale: expected 1, because this model has no descriptor to be guided by, got 2.0"),
        ("learned", {"guidance_scale": -1.0}, "guidance_scale: expected a number from 0 up, got -1.0"),
        ("learned", {"guidance_scale": "much"}, "guidance_scale: expected a number from 0 up, got 'much'"),
    ],
)
def test_mistakes_in_a_call(kind: str | None, settings: dict[str, Any], message: str, clip: Path) -> None:
    pipe = build_tiny() if kind is None else pipeline(kind, clip)
    with pytest.raises(InputError, match=f"^{message}"):
        pipe(picture(), **settings)
    with pytest.raises(InputError, match=f"^{message}"):
        pipe.inpaint(picture(), PanopticMap(np.zeros((40, 30), dtype=int)), **settings)


def test_parts_that_do_not_belong_together() -> None:
    plain = build_denoiser("tiny")
    attending = build_denoiser("tiny", cross_attention=True, cross_attention_dim=WIDTH)
    check_descriptor(None, plain)
    check_descriptor(LearnedDescriptor(2, WIDTH), attending)
    with pytest.raises(InputError, match="expected none for a denoiser without cross-attention, got one with tokens of 10"):
        check_descriptor(LearnedDescriptor(2, WIDTH), plain)
    with pytest.raises(InputError, match="expected one with tokens of 10 numbers, got none"):
        check_descriptor(None, attending)
    with pytest.raises(InputError, match="expected one with tokens of 10 numbers, got one with tokens of 4 numbers"):
        check_descriptor(LearnedDescriptor(2, 4), attending)


# ----------------------------------------------------------------------------------------------------------------------- captions
def test_captions_of_both_kinds_of_file(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps({"a.jpg": "one", "b.jpg": ["two", "three"]}))
    coco = {
        "images": [{"id": 5, "file_name": "c.jpg"}, {"id": 9, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 5, "caption": "four"}, {"image_id": 9, "caption": "five"}, {"image_id": 5, "caption": "six"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    captions = read_captions([tmp_path / "names.json", tmp_path / "coco.json"])
    assert (
        captions.of("a.jpg") == ("one", "five") and captions.of("val/b.jpg") == ("two", "three") and captions.of("c.jpg") == ("four", "six")
    )
    with pytest.raises(InputError, match=r"^captions: expected one of 'd.jpg' in .*names.json, .*coco.json, got none"):
        captions.of("d.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected file names with captions"),
        ("{", "cannot read"),
        ('{"a.jpg": 3}', "expected text for 'a.jpg'"),
        ('{"a.jpg": []}', "expected text for 'a.jpg'"),
        ('{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}', "expected COCO's images"),
        ('{"images": [{"id": 3}], "annotations": []}', "expected COCO's images"),
    ],
)
def test_broken_captions(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(InputError, match=rf"^captions: {message}.*broken.json") as caught:
        read_captions([tmp_path / "broken.json"])
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^captions: cannot read"):
        read_captions([tmp_path / "missing.json"])


# ----------------------------------------------------------------------------------------------------------------------- training
def run_config(clip: Path, **descriptors: Any) -> dict[str, Any]:
    return {
        "stage": "diffusion",
        "autoencoder": str(clip / "autoencoder"),
        "data": {"train": "scenes:6", "val": "scenes:2:val", "size": 32},
        "denoiser": {"source": "tiny", "partial": False},
        "image_encoder": {"latent_channels": 8, "widths": [8, 8]},
        "descriptors": {"source": str(clip), "width": WIDTH, **descriptors},
        "optim": {"batch_size": 4},
        "validation": {"samples": 1},
        "inference": {"num_inference_steps": 1},
    }


def scene_captions(folder: Path) -> Path:
    """One caption of each scene that `run_config` names."""
    names = [data.name(i) for data in (load_dataset("scenes:6", size=32), load_dataset("scenes:2:val", size=32)) for i in range(len(data))]
    path = folder / "captions.json"
    path.write_text(json.dumps({name: [f"a {chr(97 + i)}", f"b {chr(97 + i)}"] for i, name in enumerate(dict.fromkeys(names))}))
    return path


def stage(kind: str, clip: Path, folder: Path, **descriptors: Any) -> DiffusionStage:
    files = {"captions": [str(scene_captions(folder))]} if kind == "clip-text" else {}
    return DiffusionStage(validate_config(run_config(clip, kind=kind, **files, **descriptors)))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_teaches_the_descriptor(kind: str, clip: Path, tmp_path: Path) -> None:
    training = stage(kind, clip, tmp_path, drop_rate=0.5).train()
    batch = training.collate([training.load_sample(n) for n in range(4)])
    training(batch)["loss"].backward()
    for name, parameter in training.descriptor.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name
    assert training.denoiser.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight.grad.any()
    figures, sheet = training.eval().validate()
    assert 0 <= figures["pq"] <= 1 and sheet is not None
    training.export(tmp_path / "pipeline")
    assert LDMSegPipeline.from_pretrained(tmp_path / "pipeline").descriptor.kind == kind


@pytest.mark.slow
def test_a_share_of_samples_is_trained_with_the_empty_descriptor(clip: Path, tmp_path: Path) -> None:
    training = stage("clip-image", clip, tmp_path, drop_rate=0.5)
    batch = training.collate([training.load_sample(n) for n in range(4)])
    images = batch.photos.float()
    tokens = training._tokens(images, batch, torch.tensor([0.1, 0.6, 0.49, 0.9]))
    expected = training.descriptor(4, images / 127.5 - 1)
    assert torch.equal(tokens[[1, 3]], expected[[1, 3]]) and not tokens[[0, 2]].any() and expected.abs().min() > 0
    seen: list[torch.Tensor] = []
    training.denoiser.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs["condition"].tokens), with_kwargs=True)
    for first in range(0, 64, 4):
        training(training.collate([training.load_sample(n) for n in range(first, first + 4)]))
    empty = torch.cat([t for t in seen if len(t) == 4]).flatten(1).abs().sum(1) == 0
    assert 0.3 < empty.float().mean() < 0.7


@pytest.mark.slow
def test_captions_follow_their_samples(clip: Path, tmp_path: Path) -> None:
    training = stage("clip-text", clip, tmp_path)
    texts = json.loads((tmp_path / "captions.json").read_text())
    samples = [training.load_sample(n) for n in range(40)]
    assert all(s.caption in texts[training.train_data.name(s.item)] for s in samples)
    assert {s.caption[0] for s in samples} == {"a", "b"}  # now one, now the other
    assert training.collate(samples).captions == tuple(s.caption for s in samples)
    assert training.load_sample(7).caption == samples[7].caption


def test_a_photo_without_caption_is_named_before_training(clip: Path, tmp_path: Path) -> None:
    path = scene_captions(tmp_path)
    texts = json.loads(path.read_text())
    lost = load_dataset("scenes:6", size=32).name(3)
    path.write_text(json.dumps({name: text for name, text in texts.items() if name != lost}))
    config = validate_config(run_config(clip, kind="clip-text", captions=[str(path)]))
    with pytest.raises(InputError, match=f"^captions: expected one of '{lost}'"):
        DiffusionStage(config)  # type: ignore[arg-type]


@pytest.mark.slow
def test_evaluation_passes_captions_on(clip: Path, tmp_path: Path) -> None:
    data = load_dataset("scenes:2:val", size=32)
    with pytest.raises(InputError, match=r"^prompt: expected a caption"):
        evaluate(pipeline("clip-text", clip), data)
    texts = Captions({data.name(i): (f"a {'cd'[i]}", "other") for i in range(2)}, "here")
    asked: list[Any] = []

    class Watched(LDMSegPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(kwargs["prompt"])
            return super().__call__(*args, **kwargs)

    pipe = pipeline("clip-text", clip)
    pipe.__class__ = Watched
    assert evaluate(pipe, CaptionedDataset(data, texts)).images == 2
    assert asked == [["a c", "a d"]]


@pytest.mark.slow
def test_a_pipelines_descriptor_is_fine_tuned(clip: Path, tmp_path: Path) -> None:
    pipeline("learned", clip).save_pretrained(tmp_path / "start")
    values = run_config(clip) | {"init": str(tmp_path / "start"), "denoiser": {}}
    fine = DiffusionStage(validate_config(values))  # type: ignore[arg-type]
    assert fine.descriptor.kind == "learned" and fine.pipeline().descriptor is fine.descriptor
    values["descriptors"] |= {"kind": "clip-image"}
    with pytest.raises(InputError, match=r"^descriptors.kind: expected learned, as the model in .*, got clip-image"):
        DiffusionStage(validate_config(values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["descriptors.kind=clip-text"], "descriptors: captions: expected files of captions for clip-text"),
        (["descriptors.captions=[a.json]"], "descriptors: captions: expected none for kind None"),
        (
            ["descriptors.kind=clip-image", "data.latents=cache", "cache=false"],
            "data.latents: expected none with descriptors.kind clip-image",
        ),
        (["descriptors.kind=words"], "descriptors.kind"),
        (["descriptors.drop_rate=1.5"], "descriptors.drop_rate"),
    ],
)
def test_configurations_that_cannot_be(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config("scenes-diffusion", overrides)


def test_guidance_without_a_descriptor_is_refused_before_training(clip: Path) -> None:
    with pytest.raises(InputError, match=r"^guidance_scale: expected 1"):
        DiffusionStage(validate_config(run_config(clip) | {"inference": {"guidance_scale": 3.0}}))  # type: ignore[arg-type]


@pytest.mark.slow
def test_captions_on_the_command_line(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    model, plain = tmp_path / "model", tmp_path / "plain"
    pipeline("clip-text", clip).save_pretrained(model)
    build_tiny().save_pretrained(plain)
    photo = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(photo)
    captions, other = tmp_path / "captions.json", tmp_path / "other.json"
    captions.write_text(json.dumps({"a.png": ["two dogs", "a sofa"]}), encoding="utf-8")
    other.write_text(json.dumps({"b.png": "two dogs"}), encoding="utf-8")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(whole)

    for verb, more in (("segment", ()), ("inpaint", ("--partial", whole))):
        args = (verb, photo, *more, "--model", model, "--device", "cpu", "-o", tmp_path / verb)
        assert "prompt: expected a caption per image" in refused(capsys, *args)
        assert "captions: expected one of 'a.png'" in refused(capsys, *args, "--captions", other)
        assert "captions" in refused(capsys, *args, "--captions", tmp_path / "none.json")
        assert not list((tmp_path / verb).glob("*.png"))
        done(capsys, *args, "--captions", captions)
        assert (tmp_path / verb / "a.png").is_file()
    assert "prompt: expected none" in refused(capsys, "segment", photo, "--model", plain, "-o", tmp_path / "no", "--captions", captions)
    captions.write_text(json.dumps({load_dataset("scenes:1:val").name(0): "shapes"}), encoding="utf-8")
    scenes = ("evaluate", "--data", "scenes:1:val", "--model", model, "--device", "cpu", "--json")
    assert "prompt: expected a caption per image" in refused(capsys, *scenes)
    assert done(capsys, *scenes, "--captions", captions).json()["images"] == 1
    assert done(capsys, "info", model, "--json").json()["model"]["descriptor"] == "clip-text"
    assert "descriptor clip-text" in " ".join(done(capsys, "info", model).out.split())
