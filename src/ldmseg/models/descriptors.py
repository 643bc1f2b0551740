"""Image descriptors: tokens of a photo for the denoiser's cross-attention (paper, section 3.2)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ldmseg.choices import Task
from ldmseg.errors import InputError, quoted
from ldmseg.models.clip import check_type, clip_pixels, import_transformers, load_clip, load_tokenizer
from ldmseg.models.pretrained import find_pretrained

DescriptorKind = Literal["clip-image", "clip-text", "learned"]
CLIP = "openai/clip-vit-large-patch14"
"""Its text encoder is the one that Stable Diffusion v1 was trained with, and its image embeddings have the width of v1's tokens."""

_SHARED = ("hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps")
_VISION = (*_SHARED, "attention_dropout", "num_channels", "image_size", "patch_size")
_TEXT = (*_SHARED, "attention_dropout", "vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")

CLIP_VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
CLIP_TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}
"""The sizes of that model's halves."""


class Descriptor(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """What every descriptor offers: tokens for `Condition.tokens`, and those of an empty descriptor.

    Attributes:
        kind: its name in a configuration.
        sees: what it is made of.
        width: numbers of a token, the denoiser's `cross_attention_dim`.
        length: L, tokens of an image.
        tasks: what it has a set of tokens for each; empty where it does not tell tasks apart.
    """

    kind: ClassVar[DescriptorKind]
    sees: ClassVar[Literal["photo", "caption", "nothing"]]

    @property
    def width(self) -> int:
        return self.config["width"]

    @property
    def tasks(self) -> tuple[Task, ...]:
        return ()

    @property
    @abstractmethod
    def length(self) -> int: ...

    @abstractmethod
    def _tokens(self, count: int, photos: Tensor | None, captions: Sequence[str], tasks: Sequence[Task]) -> Tensor: ...

    def forward(
        self,
        count: int,
        photos: Tensor | None = None,
        captions: Sequence[str] | None = None,
        tasks: Sequence[Task] | None = None,
    ) -> Tensor:
        """Tokens of `count` images.

        Args:
            photos: (B, 3, H, W) in [-1, 1]; for a descriptor of the photo.
            captions: one per image; for a descriptor of a caption.
            tasks: one per image; for a descriptor with a set of tokens for each task.

        Returns:
            (B, L, width).

        Raises:
            InputError: photos, captions or tasks are missing, or of another shape or number.
        """
        if self.sees == "photo" and (photos is None or photos.ndim != 4 or photos.shape[:2] != (count, 3)):
            raise InputError(f"photos: expected shape ({count}, 3, H, W), got {None if photos is None else tuple(photos.shape)}")
        if self.sees == "caption" and (captions is None or len(captions) != count):
            raise InputError(f"captions: expected one per image ({count}), got {'none' if captions is None else len(captions)}")
        if self.tasks and (tasks is None or len(tasks) != count or any(task not in self.tasks for task in tasks)):
            got = "none" if tasks is None else quoted(list(tasks))
            raise InputError(f"tasks: expected one of {', '.join(self.tasks)} per image ({count}), got {got}")
        return self._tokens(count, photos, captions or (), tasks or ())

    @apply_forward_hook
    def empty(self, count: int) -> Tensor:
        """(B, L, width) empty tokens: zeros, of which a cross-attention layer makes no more than its bias."""
        like = next(self.parameters())
        return torch.zeros(count, self.length, self.width, dtype=like.dtype, device=like.device)


class ClipDescriptor(Descriptor):
    """A frozen CLIP encoder, and a projection to the denoiser's width that is trained where the widths differ."""

    clip: Any  # of transformers, whose types are not known here

    def train(self, mode: bool = True) -> Self:
        """CLIP itself stays in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self


class ClipImageDescriptor(ClipDescriptor):
    """CLIP's embedding of the photo: one token, or with `patches` one per patch too.

    The photo is squeezed to CLIP's square as it is to the model's own. Tokens pass CLIP's last norm and, if it has one, its projection to
    the space that it shares with captions.

    Args:
        clip_config: arguments of transformers' CLIPVisionConfig.
        width: numbers of a token.
        patches: all tokens of CLIP's last layer, in place of the first alone.
        projected: whether CLIP's projection is used.
    """

    kind, sees = "clip-image", "photo"

    @register_to_config
    def __init__(self, clip_config: dict[str, Any], width: int = 768, patches: bool = False, projected: bool = True) -> None:
        super().__init__()
        transformers = import_transformers()
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**clip_config))
        self.clip = model.vision_model.requires_grad_(False).eval()
        self.clip_projection = model.visual_projection.requires_grad_(False) if projected else None
        self.projection = _bridge(clip_config["projection_dim" if projected else "hidden_size"], width)

    @classmethod
    def from_clip(cls, source: str, width: int = 768, patches: bool = False) -> Self:
        """With the weights of a CLIP model or its vision half: a folder, the folder of a pipeline with `image_encoder/`, or a Hub id.

        Raises:
            InputError: nothing of that kind is there, or weights are missing; the keys are listed.
        """
        saved = find_pretrained(source, ("image_encoder",))
        check_type(saved, ("clip", "clip_vision_model"))
        model, missing = load_clip(import_transformers().CLIPVisionModelWithProjection, saved, optional="visual_projection.")
        descriptor = cls({key: getattr(model.config, key) for key in _VISION}, width, patches, projected=not missing)
        descriptor.clip.load_state_dict(model.vision_model.state_dict())
        if descriptor.clip_projection is not None:
            descriptor.clip_projection.load_state_dict(model.visual_projection.state_dict())
        return descriptor

    @property
    def length(self) -> int:
        config = self.config["clip_config"]
        return 1 + (config["image_size"] // config["patch_size"]) ** 2 if self.config["patches"] else 1

    def _tokens(self, count: int, photos: Tensor | None, captions: Sequence[str], tasks: Sequence[Task]) -> Tensor:
        assert photos is not None
        with torch.no_grad():
            hidden = self.clip(pixel_values=self._pixels(photos)).last_hidden_state  # (B, 1 + patches, hidden)
            hidden = self.clip.post_layernorm(hidden if self.config["patches"] else hidden[:, :1])
            if self.clip_projection is not None:
                hidden = self.clip_projection(hidden)
        return self.projection(hidden)  # (B, L, width)

    def _pixels(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 3, size, size) as CLIP was trained with."""
        return clip_pixels(photos, self.config["clip_config"]["image_size"]).to(self.dtype)


class ClipTextDescriptor(ClipDescriptor):
    """CLIP's encoding of a caption, a token per word piece, as in Stable Diffusion; empty is the empty caption.

    Args:
        clip_config: arguments of transformers' CLIPTextConfig.
        tokenizer: the tokenizer's own JSON, with padding and truncation; in the config, because the Hub sends no other file of a model.
        width: numbers of a token.
    """

    kind, sees = "clip-text", "caption"

    @register_to_config
    def __init__(self, clip_config: dict[str, Any], tokenizer: str, width: int = 768) -> None:
        super().__init__()
        transformers = import_transformers()
        from tokenizers import Tokenizer  # comes with transformers

        self._tokenizer = Tokenizer.from_str(tokenizer)
        model = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**clip_config))
        self.clip = model.text_model.requires_grad_(False).eval()
        self.projection = _bridge(clip_config["hidden_size"], width)

    @classmethod
    def from_clip(cls, source: str, width: int = 768) -> Self:
        """With the weights of a CLIP model or its text half, tokenizer included: a folder, a pipeline with `text_encoder/` and `tokenizer/`
        (Stable Diffusion's), or a Hub id.

        Raises:
            InputError: nothing of that kind is there, or weights are missing; the keys are listed.
        """
        saved = find_pretrained(source, ("text_encoder",))
        check_type(saved, ("clip", "clip_text_model"))
        model, _ = load_clip(import_transformers().CLIPTextModelWithProjection, saved, optional="text_projection.")
        clip_config = {key: getattr(model.config, key) for key in _TEXT}
        descriptor = cls(clip_config, load_tokenizer(saved, clip_config["max_position_embeddings"], clip_config["vocab_size"]), width)
        descriptor.clip.load_state_dict(model.text_model.state_dict())
        return descriptor

    @property
    def length(self) -> int:
        return self.config["clip_config"]["max_position_embeddings"]

    def _tokens(self, count: int, photos: Tensor | None, captions: Sequence[str], tasks: Sequence[Task]) -> Tensor:
        pieces = [self._tokenizer.encode(caption).ids for caption in captions]  # one by one: a batch would start threads
        with torch.no_grad():
            hidden = self.clip(input_ids=torch.tensor(pieces, device=self.device)).last_hidden_state  # (B, L, hidden)
        return self.projection(hidden)

    @apply_forward_hook
    def empty(self, count: int) -> Tensor:
        """(B, L, width) tokens of the empty caption, with which Stable Diffusion was trained to draw anything."""
        return self._tokens(1, None, [""], ()).expand(count, -1, -1)


class LearnedDescriptor(Descriptor):
    """L tokens that are the same for every image and are trained with the denoiser, as queries are.

    With `tasks`, each task has L tokens of its own, which tell the denoiser what to draw (`ldmseg.models.targets`).

    Args:
        queries: L.
        width: numbers of a token.
        tasks: two or more; none makes one set of tokens for everything.
    """

    kind, sees = "learned", "nothing"

    @register_to_config
    def __init__(self, queries: int = 8, width: int = 768, tasks: tuple[Task, ...] = ()) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.randn(*((len(tasks),) if tasks else ()), queries, width))  # ([T,] L, width)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(self.config["tasks"])

    @property
    def length(self) -> int:
        return self.config["queries"]

    def _tokens(self, count: int, photos: Tensor | None, captions: Sequence[str], tasks: Sequence[Task]) -> Tensor:
        if self.tasks:
            return self.query_tokens[[self.tasks.index(task) for task in tasks]]  # (B, L, width)
        return self.query_tokens.expand(count, -1, -1)  # (B, L, width)


def build_descriptor(
    kind: DescriptorKind, width: int, *, source: str = CLIP, patches: bool = False, queries: int = 8, tasks: tuple[Task, ...] = ()
) -> Descriptor:
    """A descriptor from a configuration's keys; frozen weights come from `source`, new ones are fresh.

    Raises:
        InputError: `source` holds no such weights, or transformers is not installed.
    """
    if kind == "clip-image":
        return ClipImageDescriptor.from_clip(source, width, patches)
    if kind == "clip-text":
        return ClipTextDescriptor.from_clip(source, width)
    return LearnedDescriptor(queries, width, tasks)


def _bridge(given: int, wanted: int) -> nn.Module:
    return nn.Identity() if given == wanted else nn.Linear(given, wanted)
