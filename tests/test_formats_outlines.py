"""Outlines that enclose exactly the pixels, and annotations for other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.outlines import coco_objects, detections, polygons
from ldmseg.panoptic import PanopticMap, Segment

maps = arrays(np.int32, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 3))


def enclosed(rings: tuple[np.ndarray, ...], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) pixels whose centre has an odd number of upright sides to its left."""
    crossings = np.zeros(shape, dtype=int)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x0 == x1) != (y0 == y1)
            if x0 == x1:
                crossings[min(y0, y1) : max(y0, y1), x0:] += 1
    return crossings % 2 == 1


def signed_area(ring: np.ndarray) -> float:
    (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * v - u * y).sum()) / 2


@pytest.mark.slow
@given(maps)
@settings(max_examples=100)
def test_rings_enclose_exactly_the_pixels(ids: np.ndarray) -> None:
    pmap = PanopticMap(ids)
    found = polygons(pmap)
    assert list(found) == [s.id for s in pmap.segments]
    for segment, area in zip(pmap.segments, pmap.areas, strict=True):
        assert np.array_equal(enclosed(found[segment.id], ids.shape), ids == segment.id)
        assert sum(signed_area(ring) for ring in found[segment.id]) == area  # holes go the other way round


def test_parts_holes_and_corners() -> None:
    ring = np.ones((3, 3), dtype=int)
    ring[1, 1] = 0
    outside, hole = polygons(PanopticMap(ring))[1]
    assert outside.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert signed_area(hole) == -1
    assert len(polygons(PanopticMap(np.array([[1, 0], [0, 1]])))[1]) == 2  # a corner joins nothing


@given(maps)
@settings(max_examples=50)
def test_run_lengths_give_the_mask_back(ids: np.ndarray) -> None:
    pmap = PanopticMap(ids)
    for entry, segment in zip(coco_objects(pmap), pmap, strict=True):
        counts = entry["segmentation"]["counts"]
        assert sum(counts) == ids.size and all(count > 0 for count in counts[1:])
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        assert np.array_equal(values.reshape(ids.shape[::-1]).T, segment.mask)


def test_annotations_have_coco_s_fields() -> None:
    pmap = PanopticMap(np.array([[0, 5], [5, 5]]), (Segment(5, category_id=17, iscrowd=True, score=0.5),))
    (entry,) = coco_objects(pmap, "a")
    counts = entry.pop("segmentation")
    assert counts == {"size": [2, 2], "counts": [1, 3]}
    assert entry == {"id": 5, "image_id": "a", "category_id": 17, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 1, "score": 0.5}
    assert coco_objects(PanopticMap(np.array([[1]])))[0]["category_id"] == 1


def test_detections_are_supervision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    pmap = PanopticMap(np.array([[0, 5], [7, 7]]), (Segment(5, 2, score=0.5), Segment(7, score=0.25)))
    module = ModuleType("supervision")
    module.Detections = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    found = detections(pmap)
    assert found.xyxy.tolist() == [[1, 0, 2, 1], [0, 1, 2, 2]]
    assert found.mask.tolist() == [(pmap.ids == 5).tolist(), (pmap.ids == 7).tolist()]
    assert found.class_id.tolist() == [2, 0] and found.confidence.tolist() == [0.5, 0.25]
    assert found.data["segment_id"].tolist() == [5, 7]
    assert detections(PanopticMap(np.zeros((2, 2), int))).xyxy.shape == (0, 4)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        detections(pmap)


SUPERVISION = """
import sys
import numpy as np
import supervision
sys.path.insert(0, given["source"])
from ldmseg.panoptic import PanopticMap, Segment

ids = np.array(given["ids"])
found = PanopticMap(ids, tuple(Segment(i, c, score=s) for i, c, s in given["segments"])).to_detections()
empty = PanopticMap(np.zeros((3, 4), int)).to_detections()
drawn = supervision.MaskAnnotator(opacity=1.0).annotate(np.zeros((*ids.shape, 3), np.uint8), found)
answer = {
    "type": type(found).__name__,
    "length": len(found),
    "empty": len(empty),
    "area": found.area.tolist(),
    "boxes": found.xyxy.tolist(),
    "same boxes": supervision.mask_to_xyxy(found.mask).tolist(),
    "category 2": found[found.class_id == 2].data["segment_id"].tolist(),
    "sure": found[found.confidence > 0.6].data["segment_id"].tolist(),
    "drawn": (drawn.any(axis=2)).tolist(),
}
"""


@pytest.mark.slow
def test_supervision_itself_takes_them() -> None:
    """In supervision's own environment: its Detections check, select, measure and draw what `to_detections` made."""
    ids = np.array([[0, 5, 5, 0], [7, 7, 5, 0], [7, 0, 0, 9]])
    segments = [(5, 2, 0.5), (7, 2, 0.75), (9, 1, 0.25)]
    source = str(Path(__file__).resolve().parents[1] / "src")
    found = ask("supervision", SUPERVISION, {"source": source, "ids": ids.tolist(), "segments": segments})
    assert (found["type"], found["length"], found["empty"]) == ("Detections", 3, 0)
    assert found["area"] == [3, 3, 1]
    assert found["boxes"] == [[1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 4, 3]]
    inclusive = (np.array(found["boxes"]) - [0, 0, 1, 1]).tolist()  # supervision's own boxes of masks end in their last pixel
    assert found["same boxes"] == inclusive
    assert found["category 2"] == [5, 7] and found["sure"] == [7]
    assert found["drawn"] == (ids > 0).tolist()
