"""Several data sets as one: parts of a set, weights, what void means, and the errors of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_set import make_coco_set, truncate
from command import done, refused, run
from tiny import tiny_pipeline

from ldmseg.config import MixedSet, load_config
from ldmseg.data.datasets import load_dataset, load_mixture, parse_spec
from ldmseg.data.transforms import View
from ldmseg.errors import InputError
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.diffusion import DiffusionStage


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Six photos with maps."""
    return make_coco_set(tmp_path / "set")


def say_labelling(spec: str, labelling: str) -> None:
    path = parse_spec(spec).root / "panoptic.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "info": {"labelling": labelling}}))


def test_a_part_of_a_data_set_is_named_as_in_python(photos: str) -> None:
    whole, part, rest = (load_dataset(f"{photos}{items}") for items in ("", "[1:4]", "[4:]"))
    names = [whole.name(index) for index in range(len(whole))]
    assert [part.name(index) for index in range(len(part))] == names[1:4]
    assert [rest.name(index) for index in range(len(rest))] == names[4:]
    assert np.array_equal(part.image(0), whole.image(1)) and np.array_equal(part.map(2).ids, whole.map(3).ids)
    assert type(part) is type(whole)
    with pytest.raises(InputError, match=r"data: expected a part of the 6 items, got .*\[6:9\]"):
        load_dataset(f"{photos}[6:9]")


def test_a_mixture_is_its_sets_one_after_another(photos: str) -> None:
    say_labelling(photos, "things_only")
    sets = [MixedSet(data="scenes:3"), MixedSet(data=photos, weight=2), MixedSet(data=f"{photos}[0:2]", labelling="dense")]
    mixture = load_mixture(sets, size=32)
    assert len(mixture) == 3 + 6 + 2
    assert [mixture.labelling(index) for index in (0, 2, 3, 8, 9, 10)] == ["dense"] * 2 + ["things_only"] * 2 + ["dense"] * 2
    assert mixture.name(3) == mixture.name(9) == load_dataset(photos).name(0)
    assert np.array_equal(mixture.map(10).ids, load_dataset(photos).map(1).ids)
    assert np.array_equal(mixture.image(1), load_dataset("scenes:3", size=32).image(1))


def test_one_set_is_itself(photos: str) -> None:
    assert type(load_mixture(photos).whole) is type(load_dataset(photos))


def test_what_a_json_says_of_void_may_be_anything(photos: str) -> None:
    say_labelling(photos, "somehow")
    assert load_mixture(photos).labelling(0) == "dense"


def mixed(photos: str) -> str:
    return f"data.train=[{{data: 'scenes:5', weight: 1}}, {{data: '{photos}', weight: 3, labelling: things_only}}]"


@pytest.mark.slow
def test_both_stages_train_on_a_mixture(tmp_path: Path, photos: str) -> None:
    shared = [mixed(photos), "data.val=scenes:1:val", "data.size=32"]
    first = AutoencoderStage(load_config("scenes-autoencoder", [*shared, "augment.crop=32"]))  # type: ignore[arg-type]
    assert [first.load_sample(number)[1].shape for number in range(3)] == [(32, 32)] * 3
    values = [f"init={tiny_pipeline(tmp_path)}", *shared, "cache=false"]
    second = DiffusionStage(load_config("finetune", values))  # type: ignore[arg-type]
    items = [second.load_sample(number).item for number in range(40)]
    assert 4 <= sum(item < 5 for item in items) <= 16 and max(items) < 11
    again = DiffusionStage(load_config("finetune", values))  # type: ignore[arg-type]
    assert np.array_equal(second.load_sample(17).ids, again.load_sample(17).ids)


@pytest.mark.parametrize("windows", ["null", "2"])
def test_a_set_may_be_seen_whole_more_often_than_the_others(tmp_path: Path, photos: str, windows: str) -> None:
    sets = f"data.train=[{{data: 'scenes:6', whole_rate: 1}}, {{data: '{photos}'}}]"
    zoom = ["data.resize=zoom", "data.scale_range=[1.3, 2]", "data.whole_rate=0", f"data.windows={windows}", "data.flip=false"]
    rest = [f"init={tiny_pipeline(tmp_path)}", "data.color={}", "data.val=scenes:1:val", "data.size=32"]
    stage = DiffusionStage(load_config("finetune", [sets, *zoom, *rest]))  # type: ignore[arg-type]
    for number in range(12):
        sample = stage.load_sample(number)
        whole = View.square(32).image(stage.train_data.image(sample.item))
        assert np.array_equal(sample.photo, whole) == (sample.item < 6)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("[]", "data.train: Tuple should have at least 1 item"),
        ("[{data: 'scenes:5', wieght: 2}]", "'data.train.0.wieght' is no known key; did you mean 'weight'?"),
        ("[{data: 'scenes:5', weight: 0}]", "data.train.0.weight: .*greater than 0, got 0"),
        ("[{data: 'scenes:5', labelling: sparse}]", "data.train.0.labelling: .*'dense', 'things_only' or 'figure_ground', got 'sparse'"),
        ("[{weight: 1}]", "data.train.0.data: Field required"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(train: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config("finetune", [f"data.train={train}"])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_check_says_what_a_mixture_holds(capsys: pytest.CaptureFixture[str], photos: str) -> None:
    say_labelling(photos, "things_only")
    sets = f"data.train=[{{data: 'scenes:5'}}, {{data: '{photos}', weight: 3}}]"
    found = done(capsys, "data", "check", "--config", "finetune", "--set", sets, "--json").json()
    scenes, mine = found["sets"]
    assert (scenes["items"], scenes["share"], scenes["labelling"], scenes["labelled"]) == (5, 0.25, "dense", 1.0)
    assert (mine["spec"], mine["items"], mine["share"], mine["labelling"]) == (photos, 6, 0.75, "things_only")
    data = load_dataset(photos)
    assert mine["segments"] == pytest.approx(np.mean([len(data.map(index)) for index in range(6)]))
    assert found["images"] == 6 and found["findings"] == []
    table = done(capsys, "data", "check", "--config", "finetune", "--set", sets)
    assert "things only" in table.out and table.err.endswith("6 images checked: nothing is wrong\n")


def test_check_of_a_part_opens_its_files_alone(capsys: pytest.CaptureFixture[str], photos: str) -> None:
    truncate(parse_spec(photos).root / "images" / "002.png")
    assert done(capsys, "data", "check", "--data", f"{photos}[3:6]").err == "3 images checked: nothing is wrong\n"
    assert run(capsys, "data", "check", "--data", f"{photos}[0:3]").code == 1


def test_check_wants_a_data_set_or_a_configuration(capsys: pytest.CaptureFixture[str], photos: str) -> None:
    assert refused(capsys, "data", "check") == "--data, --config: expected one of them, got neither"
    message = refused(capsys, "data", "check", "--data", photos, "--config", "finetune")
    assert message == "--data, --config: expected one of them, got both"
