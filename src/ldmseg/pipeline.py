"""A photo in, its segments out; and a photo with a partial map in, the whole map out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import EnsembleFlips, IdPolicy, InpaintMethod, OutputType, Sampler
from ldmseg.diffusion.guidance import captions_for, check_descriptor, check_guidance, guided
from ldmseg.diffusion.sampler import image_noise, resampled, sample
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.images import ImageInput, image_batch, load_images
from ldmseg.inference.boundaries import refine_boundaries
from ldmseg.inference.cells import KnownCells, known_cells
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.known import GivenMap, complete, in_model_terms
from ldmseg.inference.options import (
    STEP_TENSORS,
    VIEWS,
    Completion,
    Generators,
    Partials,
    Request,
    StepCallback,
    certain_pixels,
    check_partials,
    checked_method,
    mirror,
)
from ldmseg.inference.postprocess import Thresholds, split_pieces, to_panoptic
from ldmseg.inference.tiles import Piece, draw_in_tiles, tile_pixels
from ldmseg.models.denoiser import Condition, Denoiser
from ldmseg.models.descriptors import Descriptor
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.loading import loading_errors, model_folder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import VOID, PanopticMap

RESAMPLE_JUMP = 2
"""Steps of a stretch that `resample` goes through several times."""


@dataclass
class LDMSegOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        maps: one per image, at the image's own size. A `PanopticMap` each (`output_type="panoptic"`), an (H, W) int32 array (`np`) or
            tensor (`pt`) of ids, or mask latents (`latent`): (C, h, w), with an ensemble (K, C, h, w).
        confidence: with an ensemble, one (H, W) float32 array per image: the share of the samples that agree with the map there.
        samples: with an ensemble, the K maps of each image; segments that match the map's have its ids.
    """

    maps: list[Any]
    confidence: list[NDArray[np.float32]] | None = None
    samples: list[tuple[PanopticMap, ...]] | None = None


class LDMSegPipeline(DiffusionPipeline):
    """Latent diffusion for panoptic segmentation and mask completion (LDMSeg, algorithms 2 and 3).

    Args:
        mask_autoencoder: stage 1.
        image_encoder: image latents.
        unet: the denoiser.
        scheduler: the noise schedule.
        image_size: pixels of the square that an image is resized to, as in training.
        id_policy: how given segments of a partial map get the model's ids, as in training.
        num_inference_steps, sampler, rescale_std: defaults of the sampling loop (`ldmseg.diffusion.sampler.sample`).
        thresholds: default `Thresholds` of the post-processing, in its order.
        follow_edges: default of the calls' argument.
        descriptor: makes the tokens of a denoiser with cross-attention; none for one without.
        guidance_scale: default strength of the guidance by the descriptor; 1 is off.
        tile_size: default of the calls' argument; 0 looks at the whole photo at once.
        min_piece: default of the calls' argument; None leaves segments in several pieces.
        ensemble_flips: default of the calls' argument.
    """

    mask_autoencoder: MaskAutoencoder
    image_encoder: ImageEncoder
    unet: Denoiser
    scheduler: NoiseSchedule
    descriptor: Descriptor | None

    model_cpu_offload_seq = "image_encoder->descriptor->unet->mask_autoencoder"  # type: ignore[assignment]
    _optional_components = ["descriptor"]  # noqa: RUF012  # as diffusers declares it
    _callback_tensor_inputs = STEP_TENSORS

    def __init__(
        self,
        mask_autoencoder: MaskAutoencoder,
        image_encoder: ImageEncoder,
        unet: Denoiser,
        scheduler: NoiseSchedule,
        image_size: int = 512,
        id_policy: IdPolicy = "random",
        num_inference_steps: int = 50,
        sampler: Sampler = "ddim",
        rescale_std: float | None = None,
        thresholds: tuple[float, int, float, float] = (0.0, 0, 0.5, 0.9),
        follow_edges: bool = True,
        descriptor: Descriptor | None = None,
        guidance_scale: float = 1.0,
        tile_size: float = 0.0,
        min_piece: int | None = None,
        ensemble_flips: EnsembleFlips = "none",
    ) -> None:
        super().__init__()
        if mask_autoencoder.downscale != image_encoder.downscale:
            raise InputError(
                f"image_encoder: expected the mask autoencoder's downscale {mask_autoencoder.downscale}, got {image_encoder.downscale}"
            )
        check_descriptor(descriptor, unet)
        check_guidance(descriptor, guidance_scale)
        self.register_modules(mask_autoencoder=mask_autoencoder, image_encoder=image_encoder, unet=unet, scheduler=scheduler)
        self.register_modules(descriptor=descriptor)
        self.register_to_config(
            image_size=image_size,
            id_policy=id_policy,
            num_inference_steps=num_inference_steps,
            sampler=sampler,
            rescale_std=rescale_std,
            thresholds=list(thresholds),
            follow_edges=follow_edges,
            guidance_scale=guidance_scale,
            tile_size=tile_size,
            min_piece=min_piece,
            ensemble_flips=ensemble_flips,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str] = "default", **kwargs: Any) -> Self:
        """diffusers' own, where `default` is the bundled model.

        Raises:
            InputError: nothing usable is there: no such folder or Hub id, a file is missing, truncated or of another architecture.
        """
        folder = model_folder(pretrained_model_name_or_path)
        with loading_errors("--model", "a pipeline's folder or Hub id", str(pretrained_model_name_or_path)):
            return super().from_pretrained(folder, **kwargs)

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """diffusers' own; components are recorded as names of the package, not of the modules they happen to stand in."""
        parts = {name: getattr(part, "_orig_mod", part) for name, part in self.components.items()}  # _orig_mod: under torch.compile
        own = {name: ("ldmseg", type(part).__name__) for name, part in parts.items() if type(part).__module__.startswith("ldmseg.")}
        self.register_to_config(**own)
        super().save_pretrained(save_directory, **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        *,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        sampler: Sampler | None = None,
        thresholds: Thresholds | None = None,
        follow_edges: bool | None = None,
        ensemble_size: int = 1,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt: str | Sequence[str] | None = None,
        guidance_scale: float | None = None,
        tile_size: float | None = None,
        tile_overlap: float = 0.25,
        min_piece: int | None = None,
        ensemble_flips: EnsembleFlips | None = None,
    ) -> LDMSegOutput:
        """Segment photos (algorithm 2).

        Args:
            image: a PIL image of any mode, an (H, W), (H, W, 3) or (H, W, 4) array of uint8, uint16 or floats in 0..1, a (3, H, W) or
                (B, 3, H, W) tensor in 0..1 (or uint8), or a list of such.
            num_inference_steps: sampling steps, 1..1000; more are slower and, to a point, better.
            generator: one, or one per image. With one per image the result of an image does not depend on its batch.
            latents: (B K, C, h, w) standard normal noise to start from, in place of drawn noise; the K of an image stand together.
            sampler: `ddim`, `ddpm` or `renoise`.
            thresholds: what is left void (`Thresholds`).
            follow_edges: whether borders are put where the photo has edges (`boundaries`); costs no pass of a network. With windows
                *and* an ensemble only where it is asked for: votes on overlapping windows agree on borders by themselves.
            ensemble_size: K samples are drawn of each image, in one batch; the map is what they agree on (`ldmseg.inference.ensemble`).
            output_type: see `LDMSegOutput`.
            return_dict: False returns a tuple.
            callback_on_step_end: (pipeline, step, timestep, tensors) -> tensors to put back, after each step.
            callback_on_step_end_tensor_inputs: of `latents`, `estimate`.
            prompt: one caption per image, for a model whose descriptor reads captions.
            guidance_scale: how strongly a descriptor guides: out = empty + scale (out - empty); 1 is off.
            tile_size: look at windows of so many pixels (up to 1: of that share of the photo's shorter side), each completed from what
                its neighbours have drawn (`ldmseg.inference.tiles`): for large photos of small things. 0 looks at the whole photo at once.
            tile_overlap: the share of a window that it has in common with the next one, at least.
            min_piece: connected pieces of a segment become segments of their own, and those of fewer pixels go to what is nearest.
            ensemble_flips: an ensemble's samples take turns in seeing the photo mirrored: `none`, `horizontal` (left and right), or
                `both` (also up and down, where the photo has no upside, as under a microscope or from above).

        Raises:
            InputError: an argument is of the wrong kind, shape or range.
        """
        request = Request.of(
            self.config,
            num_inference_steps=num_inference_steps,
            generator=generator,
            latents=latents,
            sampler=sampler,
            thresholds=thresholds,
            follow_edges=follow_edges,
            ensemble_size=ensemble_size,
            output_type=output_type,
            return_dict=return_dict,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            prompt=prompt,
            guidance_scale=guidance_scale,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            min_piece=min_piece,
            ensemble_flips=ensemble_flips,
        )
        return self._drawn(load_images(image), None, request)

    @torch.no_grad()
    def inpaint(
        self,
        image: ImageInput | Sequence[ImageInput],
        partial: PanopticMap | Sequence[PanopticMap],
        *,
        method: InpaintMethod = "auto",
        strength: float = 0.5,
        certain: NDArray[np.bool_] | Sequence[NDArray[np.bool_]] | None = None,
        resamplings: int = 4,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        sampler: Sampler | None = None,
        thresholds: Thresholds | None = None,
        follow_edges: bool | None = None,
        ensemble_size: int = 1,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt: str | Sequence[str] | None = None,
        guidance_scale: float | None = None,
        tile_size: float | None = None,
        tile_overlap: float = 0.25,
        min_piece: int | None = None,
        ensemble_flips: EnsembleFlips | None = None,
    ) -> LDMSegOutput:
        """Complete partial maps (section 3.3): void pixels are filled in, given ones come back exactly, given ids survive.

        | method | does |
        |---|---|
        | `condition` | shows the partial map to the network, which needs partial-map channels |
        | `project` | algorithm 3: what is known is put back into the estimate at each step |
        | `resample` | the same, with each stretch of steps gone through `resamplings` times (RePaint) |
        | `refine` | takes the map for a rough one: its latents are noised to `strength` and denoised again |
        | `auto` | `condition` where the model can, else `project` |

        Args:
            partial: one map per image, of the image's size; VOID is unknown. New segments get ids that no given segment has.
            strength: for `refine`, how much of the way to noise the map is taken, above 0 to 1; little keeps more of it.
            certain: for `refine`, (H, W) per image, the pixels that come back as given; none by default.
            resamplings: for `resample`.
            Others as in `__call__`.

        Raises:
            InputError: also when a map's size is not its image's, when a map has more segments than the model has ids, or when the
                model has no partial-map channels for `condition`.
        """
        images = load_images(image)
        partials = [partial] if isinstance(partial, PanopticMap) else list(partial)
        check_partials(partials, images)
        method = checked_method(method, self.unet.config["partial"], strength, certain)
        if method == "refine" and tile_size is None:
            tile_size = 0  # a rough map is looked at as a whole
        request = Request.of(
            self.config,
            num_inference_steps=num_inference_steps,
            generator=generator,
            latents=latents,
            sampler=sampler,
            thresholds=thresholds,
            follow_edges=follow_edges,
            ensemble_size=ensemble_size,
            output_type=output_type,
            return_dict=return_dict,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            prompt=prompt,
            guidance_scale=guidance_scale,
            tile_size=tile_size,
            tile_overlap=tile_overlap,
            min_piece=min_piece,
            ensemble_flips=ensemble_flips,
        )
        sure = certain_pixels(certain, partials) if method == "refine" else None
        return self._drawn(images, Partials(partials, method, strength, resamplings, sure), request)

    # ------------------------------------------------------------------------------------------------------------------- steps
    def _drawn(self, images: list[Tensor], given: Partials | None, request: Request) -> LDMSegOutput:
        request.check(len(images), self.descriptor)
        if request.tile_size:
            request.check_tiles("auto" if given is None else given.method)
        if request.votes_on_whole_maps:
            return self._voted(images, given, request)
        if request.tile_size:
            return self._in_tiles(images, given, request)
        return self._answer(images, request, None if given is None else self._in_model_terms(given))

    def _voted(self, images: list[Tensor], given: Partials | None, request: Request) -> LDMSegOutput:
        """An ensemble whose samples are drawn like photos of their own, some of them mirrored, and vote on the whole map."""
        copies, views = request.ensemble_size, VIEWS[request.ensemble_flips]
        order = [i for i in range(len(images)) for _ in range(copies)]
        mirrored = [views[k % len(views)] for _ in images for k in range(copies)]
        captions = captions_for(self.descriptor, request.prompt, len(images))
        asked = request.of_samples(request.generators(len(images), copies), None if captions is None else [captions[i] for i in order])
        seen = [images[i].flip(axes) for i, axes in zip(order, mirrored, strict=True)]
        drawn = self._drawn(seen, None if given is None else given.seen(order, mirrored), asked).maps
        drawn = [mirror(pmap, axes) for pmap, axes in zip(drawn, mirrored, strict=True)]
        output = LDMSegOutput(maps=[], confidence=[], samples=[])
        for index in range(len(images)):
            certain = None if given is None else given.certain(index)
            fixed = () if given is None else {s.id for s in given.maps[index].segments}
            self._agree(output, drawn[index * copies : (index + 1) * copies], fixed, certain, request)
        return output if request.return_dict else _as_tuple(output)

    def _in_tiles(self, images: list[Tensor], given: Partials | None, request: Request) -> LDMSegOutput:
        """Window by window (`ldmseg.inference.tiles`); borders follow the photo at the end, when there are no windows any more."""
        if given is None:
            nothing = [PanopticMap(np.full(i.shape[-2:], VOID, dtype=np.int32)) for i in images]
            given = Partials(nothing, checked_method("auto", self.unet.config["partial"]))
        partials = given.maps
        captions = captions_for(self.descriptor, request.prompt, len(images))
        seeds = [int(torch.randint(2**62, (1,), generator=g, device=g.device)) for g in request.generators(len(images), 1)]
        limit = self.mask_autoencoder.config["num_ids"] - 1

        def draw(pieces: list[Piece]) -> list[PanopticMap]:
            known = replace(given, maps=[p.partial.largest(limit) for p in pieces])
            generators = [torch.Generator().manual_seed(seeds[p.of] + p.number) for p in pieces]
            asked = request.of_tiles(generators, None if captions is None else [captions[p.of] for p in pieces])
            return self._answer([p.image for p in pieces], asked, self._in_model_terms(known)).maps

        maps = draw_in_tiles(images, partials, request.tile_size, request.tile_overlap, draw)
        if request.follow_edges:
            sides = [tile_pixels(request.tile_size, pmap.shape) for pmap in maps]
            maps = [refine_boundaries(m, _as_photo(i), p.ids, side) for m, i, p, side in zip(maps, images, partials, sides, strict=True)]
        if request.min_piece is not None:
            maps = [split_pieces(pmap, request.min_piece, partial.ids) for pmap, partial in zip(maps, partials, strict=True)]
        output = LDMSegOutput(maps=[m if request.output_type == "panoptic" else _as_ids(m, request.output_type) for m in maps])
        return output if request.return_dict else _as_tuple(output)

    def _in_model_terms(self, given: Partials) -> Completion:
        size, num_ids, policy = self.config["image_size"], self.mask_autoencoder.config["num_ids"], self.config["id_policy"]
        maps = [
            in_model_terms(pmap, size, num_ids, policy, None if given.sure is None else given.sure[i]) for i, pmap in enumerate(given.maps)
        ]
        return Completion(maps, given.method, given.strength, given.resamplings)

    def _answer(self, images: list[Tensor], request: Request, completion: Completion | None) -> LDMSegOutput:
        latents = self._sample(images, request, completion)  # (B K, C, h, w)
        output = self._output(latents, images, request, completion)
        self.maybe_free_model_hooks()
        return output if request.return_dict else _as_tuple(output)

    def _sample(self, images: list[Tensor], request: Request, completion: Completion | None) -> Tensor:
        timesteps = self.scheduler.trailing_timesteps(request.num_inference_steps)
        copies = request.ensemble_size
        generators = request.generators(len(images), copies)
        device, dtype = self._execution_device, self.unet.dtype

        pixels = image_batch(images, self.config["image_size"]).to(device, dtype)  # (B, 3, S, S)
        image_latents = self.image_encoder.encode(pixels).repeat_interleave(copies, 0)  # (B K, C, h, w)
        shape = (len(image_latents), self.mask_autoencoder.config["latent_channels"], *image_latents.shape[-2:])
        x = self._noise(request.latents, shape, generators).to(device, dtype)
        tokens, empty = self._tokens(pixels, request)
        condition, sampler = Condition(image_latents, tokens=tokens), request.sampler or self.config["sampler"]
        project = estimate = None
        if completion is not None:
            known = self._known([g.certain_coded for g in completion.given], copies, device, dtype)
            if self._shows_partial(completion):
                condition = replace(condition, partial=known.latents, validity=known.validity)
            if completion.method in ("project", "resample"):
                sampler = request.sampler or "renoise"
            if completion.method in ("project", "resample", "refine") and bool(known.validity.any()):

                def project(clean: Tensor) -> Tensor:
                    return known.put_back(clean, self.mask_autoencoder)

            if completion.method == "resample":
                timesteps = resampled(timesteps, RESAMPLE_JUMP, completion.resamplings)
            if completion.method == "refine":
                timesteps = timesteps[-max(1, round(completion.strength * len(timesteps))) :]
                estimate = self._known([g.coded for g in completion.given], copies, device, dtype).latents
                x = self.scheduler.noised(estimate, x, torch.full((len(x),), timesteps[0], device=device))

        denoise = guided(self.unet, condition, empty, request.guidance_scale)
        with self.progress_bar(total=len(timesteps)) as progress:

            def after_step(index: int, timestep: int, x: Tensor, clean: Tensor) -> Tensor:
                progress.update()
                if request.callback_on_step_end is None:
                    return x
                tensors = {"latents": x, "estimate": clean}
                chosen = {name: tensors[name] for name in request.callback_on_step_end_tensor_inputs}
                return request.callback_on_step_end(self, index, timestep, chosen).get("latents", x)

            return sample(
                denoise,
                x,
                timesteps,
                self.scheduler,
                project=project,
                sampler=sampler,
                generators=generators,
                rescale_std=self.config["rescale_std"],
                estimate=estimate,
                callback=after_step,
            )

    def _tokens(self, pixels: Tensor, request: Request) -> tuple[Tensor | None, Tensor | None]:
        """The descriptor's tokens and, where they guide, the empty ones, (B K, L, width)."""
        if self.descriptor is None:
            return None, None
        count, copies = len(pixels), request.ensemble_size
        tokens = self.descriptor(count, pixels, captions_for(self.descriptor, request.prompt, count)).repeat_interleave(copies, 0)
        return tokens, self.descriptor.empty(len(tokens)) if request.guidance_scale != 1 else None

    def _shows_partial(self, completion: Completion) -> bool:
        """Whether the network sees what is certain: always with `condition`, and where it can when a rough map is refined."""
        return completion.method == "condition" or (completion.method == "refine" and bool(self.unet.config["partial"]))

    def _known(self, coded: list[NDArray[np.int64]], copies: int, device: torch.device, dtype: torch.dtype) -> KnownCells:
        ids = torch.from_numpy(np.stack(coded)).to(device)  # (B, S, S)
        return known_cells(self.mask_autoencoder, ids).to(dtype).repeated(copies)

    def _output(self, latents: Tensor, images: list[Tensor], request: Request, completion: Completion | None) -> LDMSegOutput:
        copies, kind = request.ensemble_size, request.output_type
        if kind == "latent":
            return LDMSegOutput(maps=list(latents if copies == 1 else latents.unflatten(0, (-1, copies))))
        output = LDMSegOutput(maps=[]) if copies == 1 else LDMSegOutput(maps=[], confidence=[], samples=[])
        for index, image in enumerate(images):
            given = completion.given[index] if completion is not None else None
            own = latents[index * copies : (index + 1) * copies]
            photo = _as_photo(image) if request.follow_edges else None
            samples = [self._decode(one, (image.shape[-2], image.shape[-1]), request, given, photo) for one in own]
            if copies == 1:
                output.maps.append(samples[0] if kind == "panoptic" else _as_ids(samples[0], kind))
                continue
            fixed = () if given is None else {s.id for s in given.map.segments}
            self._agree(output, samples, fixed, None if given is None else np.where(given.certain, given.map.ids, VOID), request)
        return output

    def _agree(
        self,
        output: LDMSegOutput,
        samples: list[PanopticMap],
        fixed_ids: Iterable[int],
        certain: NDArray[np.integer] | None,
        request: Request,
    ) -> None:
        """Add to the output what the samples of one image agree on."""
        agreed = consensus(samples, fixed_ids=fixed_ids)
        pmap = agreed.map if request.min_piece is None else split_pieces(agreed.map, request.min_piece, certain)
        output.maps.append(pmap if request.output_type == "panoptic" else _as_ids(pmap, request.output_type))
        output.confidence.append(agreed.confidence)  # type: ignore[union-attr]  # an ensemble's output has both lists
        output.samples.append(agreed.samples)  # type: ignore[union-attr]

    def _decode(
        self,
        latents: Tensor,
        shape: tuple[int, int],
        request: Request,
        given: GivenMap | None,
        photo: NDArray[np.uint8] | None,
    ) -> PanopticMap:
        """(C, h, w) -> the map at the photo's size; one at a time, because N logits a pixel are the pipeline's largest tensor."""
        size = self.config["image_size"]
        logits = self.mask_autoencoder.decode(latents[None])[0, :, :size, :size]  # (N, S, S)
        pmap = to_panoptic(logits, request.thresholds, size=shape)
        certain = np.zeros(shape, dtype=np.int32)
        if given is not None:
            pmap, certain = complete(pmap, given), np.where(given.certain, given.map.ids, VOID)
        if photo is not None:
            pmap = refine_boundaries(pmap, photo, certain)
        return pmap if request.min_piece is None else split_pieces(pmap, request.min_piece, certain)

    def _noise(self, latents: Tensor | None, shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
        if latents is None:
            return image_noise(torch.empty(shape), generators)
        if tuple(latents.shape) != shape:
            raise InputError(f"latents: expected shape {shape}, got {tuple(latents.shape)}")
        return latents


def _as_photo(image: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) in 0..1 -> (H, W, 3)."""
    return (image * 255).round().byte().movedim(0, -1).numpy()


def _as_tuple(output: LDMSegOutput) -> LDMSegOutput:
    return tuple(value for value in vars(output).values() if value is not None)  # type: ignore[return-value]  # as diffusers has it


def _as_ids(pmap: PanopticMap, output_type: OutputType) -> Any:
    return pmap.ids if output_type == "np" else torch.from_numpy(pmap.ids.copy())
