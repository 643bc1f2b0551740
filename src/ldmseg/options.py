"""The options of a call: defined once, and used by the pipeline, by configurations (`inference:`) and by the command line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypedDict, get_args

from ldmseg.choices import Boundaries, EnsembleFlips, InpaintMethod, Sampler
from ldmseg.errors import InputError, quoted


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_number(name: str, value: Any, *, low: float, high: float, expected: str) -> None:
    if not (_is_number(value) and low <= value <= high and value != float("inf")):
        raise InputError(f"{name}: expected {expected}, got {quoted(value)}")


def _check_whole(value: Any, name: str, *, least: int, expected: str) -> None:
    if not (isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least):
        raise InputError(f"{name}: expected {expected}, got {quoted(value)}")


@dataclass(frozen=True)
class Thresholds:
    """What becomes void.

    Args:
        probability: a pixel whose best id has less softmax probability is void (paper: 0.5).
        min_area: a segment with fewer pixels is void (paper: 512).
        overlap: an id that wins less than this share of the pixels where its own sigmoid is at least 0.5 is no segment (release: 0.5);
            its pixels go to the next best id (in the release they become void).
        support: an id that reaches this probability at no pixel is no segment, and its pixels go to the next best id. Between two segments
            the decoder passes through the codes between theirs. This threshold removes such lines without an area threshold.

    Raises:
        InputError: a value is out of range.
    """

    probability: float = 0.5
    min_area: int = 512
    overlap: float = 0.5
    support: float = 0.0

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("probability", "overlap", "support"):
            _check_number(name, getattr(self, name), low=0, high=1, expected="0..1")
        _check_whole(self.min_area, "min_area", least=0, expected="0 pixels or more")


GAP_FREE = Thresholds(probability=0.0, min_area=0, overlap=0.5, support=0.9)
"""Thresholds that leave no void."""


@dataclass(frozen=True)
class InferenceOptions:
    """How photos are segmented and partial maps completed. A pipeline keeps one as its defaults; a call names what differs.

    Args:
        num_inference_steps: sampling steps; more are slower and, to a point, better.
        sampler: `ddim`, `ddpm` or `renoise` (`ldmseg.diffusion.sampler`). `project` and `resample` use `renoise` unless a call names one.
        guidance_scale: strength of the guidance by a descriptor, out = empty + scale (out - empty); 1 is off.
        thresholds: what is left void.
        boundaries: `photo` moves the borders of segments to the edges of the photo, without a network; `drawn` leaves them as the network
            drew them.
        boundary_trust: how much the drawing counts beside the photo and the given labels where borders are put, 0 or more
            (`ldmseg.inference.boundaries.BoundarySettings`); 0 leaves the random walker on the given labels alone.
        min_component_area: pixels. Connected components of a segment become segments of their own; a component with fewer pixels goes to
            the nearest segment. None leaves segments in several components.
        ensemble_size: K samples are drawn of each photo; the map is what they agree on (`ldmseg.inference.ensemble`).
        ensemble_flips: how some samples mirror the photo: `none`, `horizontal` (left to right), or `both` (also top to bottom, for photos
            without a natural orientation, such as those of a microscope).
        tile_size: the side of square windows, in pixels, or up to 1 as a share of the photo's shorter side. Each window is completed from
            what its neighbours have drawn (`ldmseg.inference.tiles`). For large photos of small things. 0 is the whole photo at once.
        tile_overlap: the least share of a window that the next one has in common with it.
        method: how a partial map is completed (`LDMSegPipeline.inpaint`).
        strength: for `refine`, how far towards noise the rough map is taken, above 0 to 1.
        resamplings: for `resample`, how often each stretch of steps is repeated.

    Raises:
        InputError: a value is of the wrong type or out of range.
    """

    num_inference_steps: int = 50
    sampler: Sampler = "ddim"
    guidance_scale: float = 1.0
    thresholds: Thresholds = GAP_FREE
    boundaries: Boundaries = "photo"
    boundary_trust: float = 500.0
    min_component_area: int | None = None
    ensemble_size: int = 1
    ensemble_flips: EnsembleFlips = "none"
    tile_size: float = 0.0
    tile_overlap: float = 0.25
    method: InpaintMethod = "auto"
    strength: float = 0.5
    resamplings: int = 4

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if isinstance(self.thresholds, Mapping):
            object.__setattr__(self, "thresholds", _updated(GAP_FREE, self.thresholds, "thresholds"))
        if not isinstance(self.thresholds, Thresholds):
            raise InputError(f"thresholds: expected Thresholds, got {type(self.thresholds).__name__}")
        choices = {"sampler": Sampler, "boundaries": Boundaries, "ensemble_flips": EnsembleFlips, "method": InpaintMethod}
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                raise InputError(f"{name}: expected one of {', '.join(get_args(choice))}, got {quoted(getattr(self, name))}")
        for name in ("num_inference_steps", "ensemble_size", "resamplings"):
            _check_whole(getattr(self, name), name, least=1, expected="at least 1")
        if self.min_component_area is not None:
            _check_whole(self.min_component_area, "min_component_area", least=0, expected="0 pixels or more")
        _check_number("boundary_trust", self.boundary_trust, low=0, high=float("inf"), expected="a number from 0 up")
        _check_number("guidance_scale", self.guidance_scale, low=0, high=float("inf"), expected="a number from 0 up")
        tiles = "pixels, or a share of the photo's shorter side up to 1, or 0 for none"
        _check_number("tile_size", self.tile_size, low=0, high=float("inf"), expected=tiles)
        if not (_is_number(self.tile_overlap) and 0 <= self.tile_overlap < 1):
            raise InputError(f"tile_overlap: expected 0 up to below 1, got {quoted(self.tile_overlap)}")
        if not (_is_number(self.strength) and 0 < self.strength <= 1):
            raise InputError(f"strength: expected above 0 to 1, got {quoted(self.strength)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The options that `to_dict` wrote; what is missing has its default.

        Raises:
            InputError: an unknown name, or a value out of range.
        """
        return _updated(cls(), values, "inference")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a pipeline's configuration holds them."""
        return asdict(self)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """These options with other values, None among them; `thresholds` may be some of them by name.

        Raises:
            InputError: an unknown name, or a value out of range.
        """
        return _updated(self, values, "options")

    def updated(self, asked: Mapping[str, Any]) -> Self:
        """These options with those of a call; an option that is None keeps its value, and `thresholds` may be some of them by name.

        Raises:
            InputError: an unknown name, or a value out of range.
        """
        return self.changed({name: value for name, value in asked.items() if value is not None})

    def resolved(self, asked: Mapping[str, Any], output_type: str = "panoptic") -> Self:
        """`updated`, and what follows from the combination of options, unless the call names the option:

        - `project` and `resample` sample by `renoise` (algorithm 3);
        - `refine` takes the whole map at once, so it uses no tiles;
        - an ensemble of tiles keeps its borders as drawn, because the vote of overlapping windows places them better than the photo does;
        - latents are those of the photo as it is, so an ensemble of latents has no flips.
        """
        options, implied = self.updated(asked), dict[str, Any]()
        if options.method in ("project", "resample"):
            implied["sampler"] = "renoise"
        if options.method == "refine":
            implied["tile_size"] = 0.0
        if options.tile_size and options.ensemble_size > 1:
            implied["boundaries"] = "drawn"
        if output_type == "latent":
            implied["ensemble_flips"] = "none"
        return replace(options, **{name: value for name, value in implied.items() if asked.get(name) is None})


class InferenceKwargs(TypedDict, total=False):
    """`InferenceOptions` as keyword arguments of a call; one that is left out or None has the model's default."""

    num_inference_steps: int | None
    sampler: Sampler | None
    guidance_scale: float | None
    thresholds: Thresholds | Mapping[str, float] | None
    boundaries: Boundaries | None
    boundary_trust: float | None
    min_component_area: int | None
    ensemble_size: int | None
    ensemble_flips: EnsembleFlips | None
    tile_size: float | None
    tile_overlap: float | None
    method: InpaintMethod | None
    strength: float | None
    resamplings: int | None


RENAMED = {"follow_edges": "boundaries", "min_piece": "min_component_area"}
"""Names of version 0.1 that still work in calls and saved pipelines."""


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under today's names; an old name is warned of."""
    found = dict(values)
    for old, new in RENAMED.items():
        if old in found:
            warnings.warn(f"{old} is now {new}; the old name goes in the next version", FutureWarning, stacklevel=3)
            value = found.pop(old)
            found[new] = {True: "photo", False: "drawn"}.get(value, value) if old == "follow_edges" else value
    return found


_FLAT = ("num_inference_steps", "sampler", "thresholds", "follow_edges", "guidance_scale", "tile_size", "min_piece", "ensemble_flips")
"""Options that version 0.1 kept one by one."""


def with_inference(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a pipeline that version 0.1 saved, with its options as one entry; any other as it is."""
    if "inference" in config or not any(name in config for name in _FLAT):
        return config
    flat = {name: config[name] for name in _FLAT if config.get(name) is not None}
    if "thresholds" in flat:
        flat["thresholds"] = dict(zip(("probability", "min_area", "overlap", "support"), flat["thresholds"], strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the user did not write these names
        flat = renamed(flat)
    kept = {name: value for name, value in config.items() if name not in (*_FLAT, "rescale_std")}
    return {**kept, "inference": flat}


def _updated(base: Any, values: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in fields(base)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise InputError(f"{where}: expected some of {', '.join(known)}, got {quoted(unknown[0])}")
    changes = dict(values)
    if isinstance(changes.get("thresholds"), Mapping):
        changes["thresholds"] = _updated(base.thresholds, changes["thresholds"], "thresholds")
    return replace(base, **changes)
