"""From a call's arguments to the list of samples that are to be drawn: the same road for one map, an ensemble and windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ldmseg.choices import EnsembleFlips, InpaintMethod, OutputType, Task
from ldmseg.diffusion.guidance import captions_for, check_guidance
from ldmseg.errors import InputError, quoted
from ldmseg.inference.known import KnownMap
from ldmseg.models.descriptors import Descriptor
from ldmseg.options import InferenceOptions

StepCallback = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
Generators = torch.Generator | Sequence[torch.Generator] | None

VIEWS: dict[EnsembleFlips, tuple[tuple[int, ...], ...]] = {"none": ((),), "horizontal": ((), (-1,)), "both": ((), (-1,), (-2,), (-2, -1))}
"""The axes along which the photo is mirrored for the samples of an ensemble, which take turns."""

STEP_TENSORS = ("latents", "estimate")
"""The tensors that a callback may get."""


@dataclass(frozen=True)
class Call:
    """The arguments of a call beside its options; `LDMSegPipeline.__call__` explains them."""

    generator: Generators = None
    latents: Tensor | None = None
    image_latents: Tensor | None = None
    output_type: OutputType = "panoptic"
    return_dict: bool = True
    callback_on_step_end: StepCallback | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",)
    prompt: str | Sequence[str] | None = None
    task: Task = "panoptic"

    def check(self, options: InferenceOptions, count: int, descriptor: Descriptor | None) -> None:
        """
        Raises:
            InputError: something that `count` images cannot be answered with.
        """
        captions_for(descriptor, self.prompt, count)
        check_guidance(descriptor, options.guidance_scale)
        if self.output_type not in get_args(OutputType):
            raise InputError(f"output_type: expected one of {', '.join(get_args(OutputType))}, got {quoted(self.output_type)}")
        if isinstance(self.generator, Sequence) and len(self.generator) != count:
            raise InputError(f"generator: expected one, or one per image ({count}), got {len(self.generator)}")
        unknown = [name for name in self.callback_on_step_end_tensor_inputs if name not in STEP_TENSORS]
        if unknown:
            raise InputError(f"callback_on_step_end_tensor_inputs: expected some of {', '.join(STEP_TENSORS)}, got {', '.join(unknown)}")
        mirrored = options.ensemble_size > 1 and options.ensemble_flips != "none"
        if self.output_type == "latent" and mirrored:
            raise InputError("output_type: expected another than 'latent' with ensemble_flips, since the samples' latents are mirrored")
        if options.tile_size:
            self._check_tiles(options.method)

    def _check_tiles(self, method: InpaintMethod) -> None:
        if method == "refine":
            raise InputError("tile_size: expected 0 with method refine, which takes the whole map at once")
        for name in ("latents", "image_latents"):
            if getattr(self, name) is not None:
                raise InputError(f"{name}: expected none with tile_size, since each window has its own")
        if self.output_type == "latent":
            raise InputError("output_type: expected another than 'latent' with tile_size, since each window has latents of its own")

    def check_latents(self, count: int, ensemble_size: int, mask_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> None:
        """Check the shapes of given latents.

        Args:
            count: images of the call.
            ensemble_size: samples of each image.
            mask_shape: (C, h, w) of one image's mask latents.
            image_shape: (C, h, w) of one image's image latents.

        Raises:
            InputError: given latents have another shape.
        """
        shapes = {"latents": (count * ensemble_size, *mask_shape), "image_latents": (count, *image_shape)}
        for name, shape in shapes.items():
            given = getattr(self, name)
            if given is not None and tuple(given.shape) != shape:
                raise InputError(f"{name}: expected shape {shape}, got {tuple(given.shape)}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One map to be drawn. Samples of the same photo share the same `image` and `known` objects, so that each is encoded once.

    Attributes:
        photo: the index of its photo in the call.
        image: (3, H, W) the photo, mirrored for this sample, uint8 or floats in 0..1.
        generator: the randomness of this sample alone.
        axes: along which the photo was mirrored.
        known: what is known of the map, mirrored likewise.
        caption: for a descriptor that reads captions.
        image_latents: (C, h, w) where the photo was encoded before.
        task: what is drawn.
    """

    photo: int
    image: Tensor
    generator: torch.Generator
    axes: tuple[int, ...] = ()
    known: KnownMap | None = None
    caption: str | None = None
    image_latents: Tensor | None = None
    task: Task = "panoptic"

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        return self.image.shape[-2], self.image.shape[-1]


def make_samples(
    images: Sequence[Tensor],
    known: Sequence[KnownMap] | None,
    call: Call,
    options: InferenceOptions,
    descriptor: Descriptor | None,
) -> list[Sample]:
    """The samples of all images; the `ensemble_size` of an image stand together."""
    copies, views = options.ensemble_size, VIEWS[options.ensemble_flips]
    captions = captions_for(descriptor, call.prompt, len(images))
    generators = spread(call.generator, len(images), copies)
    samples = []
    for index, image in enumerate(images):
        seen = {axes: image.flip(axes) if axes else image for axes in views[:copies]}
        marks = {axes: None if known is None else known[index].mirrored(axes) for axes in seen}
        for copy in range(copies):
            axes = views[copy % len(views)]
            encoded = None if call.image_latents is None or axes else call.image_latents[index]
            caption = None if captions is None else captions[index]
            samples.append(Sample(index, seen[axes], generators[index * copies + copy], axes, marks[axes], caption, encoded, call.task))
    return samples


def spread(generator: Generators, count: int, copies: int) -> list[torch.Generator]:
    """One generator per sample. A single generator gives each image a seed, and an image's generator gives its copies seeds."""
    if generator is None:
        return [torch.Generator().manual_seed(torch.Generator().seed()) for _ in range(count * copies)]
    each = list(generator) if isinstance(generator, Sequence) else _seeded_by(generator, count)
    return [one for own in each for one in _seeded_by(own, copies)]


def drawn_seed(generator: torch.Generator) -> int:
    """A seed from a generator, which moves on."""
    return int(torch.randint(2**62, (1,), generator=generator, device=generator.device))


def _seeded_by(generator: torch.Generator, count: int) -> list[torch.Generator]:
    if count == 1:
        return [generator]
    seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def checked_method(method: InpaintMethod, shows_partial: bool) -> InpaintMethod:
    """The method, with `auto` decided; `shows_partial` says whether the model has partial-map channels.

    Raises:
        InputError: the model does not have it.
    """
    if method == "condition" and not shows_partial:
        raise InputError("method: expected project, because this model has no partial-map channels, got 'condition'")
    if method == "auto":
        return "condition" if shows_partial else "project"
    return method
