"""What a call of the pipeline asks for, and whether that can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import EnsembleFlips, InpaintMethod, OutputType, Sampler
from ldmseg.diffusion.guidance import captions_for, check_guidance
from ldmseg.errors import InputError
from ldmseg.inference.known import GivenMap
from ldmseg.inference.postprocess import Thresholds
from ldmseg.models.descriptors import Descriptor
from ldmseg.panoptic import VOID, PanopticMap

StepCallback = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
Generators = torch.Generator | Sequence[torch.Generator] | None

VIEWS: dict[EnsembleFlips, tuple[tuple[int, ...], ...]] = {"none": ((),), "horizontal": ((), (-1,)), "both": ((), (-1,), (-2,), (-2, -1))}
"""The axes along which the photo is mirrored for the samples of an ensemble, which take turns."""

STEP_TENSORS = ("latents", "estimate")
"""What a callback may ask for."""


@dataclass(frozen=True)
class Request:
    """How one call is to be answered: the arguments that all entry points share, with the model's defaults in place of None."""

    num_inference_steps: int
    generator: Generators
    latents: Tensor | None
    sampler: Sampler | None
    thresholds: Thresholds
    follow_edges: bool
    ensemble_size: int
    output_type: OutputType
    return_dict: bool
    callback_on_step_end: StepCallback | None
    callback_on_step_end_tensor_inputs: Sequence[str]
    prompt: str | Sequence[str] | None
    guidance_scale: float
    tile_size: float
    tile_overlap: float
    min_piece: int | None
    ensemble_flips: EnsembleFlips

    @classmethod
    def of(cls, config: Mapping[str, Any], **asked: Any) -> Self:
        """What was asked for; of a None, what the pipeline's `config` says."""
        if asked["output_type"] == "latent" and asked["ensemble_flips"] is None:
            asked["ensemble_flips"] = "none"  # latents of a mirrored photo are of no use beside the others
        for name in ("num_inference_steps", "guidance_scale", "tile_size", "min_piece", "ensemble_flips"):
            if asked[name] is None:
                asked[name] = config[name]
        if asked["follow_edges"] is None:  # where whole maps of windows vote, they agree on borders better than the photo does
            asked["follow_edges"] = config["follow_edges"] and not (asked["tile_size"] and asked["ensemble_size"] > 1)
        if asked["thresholds"] is None:
            asked["thresholds"] = Thresholds(*config["thresholds"])
        return cls(**asked)

    @property
    def votes_on_whole_maps(self) -> bool:
        """Whether the samples of an ensemble are drawn like photos of their own: because they differ in more than their noise."""
        return self.ensemble_size > 1 and bool(self.tile_size or self.ensemble_flips != "none")

    def of_samples(self, generators: list[torch.Generator], captions: list[str] | None) -> Self:
        """The same of samples that are drawn like photos of their own; pieces are counted once all have voted."""
        asked = replace(self, generator=generators, prompt=captions, ensemble_size=1, ensemble_flips="none", min_piece=None)
        return replace(asked, output_type="panoptic", return_dict=True)

    def of_tiles(self, generators: list[torch.Generator], captions: list[str] | None) -> Self:
        """The same of windows, of which only the maps count; borders and pieces are looked at once all of the photo is drawn."""
        asked = replace(self, generator=generators, prompt=captions, follow_edges=False, min_piece=None)
        return replace(asked, output_type="panoptic", return_dict=True)

    def check(self, count: int, descriptor: Descriptor | None) -> None:
        """
        Raises:
            InputError: something that none of `count` images can be answered with.
        """
        captions_for(descriptor, self.prompt, count)
        check_guidance(descriptor, self.guidance_scale)
        if self.output_type not in get_args(OutputType):
            raise InputError(f"output_type: expected one of {', '.join(get_args(OutputType))}, got {self.output_type!r}")
        if self.min_piece is not None and self.min_piece < 0:
            raise InputError(f"min_piece: expected 0 pixels or more, got {self.min_piece}")
        if self.ensemble_size < 1:
            raise InputError(f"ensemble_size: expected at least 1, got {self.ensemble_size}")
        if self.ensemble_flips not in VIEWS:
            raise InputError(f"ensemble_flips: expected one of {', '.join(VIEWS)}, got {self.ensemble_flips!r}")
        if self.output_type == "latent" and self.votes_on_whole_maps and not self.tile_size:
            raise InputError("output_type: expected another than 'latent' with ensemble_flips, since the samples' latents are mirrored")
        unknown = [name for name in self.callback_on_step_end_tensor_inputs if name not in STEP_TENSORS]
        if unknown:
            raise InputError(f"callback_on_step_end_tensor_inputs: expected some of {', '.join(STEP_TENSORS)}, got {', '.join(unknown)}")

    def check_tiles(self, method: InpaintMethod) -> None:
        """
        Raises:
            InputError: something that is not to be had window by window.
        """
        if method == "refine":
            raise InputError("tile_size: expected 0 with method refine, which takes the whole map at once")
        if self.latents is not None:
            raise InputError("latents: expected none with tile_size, since each window has noise of its own")
        if self.output_type == "latent":
            raise InputError("output_type: expected another than 'latent' with tile_size, since each window has latents of its own")

    def generators(self, count: int, copies: int) -> list[torch.Generator]:
        """One per sample; a single one hands each image a seed of its own, and an image's one hands them to its copies."""
        if isinstance(self.generator, Sequence) and len(self.generator) != count:
            raise InputError(f"generator: expected one, or one per image ({count}), got {len(self.generator)}")
        if self.generator is None:
            return [torch.Generator().manual_seed(torch.Generator().seed()) for _ in range(count * copies)]
        each = list(self.generator) if isinstance(self.generator, Sequence) else _spread(self.generator, count)
        return [one for own in each for one in _spread(own, copies)]


@dataclass(frozen=True)
class Partials:
    """What is given of each image, and what is to be done with it.

    Attributes:
        maps: (H, W) each, VOID where nothing is known.
        sure: for `refine`, (H, W) each, the pixels that come back as given; all that is given by default.
    """

    maps: list[PanopticMap]
    method: InpaintMethod
    strength: float = 1.0
    resamplings: int = 1
    sure: list[NDArray[np.bool_]] | None = None

    def certain(self, index: int) -> NDArray[np.integer]:
        """(H, W) ids that come back as they are, VOID elsewhere."""
        ids = self.maps[index].ids
        return ids if self.sure is None else np.where(self.sure[index], ids, VOID)

    def seen(self, order: Sequence[int], mirrored: Sequence[tuple[int, ...]]) -> Self:
        """The maps at these places, each mirrored along these axes."""
        sure = None if self.sure is None else [np.flip(self.sure[i], axes) for i, axes in zip(order, mirrored, strict=True)]
        return replace(self, maps=[mirror(self.maps[i], axes) for i, axes in zip(order, mirrored, strict=True)], sure=sure)


@dataclass(frozen=True)
class Completion:
    """The same in the model's terms."""

    given: list[GivenMap]
    method: InpaintMethod
    strength: float = 1.0
    resamplings: int = 1


def mirror(pmap: PanopticMap, axes: tuple[int, ...]) -> PanopticMap:
    """The map mirrored along these axes; the same axes give it back."""
    return pmap.with_ids(np.flip(pmap.ids, axes))


def check_partials(partials: list[PanopticMap], images: list[Tensor]) -> None:
    """
    Raises:
        InputError: not one map of each image's size.
    """
    if len(partials) != len(images):
        raise InputError(f"partial: expected one map per image ({len(images)}), got {len(partials)}")
    for index, (partial, image) in enumerate(zip(partials, images, strict=True)):
        if not isinstance(partial, PanopticMap):
            raise InputError(f"partial: expected a PanopticMap, got {type(partial).__name__}")
        if partial.shape != tuple(image.shape[-2:]):
            raise InputError(f"partial: expected the size of image {index}, {tuple(image.shape[-2:])}, got {partial.shape} (H, W)")


def checked_method(method: InpaintMethod, shows_partial: bool, strength: float = 1.0, certain: Any = None) -> InpaintMethod:
    """The method, with `auto` decided; `shows_partial` says whether the model has partial-map channels.

    Raises:
        InputError: an unknown one, one that the model does not have, or one without use for what else was given.
    """
    if method not in get_args(InpaintMethod):
        raise InputError(f"method: expected one of {', '.join(get_args(InpaintMethod))}, got {method!r}")
    if method == "condition" and not shows_partial:
        raise InputError("method: expected project, because this model has no partial-map channels, got 'condition'")
    if not 0 < strength <= 1:
        raise InputError(f"strength: expected above 0 to 1, got {strength}")
    if certain is not None and method != "refine":
        raise InputError(f"certain: expected with method refine only (elsewhere all that is given is certain), got it with {method!r}")
    if method == "auto":
        return "condition" if shows_partial else "project"
    return method


def certain_pixels(certain: Any, partials: list[PanopticMap]) -> list[NDArray[np.bool_]]:
    """One mask per map, of nothing where none was given.

    Raises:
        InputError: not one mask of booleans of each map's size.
    """
    if certain is None:
        return [np.zeros(partial.shape, dtype=bool) for partial in partials]
    masks = [certain] if isinstance(certain, np.ndarray) and certain.ndim == 2 else list(certain)
    if len(masks) != len(partials):
        raise InputError(f"certain: expected one mask per image ({len(partials)}), got {len(masks)}")
    for mask, partial in zip(masks, partials, strict=True):
        if np.shape(mask) != partial.shape or np.asarray(mask).dtype != bool:
            raise InputError(f"certain: expected (H, W) booleans of the map's size {partial.shape}, got {np.shape(mask)}")
    return [np.asarray(mask) for mask in masks]


def _spread(generator: torch.Generator, count: int) -> list[torch.Generator]:
    if count == 1:
        return [generator]
    seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]
