from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import IMAGE_SIZE, NUM_IDS, build_tiny

from ldmseg.errors import InputError
from ldmseg.inference.ensemble import consensus
from ldmseg.inference.postprocess import split_components
from ldmseg.inference.samples import Sample
from ldmseg.inference.tiles import Tile, draw_in_tiles, tile_pixels, waves
from ldmseg.metrics.panoptic_quality import PanopticQuality
from ldmseg.panoptic import VOID, PanopticMap
from ldmseg.pipeline import LDMSegPipeline


def touch(a: Tile, b: Tile) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a.seen, b.seen, strict=True))


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(12, 70), st.floats(0, 0.6))
@settings(max_examples=60)
def test_windows_keep_each_pixel_once_and_wait_for_their_neighbours(shape: tuple[int, int], size: int, overlap: float) -> None:
    plan = waves(shape, size, overlap)
    kept = np.zeros(shape, dtype=int)
    before: list[Tile] = []
    for wave in plan:
        for index, tile in enumerate(wave):
            kept[tile.kept] += 1
            for seen, own in zip(tile.seen, tile.kept, strict=True):
                assert seen.start <= own.start <= own.stop <= seen.stop
            assert [s.stop - s.start for s in tile.seen] == [min(size, side) for side in shape]
            assert not any(touch(tile, other) for other in wave[:index])
            assert all(other.number < tile.number for other in before if touch(tile, other)), "a neighbour that comes later was drawn first"
        before += wave
    assert (kept == 1).all()
    assert sorted(tile.number for tile in before) == list(range(len(before)))


def test_windows_overlap_by_what_was_asked() -> None:
    columns = sorted({tile.seen[1].start for wave in waves((64, 200), 64, 0.25) for tile in wave})
    assert columns[0] == 0
    assert columns[-1] == 200 - 64
    assert all(after - start <= 48 for start, after in pairwise(columns))


@pytest.mark.parametrize(("tile_size", "expected"), [(0.25, 10), (1, 40), (1.5, 2), (37, 37), (0.001, 1)])
def test_tile_size_is_pixels_or_a_share(tile_size: float, expected: int) -> None:
    assert tile_pixels(tile_size, (40, 60)) == expected


def oracle(truth: PanopticMap, places: dict[bytes, tuple[slice, slice]]) -> object:
    """Completes every window with the truth: a segment that is known there goes on, another one gets an id that is free."""

    def draw(pieces: list[Sample]) -> list[PanopticMap]:
        drawn = []
        for piece in pieces:
            true = truth.ids[places[piece.image.numpy().tobytes()]]
            given = piece.known.map.ids
            fresh, ids = int(given.max()) + 1, np.array(given)
            for segment in np.unique(true):
                inside = true == segment
                known = np.unique(given[inside & (given != VOID)])
                assert len(known) <= 1, "two ids for one segment"
                ids[inside & (given == VOID)] = known[0] if len(known) else fresh
                fresh += not len(known)
            drawn.append(PanopticMap(ids))
        return drawn

    return draw


@pytest.mark.parametrize(("size", "overlap"), [(16, 0.25), (16, 0.5), (23, 0.3), (40, 0.25), (64, 0.0)])
def test_segments_go_on_from_window_to_window(size: int, overlap: float) -> None:
    rows, columns = np.mgrid[:60, :85]
    truth = PanopticMap(1 + columns // 30 + 3 * (rows // 32))  # larger than an overlap, so that each window sees what it goes on with
    image = torch.arange(truth.ids.size, dtype=torch.float32).reshape(1, *truth.shape)
    places = {image[(slice(None), *t.seen)].numpy().tobytes(): t.seen for wave in waves(truth.shape, size, overlap) for t in wave}
    sample = Sample(0, image, torch.Generator().manual_seed(0))
    (drawn,) = draw_in_tiles([sample], size, overlap, 10_000, oracle(truth, places))
    assert (drawn.ids != VOID).all()
    if overlap:  # without one, windows do not see each other
        quality = PanopticQuality(class_agnostic=True)
        quality.update(drawn, truth)
        assert quality.compute().all.pq == 1


@pytest.fixture(scope="module")
def pipe() -> LDMSegPipeline:
    built = build_tiny()
    built.set_progress_bar_config(disable=True)
    return built


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.slow
@given(
    st.tuples(st.integers(20, 50), st.integers(20, 50)), st.sampled_from([0.6, 1, 20, 33]), st.sampled_from([0.0, 0.3]), st.integers(0, 99)
)
@settings(max_examples=12)
def test_what_is_given_comes_back(pipe: LDMSegPipeline, shape: tuple[int, int], tile_size: float, overlap: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    partial = PanopticMap(np.where(rng.random(shape) < 0.2, rng.integers(1, 2 * NUM_IDS, shape) * 1000, VOID))
    out = pipe.inpaint(photo(*shape), partial, tile_size=tile_size, tile_overlap=overlap, num_inference_steps=1)
    known = partial.ids != VOID
    assert out.maps[0].shape == shape
    assert (out.maps[0].ids[known] == partial.ids[known]).all()
    assert (out.maps[0].ids != VOID).all()
    new = np.setdiff1d(out.maps[0].ids, partial.ids)
    assert (new < 1000).all(), "a new segment under a given id"


@pytest.mark.slow
def test_the_photo_does_not_depend_on_its_batch(pipe: LDMSegPipeline) -> None:
    photos = [photo(50, 70, 1), photo(33, 33, 2), photo(90, 40, 3)]

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in range(3)]

    together = pipe(photos, generator=generators(), tile_size=24).maps
    alone = [pipe([one], generator=[g], tile_size=24).maps[0] for one, g in zip(photos, generators(), strict=True)]
    assert together == alone


@pytest.mark.slow
def test_one_window_is_the_whole_photo_and_several_see_more(pipe: LDMSegPipeline) -> None:
    one = photo(64, 64)
    generator = torch.Generator().manual_seed(3)
    whole = pipe(one, generator=generator).maps[0]
    tiled = pipe(one, generator=torch.Generator().manual_seed(3), tile_size=IMAGE_SIZE).maps[0]
    assert tiled.shape == whole.shape
    assert len(tiled) > len(whole)


@pytest.mark.slow
def test_the_models_own_tile_size_is_saved(pipe: LDMSegPipeline, tmp_path) -> None:
    build_tiny(tile_size=0.5).save_pretrained(tmp_path)
    loaded = LDMSegPipeline.from_pretrained(tmp_path)
    one = photo(40, 40)
    drawn = [p(one, generator=torch.Generator().manual_seed(0), **asked).maps[0] for p, asked in ((loaded, {}), (pipe, {"tile_size": 0.5}))]
    assert drawn[0] == drawn[1]
    whole = [p(one, generator=torch.Generator().manual_seed(0), tile_size=0).maps[0] for p in (loaded, pipe)]
    assert whole[0] == whole[1]
    assert whole[0] != drawn[0]
    refined = loaded.inpaint(one, whole[0], method="refine")  # looks at the whole map unless told otherwise
    assert refined.maps[0].shape == (40, 40)


@pytest.mark.slow
def test_pieces_are_split_once_all_is_drawn(pipe: LDMSegPipeline) -> None:
    asked = {"tile_size": 24, "num_inference_steps": 1}
    drawn, split = (
        pipe(photo(60, 60), generator=torch.Generator().manual_seed(5), **asked, **more).maps[0] for more in ({}, {"min_component_area": 9})
    )
    assert split == split_components(drawn, 9)
    assert split != drawn
    whole, apart = (
        pipe(photo(60, 60), generator=torch.Generator().manual_seed(5), min_component_area=least).maps[0] for least in (None, 9)
    )
    assert apart == split_components(whole, 9)
    with pytest.raises(InputError, match="min_component_area: expected 0 pixels or more, got -1"):
        pipe(photo(60, 60), min_component_area=-1)


@pytest.mark.slow
def test_votes_on_windows_leave_borders_as_they_agree(pipe: LDMSegPipeline) -> None:
    def drawn(**asked) -> PanopticMap:
        return pipe(photo(50, 60), tile_size=30, generator=torch.Generator().manual_seed(1), **asked).maps[0]

    assert drawn(ensemble_size=3) == drawn(ensemble_size=3, boundaries="drawn") != drawn(ensemble_size=3, boundaries="photo")
    assert drawn() == drawn(boundaries="photo") != drawn(boundaries="drawn")


@pytest.mark.slow
def test_an_ensemble_votes_on_whole_maps(pipe: LDMSegPipeline) -> None:
    asked = {"tile_size": 30, "num_inference_steps": 1, "boundaries": "drawn"}
    out = pipe([photo(40, 60), photo(30, 33, 1)], ensemble_size=3, generator=[torch.Generator().manual_seed(i) for i in (4, 5)], **asked)
    assert out.confidence is not None
    assert out.samples is not None
    assert [len(samples) for samples in out.samples] == [3, 3]
    for pmap, confidence, samples in zip(out.maps, out.confidence, out.samples, strict=True):
        agreed = consensus(samples)
        assert pmap.ids.shape == confidence.shape
        assert np.array_equal(agreed.confidence, confidence)
        assert len({s.ids.tobytes() for s in samples}) == 3
    alone = pipe(photo(30, 33, 1), ensemble_size=3, generator=torch.Generator().manual_seed(5), **asked)
    assert alone.maps[0] == out.maps[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tile_size": -1.0}, "tile_size: expected pixels"),
        ({"tile_size": 20, "tile_overlap": 1.0}, "tile_overlap: expected 0 up to below 1, got 1.0"),
        ({"tile_size": 20, "output_type": "latent"}, "output_type: expected another than 'latent' with tile_size"),
        ({"tile_size": 20, "latents": torch.zeros(1, 4, 4, 4)}, "latents: expected none with tile_size"),
    ],
)
def test_bad_input_is_named(pipe: LDMSegPipeline, asked: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(photo(40, 40), **asked)


def test_refining_window_by_window_is_refused(pipe: LDMSegPipeline) -> None:
    with pytest.raises(InputError, match="tile_size: expected 0 with method refine"):
        pipe.inpaint(photo(40, 40), PanopticMap(np.ones((40, 40), dtype=np.int32)), method="refine", tile_size=20)
