from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ldmseg import VOID, PanopticMap, Segment
from ldmseg.errors import InputError
from ldmseg.formats.label_png import write_label_png
from ldmseg.formats.outlines import coco_objects
from ldmseg.panoptic import present_ids, with_attributes
from ldmseg.visualize import color_map, overlay

ids_arrays = arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, 7, 70000, 2**31 - 1]))


@given(ids_arrays)
@settings(max_examples=80)
def test_derived_facts_agree_with_the_pixels(ids: np.ndarray) -> None:
    pmap = PanopticMap(ids)
    assert [s.id for s in pmap.segments] == sorted({int(i) for i in ids.ravel()} - {VOID})
    for index, (segment, area, (x, y, w, h)) in enumerate(zip(pmap.segments, pmap.areas, pmap.boxes, strict=True)):
        mask = ids == segment.id
        assert area == mask.sum()
        assert np.array_equal(pmap.dense == index, mask)
        assert mask[y : y + h, x : x + w].sum() == area
        assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()
    assert (pmap.dense == -1).sum() == (ids == VOID).sum()
    assert pmap.flip().flip() == pmap
    assert pmap.resize(*ids.shape) == pmap
    assert pmap.resize(ids.shape[0] * 3, ids.shape[1] * 2).resize(*ids.shape) == pmap


def test_segments_keep_what_is_known_of_them() -> None:
    sky, cat = Segment(3, category_id=10, isthing=False), Segment(5, category_id=17, isthing=True, score=0.5)
    pmap = PanopticMap(np.array([[3, 3, 0], [5, 3, 0]]), (cat, sky))
    assert pmap.segments == (sky, cat)
    assert pmap[5] == cat
    assert pmap.keep([5]).segments == (cat,)
    assert pmap.largest(1).segments == (sky,)
    assert pmap.relabel({3: 9})[9] == Segment(9, category_id=10, isthing=False)
    assert pmap.relabel({3: 5, 5: 3}).ids.tolist() == [[5, 5, 0], [3, 5, 0]]
    assert pmap.with_ids([[5, 8, 0]]).segments == (cat, Segment(8))


def test_is_read_only_and_independent_of_its_source() -> None:
    source = np.ones((2, 2), dtype=np.int32)
    pmap = PanopticMap(source)
    source[:] = 2
    assert (pmap.ids == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        pmap.ids[0, 0] = 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2)), "expected integers, got float64"),
        (np.zeros((2, 2, 3), int), r"expected a non-empty \(H, W\) array"),
        (np.zeros((0, 4), int), "expected a non-empty"),
        (np.array([[-1]]), "expected 0"),
        (np.array([[2**31]]), "expected at most 2147483647"),
        (np.array([[2**63]], dtype=np.uint64), "expected at most 2147483647"),
    ],
)
def test_bad_ids(ids: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PanopticMap(ids)


def test_segments_must_be_those_of_the_pixels() -> None:
    ids = np.array([[1, 2]])
    with pytest.raises(InputError, match=r"\[2\] have no segment and \[4\] have no pixel"):
        PanopticMap(ids, (Segment(1), Segment(4)))
    with pytest.raises(InputError, match="got 1 twice"):
        PanopticMap(ids, (Segment(1), Segment(1)))
    with pytest.raises(InputError, match="two segments would become 2"):
        PanopticMap(ids).relabel({1: 2})


def test_repr_tells_the_size_and_what_is_in_it() -> None:
    assert repr(PanopticMap(np.ones((427, 640), int))) == "PanopticMap(427x640, 1 segment, 0 % void)"
    assert repr(PanopticMap(np.array([[0, 1], [2, 3]]))) == "PanopticMap(2x2, 3 segments, 25 % void)"
    assert repr(PanopticMap(np.array([[0, 0, 1]]))) == "PanopticMap(1x3, 1 segment, 66.7 % void)"


def test_a_segment_of_a_map_knows_its_pixels() -> None:
    pmap = PanopticMap(np.array([[0, 5], [7, 7]]), (Segment(5, score=0.5), Segment(7)))
    assert pmap[7].mask.tolist() == [[False, False], [True, True]]
    assert [s.mask.sum() for s in pmap] == [1, 2]
    assert pmap[5] == Segment(5, score=0.5)
    assert PanopticMap(pmap.ids, (pmap[5], pmap[7])).segments[0].map is None  # a map does not keep another one alive
    with pytest.raises(InputError, match=r"mask: expected a segment of a map"):
        Segment(5).mask  # noqa: B018
    with pytest.raises(KeyError):
        pmap[6]


def test_plot_and_notebook(tmp_path: Path) -> None:
    pmap = PanopticMap(np.array([[0, 5], [7, 7]]))
    photo = Image.new("RGB", (2, 2), (100, 50, 0))
    photo.save(tmp_path / "photo.png")
    for way in (photo, np.asarray(photo), tmp_path / "photo.png", str(tmp_path / "photo.png")):
        assert pmap.plot(way, alpha=0.3).tobytes() == overlay(photo, pmap, alpha=0.3).tobytes()
    assert pmap.plot().tobytes() == color_map(pmap).tobytes()
    assert pmap.plot(colors={5: (1, 2, 3)}).getpixel((1, 0)) == (1, 2, 3)
    assert Image.open(BytesIO(pmap._repr_png_())).size == (2, 2)


@given(ids_arrays)
@settings(max_examples=30)
def test_save_and_load_keep_everything(ids: np.ndarray) -> None:
    bare = PanopticMap(ids)
    kinds = None, True, False
    pmap = PanopticMap(ids, tuple(Segment(s.id, n or None, kinds[n % 3], n % 2 == 1, n / 7) for n, s in enumerate(bare.segments)))
    with TemporaryDirectory() as folder:
        pmap.save(Path(folder) / "map.png")
        assert PanopticMap.load(Path(folder) / "map.png") == pmap


def test_load_reads_any_label_picture_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(tmp_path / "plain.png")
    assert PanopticMap.load(tmp_path / "plain.png") == PanopticMap(np.array([[0, 9]]))
    for text in ("[]", "{", '[{"id": 9, "color": 1}]'):
        write_label_png(tmp_path / "x.png", PanopticMap(np.array([[0, 9]])), {"ldmseg:segments": text})
        with pytest.raises(InputError, match=r"x\.png"):
            PanopticMap.load(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"path: expected a name that ends in \.png"):
        PanopticMap(np.array([[9]])).save(tmp_path / "x.jpg")


def test_forwarding_methods_agree_with_what_they_forward_to() -> None:
    pmap = PanopticMap(np.array([[0, 5], [7, 7]]))
    assert pmap.to_coco(3) == coco_objects(pmap, 3)
    assert {i: [ring.tolist() for ring in rings] for i, rings in pmap.polygons().items()} == {
        5: [[[1, 0], [2, 0], [2, 1], [1, 1]]],
        7: [[[0, 1], [2, 1], [2, 2], [0, 2]]],
    }


@pytest.mark.slow
@given(ids_arrays)
def test_attributes_go_to_the_ids_that_are_there(ids: np.ndarray) -> None:
    present = np.unique(ids)
    assert np.array_equal(present_ids(ids), present)
    whole = PanopticMap(ids)
    named = [Segment(s.id, score=s.id / 2**31, map=whole) for s in whole.segments[1:]]
    pmap = with_attributes(ids, [Segment(int(present.max()) + 1), *named])  # one that is not there, none for the first
    assert pmap == PanopticMap(ids, (*whole.segments[:1], *named))
    assert all(s.map is None for s in pmap.segments)
