from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

import pytest

from ldmseg import InferenceOptions, Thresholds
from ldmseg.cli import options as flags
from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.options import GAP_FREE, InferenceKwargs, renamed


def test_keyword_arguments_are_the_options() -> None:
    """The dictionary type that editors complete from names the same options, of the same types, each of which may be None."""
    options, kwargs = typing.get_type_hints(InferenceOptions), typing.get_type_hints(InferenceKwargs)
    assert list(kwargs) == [field.name for field in fields(InferenceOptions)]
    for name in set(kwargs) - {"thresholds"}:
        assert kwargs[name] == options[name] | None


def test_plain_values_and_back() -> None:
    options = InferenceOptions(num_inference_steps=7, thresholds=Thresholds(min_area=3), tile_size=0.5)
    assert InferenceOptions.from_dict(options.to_dict()) == options
    assert InferenceOptions.from_dict({"thresholds": {"support": 0.1}}).thresholds == Thresholds(0.0, 0, 0.5, 0.1)


def test_what_is_not_asked_for_keeps_its_value() -> None:
    base = InferenceOptions(num_inference_steps=7, ensemble_size=3)
    assert base.updated({"num_inference_steps": None, "sampler": "ddpm"}) == InferenceOptions(
        num_inference_steps=7, ensemble_size=3, sampler="ddpm"
    )
    some = base.updated({"thresholds": {"probability": 0.25}}).thresholds
    assert some == Thresholds(0.25, GAP_FREE.min_area, GAP_FREE.overlap, GAP_FREE.support)


@pytest.mark.parametrize(
    ("defaults", "asked", "output", "expected"),
    [
        ({}, {"method": "project"}, "panoptic", {"sampler": "renoise"}),
        ({}, {"method": "project", "sampler": "ddpm"}, "panoptic", {"sampler": "ddpm"}),
        ({"tile_size": 0.5}, {"method": "refine"}, "panoptic", {"tile_size": 0.0}),
        ({"tile_size": 0.5}, {"ensemble_size": 2}, "panoptic", {"boundaries": "drawn"}),
        ({"tile_size": 0.5}, {"ensemble_size": 2, "boundaries": "photo"}, "panoptic", {"boundaries": "photo"}),
        ({"tile_size": 0.5}, {}, "panoptic", {"boundaries": "photo"}),
        ({"ensemble_flips": "both"}, {"ensemble_size": 2}, "latent", {"ensemble_flips": "none"}),
    ],
)
def test_what_follows_from_a_combination(defaults: dict, asked: dict, output: str, expected: dict) -> None:
    resolved = InferenceOptions(**defaults).resolved(asked, output)
    assert {name: getattr(resolved, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: expected at least 1, got 0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps: expected at least 1, got 2.5"),
        ({"sampler": "euler"}, "sampler: expected one of ddim, ddpm, renoise, got 'euler'"),
        ({"guidance_scale": float("inf")}, "guidance_scale: expected a number from 0 up, got inf"),
        ({"thresholds": 3}, "thresholds: expected Thresholds, got int"),
        ({"thresholds": {"overlap": 2}}, r"overlap: expected 0\.\.1, got 2"),
        ({"thresholds": {"area": 2}}, "thresholds: expected some of probability, min_area, overlap, support, got 'area'"),
        ({"boundary_trust": -1}, "boundary_trust: expected a number from 0 up, got -1"),
        ({"boundaries": True}, "boundaries: expected one of photo, drawn, got True"),
        ({"min_component_area": -1}, "min_component_area: expected 0 pixels or more, got -1"),
        ({"tile_size": -1}, "tile_size: expected pixels"),
        ({"tile_overlap": 1}, "tile_overlap: expected 0 up to below 1, got 1"),
        ({"strength": 0}, "strength: expected above 0 to 1, got 0"),
        ({"resamplings": True}, "resamplings: expected at least 1, got True"),
        ({"speed": 9}, "inference: expected some of num_inference_steps, .*, got 'speed'"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InferenceOptions.from_dict(values)


def test_a_configuration_reads_the_same_options() -> None:
    config = load_config("scenes-diffusion", ["inference.thresholds.probability=0.5", "inference.num_inference_steps=9"])
    assert config.inference == {  # type: ignore[union-attr]
        "num_inference_steps": 9,
        "sampler": "ddpm",
        "ensemble_flips": "horizontal",
        "thresholds": {"probability": 0.5},
    }
    with pytest.raises(InputError, match=r"config: inference: options: expected some of .*, got 'speed'"):
        load_config("scenes-diffusion", ["inference.speed=9"])
    with pytest.raises(InputError, match=r"config: inference: num_inference_steps: expected at least 1, got 'many'"):
        load_config("scenes-diffusion", ["inference.num_inference_steps=many"])


def test_names_of_the_version_before_still_work() -> None:
    with pytest.warns(FutureWarning, match="follow_edges is now boundaries"):
        assert renamed({"follow_edges": False, "tile_size": 3}) == {"boundaries": "drawn", "tile_size": 3}
    with pytest.warns(FutureWarning, match="min_piece is now min_component_area"):
        assert renamed({"min_piece": 4}) == {"min_component_area": 4}
    with pytest.warns(FutureWarning, match=r"validation.steps is now inference.num_inference_steps"):
        config = load_config("scenes-diffusion", ["validation.steps=9", "validation.min_piece=4"])
    assert config.inference["num_inference_steps"] == 9 and config.inference["min_component_area"] == 4  # type: ignore[union-attr]


def test_flags_of_the_version_before_still_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert flags.renamed(["segment", "--min-piece", "5", "--no-follow-edges"]) == [
        "segment",
        "--min-component-area",
        "5",
        "--boundaries=drawn",
    ]
    assert "--min-piece is now --min-component-area" in capsys.readouterr().err
