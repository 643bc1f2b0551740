"""The model's answers to questions about a photo: as drawn, and with its borders where the photo has them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ldmseg.annotate.completion import Question
from ldmseg.images import load_images
from ldmseg.inference import draw
from ldmseg.inference.finish import finish
from ldmseg.inference.known import KnownMap
from ldmseg.inference.samples import Sample
from ldmseg.panoptic import PanopticMap
from ldmseg.pipeline import LDMSegPipeline

EARLY = 2
"""Steps after which the map is shown for the first time, if at least twice as many follow."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A photo as the model saw it: (3, H, W) uint8, and (1, C, h, w) latents."""

    image: torch.Tensor
    latents: torch.Tensor


@dataclass(frozen=True, eq=False)
class Answers:
    """How a model is asked.

    Args:
        steps: sampling steps.
        seed: of the noise, which also depends on the name of what is drawn: the same photo has the same noise at every answer.
    """

    pipe: LDMSegPipeline
    steps: int = 8
    seed: int = 0

    @classmethod
    def loaded(cls, load: Callable[[], LDMSegPipeline], steps: int, seed: int, threads: int) -> Answers:
        """With the model that `load` gives, on so many threads of torch."""
        torch.set_num_threads(threads)
        return cls(load(), steps, seed)

    @property
    def most(self) -> int:
        """Segments that a question may show."""
        return self.pipe.mask_autoencoder.config["num_ids"] - 1

    @property
    def shows_early(self) -> bool:
        """Whether there are enough steps to show the map before it is drawn to the end."""
        return self.steps >= 3 * EARLY

    def seen(self, picture: Any) -> Seen:
        """A photo, encoded once for all its answers."""
        image = load_images(picture)[0]
        return Seen(image, self.pipe.encode_image(image))

    def drawn(
        self,
        seen: Seen,
        wanted: Question,
        name: str,
        check: Callable[[], None] = lambda: None,
        early: Callable[[PanopticMap], None] | None = None,
    ) -> PanopticMap:
        """The map as drawn.

        Args:
            check: called at every step; what it raises ends the drawing.
            early: called with the map as the model expects it after the first steps (`EARLY`), if `shows_early`.
        """

        def after_step(pipe: LDMSegPipeline, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
            check()
            if early is not None and step + 1 == EARLY and self.shows_early:
                early(self._decoded(tensors["estimate"][0], seen, wanted))
                check()
            return {}

        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        options: dict[str, Any] = {
            "generator": torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1),
            "image_latents": seen.latents,
            "callback_on_step_end": after_step,
            "callback_on_step_end_tensor_inputs": ("estimate",),
            "num_inference_steps": self.steps,
            "boundaries": "drawn",
            "ensemble_size": 1,
            "tile_size": 0.0,
            "classes": "none",  # stuff that is one segment by name would change what people have not touched
        }
        check()
        if not wanted.partial.segments:
            return self.pipe(seen.image, **options).maps[0]
        return self.pipe.inpaint(seen.image, wanted.partial, **options).maps[0]

    def bordered(self, seen: Seen, wanted: Question, drawn: PanopticMap) -> PanopticMap:
        """The final answer."""
        sample = self._sample(seen, wanted)
        options = replace(self.pipe.options, boundaries="photo", tile_size=0.0)
        return finish([drawn], [sample], seen.image, sample.known, options).map

    def _decoded(self, latents: torch.Tensor, seen: Seen, wanted: Question) -> PanopticMap:
        """(C, h, w) -> the map that mask latents stand for, as drawn."""
        networks, sample = self.pipe.networks(), self._sample(seen, wanted)
        coded = draw.code_known(networks, [sample])
        decoded = draw.decode(networks, latents, sample, None if coded is None else coded[0], self.pipe.options)
        assert isinstance(decoded, PanopticMap)  # a sample's task is segments
        return decoded

    def _sample(self, seen: Seen, wanted: Question) -> Sample:
        known = KnownMap.of(wanted.partial) if wanted.partial.segments else None
        return Sample(0, seen.image, torch.Generator(), known=known)
