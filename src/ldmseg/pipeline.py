"""A photo in, its segments out; and a photo with a partial map in, the whole map out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from ldmseg.codes import IdPolicy, assign_given
from ldmseg.diffusion.sampler import SamplerName, image_noise, sample
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.inputs import ImageInput, image_batch, load_images
from ldmseg.models.denoiser import Condition, Denoiser
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.known_cells import KnownCells, known_cells, shrink_partial
from ldmseg.models.loading import loading_errors, model_folder
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.panoptic import VOID, PanopticMap, Segment
from ldmseg.postprocess import Thresholds, to_panoptic

OutputType = Literal["panoptic", "np", "pt", "latent"]
InpaintMethod = Literal["auto", "condition", "project"]
StepCallback = Callable[["LDMSegPipeline", int, int, dict[str, Any]], dict[str, Any]]


@dataclass
class LDMSegOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        maps: one per image, at the image's own size. A `PanopticMap` each (`output_type="panoptic"`), an (H, W) int32 array (`np`) or
            tensor (`pt`) of ids, or (C, h, w) mask latents (`latent`).
    """

    maps: list[Any]


@dataclass(frozen=True)
class _Given:
    """A partial map in the model's terms: `coded` (S, S) ids of the codes, VOID unknown, and the given id of each code."""

    coded: np.ndarray
    own_ids: dict[int, int]


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
    """

    mask_autoencoder: MaskAutoencoder
    image_encoder: ImageEncoder
    unet: Denoiser
    scheduler: NoiseSchedule

    model_cpu_offload_seq = "image_encoder->unet->mask_autoencoder"  # type: ignore[assignment]
    _callback_tensor_inputs = ("latents", "estimate")

    def __init__(
        self,
        mask_autoencoder: MaskAutoencoder,
        image_encoder: ImageEncoder,
        unet: Denoiser,
        scheduler: NoiseSchedule,
        image_size: int = 512,
        id_policy: IdPolicy = "random",
        num_inference_steps: int = 50,
        sampler: SamplerName = "ddim",
        rescale_std: float | None = None,
        thresholds: tuple[float, int, float, float] = (0.0, 0, 0.5, 0.9),
    ) -> None:
        super().__init__()
        if mask_autoencoder.downscale != image_encoder.downscale:
            raise InputError(
                f"image_encoder: expected the mask autoencoder's downscale {mask_autoencoder.downscale}, got {image_encoder.downscale}"
            )
        self.register_modules(mask_autoencoder=mask_autoencoder, image_encoder=image_encoder, unet=unet, scheduler=scheduler)
        self.register_to_config(
            image_size=image_size,
            id_policy=id_policy,
            num_inference_steps=num_inference_steps,
            sampler=sampler,
            rescale_std=rescale_std,
            thresholds=list(thresholds),
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
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        sampler: SamplerName | None = None,
        thresholds: Thresholds | None = None,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> LDMSegOutput:
        """Segment photos (algorithm 2).

        Args:
            image: a PIL image of any mode, an (H, W), (H, W, 3) or (H, W, 4) array of uint8, uint16 or floats in 0..1, a (3, H, W) or
                (B, 3, H, W) tensor in 0..1 (or uint8), or a list of such.
            num_inference_steps: sampling steps, 1..1000; more are slower and, to a point, better.
            generator: one, or one per image. With one per image the result of an image does not depend on its batch.
            latents: (B, C, h, w) standard normal noise to start from, in place of drawn noise.
            sampler: `ddim`, `ddpm` or `renoise`.
            thresholds: what is left void (`Thresholds`).
            output_type: see `LDMSegOutput`.
            return_dict: False returns a tuple.
            callback_on_step_end: (pipeline, step, timestep, tensors) -> tensors to put back, after each step.
            callback_on_step_end_tensor_inputs: of `latents`, `estimate`.

        Raises:
            InputError: an argument is of the wrong kind, shape or range.
        """
        images = load_images(image)
        sampled = self._sample(
            images,
            None,
            "auto",
            num_inference_steps,
            generator,
            latents,
            sampler,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            output_type,
        )
        maps = self._output(sampled, images, self._thresholds(thresholds), output_type)
        return LDMSegOutput(maps=maps) if return_dict else (maps,)  # type: ignore[return-value]  # as diffusers has it

    @torch.no_grad()
    def inpaint(
        self,
        image: ImageInput | Sequence[ImageInput],
        partial: PanopticMap | Sequence[PanopticMap],
        *,
        method: InpaintMethod = "auto",
        num_inference_steps: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        sampler: SamplerName | None = None,
        thresholds: Thresholds | None = None,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> LDMSegOutput:
        """Complete partial maps (section 3.3): void pixels are filled in, given ones come back exactly, given ids survive.

        Args:
            partial: one map per image, of the image's size; VOID is unknown. New segments get ids that no given segment has.
            method: `condition` shows the partial map to the network (needs a model with partial-map channels), `project` is
                algorithm 3: the known latent cells are put back at each step. `auto` is `condition` where the model can.
            Others as in `__call__`.

        Raises:
            InputError: also when a map's size is not its image's, when a map has more segments than the model has ids, or when the
                model has no partial-map channels for `condition`.
        """
        images = load_images(image)
        partials = [partial] if isinstance(partial, PanopticMap) else list(partial)
        self._check_partials(partials, images, method)
        given = [self._in_model_terms(p) for p in partials]
        if method == "auto":
            method = "condition" if self.unet.config["partial"] else "project"
        sampled = self._sample(
            images,
            given,
            method,
            num_inference_steps,
            generator,
            latents,
            sampler,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            output_type,
        )
        maps = self._output(sampled, images, self._thresholds(thresholds), output_type, partials, given)
        return LDMSegOutput(maps=maps) if return_dict else (maps,)  # type: ignore[return-value]  # as diffusers has it

    # ------------------------------------------------------------------------------------------------------------------- steps
    def _sample(
        self,
        images: list[Tensor],
        given: list[_Given] | None,
        method: InpaintMethod,
        steps: int | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        latents: Tensor | None,
        sampler: SamplerName | None,
        callback: StepCallback | None,
        callback_inputs: Sequence[str],
        output_type: OutputType,
    ) -> Tensor:
        steps = self.config["num_inference_steps"] if steps is None else steps
        timesteps = self.scheduler.trailing_timesteps(steps)
        self._check_choices(output_type, callback_inputs)
        generators = self._generators(generator, len(images))
        device, dtype = self._execution_device, self.unet.dtype

        pixels = image_batch(images, self.config["image_size"]).to(device, dtype)  # (B, 3, S, S)
        image_latents = self.image_encoder.encode(pixels)  # (B, C, h, w)
        shape = (len(images), self.mask_autoencoder.config["latent_channels"], *image_latents.shape[-2:])
        noise = self._noise(latents, shape, generators).to(device, dtype)
        known = self._known(given, device, dtype) if given is not None else None
        condition = Condition(image_latents)
        if known is not None and method == "condition":
            condition = replace(condition, partial=known.latents, validity=known.validity)

        def denoise(x_t: Tensor, timestep: Tensor, estimate: Tensor | None) -> Tensor:
            return self.unet(x_t, timestep, condition=condition, estimate=estimate)

        with self.progress_bar(total=len(timesteps)) as progress:

            def after_step(index: int, timestep: int, x: Tensor, clean: Tensor) -> Tensor:
                progress.update()
                if callback is None:
                    return x
                tensors = {"latents": x, "estimate": clean}
                return callback(self, index, timestep, {k: tensors[k] for k in callback_inputs}).get("latents", x)

            return sample(
                denoise,
                noise,
                timesteps,
                self.scheduler,
                project=known.put_back if known is not None and method == "project" else None,
                sampler="renoise" if method == "project" and sampler is None else sampler or self.config["sampler"],
                generators=generators,
                rescale_std=self.config["rescale_std"],
                callback=after_step,
            )

    def _known(self, given: list[_Given], device: torch.device, dtype: torch.dtype) -> KnownCells:
        coded = torch.from_numpy(np.stack([g.coded for g in given])).to(device)
        return known_cells(self.mask_autoencoder, coded).to(dtype)

    def _output(
        self,
        latents: Tensor,
        images: list[Tensor],
        thresholds: Thresholds,
        output_type: OutputType,
        partials: list[PanopticMap] | None = None,
        given: list[_Given] | None = None,
    ) -> list[Any]:
        if output_type == "latent":
            self.maybe_free_model_hooks()
            return list(latents)
        size = self.config["image_size"]
        maps: list[Any] = []
        for index, image in enumerate(images):  # one at a time: N logits a pixel are the pipeline's largest tensor
            logits = self.mask_autoencoder.decode(latents[index : index + 1])[0, :, :size, :size]  # (N, S, S)
            pmap = to_panoptic(logits, thresholds, size=(image.shape[-2], image.shape[-1]))
            if partials is not None and given is not None:
                pmap = _paste(pmap, partials[index], given[index])
            maps.append(pmap if output_type == "panoptic" else _as_ids(pmap, output_type))
        self.maybe_free_model_hooks()
        return maps

    def _in_model_terms(self, partial: PanopticMap) -> _Given:
        """Codes of the given segments by the id policy, on the model's square; a segment keeps at least one of its pixels there."""
        size, num_ids = self.config["image_size"], self.mask_autoencoder.config["num_ids"]
        ids = shrink_partial(partial, size)
        square = PanopticMap(ids)
        rng = np.random.default_rng(0)
        codes = assign_given(square.dense, len(square), square.dense >= 0, num_ids, self.config["id_policy"], rng)
        own_ids = {int(code): s.id for s, code in zip(square.segments, codes, strict=True)}
        return _Given(np.append(codes, VOID)[square.dense], own_ids)

    # ------------------------------------------------------------------------------------------------------------------ checks
    def _check_partials(self, partials: list[PanopticMap], images: list[Tensor], method: InpaintMethod) -> None:
        if method not in get_args(InpaintMethod):
            raise InputError(f"method: expected one of {', '.join(get_args(InpaintMethod))}, got {method!r}")
        if method == "condition" and not self.unet.config["partial"]:
            raise InputError("method: expected project, because this model has no partial-map channels, got 'condition'")
        if len(partials) != len(images):
            raise InputError(f"partial: expected one map per image ({len(images)}), got {len(partials)}")
        most = self.mask_autoencoder.config["num_ids"] - 1
        for index, (partial, image) in enumerate(zip(partials, images, strict=True)):
            if not isinstance(partial, PanopticMap):
                raise InputError(f"partial: expected a PanopticMap, got {type(partial).__name__}")
            if partial.shape != tuple(image.shape[-2:]):
                raise InputError(f"partial: expected the size of image {index}, {tuple(image.shape[-2:])}, got {partial.shape} (H, W)")
            if len(partial) > most:
                raise InputError(f"partial: expected at most {most} segments (the model's ids), got {len(partial)}")

    def _check_choices(self, output_type: str, callback_inputs: Sequence[str]) -> None:
        if output_type not in get_args(OutputType):
            raise InputError(f"output_type: expected one of {', '.join(get_args(OutputType))}, got {output_type!r}")
        unknown = [name for name in callback_inputs if name not in self._callback_tensor_inputs]
        if unknown:
            raise InputError(
                f"callback_on_step_end_tensor_inputs: expected some of {', '.join(self._callback_tensor_inputs)}, got {', '.join(unknown)}"
            )

    def _generators(self, generator: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
        """One per image; a single one hands each image a seed of its own."""
        if isinstance(generator, Sequence):
            if len(generator) != count:
                raise InputError(f"generator: expected one, or one per image ({count}), got {len(generator)}")
            return list(generator)
        if generator is None:
            return [torch.Generator().manual_seed(torch.Generator().seed()) for _ in range(count)]
        if count == 1:
            return [generator]
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def _noise(self, latents: Tensor | None, shape: tuple[int, ...], generators: list[torch.Generator]) -> Tensor:
        if latents is None:
            return image_noise(torch.empty(shape), generators)
        if tuple(latents.shape) != shape:
            raise InputError(f"latents: expected shape {shape}, got {tuple(latents.shape)}")
        return latents

    def _thresholds(self, thresholds: Thresholds | None) -> Thresholds:
        if thresholds is not None:
            return thresholds
        return Thresholds(*self.config["thresholds"])


def _paste(drawn: PanopticMap, partial: PanopticMap, given: _Given) -> PanopticMap:
    """The completed map: drawn codes under the given ids, new segments under unused ids, and every known pixel as it was given."""
    used = {s.id for s in partial.segments}
    fresh = iter(i for i in range(1, len(used) + len(drawn) + 1) if i not in used)
    names = {s.id: given.own_ids[s.id] if s.id in given.own_ids else next(fresh) for s in drawn.segments}
    drawn = drawn.relabel(names)
    ids = np.where(partial.ids != VOID, partial.ids, drawn.ids)
    attributes = {s.id: s for s in partial.segments}
    scores = {s.id: s.score for s in drawn.segments}
    present = (int(i) for i in np.unique(ids) if i != VOID)
    return PanopticMap(ids, tuple(attributes.get(i, Segment(i, score=scores.get(i))) for i in present))


def _as_ids(pmap: PanopticMap, output_type: OutputType) -> Any:
    return pmap.ids if output_type == "np" else torch.from_numpy(pmap.ids.copy())
