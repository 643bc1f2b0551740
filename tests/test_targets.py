from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldmseg.codes import encode_ids
from ldmseg.data.datasets import MixedPart, Mixture, Subset, load_dataset
from ldmseg.dense import DepthMap, semantic_map
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.models.targets import DepthCodec, PanopticCodec, SemanticCodec, build_codecs
from ldmseg.panoptic import PanopticMap, Segment

CATEGORIES = tuple(Category(number, f"c{number}", isthing=number % 2 == 0) for number in (4, 9, 11))


def logits_of(ids: np.ndarray, num_ids: int, sure: float = 20.0) -> torch.Tensor:
    """(N, H, W) logits of a decoder that is sure of these ids."""
    return sure * torch.nn.functional.one_hot(torch.from_numpy(ids.astype(np.int64)), num_ids).movedim(-1, 0).float()


# ---------------------------------------------------------------------------------------------------------------------- segments
def test_segments_have_the_ids_of_the_policy() -> None:
    pmap = PanopticMap(np.array([[3, 3, 8, 8], [3, 3, 8, 0]]))
    ids = PanopticCodec(16, "spatial").encode(pmap)
    assert ids[1, 3] == 0 and len({ids[0, 0], ids[0, 3], 0}) == 3
    known = np.zeros((2, 4), dtype=bool)
    known[0, 3] = True
    assert PanopticCodec(16, "spatial").encode(pmap, known)[0, 3] != 0
    first, again = (PanopticCodec(16, "random").encode(pmap, rng=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, again)


# -------------------------------------------------------------------------------------------------------------------- categories
def test_categories_come_back() -> None:
    pmap = PanopticMap(np.array([[1, 1, 2], [3, 0, 2]]), (Segment(1, 9), Segment(2, 4), Segment(3, 9)))
    codec = SemanticCodec(16, CATEGORIES)
    ids = codec.encode(pmap)
    assert ids.tolist() == [[2, 2, 1], [2, 0, 1]]
    drawn = codec.decode(logits_of(np.where(ids, ids, 1), 16))
    assert drawn.ids.tolist() == [[2, 2, 1], [2, 1, 1]]
    assert [(s.id, s.category_id, s.isthing) for s in drawn.segments] == [(1, 4, True), (2, 9, False)]


def test_an_id_of_no_category_wins_no_pixel() -> None:
    logits = logits_of(np.full((2, 2), 13), 16)
    logits[3] = 5
    assert SemanticCodec(16, CATEGORIES).decode(logits).ids.tolist() == [[3, 3], [3, 3]]


# ------------------------------------------------------------------------------------------------------------------------- depth
def test_neighbouring_bins_differ_in_one_bit() -> None:
    codes = DepthCodec(128, 0.5, 16.0, 127).codes
    assert sorted(codes.tolist()) == list(range(1, 128))
    bits = encode_ids(torch.from_numpy(codes)[None, None], 128)[0, :, 0]  # (7, 127)
    assert ((bits[:, 1:] != bits[:, :-1]).sum(0) == 1).all()


@pytest.mark.slow
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(2, 127))
def test_depth_comes_back_within_half_a_bin(values: list[float], bins: int) -> None:
    codec = DepthCodec(128, 0.5, 16.0, bins)
    depth = DepthMap(np.array([values]))
    drawn = codec.decode(logits_of(codec.encode(depth), 128, sure=60.0))
    half = np.log(32) / bins / 2
    assert (np.abs(np.log(drawn.values / depth.values.clip(0.5, 16))) <= half * 1.001).all()
    assert drawn.unit == "metres"


def test_unknown_depth_is_void_and_depth_grows_with_the_bin() -> None:
    codec = DepthCodec(32, 1.0, 8.0, 3, "miles")
    assert codec.encode(DepthMap(np.array([[np.nan, 1.0, 3.0, 8.0, 99.0]]))).tolist() == [[0, *codec.codes[[0, 1, 2, 2]]]]
    drawn = codec.decode(logits_of(codec.codes[None], 32))
    assert np.allclose(drawn.values, [[2**0.5, 2**1.5, 2**2.5]], rtol=1e-3) and drawn.unit == "miles"


def test_between_near_and_far_the_depth_is_one_of_both() -> None:
    """A pixel on a border may be of either side: the mean of the two would be a depth where nothing is."""
    codec = DepthCodec(128, 0.5, 16.0, 32)
    logits = torch.full((128, 1, 1), -30.0)
    logits[int(codec.codes[2])], logits[int(codec.codes[30])] = 1.0, 0.0
    edges = 0.5 * 32 ** (np.array([2, 3]) / 32)
    assert edges[0] <= codec.decode(logits).values[0, 0] <= edges[1]


def test_depth_at_the_photos_size() -> None:
    codec = DepthCodec(128, 0.5, 16.0, 32)
    drawn = codec.decode(logits_of(np.tile(codec.codes[[3, 3, 20, 20]], (4, 1)), 128), size=(7, 9))
    assert drawn.shape == (7, 9) and (np.diff(drawn.values[3]) > -1e-5).all()


# ----------------------------------------------------------------------------------------------------------------- configurations
def test_codecs_come_back_from_their_settings() -> None:
    codecs = build_codecs(
        {"depth": {"near": 1.0, "far": 9.0}, "panoptic": {}, "semantic": SemanticCodec(16, CATEGORIES).settings()}, 64, "random"
    )
    assert list(codecs) == ["panoptic", "semantic", "depth"]
    assert build_codecs({task: codec.settings() for task, codec in codecs.items()}, 64, "random") == codecs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "tasks: expected some of panoptic, semantic, depth, got none"),
        ({"flow": {}}, "tasks: expected some of panoptic, semantic, depth, got 'flow'"),
        ({"depth": {"near": 2.0, "far": 1.0}}, "depth: expected 0 < near < far, got near 2.0 and far 1.0"),
        ({"depth": {"near": 1.0, "far": 2.0, "bins": 16}}, r"depth.bins: expected 2 to 15 \(num_ids is 16\), got 16"),
        ({"depth": {"near": 1.0}}, "tasks: expected the settings of the task depth, got {'near': 1.0}"),
        ({"semantic": {"categories": []}}, "categories: expected 1 to 15 for the task semantic"),
        ({"semantic": {}}, "tasks: expected the settings of the task semantic"),
    ],
)
def test_settings_that_cannot_be(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        build_codecs(settings, 16, "random")


# ---------------------------------------------------------------------------------------------------------------------- data sets
def test_scenes_have_every_target() -> None:
    data = load_dataset("scenes:3", size=32)
    assert data.target(1, "panoptic") == data.map(1)
    assert data.target(1, "semantic") == semantic_map(data.map(1), data.categories)
    depth = data.target(1, "depth")
    assert isinstance(depth, DepthMap) and depth.shape == (32, 32) and depth.known.all() and "lower edge" in depth.unit
    assert data.target(1, "depth") == depth != data.target(2, "depth")
    fine = load_dataset("scenes:3", size=64).target(1, "depth")
    assert np.median(np.abs(np.log(fine.values[::2, ::2] / depth.values))) < 0.02  # the same scene, finer


def test_the_ground_is_at_distance_one_at_the_lower_edge() -> None:
    """Of some scenes at least, what lies in the lowest row is the bare ground."""
    lowest = [float(np.median(load_dataset("scenes:12", size=64).target(index, "depth").values[-1])) for index in range(12)]
    assert sum(abs(value - 1) < 0.05 for value in lowest) >= 4


def test_parts_and_mixtures_pass_targets_on() -> None:
    data = load_dataset("scenes:4", size=32)
    assert Subset(data, (3, 1)).target(1, "depth") == data.target(1, "depth")
    mixture = Mixture([MixedPart("a", Subset(data, (0,)), 1.0, "dense"), MixedPart("b", data, 1.0, "dense")])
    assert mixture.target(2, "semantic") == data.target(1, "semantic")


def test_maps_alone_have_no_depth(tmp_path: Path) -> None:
    from ldmseg.formats.coco_panoptic_writer import CocoPanopticWriter

    with CocoPanopticWriter(tmp_path / "a.json", CATEGORIES) as writer:
        writer.add("x.png", 1, PanopticMap(np.array([[1, 2]]), (Segment(1, 9, False), Segment(2, 4, True))))
    data = load_dataset(f"coco-panoptic:{tmp_path / 'a.json'}")
    assert data.target(0, "semantic").ids.tolist() == [[2, 1]]
    with pytest.raises(InputError, match=r"^data: expected a data set with depth for the task depth"):
        data.target(0, "depth")
