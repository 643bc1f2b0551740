"""CLIP's patch tokens pooled by masks: CLIP's own logits for a full mask, and only the mask's patches for any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_folder import PATCH, PIXELS, make_clip_folder
from naming import SCENES
from tiny import build_tiny
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

from ldmseg import OpenVocabulary, PanopticMap
from ldmseg.errors import InputError
from ldmseg.inference.naming import Classes
from ldmseg.models.clip import clip_pixels
from ldmseg.models.open_vocabulary import categories_of

NAMES = ["cat", "dog", "grass:stuff"]
SIDE = PIXELS // PATCH


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights in the layout of the published models, which matter: a projection that is not near zero."""
    folder = make_clip_folder(tmp_path_factory.mktemp("clip"))
    model = CLIPModel.from_pretrained(folder)
    torch.manual_seed(3)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.rand(3, 31, 45, generator=torch.Generator().manual_seed(0))


def own_logits(folder: Path, pixels: torch.Tensor, sentences: list[str]) -> torch.Tensor:
    """What transformers' CLIP itself says."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizerFast.from_pretrained(folder)(
        sentences, padding="max_length", truncation=True, max_length=model.config.text_config.max_position_embeddings, return_tensors="pt"
    )
    with torch.no_grad():
        return model(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("template", ["a {}", "{}"])
def test_a_full_mask_has_clips_own_logits(clip: Path, photo: torch.Tensor, layers: int, template: str) -> None:
    classes = OpenVocabulary.from_clip(clip, NAMES, template, layers)
    full = PanopticMap(np.full(photo.shape[1:], 7))
    expected = own_logits(clip, clip_pixels(photo[None] * 2 - 1, PIXELS), [template.format(n) for n in ("cat", "dog", "grass")])
    found = classes.logits(photo, full)
    assert tuple(found.shape) == (1, 3) and expected.std() > 1e-2
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(classes.probabilities(photo, full), expected.softmax(-1), atol=1e-5)


@pytest.mark.slow
def test_the_layers_size_of_the_published_models_passes_too(photo: torch.Tensor, clip: Path, tmp_path: Path) -> None:
    """12 layers, of which 3 have tokens for segments by default."""
    config = CLIPConfig.from_pretrained(clip)
    config.vision_config.num_hidden_layers = 12
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / name).write_text((clip / name).read_text())
    classes = OpenVocabulary.from_clip(tmp_path, NAMES)
    assert classes._layers == 3
    expected = own_logits(tmp_path, clip_pixels(photo[None] * 2 - 1, PIXELS), [f"a photo of a {n}." for n in ("cat", "dog", "grass")])
    torch.testing.assert_close(classes.logits(photo, PanopticMap(np.ones(photo.shape[1:], dtype=int))), expected, atol=1e-5, rtol=0)


def halves(photo: torch.Tensor) -> PanopticMap:
    """Left and right, divided where CLIP's patches are."""
    ids = np.ones(photo.shape[1:], dtype=int)
    ids[:, -(-photo.shape[2] // 2) :] = 2
    return PanopticMap(ids)


def test_a_segment_is_pooled_over_its_own_patches(clip: Path) -> None:
    """In the last layer alone, where patches have not met: what the other half shows does not matter."""
    config = CLIPConfig.from_pretrained(clip)
    config.vision_config.num_hidden_layers = 1
    torch.manual_seed(0)
    model = CLIPModel(config)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    tokenizer = OpenVocabulary.from_clip(clip, NAMES)
    classes = OpenVocabulary(model, _json(clip), NAMES)
    photo, other = torch.zeros(3, PIXELS, PIXELS), torch.zeros(3, PIXELS, PIXELS)
    other[:, :, PIXELS // 2 + 3 :] = 1  # 3: the photo is resized bicubically only where it must be, and here it is not
    before, after = (classes.logits(p, halves(photo)) for p in (photo, other))
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1e-2
    assert tokenizer.categories == classes.categories


def _json(folder: Path) -> str:
    from ldmseg.models.clip import load_tokenizer
    from ldmseg.models.pretrained import find_pretrained

    text = CLIPConfig.from_pretrained(folder).text_config
    return load_tokenizer(find_pretrained(folder, ()), text.max_position_embeddings, text.vocab_size)


def test_a_patch_counts_by_the_share_that_is_covered(clip: Path, photo: torch.Tensor) -> None:
    """A pixel more in a patch of little share changes little, and a segment smaller than a patch has logits, too."""
    classes = OpenVocabulary.from_clip(clip, NAMES)
    ids = np.ones((16, 16), dtype=int)
    ids[:8] = 2
    ids[15, 15] = 3
    more = ids.copy()
    more[8, 8] = 2
    photo = photo[:, :16, :16]
    first, second = classes.logits(photo, PanopticMap(ids)), classes.logits(photo, PanopticMap(more))
    assert torch.isfinite(first).all() and first.shape == (3, 3)
    step = (first[1] - second[1]).abs().max()
    assert 0 < step < 0.2 * (first[0] - first[1]).abs().max()


def test_every_segments_logits_are_its_own(clip: Path, photo: torch.Tensor) -> None:
    classes = OpenVocabulary.from_clip(clip, NAMES)
    both, alone = halves(photo), PanopticMap(np.where(halves(photo).ids == 2, 2, 0))
    torch.testing.assert_close(classes.logits(photo, both)[1:], classes.logits(photo, alone))
    assert classes.logits(photo, PanopticMap(np.zeros(photo.shape[1:], dtype=int))).shape == (0, 3)


def test_a_pipeline_takes_it(clip: Path) -> None:
    classes = OpenVocabulary.from_clip(clip, NAMES).to("cpu")
    assert isinstance(classes, Classes)
    out = build_tiny()(SCENES.image(0), classes=classes, generator=torch.Generator().manual_seed(0))
    assert out.categories == classes.categories == categories_of(NAMES)
    assert [(c.id, c.name, c.isthing) for c in classes.categories] == [(1, "cat", True), (2, "dog", True), (3, "grass", False)]
    assert {s.category_id for s in out.maps[0].segments} <= {1, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": []}, "classes: expected at least one name"),
        ({"names": ["cat", " cat"]}, "classes: expected names, each once, got ' cat' twice"),
        ({"names": ["cat", " "]}, "classes: expected names, each once, got ' '$"),
        ({"template": "a photo"}, "template: expected a sentence with one {}"),
        ({"layers": 3}, "layers: expected 1 to 2, .* got 3"),
        ({"source": "no/such/folder"}, "source: expected"),
    ],
)
def test_mistakes(clip: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OpenVocabulary.from_clip(**{"source": clip, "names": NAMES, **arguments})
