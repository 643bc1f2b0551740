"""The pipeline: a photo -> its map of segments, and a photo with a partial map -> the whole map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Self, Unpack

import diffusers
import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from ldmseg.choices import OutputType, Task
from ldmseg.dense import DepthMap, Target
from ldmseg.diffusion.guidance import check_descriptor, check_guidance
from ldmseg.diffusion.schedule import NoiseSchedule
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.images import ImageInput, load_images
from ldmseg.inference import draw
from ldmseg.inference.finish import Answer, finish, finish_depth, with_names
from ldmseg.inference.known import KnownMap, PartialInput, check_count, known_maps, load_partials
from ldmseg.inference.naming import Classes, ClassesInput, ClassifierClasses, chosen_classes, named
from ldmseg.inference.output import LDMSegOutput
from ldmseg.inference.samples import STEP_TENSORS, Call, Generators, Sample, StepCallback, checked_method, make_samples
from ldmseg.inference.tasks import check_tasks, chosen_task, options_for
from ldmseg.inference.tiles import draw_in_tiles
from ldmseg.models.classifier import SegmentClassifier
from ldmseg.models.denoiser import Denoiser
from ldmseg.models.descriptors import Descriptor
from ldmseg.models.image_encoder import ImageEncoder
from ldmseg.models.loading import check_components, loading_errors, pipeline_folder
from ldmseg.models.manifest import check_manifest, exported
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.quiet import no_loading_bar
from ldmseg.models.targets import TargetCodec, build_codecs
from ldmseg.options import InferenceKwargs, InferenceOptions, renamed, with_inference
from ldmseg.panoptic import PanopticMap

__all__ = ["LDMSegOutput", "LDMSegPipeline"]


class LDMSegPipeline(DiffusionPipeline):
    """Latent diffusion for panoptic segmentation and mask completion (LDMSeg, algorithms 2 and 3).

    Args:
        mask_autoencoder: stage 1.
        image_encoder: image latents.
        unet: the denoiser.
        scheduler: the noise schedule.
        image_size: pixels of the square that an image is resized to, as in training.
        id_policy: how given segments of a partial map get the model's ids, as in training: `random` or `spatial`.
        descriptor: makes the tokens of a denoiser with cross-attention; none for one without.
        classifier: names segments; none leaves them without categories.
        inference: the defaults of the calls, as `InferenceOptions` or its fields by name; kept in the model's configuration.
        tasks: what the model draws, as `ldmseg.models.targets.build_codecs` takes it; segments alone by default.

    Raises:
        InputError: the parts do not fit together, or an option is out of range.
    """

    mask_autoencoder: MaskAutoencoder
    image_encoder: ImageEncoder
    unet: Denoiser
    scheduler: NoiseSchedule
    descriptor: Descriptor | None
    classifier: SegmentClassifier | None

    model_cpu_offload_seq = "image_encoder->descriptor->unet->mask_autoencoder->classifier"  # type: ignore[assignment]
    _optional_components = ["descriptor", "classifier"]  # noqa: RUF012  # as diffusers declares it
    _callback_tensor_inputs = STEP_TENSORS

    def __init__(
        self,
        mask_autoencoder: MaskAutoencoder,
        image_encoder: ImageEncoder,
        unet: Denoiser,
        scheduler: NoiseSchedule,
        image_size: int = 512,
        id_policy: str = "random",  # diffusers reads these annotations, and logs a line for a Literal
        descriptor: Descriptor | None = None,
        inference: InferenceOptions | dict | None = None,
        classifier: SegmentClassifier | None = None,
        tasks: dict | None = None,
    ) -> None:
        super().__init__()
        if mask_autoencoder.downscale != image_encoder.downscale:
            raise InputError(
                f"image_encoder: expected the mask autoencoder's downscale {mask_autoencoder.downscale}, got {image_encoder.downscale}"
            )
        options = inference if isinstance(inference, InferenceOptions) else InferenceOptions.from_dict(inference or {})
        check_descriptor(descriptor, unet)
        check_guidance(descriptor, options.guidance_scale)
        if classifier is not None:
            classifier.check(image_encoder)
        self.register_modules(mask_autoencoder=mask_autoencoder, image_encoder=image_encoder, unet=unet, scheduler=scheduler)
        self.register_modules(descriptor=descriptor, classifier=classifier)
        self.register_to_config(image_size=image_size, id_policy=id_policy, inference=options.to_dict(), tasks=tasks)
        check_tasks(self.tasks, descriptor)

    @property
    def options(self) -> InferenceOptions:
        """The defaults of the calls."""
        return InferenceOptions.from_dict(self.config["inference"])

    @property
    def codecs(self) -> dict[Task, TargetCodec]:
        """How each task's target is written as ids: the categories of a semantic map, the range and unit of depth."""
        return build_codecs(self.config["tasks"] or {"panoptic": {}}, self.mask_autoencoder.config["num_ids"], self.config["id_policy"])

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the model draws."""
        return tuple(self.codecs)

    def chosen_task(self, task: Task | None = None) -> Task:
        """The task of a call: the one that is named, else segments, or the only thing that the model draws.

        Raises:
            InputError: the model does not draw it.
        """
        return chosen_task(task, self.tasks)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str] = "default", **kwargs: Any) -> Self:
        """diffusers' own, where `default` is the bundled model.

        Raises:
            InputError: nothing usable is there: no such folder or Hub id, a file is missing, truncated, of another architecture or another
                export.
        """
        folder = pipeline_folder(pretrained_model_name_or_path)
        with loading_errors("--model", "a pipeline's folder or Hub id", str(pretrained_model_name_or_path)):
            check_manifest(folder)
            with no_loading_bar():
                return super().from_pretrained(folder, **kwargs)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """diffusers' own; a folder that version 0.1 wrote has the options one by one, under older names."""
        config = super().load_config(*args, **kwargs)
        if not isinstance(config, dict):
            return config
        check_components(config, args[0] if args else "")
        return with_inference(config)

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """diffusers' own; in full or not at all, with a manifest that `from_pretrained` checks (`ldmseg.models.manifest`).

        Components are recorded under the package's name, and not under their modules' names.

        Raises:
            InputError: the folder cannot be written: disk full, not writable.
        """
        parts = {name: getattr(part, "_orig_mod", part) for name, part in self.components.items()}  # _orig_mod: under torch.compile
        own = {name: ("ldmseg", type(part).__name__) for name, part in parts.items() if type(part).__module__.startswith("ldmseg.")}
        self.register_to_config(**own)
        with exported(save_directory) as folder:
            super().save_pretrained(folder, **kwargs)

    @torch.no_grad()
    def encode_image(self, image: ImageInput | Sequence[ImageInput]) -> Tensor:
        """Image latents of photos, (B, C, h, w). Calls take them as `image_latents`, so that a photo is encoded once for many calls."""
        return draw.encode_photos(self.networks(), load_images(image))

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        *,
        generator: Generators = None,
        latents: Tensor | None = None,
        image_latents: Tensor | None = None,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt: str | Sequence[str] | None = None,
        task: Task | None = None,
        classes: ClassesInput = "own",
        **options: Unpack[InferenceKwargs],
    ) -> LDMSegOutput:
        """Segment photos (algorithm 2), or draw another task of the model.

        Args:
            image: a PIL image of any mode, an (H, W), (H, W, 3) or (H, W, 4) array of uint8, uint16 or floats in 0..1, a (3, H, W) or
                (B, 3, H, W) tensor in 0..1 (or uint8), a path, or a list of such.
            generator: one, or one per image. With one per image the result of an image does not depend on its batch.
            latents: (B K, C, h, w) standard normal noise to start from, in place of drawn noise; the K of an image stand together.
            image_latents: (B, C, h, w) what `encode_image` made of these photos. Mirrored samples of an ensemble are encoded anew.
            output_type: see `LDMSegOutput`.
            return_dict: False returns a tuple.
            callback_on_step_end: (pipeline, step, timestep, tensors) -> tensors to put back, after each step.
            callback_on_step_end_tensor_inputs: of `latents`, `estimate`.
            prompt: one caption per image, for a model whose descriptor reads captions.
            task: one of `pipe.tasks`; left out, segments. `semantic` gives maps of categories, `depth` gives `ldmseg.dense.DepthMap`s.
            classes: what names the segments: `own`, the model's classifier where it has one; `none`; or an `OpenVocabulary`.
            options: see `InferenceOptions`; an option that is left out is as in `pipe.options`.

        Raises:
            InputError: an argument is of the wrong kind, shape or range; no network has run then.
        """
        inputs = tuple(callback_on_step_end_tensor_inputs)
        chosen = self.chosen_task(task)
        call = Call(generator, latents, image_latents, output_type, return_dict, callback_on_step_end, inputs, prompt, chosen)
        return self._answer(load_images(image), None, call, renamed(options), chosen_classes(classes, self.own_classes, chosen))

    @torch.no_grad()
    def inpaint(
        self,
        image: ImageInput | Sequence[ImageInput],
        partial: PartialInput | Sequence[PartialInput],
        *,
        certain: NDArray[np.bool_] | Sequence[NDArray[np.bool_]] | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        image_latents: Tensor | None = None,
        output_type: OutputType = "panoptic",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt: str | Sequence[str] | None = None,
        classes: ClassesInput = "own",
        **options: Unpack[InferenceKwargs],
    ) -> LDMSegOutput:
        """Complete partial maps (section 3.3): void pixels are filled in, given ones come back exactly, given ids survive.

        | method | does |
        |---|---|
        | `condition` | gives the partial map to the network, which needs partial-map channels |
        | `project` | puts what is known back into the estimate at each step (algorithm 3) |
        | `resample` | the same, with each stretch of steps repeated `resamplings` times (RePaint) |
        | `refine` | changes a rough map: its latents are noised to `strength` and denoised again |
        | `auto` | `condition` where the model can, else `project` |

        The other arguments are those of `__call__`.

        Args:
            partial: one map per image, of the image's size; VOID is unknown. New segments get ids that no given segment has. A map may
                be given in any of the ways that `load_partials` lists: a path, a picture, an array or tensor of ids.
            certain: for `refine`, (H, W) per image, the pixels that come back as given; none by default.

        Raises:
            InputError: also when a map's size is not its image's, when a map has more segments than the model has ids, or when the
                model has no partial-map channels for `condition`.
        """
        self.chosen_task("panoptic")
        images, asked = load_images(image), renamed(options)
        asked["method"] = checked_method(asked.get("method") or self.options.method, self.unet.config["partial"])
        known = known_maps(load_partials(partial), images, certain, refine=asked["method"] == "refine")
        inputs = tuple(callback_on_step_end_tensor_inputs)
        call = Call(generator, latents, image_latents, output_type, return_dict, callback_on_step_end, inputs, prompt)
        return self._answer(images, known, call, asked, chosen_classes(classes, self.own_classes))

    def name_segments(
        self,
        image: ImageInput | Sequence[ImageInput],
        maps: PanopticMap | Sequence[PanopticMap],
        classes: ClassesInput = "own",
    ) -> list[PanopticMap]:
        """Maps of any origin with a category and a score for each segment; stuff of one category becomes one segment.

        Args:
            image: as for a call.
            maps: one per image; what categories they have is not used.
            classes: as for a call.

        Raises:
            InputError: nothing names segments here, or there are not as many maps as images.
        """
        images, bare = load_images(image), [maps] if isinstance(maps, PanopticMap) else list(maps)
        chosen = chosen_classes(classes, self.own_classes)
        if chosen is None:
            raise InputError("classes: expected a model with a classifier or an OpenVocabulary, got neither")
        if len(bare) != len(images):
            raise InputError(f"maps: expected one per image ({len(images)}), got {len(bare)}")
        found = [named(pmap, chosen.probabilities(one, pmap), chosen.categories) for one, pmap in zip(images, bare, strict=True)]
        self.maybe_free_model_hooks()
        return found

    @property
    def own_classes(self) -> Classes | None:
        """What names segments by the model's own classifier; None without one."""
        if self.classifier is None:
            return None
        return ClassifierClasses(self.classifier, self.image_encoder, self.config["image_size"], self._execution_device)

    # --------------------------------------------------------------------------------------------------------------------- the road
    def _answer(
        self, images: list[Tensor], known: list[KnownMap] | None, call: Call, asked: Mapping[str, Any], classes: Classes | None
    ) -> LDMSegOutput:
        # 1. Options, and every check
        options = self._resolved(asked, call, known)
        networks = self.networks()
        call.check(options, len(images), self.descriptor)
        call.check_latents(len(images), options.ensemble_size, networks.mask_shape, networks.image_shape)
        draw.sampling_steps(self.scheduler, options, known is not None)
        for one in () if known is None or options.tile_size else known:
            check_count(one, networks.num_ids)

        # 2. The samples of all photos
        samples = make_samples(images, known, call, options, self.descriptor)

        # 3. Each sample's map, as drawn
        if call.output_type == "latent":
            latents, _ = self._latents(networks, samples, call, options)
            self.maybe_free_model_hooks()
            maps = list(latents if options.ensemble_size == 1 else latents.unflatten(0, (-1, options.ensemble_size)))
            return LDMSegOutput(maps=maps) if call.return_dict else (maps,)  # type: ignore[return-value]  # as diffusers has it

        def drawn_maps(samples: Sequence[Sample]) -> list[Any]:  # of the call's task
            latents, coded = self._latents(networks, samples, call, options)
            each = coded or [None] * len(samples)
            return [draw.decode(networks, *one, options) for one in zip(latents, samples, each, strict=True)]

        drawn: list[Any]  # PanopticMap or DepthMap, by the task
        if options.tile_size:
            drawn = draw_in_tiles(samples, options.tile_size, options.tile_overlap, networks.num_ids - 1, drawn_maps)
        else:
            drawn = drawn_maps(samples)

        # 4. What the samples of each photo agree on, with its borders and components, and the names of its segments
        answers: list[Answer] = []
        for index, image in enumerate(images):
            own = slice(index * options.ensemble_size, (index + 1) * options.ensemble_size)
            if call.task == "depth":
                answers.append(finish_depth(drawn[own], samples[own]))  # type: ignore[arg-type]  # DepthMaps, by the task
                continue
            given = None if known is None else known[index]
            answer = finish(drawn[own], samples[own], image, given, options)
            answers.append(answer if classes is None else with_names(answer, classes, image, given))
        self.maybe_free_model_hooks()
        return _output(answers, call, self.codecs[call.task].segments_are if classes is None else classes.categories)

    def _resolved(self, asked: Mapping[str, Any], call: Call, known: list[KnownMap] | None) -> InferenceOptions:
        if known is None and any(asked.get(name) is not None for name in ("method", "strength", "resamplings")):
            raise InputError("method, strength, resamplings: expected with inpaint only, which completes a partial map")
        defaults = options_for(call.task, asked, self.options)
        tiled = defaults.updated(asked).tile_size
        if known is None and tiled:  # each window completes what its neighbours have drawn
            asked = {**asked, "method": checked_method(self.options.method, self.unet.config["partial"])}
        return defaults.resolved(asked, call.output_type)

    def _latents(self, networks: draw.Networks, samples: Sequence[Sample], call: Call, options: InferenceOptions) -> Any:
        """(S, C, h, w) mask latents, and what was known of each sample in the model's ids."""
        coded = draw.code_known(networks, samples)
        steps = draw.sampling_steps(self.scheduler, options, coded is not None)
        with self.progress_bar(total=len(steps)) as progress:

            def after_step(index: int, timestep: int, x: Tensor, clean: Tensor) -> Tensor:
                progress.update()
                if call.callback_on_step_end is None:
                    return x
                tensors = {"latents": x, "estimate": clean}
                chosen = {name: tensors[name] for name in call.callback_on_step_end_tensor_inputs}
                return call.callback_on_step_end(self, index, timestep, chosen).get("latents", x)

            return draw.draw_latents(networks, samples, options, coded, call.latents, after_step), coded

    def networks(self) -> draw.Networks:
        """The parts that draw, for the functions of `ldmseg.inference.draw`."""
        parts = self.mask_autoencoder, self.image_encoder, self.unet, self.scheduler, self.descriptor
        return draw.Networks(*parts, self.config["image_size"], self.config["id_policy"], self._execution_device, self.codecs)


def _output(answers: Sequence[Answer], call: Call, categories: tuple[Category, ...] | None) -> LDMSegOutput:
    as_asked = {"panoptic": lambda m: m, "np": _array, "pt": lambda m: torch.from_numpy(_array(m).copy())}[call.output_type]
    output = LDMSegOutput(maps=[as_asked(one.map) for one in answers], categories=categories)
    if answers and answers[0].confidence is not None:
        output.confidence = [one.confidence for one in answers if one.confidence is not None]
        output.samples = [one.samples for one in answers if one.samples is not None]
    if call.return_dict:
        return output
    return tuple(value for value in vars(output).values() if value is not None)  # type: ignore[return-value]  # as diffusers has it


def _array(target: Target) -> NDArray:
    """(H, W) ids or depths."""
    return target.values if isinstance(target, DepthMap) else target.ids


diffusers.LDMSegPipeline = LDMSegPipeline  # type: ignore[attr-defined]  # where `DiffusionPipeline.from_pretrained` looks a folder's class up
