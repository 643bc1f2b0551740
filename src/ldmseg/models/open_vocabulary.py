"""Names from a free list: CLIP's patch tokens, pooled by each segment's mask, against the embeddings of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.models.clip import check_type, clip_pixels, import_transformers, load_clip, load_tokenizer
from ldmseg.models.pooling import coverage
from ldmseg.models.pretrained import find_pretrained
from ldmseg.panoptic import PanopticMap

TEMPLATE = "a photo of a {}."
"""The sentence that CLIP's own evaluation puts a name in (Radford et al. 2021, section 3.1.4)."""


class OpenVocabulary:
    """Any list of names as the classes of segments (`LDMSegPipeline.__call__`, argument `classes`).

    CLIP's class token pools the patches of a photo by attention. Here every segment has a class token of its own, which in the last
    `layers` of the network attends to itself and to the patches of the segment alone, as mask class tokens do (Ding et al. 2023, MaskCLIP,
    section 3.2; Xu et al. 2023, SAN, with the last layers alone). A patch that the segment covers in part counts by its share: the
    logarithm of the share is added to the attention's logit. The patches themselves are those of the whole photo in every layer. So a
    segment that covers the photo has CLIP's own image embedding.

    Args:
        model: a `CLIPModel` of transformers.
        tokenizer: its tokenizer's JSON (`load_tokenizer`).
        names: of the classes; a name that ends with `:stuff` is of stuff, whose segments become one.
        template: a sentence with {} for a name.
        layers: of the network in which segments have tokens of their own; a quarter of all by default.

    Raises:
        InputError: no name, one twice, a template without {}, or a number of layers that the network does not have.
    """

    def __init__(self, model: Any, tokenizer: str, names: Sequence[str], template: str = TEMPLATE, layers: int | None = None) -> None:
        self.categories = categories_of(names)
        depth = len(model.vision_model.encoder.layers)
        self._layers = max(1, depth // 4) if layers is None else layers
        if not 1 <= self._layers <= depth:
            raise InputError(f"layers: expected 1 to {depth}, as many as the network has, got {layers}")
        if template.count("{}") != 1:
            raise InputError(f"template: expected a sentence with one {{}} for the name, got {quoted(template)}")
        self.model = model.requires_grad_(False).eval()
        self._texts = self._embedded(tokenizer, [template.format(c.name) for c in self.categories])  # (K, D)

    @classmethod
    def from_clip(cls, source: str | Path, names: Sequence[str], template: str = TEMPLATE, layers: int | None = None) -> Self:
        """With the weights of a published CLIP: a folder or a Hub id, such as `openai/clip-vit-base-patch16`.

        Raises:
            InputError: as the constructor; also where nothing of that kind is there, weights are missing, or transformers is not installed.
        """
        categories_of(names)  # before anything is downloaded
        transformers = import_transformers("classes")
        saved = find_pretrained(source, ())
        check_type(saved, ("clip",))
        model, _ = load_clip(transformers.CLIPModel, saved)
        text = model.config.text_config
        return cls(model, load_tokenizer(saved, text.max_position_embeddings, text.vocab_size), names, template, layers)

    def to(self, device: str | torch.device) -> Self:
        """The same on another device."""
        self.model.to(device)
        self._texts = self._texts.to(device)
        return self

    def probabilities(self, image: Tensor, pmap: PanopticMap) -> NDArray[np.floating]:
        """(len(pmap), names) of each segment; see `Classes.probabilities`."""
        return self.logits(image, pmap).softmax(-1).cpu().numpy()

    @torch.no_grad()
    def logits(self, image: Tensor, pmap: PanopticMap) -> Tensor:
        """(len(pmap), names) the similarity of each segment and each name, times CLIP's `logit_scale`.

        Args:
            image: (3, H, W) the photo, uint8 or floats in 0..1. The whole of it is squeezed to CLIP's square.
            pmap: (H, W).
        """
        vision = self.model.vision_model
        photo = (image.float() / 255 if image.dtype == torch.uint8 else image)[None].to(self._texts.device)
        pixels = clip_pixels(photo * 2 - 1, vision.config.image_size).to(self._texts.dtype)
        hidden = vision(pixel_values=pixels, output_hidden_states=True).hidden_states  # what each layer gets, (1, 1 + patches, hidden)
        side = vision.config.image_size // vision.config.patch_size
        shares = coverage(pmap, (side, side)).flatten(1).to(pixels)  # (S, patches)
        layers = vision.encoder.layers
        first = len(layers) - self._layers
        tokens = hidden[first][0, :1].expand(len(pmap), -1)  # (S, hidden)
        for layer, given in zip(layers[first:], hidden[first:-1], strict=True):
            tokens = _attended(layer, tokens, given[0, 1:], shares.log())
        embedded = self.model.visual_projection(vision.post_layernorm(tokens))  # (S, D)
        return self.model.logit_scale.exp() * _unit(embedded) @ self._texts.T

    @torch.no_grad()
    def _embedded(self, tokenizer: str, sentences: Sequence[str]) -> Tensor:
        """(K, D) unit vectors."""
        from tokenizers import Tokenizer  # comes with transformers

        encode = Tokenizer.from_str(tokenizer).encode
        pieces = torch.tensor([encode(sentence).ids for sentence in sentences], device=self.model.device)
        pooled = self.model.text_model(input_ids=pieces).pooler_output
        return _unit(self.model.text_projection(pooled))


def categories_of(names: Sequence[str]) -> tuple[Category, ...]:
    """Names as categories, numbered from 1; `:stuff` at the end of a name says that it is no thing.

    Raises:
        InputError: there is none, one is empty, or one is there twice.
    """
    found: list[Category] = []
    for number, given in enumerate(names, start=1):
        name = given.strip().removesuffix(":stuff").strip()
        if not name or name in {c.name for c in found}:
            raise InputError(f"classes: expected names, each once, got {quoted(given)}{' twice' if name else ''}")
        found.append(Category(number, name, isthing=not given.strip().endswith(":stuff")))
    if not found:
        raise InputError("classes: expected at least one name, got none")
    return tuple(found)


def _attended(layer: Any, tokens: Tensor, patches: Tensor, bias: Tensor) -> Tensor:
    """One layer of CLIP for class tokens that attend to themselves and to patches.

    Args:
        tokens: (S, hidden).
        patches: (P, hidden), as the layer gets them.
        bias: (S, P), added to the logits of the attention; minus infinity where a token sees nothing of a patch.

    Returns:
        (S, hidden).
    """
    attention, norm = layer.self_attn, layer.layer_norm1
    own, others = norm(tokens), norm(patches)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(0, 1)  # (heads, .., head_dim)

    query = heads(attention.q_proj(own)) * attention.scale  # (heads, S, d)
    own_key, own_value = heads(attention.k_proj(own)), heads(attention.v_proj(own))
    key, value = heads(attention.k_proj(others)), heads(attention.v_proj(others))  # (heads, P, d)
    to_self = (query * own_key).sum(-1, keepdim=True)  # (heads, S, 1)
    weights = torch.cat([to_self, query @ key.mT + bias], dim=-1).softmax(-1)  # (heads, S, 1 + P)
    pooled = weights[..., :1] * own_value + weights[..., 1:] @ value  # (heads, S, d)
    tokens = tokens + attention.out_proj(pooled.transpose(0, 1).flatten(1))
    return tokens + layer.mlp(layer.layer_norm2(tokens))


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)
