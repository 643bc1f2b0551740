"""Figures of speed of calls in this process: decoding, batches, precisions, numbers of steps (`speed.py`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _timing import Clock, extra_memory, in_turn, median_ms, ratio
from numpy.typing import NDArray
from photos import unaided
from speed_sizes import VGA, resized

from ldmseg import LDMSegPipeline, PanopticMap
from ldmseg.data.datasets import PanopticDataset
from ldmseg.inference import draw
from ldmseg.inference.postprocess import to_panoptic
from ldmseg.inference.samples import Call, make_samples

STEPS = (1, 2, 4, 20)
FEW = 4
"""Steps of the calls that are timed."""
EXACT_ENOUGH = 0.2
"""Points of PQ, scenes and photos, by which a faster precision may differ."""
WORTH_IT = 1.05
"""Times faster: below it, a precision's quality is not measured."""


@dataclass(frozen=True)
class Setting:
    """What all figures are measured with."""

    pipe: LDMSegPipeline
    model: str
    photos: PanopticDataset
    photos_name: str
    scenes: PanopticDataset
    seeds: list[int]
    rounds: int
    against: str | None
    with_quality: bool
    device: torch.device

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    def vga(self, count: int) -> list[NDArray[np.uint8]]:
        """(480, 640, 3) photos."""
        return [resized(self.photos.image(i % len(self.photos)), *VGA) for i in range(count)]


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def all_channels(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, h, w) -> (H, W) ids, by N numbers for each pixel of the result: resize, softmax, argmax."""
    probability, ids = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0].softmax(0).max(0)
    return torch.where(probability > 0, ids, 0)


def decode(setting: Setting) -> dict[str, Any]:
    """Latents -> map of 640 x 480 of all the model's ids, and the same from logits on."""
    pipe, side = setting.pipe, setting.pipe.config["image_size"]
    options = pipe.options.changed({"num_inference_steps": FEW})
    networks = pipe.networks()  # the stages of a call, without the call
    with torch.no_grad():
        samples = make_samples(draw_images(setting.vga(1)), None, Call(generator=seeded(1)), options, None)
        latents = draw.draw_latents(networks, samples, options)
        logits = pipe.mask_autoencoder.decode(latents)[0, :, :side, :side]

        def ours_from_latents() -> PanopticMap:
            return draw.decode(networks, latents[0], samples[0], None, options)

        def all_from_latents() -> torch.Tensor:
            return all_channels(pipe.mask_autoencoder.decode(latents)[0, :, :side, :side], VGA).cpu()

        sides: dict[str, Callable[[], Any]] = {
            "all_from_latents": all_from_latents,
            "ours_from_latents": ours_from_latents,
            "all_from_logits": lambda: all_channels(logits, VGA).cpu(),
            "ours_from_logits": lambda: to_panoptic(logits, options.thresholds, VGA),
        }
        times = in_turn(setting.clock, sides, setting.rounds)
        memory = {name: extra_memory(run, setting.device) for name, run in sides.items()}
    return {
        "clock": setting.clock.name,
        "ids": logits.shape[0],
        "rounds": setting.rounds,
        "milliseconds": {name: median_ms(values) for name, values in times.items()},
        "mebibytes": memory,
        "times_faster": {kind: ratio(times[f"all_{kind}"], times[f"ours_{kind}"]) for kind in ("from_latents", "from_logits")},
        "share_of_memory": {kind: round(memory[f"ours_{kind}"] / memory[f"all_{kind}"], 3) for kind in ("from_latents", "from_logits")},
    }


def draw_images(photos: list[NDArray[np.uint8]]) -> list[torch.Tensor]:
    return [torch.from_numpy(photo.copy()).movedim(-1, 0) for photo in photos]


def batch(setting: Setting, count: int = 8) -> dict[str, Any]:
    """`count` photos in one call, and each in its own, with the same generators."""
    pipe, photos = setting.pipe, setting.vga(count)
    found: dict[str, list[PanopticMap]] = {}

    def together() -> None:
        found["together"] = pipe(photos, generator=seeded(count), num_inference_steps=FEW).maps

    def alone() -> None:
        each = zip(photos, seeded(count), strict=True)
        found["alone"] = [pipe(photo, generator=generator, num_inference_steps=FEW).maps[0] for photo, generator in each]

    times = in_turn(setting.clock, {"alone": alone, "together": together}, setting.rounds)
    pairs = list(zip(found["alone"], found["together"], strict=True))
    return {
        "clock": setting.clock.name,
        "photos": count,
        "steps": FEW,
        "rounds": setting.rounds,
        "milliseconds_per_photo": {name: round(median_ms(values) / count, 1) for name, values in times.items()},
        "times_faster": ratio(times["alone"], times["together"]),
        "maps_equal": sum(bool(np.array_equal(a.ids, b.ids)) for a, b in pairs),
        "largest_share_of_pixels_that_differ": max(float((a.ids != b.ids).mean()) for a, b in pairs),
    }


def steps(setting: Setting) -> dict[str, Any]:
    """Panoptic quality and seconds for each number of steps."""
    rows = {"photos": (setting.photos, setting.seeds), "scenes": (setting.scenes, setting.seeds[:1])}
    return {
        name: [unaided(setting.pipe, data, seeds, num_inference_steps=number) for number in STEPS] for name, (data, seeds) in rows.items()
    }


# ---------------------------------------------------------------------------------------------------------------------- precision
def precision(setting: Setting) -> dict[str, Any]:
    """Calls of the same photo under each precision and layout; the quality of those that are faster."""
    baseline = fresh(setting)
    reference = quality(setting, baseline)
    rows: dict[str, Any] = {}
    for name, (prepare, context) in variants(setting.device).items():
        try:
            rows[name] = _variant(setting, baseline, prepare, context, reference)
        except RuntimeError as error:  # this machine or network does not have it
            rows[name] = {"fails": str(error).splitlines()[0]}
        print(name, rows[name], flush=True)
    return {"clock": setting.clock.name, "steps": FEW, "rounds": setting.rounds, "float32_pq": reference, "variants": rows}


def _variant(
    setting: Setting,
    baseline: LDMSegPipeline,
    prepare: Callable[[LDMSegPipeline], Any],
    context: Callable[[], AbstractContextManager[Any]],
    reference: dict[str, float],
) -> dict[str, Any]:
    photo, changed = setting.vga(1)[0], fresh(setting)
    prepare(changed)
    times = in_turn(
        setting.clock, {"float32": call(baseline, photo, nullcontext), "changed": call(changed, photo, context)}, setting.rounds
    )
    faster = ratio(times["float32"], times["changed"])
    row: dict[str, Any] = {"milliseconds": {side: median_ms(values) for side, values in times.items()}, "times_faster": faster}
    if faster >= WORTH_IT:
        with context():
            found = quality(setting, changed)
        difference = {data: round(found[data] - reference[data], 2) for data in found}
        row |= {"pq": found, "pq_difference": difference, "exact_enough": max(map(abs, difference.values())) <= EXACT_ENOUGH}
    return row


def variants(device: torch.device) -> dict[str, tuple[Callable[[LDMSegPipeline], Any], Callable[[], AbstractContextManager[Any]]]]:
    """How a pipeline is prepared, and under what it is called."""

    def cast(dtype: torch.dtype) -> Callable[[LDMSegPipeline], Any]:
        return lambda pipe: pipe.to(dtype=dtype)

    def channels_last(pipe: LDMSegPipeline) -> None:
        for network in (pipe.unet, pipe.mask_autoencoder, pipe.image_encoder):
            network.to(memory_format=torch.channels_last)

    def compiled(**options: Any) -> Callable[[LDMSegPipeline], Any]:
        def prepare(pipe: LDMSegPipeline) -> None:
            pipe.unet.forward = torch.compile(pipe.unet.forward, **options)

        return prepare

    def both(pipe: LDMSegPipeline) -> None:
        channels_last(pipe)
        compiled()(pipe)

    found: dict[str, tuple[Callable[[LDMSegPipeline], Any], Callable[[], AbstractContextManager[Any]]]] = {
        "bf16_autocast": (lambda pipe: None, lambda: torch.autocast(device.type, torch.bfloat16)),
        "bf16": (cast(torch.bfloat16), nullcontext),
        "channels_last": (channels_last, nullcontext),
        "compile": (compiled(), nullcontext),
        "compile_channels_last": (both, nullcontext),
    }
    if device.type == "cuda":
        found["fp16"] = (cast(torch.float16), nullcontext)
        found["fp16_autocast"] = (lambda pipe: None, lambda: torch.autocast(device.type, torch.float16))
        found["cuda_graphs"] = (compiled(mode="reduce-overhead"), nullcontext)
    return found


def fresh(setting: Setting) -> LDMSegPipeline:
    pipe = LDMSegPipeline.from_pretrained(setting.model).to(setting.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe: LDMSegPipeline, photo: NDArray[np.uint8], context: Callable[[], AbstractContextManager[Any]]) -> Callable[[], Any]:
    def run() -> None:
        with context():
            pipe(photo, generator=seeded(1), num_inference_steps=FEW)

    return run


def quality(setting: Setting, pipe: LDMSegPipeline) -> dict[str, float]:
    """PQ in percent at few steps, photos and scenes."""
    return {
        "photos": unaided(pipe, setting.photos, setting.seeds, num_inference_steps=FEW)["pq"],
        "scenes": unaided(pipe, setting.scenes, setting.seeds[:1], num_inference_steps=FEW)["pq"],
    }
