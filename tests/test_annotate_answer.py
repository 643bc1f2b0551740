"""The model's answers in the annotator: the first after few steps, the last with its borders."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import build_tiny

from ldmseg.annotate.answer import EARLY, Answers
from ldmseg.annotate.completion import Question
from ldmseg.data.scenes import generate_scene
from ldmseg.panoptic import PanopticMap

GIVEN = np.zeros((40, 48), dtype=np.int32)
GIVEN[5:12, 6:20] = 7


@pytest.mark.parametrize("given", [GIVEN, np.zeros_like(GIVEN)], ids=["a stroke", "nothing"])
def test_a_map_is_shown_after_few_steps_and_changes_nothing(given: np.ndarray) -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    answers = Answers(pipe, steps=3 * EARLY)
    seen = answers.seen(generate_scene(0, 48).image[:40])
    asked = Question(PanopticMap(given), given == 0)
    shown: list[PanopticMap] = []
    drawn = answers.drawn(seen, asked, "photo", early=shown.append)
    (early,) = shown
    for answer in (early, drawn, answers.bordered(seen, asked, drawn)):
        assert answer.shape == given.shape and (answer.ids[given != 0] == 7).all()
    assert np.array_equal(drawn.ids, answers.drawn(seen, asked, "photo").ids)


def test_few_steps_have_no_early_map() -> None:
    pipe = build_tiny()
    pipe.set_progress_bar_config(disable=True)
    answers = Answers(pipe, steps=3 * EARLY - 1)
    shown: list[PanopticMap] = []
    answers.drawn(
        answers.seen(generate_scene(0, 48).image),
        Question(PanopticMap(np.zeros((48, 48), int)), np.ones((48, 48), bool)),
        "photo",
        early=shown.append,
    )
    assert not shown
