"""Names of segments: what a call returns, what is merged, and what was given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from naming import CATEGORIES, SCENES, TrueClasses, build_named
from tiny import build_tiny

from ldmseg import PanopticMap, Segment
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.inference.naming import named
from ldmseg.segmenters import as_segmenter

SKY, BALL = Category(3, "sky", isthing=False), Category(7, "ball", isthing=True)
IDS = np.array([[1, 1, 2], [4, 5, 5]])


def of(*rows: float) -> np.ndarray:
    """Probability of sky for each segment."""
    return np.array([[p, 1 - p] for p in rows])


def test_things_stay_apart_and_stuff_of_a_category_is_one_segment() -> None:
    pmap = PanopticMap(IDS, tuple(Segment(i, score=0.5) for i in (1, 2, 4, 5)))
    found = named(pmap, of(0.9, 0.2, 0.6, 0.3), (SKY, BALL))
    assert found.ids.tolist() == [[1, 1, 2], [1, 5, 5]]
    assert found.segments == (
        Segment(1, 3, False, score=0.4),  # (2 * 0.45 + 1 * 0.3) / 3
        Segment(2, 7, True, score=0.4),
        Segment(5, 7, True, score=0.35),
    )


def test_void_stays_and_a_segment_without_a_score_gets_its_names() -> None:
    found = named(PanopticMap(np.array([[0, 6]])), of(0.75), (SKY, BALL))
    assert found.ids.tolist() == [[0, 6]] and found.segments == (Segment(6, 3, False, score=0.75),)
    empty = PanopticMap(np.zeros((2, 2), dtype=int))
    assert named(empty, np.zeros((0, 2)), (SKY, BALL)) == empty


def test_what_was_given_keeps_pixels_ids_and_categories_and_new_stuff_joins_it() -> None:
    pmap = PanopticMap(IDS, (Segment(1), Segment(2, category_id=7, isthing=True, score=1.0), Segment(4), Segment(5)))
    found = named(pmap, of(1, 1, 1, 1), (SKY, BALL), given={2, 4})
    assert found.ids.tolist() == [[4, 4, 2], [4, 4, 4]]  # the given one, although the others are larger
    assert found[2] == Segment(2, 7, True, score=1.0) and found[4].category_id == 3
    both = named(pmap, of(1, 1, 1, 1), (SKY, BALL), given={1, 4, 5})
    assert both.ids.tolist() == [[1, 1, 1], [4, 5, 5]]  # given segments are never joined with each other


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match=r"probabilities: expected shape \(4, 2\), got \(3, 2\)"):
        named(PanopticMap(IDS), of(1, 1, 1), (SKY, BALL))


def test_a_call_names_its_segments_and_none_leaves_them() -> None:
    pipe, image = build_named(), SCENES.image(0)
    out, bare = (pipe(image, generator=torch.Generator().manual_seed(0), classes=c) for c in ("own", "none"))  # type: ignore[arg-type]
    assert out.categories is not None and [c.name for c in out.categories] == [c.name for c in CATEGORIES]
    known = {c.id: c.isthing for c in CATEGORIES}
    assert all(s.isthing is known[s.category_id] and 0 < (s.score or 0) <= 1 for s in out.maps[0].segments)
    assert bare.categories is None and all(s.category_id is None for s in bare.maps[0].segments)
    assert pipe.name_segments(image, bare.maps)[0] == out.maps[0]


def test_a_result_does_not_depend_on_its_batch() -> None:
    pipe, images = build_named(), [SCENES.image(i) for i in range(2)]
    together = pipe(images, generator=[torch.Generator().manual_seed(i) for i in range(2)])
    assert together.maps[1] == pipe(images[1], generator=torch.Generator().manual_seed(1)).maps[0]


def test_completion_keeps_given_stuff_apart() -> None:
    pipe, image = build_named(), SCENES.image(0)
    ids = np.zeros((64, 64), dtype=int)
    ids[:8, :8], ids[40:, 40:] = 5, 9
    given = PanopticMap(ids, (Segment(5, 1, False), Segment(9, 1, False)))
    found = pipe.inpaint(image, given).maps[0]
    assert (found.ids[ids > 0] == ids[ids > 0]).all() and found[5].category_id == found[9].category_id == 1


def test_true_masks_under_true_names_come_back_exactly() -> None:
    pipe = build_tiny()
    for index in range(len(SCENES)):
        target = SCENES.map(index)
        found = pipe.name_segments(SCENES.image(index), PanopticMap(target.ids), classes=TrueClasses(SCENES, CATEGORIES))[0]
        assert np.array_equal(found.ids, target.ids)
        assert [s.category_id for s in found.segments] == [s.category_id for s in target.segments]


def test_saving_writes_the_categories(tmp_path: object) -> None:
    from ldmseg.formats.coco_json import read_coco_json

    path = build_named()(SCENES.image(0)).save(str(tmp_path), names=["a"])
    written = read_coco_json(path)
    assert [c.name for c in written.categories] == [c.name for c in CATEGORIES]
    assert {s.category_id for s in written.annotations[0].segments} <= {c.id for c in CATEGORIES}


def test_mistakes() -> None:
    pipe, image = build_tiny(), SCENES.image(0)
    for wrong in ("mine", 3):
        with pytest.raises(InputError, match="classes: expected own, none or an OpenVocabulary, got"):
            pipe(image, classes=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="classes: expected a model with a classifier or an OpenVocabulary"):
        pipe.name_segments(image, SCENES.map(0))
    with pytest.raises(InputError, match=r"maps: expected one per image \(1\), got 2"):
        build_named().name_segments(image, [SCENES.map(0)] * 2)


def test_measures_and_tools_that_compare_segments_alone_get_them_without_names() -> None:
    """Named stuff would be one segment, and change class-agnostic figures."""
    pipe = build_named()
    segmenter = as_segmenter(pipe)
    maps = segmenter([SCENES.image(0)], None, [0])
    assert all(s.category_id is None for s in maps[0].segments)
    named_ones = as_segmenter(pipe, classes="own")([SCENES.image(0)], None, [0])
    assert all(s.category_id is not None for s in named_ones[0].segments)
