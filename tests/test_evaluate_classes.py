"""Names measured: exact on the truth, the data set's own numbers, and what a classifier chooses among."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from naming import CATEGORIES, SCENES, TrueClasses, build_named

from ldmseg import PanopticMap, Segment
from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate, evaluate_names
from ldmseg.evaluate.classes import Among, nameless
from ldmseg.formats.coco_json import Category


@dataclass(frozen=True)
class Renumbered:
    """The scenes with other numbers of their categories, and perhaps fewer of them."""

    categories: tuple[Category, ...]
    by: int = 100

    def __len__(self) -> int:
        return len(SCENES)

    def image(self, index: int) -> np.ndarray:
        return SCENES.image(index)

    def map(self, index: int) -> PanopticMap:
        pmap, known = SCENES.map(index), {c.id for c in self.categories}
        kept = pmap.keep(s.id for s in pmap.segments if (s.category_id or 0) + self.by in known)
        return PanopticMap(kept.ids, tuple(replace(s, category_id=(s.category_id or 0) + self.by) for s in kept.segments))

    def name(self, index: int) -> str:
        return SCENES.name(index)


OTHER = tuple(replace(c, id=c.id + 100) for c in CATEGORIES)


def test_true_masks_under_true_names_are_perfect() -> None:
    seen: list[int] = []
    report = evaluate_names(TrueClasses(SCENES, CATEGORIES), SCENES, on_progress=lambda done, total: seen.append(done))
    assert report.quality.all.pq == report.quality.all.sq == report.quality.all.rq == 1.0
    assert report.quality.things.n > 1 and report.quality.stuff.n > 1 and seen == [1, 2, 3]


def test_a_wrong_name_costs_what_panoptic_quality_says() -> None:
    class Worse(TrueClasses):
        def probabilities(self, image: object, pmap: PanopticMap) -> np.ndarray:
            found = super().probabilities(image, pmap)  # type: ignore[arg-type]
            found[0] = np.roll(found[0], 1)
            return found

    report = evaluate_names(Worse(SCENES, CATEGORIES), SCENES, limit=1)
    tallies = report.quality.per_category.values()
    assert sum(t.fn for t in tallies) >= 1 and sum(t.tp for t in tallies) == len(SCENES.map(0)) - 1
    assert report.quality.all.pq < 1


def test_categories_are_matched_by_name_and_not_by_number() -> None:
    assert evaluate_names(TrueClasses(SCENES, CATEGORIES), Renumbered(OTHER)).quality.all.pq == 1.0


def test_a_classifier_chooses_among_the_data_sets_categories() -> None:
    few = tuple(c for c in OTHER if c.isthing)[::-1]
    chosen = Among(build_named().own_classes, few)  # type: ignore[arg-type]
    pmap = nameless(SCENES.map(0))
    from ldmseg.images import load_images

    found = chosen.probabilities(load_images(SCENES.image(0))[0], pmap)
    assert found.shape == (len(pmap), len(few))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    whole = build_named().own_classes.probabilities(load_images(SCENES.image(0))[0], pmap)  # type: ignore[union-attr]
    first = [c.name for c in CATEGORIES].index(few[0].name)
    assert np.argsort(found[:, 0]).tolist() == np.argsort(whole[:, first] / whole[:, [c.isthing for c in CATEGORIES]].sum(1)).tolist()
    report = evaluate_names(TrueClasses(SCENES, CATEGORIES), Renumbered(few))
    assert report.quality.all.pq == 1.0 and report.settings["categories"] == len(few)
    with pytest.raises(InputError, match=r"data: expected a data set with some of the model's categories .*'sky'.*, got .'region'."):
        Among(build_named().own_classes, (Category(1, "region"),))  # type: ignore[arg-type]


@pytest.mark.slow
def test_drawn_maps_are_class_aware_and_class_agnostic() -> None:
    pipe = build_named()
    aware = evaluate(pipe, Renumbered(OTHER), class_agnostic=False)
    assert set(aware.quality.per_category) == {c.id for c in OTHER} and aware.settings["class_agnostic"] is False
    agnostic = evaluate(pipe, SCENES)
    pipe.register_modules(classifier=None)
    assert evaluate(pipe, SCENES).quality == agnostic.quality  # names have no part in it


def test_crowd_is_not_named() -> None:
    pmap = PanopticMap(np.array([[1, 2, 0]]), (Segment(1, 3, True, iscrowd=True), Segment(2, 4, True)))
    assert nameless(pmap) == PanopticMap(np.array([[0, 2, 0]]))


def test_mistakes() -> None:
    with pytest.raises(InputError, match="limit: expected at least 1, got 0"):
        evaluate_names(TrueClasses(SCENES, CATEGORIES), SCENES, limit=0)
