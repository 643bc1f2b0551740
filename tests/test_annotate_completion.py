"""What the model may change, and who may change a photo from which state."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ldmseg.annotate.agreement import agreement
from ldmseg.annotate.cells import PINNED, ids_of, packed, pins_of
from ldmseg.annotate.completion import Edits, question, taken_over
from ldmseg.annotate.history import History
from ldmseg.annotate.operations import Delete, Erase, Label, Merge, Operation, Paint, Pin, State
from ldmseg.annotate.session import PhotoSession, StaleError
from ldmseg.palette import PALETTE
from ldmseg.panoptic import PanopticMap

SHAPE = (12, 16)
MOST = 15


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def halves() -> State:
    """Segment 1 on the left, 2 on the right, nothing pinned."""
    return State(np.where(np.arange(SHAPE[1]) < 8, 1, 2) * np.ones(SHAPE, dtype=np.uint16))


def after(state: State, operation: Operation) -> tuple[State, Edits]:
    new = operation(state)
    return new, Edits.none(SHAPE).followed_by(operation, state, new)


# -------------------------------------------------------------------------------------------------------------------- completion
ids = arrays(np.int32, SHAPE, elements=st.integers(0, 6))
bits = arrays(np.bool_, SHAPE)


@pytest.mark.slow
@given(before=ids, pins=bits, area=bits, answer=arrays(np.int32, SHAPE, elements=st.integers(1, 9)), data=st.data())
def test_whatever_the_model_answers_pins_and_untouched_segments_stay(
    before: np.ndarray, pins: np.ndarray, area: np.ndarray, answer: np.ndarray, data: st.DataObject
) -> None:
    state = State(packed(before, pins))
    paints = [Paint(3, area), Paint(7, area, pin=False), Paint(8, area, over=False)]
    operation = data.draw(st.sampled_from([*paints, Erase(area), Delete((1, 2))]))
    state, edits = after(state, operation)
    if data.draw(st.booleans()):
        edits = Edits(edits.area, edits.painted, edits.under, whole=True)
    asked = question(state, edits, MOST)
    if asked is None:
        return
    known = asked.partial.ids != 0
    new = taken_over(state, edits, asked, PanopticMap(np.where(known, asked.partial.ids, answer)))
    pinned = pins_of(state.cells)
    assert np.array_equal(new.cells[pinned], state.cells[pinned]) and np.array_equal(pins_of(new.cells), pinned)
    away = ~asked.open & ~np.isin(ids_of(state.cells), sorted(edits.under))
    assert np.array_equal(new.cells[away], state.cells[away])
    assert all(new.labels[i] == label for i, label in state.labels.items() if i in new.labels)
    if not edits.whole:
        changed = (ids_of(new.cells) != ids_of(state.cells)) & (ids_of(state.cells) != 0)
        assert set(ids_of(state.cells)[changed].tolist()) <= edits.under


def test_a_stroke_grows_over_what_it_was_painted_on_and_nothing_else() -> None:
    state, edits = after(halves(), Paint(3, box(2, 2, 10, 4)))
    assert edits.painted == {3} and edits.under == {1}
    asked = question(state, edits, MOST)
    assert asked is not None and np.array_equal(asked.open, (ids_of(state.cells) == 1))
    assert {s.id for s in asked.partial.segments} == {2, 3}
    answer = np.where(np.arange(SHAPE[1]) < 4, 3, 4) * np.ones(SHAPE, dtype=np.int32)
    answer[:, 8:] = 2
    answer[0, 7] = 3  # a speck that does not hang together with the stroke
    new = ids_of(taken_over(state, edits, asked, PanopticMap(answer)).cells)
    assert (new[:, :4] == 3).all() and (new[:, 4:8] == 1).all() and (new[:, 8:] == 2).all()


def test_what_lies_farther_from_a_stroke_than_it_is_long_keeps_its_segment() -> None:
    whole = State(np.ones(SHAPE, dtype=np.uint16))
    state, edits = after(whole, Paint(3, box(5, 1, 6, 5)))
    asked = question(state, edits, MOST)
    assert asked is not None and asked.open[:, :9].sum() > 40 and not asked.open[:, 9:].any()
    assert (asked.partial.ids[:, 9:] == 1).all()
    new = ids_of(taken_over(state, edits, asked, PanopticMap(np.where(asked.open, 3, asked.partial.ids))).cells)
    assert (new[:, 9:] == 1).all() and (new[asked.open] == 3).all()
    state, edits = after(whole, Paint(3, box(5, 1, 6, 5), within=(0, 0, *SHAPE)))  # a box says how far
    asked = question(state, edits, MOST)
    assert asked is not None and asked.open[:, 9:].all()


def test_what_is_left_of_a_wrong_segment_goes_to_its_neighbours() -> None:
    def result(pinned: bool, share: int, **options: object) -> np.ndarray:
        start = halves()
        if pinned:
            start = State(packed(ids_of(start.cells), box(0, 7, 1, 8)), start.labels)
        state, edits = after(start, Paint(3, box(1, 0, 11, 2), **options))  # type: ignore[arg-type]
        asked = question(state, edits, MOST)
        assert asked is not None
        answer = np.where(np.arange(SHAPE[1]) < share, 3, 4) * np.ones(SHAPE, dtype=np.int32)
        known = asked.partial.ids != 0
        return ids_of(taken_over(state, edits, asked, PanopticMap(np.where(known, asked.partial.ids, answer))).cells)

    nearest = np.where(np.arange(SHAPE[1]) < 7, 3, 2) * np.ones(SHAPE, dtype=int)
    assert np.array_equal(result(pinned=False, share=6), nearest)  # a quarter is left: it was no segment
    for kept in (result(pinned=False, share=3), result(pinned=True, share=6), result(pinned=False, share=6, within=(0, 0, 12, 8))):
        assert (kept[:, 6:8] == 1).all() and (kept[:, :2] == 3).all()


def test_specks_that_a_stroke_cuts_off_go_to_their_neighbours() -> None:
    shape = (64, 64)
    whole = State(packed(np.ones(shape, dtype=np.uint16), np.zeros(shape, dtype=bool)))
    stroke = np.zeros(shape, dtype=bool)
    for row, cut in ((0, 3), (10, 5)):  # corners of 3 x 3 pixels, a speck, and of 5 x 5
        stroke[row : row + cut + 1, : cut + 1] = True
        stroke[row : row + cut, :cut] = False
    stroke[9, :6] = True
    state = Paint(2, stroke)(whole)
    asked = question(state, Edits.none(shape).followed_by(Paint(2, stroke), whole, state), MOST)
    assert asked is not None
    edits = Edits.none(shape).followed_by(Paint(2, stroke), whole, state)
    new = ids_of(taken_over(state, edits, asked, PanopticMap(np.where(stroke, 2, 1))).cells)
    assert (new[:3, :3] == 2).all() and (new[10:15, :5] == 1).all() and (new[20:] == 1).all()


def test_a_box_limits_how_far_its_segment_grows() -> None:
    state, edits = after(halves(), Paint(3, box(5, 2, 7, 5), pin=False, within=(3, 0, 9, 7)))
    assert not pins_of(state.cells).any()
    asked = question(state, edits, MOST)
    assert asked is not None
    new = ids_of(taken_over(state, edits, asked, PanopticMap(np.where(asked.open, 3, asked.partial.ids))).cells)
    assert np.array_equal(new == 3, box(3, 0, 9, 7))


def test_erased_pixels_are_filled_by_new_segments_whose_colours_differ_from_their_neighbours() -> None:
    state, edits = after(State(halves().cells, {1: Label(5, 3), 2: Label(None, 4)}), Delete((2,)))
    asked = question(state, edits, MOST)
    assert asked is not None
    answer = np.where(asked.open, 9, asked.partial.ids)
    answer[:4, 8:] = 11
    new = taken_over(state, edits, asked, PanopticMap(answer))
    fresh = set(new.labels) - {1}
    assert len(fresh) == 2 and new.labels[1] == Label(5, 3)
    assert len({PALETTE[label.color] for label in new.labels.values()}) == 3


def test_a_whole_proposal_keeps_the_ids_of_the_segments_that_it_finds_again() -> None:
    state = halves()
    edits = Edits(np.zeros(SHAPE, dtype=bool), whole=True)
    asked = question(state, edits, MOST)
    assert asked is not None and not asked.partial.segments
    new = ids_of(taken_over(state, edits, asked, PanopticMap(np.where(np.arange(16) < 9, 2, 1) * np.ones(SHAPE, dtype=np.int32))).cells)
    assert (new[:, :9] == 1).all() and (new[:, 9:] == 2).all()


def test_pins_names_merges_and_outlines_ask_nothing() -> None:
    for operation in (Pin(()), Merge((1, 2)), Paint(3, box(5, 2, 7, 5), grow=False)):
        assert not after(halves(), operation)[1]
    assert question(State(packed(np.ones(SHAPE, int), np.ones(SHAPE, bool))), Edits(np.zeros(SHAPE, bool), whole=True), MOST) is None


def test_of_too_many_segments_the_nearest_are_shown() -> None:
    state = State(np.arange(1, 193, dtype=np.uint16).reshape(SHAPE))
    state, edits = after(state, Erase(box(0, 0, 1, 1)))
    asked = question(state, edits, 5)
    assert asked is not None and len(asked.partial) == 5
    assert all(s.id < 60 for s in asked.partial.segments)


# ----------------------------------------------------------------------------------------------------------------------- session
def test_a_final_answer_takes_the_first_ones_place_in_the_history(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    asked = one.snapshot()
    assert one.answered(asked, halves(), final=False) and one.awaits
    final = State(np.full(SHAPE, 5, dtype=np.uint16))
    assert one.answered(asked, final, final=True) and not one.awaits and one.state.same_as(final)
    one.undo(one.revision)
    assert not one.state.labels and not one.history.can_undo and not one.awaits


def test_a_person_acts_on_what_that_person_saw(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    asked = one.snapshot()
    one.answered(asked, halves(), final=True)
    seen = one.revision
    one.act(Paint(3, box(0, 0, 2, 2)), seen)
    asked, before = one.snapshot(), one.state
    one.answered(asked, State(np.full(SHAPE, 9, dtype=np.uint16)), final=True)
    one.act(Paint(4, box(8, 8, 9, 9)), asked.revision)  # the answer was not seen
    assert one.state.same_as(Paint(4, box(8, 8, 9, 9))(before))
    assert one.snapshot().edits.painted == {3, 4}  # and both strokes wait for one
    one.undo(one.revision)
    assert one.state.same_as(before)


def test_the_first_answer_is_kept_where_only_the_final_one_was_not_seen(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    asked = one.snapshot()
    one.answered(asked, halves(), final=False)
    seen = one.revision
    one.answered(asked, State(np.full(SHAPE, 9, dtype=np.uint16)), final=True)
    one.act(Pin((1,)), seen)
    assert one.state.same_as(Pin((1,))(halves()))
    one.undo(one.revision)
    assert one.state.same_as(halves()) and one.history.last_actor == "model"


def test_a_change_from_another_state_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    one.answered(one.snapshot(), halves(), final=True)
    both = one.revision
    one.act(Paint(3, box(0, 0, 2, 2)), both)
    state = one.state
    for change in (one.undo, one.redo, one.propose, lambda shown: one.act(Pin(()), shown)):
        with pytest.raises(StaleError):
            change(both)
    assert one.state.same_as(state)


def test_an_answer_to_an_older_state_is_not_taken(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    asked = one.snapshot()
    one.act(Paint(1, box(0, 0, 4, 4)), one.revision)
    state = one.state
    assert not one.answered(asked, halves(), final=False) and one.state.same_as(state)
    asked = one.snapshot()
    one.propose(one.revision)
    assert not one.answered(asked, halves(), final=False)


@pytest.mark.parametrize("seed", range(6))
def test_pinned_pixels_are_exact_over_random_sessions_with_a_careless_model(seed: int, tmp_path: Path) -> None:
    dice, noise = random.Random(seed), np.random.default_rng(seed)
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    for _ in range(150):
        pinned, cells = pins_of(one.state.cells), one.state.cells
        move = dice.random()
        if move < 0.5:
            asked = one.snapshot()
            wanted = question(asked.state, asked.edits, MOST)
            if wanted is not None:
                drawn = PanopticMap(np.where(wanted.partial.ids > 0, wanted.partial.ids, noise.integers(1, 9, SHAPE)))
                one.answered(asked, taken_over(asked.state, asked.edits, wanted, drawn), final=dice.random() < 0.5)
            assert np.array_equal(one.state.cells[pinned], cells[pinned])
        elif move < 0.9:
            mask = box(t := dice.randrange(12), s := dice.randrange(16), t + 3, s + 3)
            one.act(Paint(dice.randint(1, 8), mask, over=False), one.revision)
            others = pinned & ~mask
            assert np.array_equal(one.state.cells[others], cells[others]) and (one.state.cells[mask] >= PINNED).all()
            assert np.array_equal(one.state.cells[pinned], cells[pinned])
        else:
            one.propose(one.revision)


def test_confidence_is_of_the_map_as_it_is(tmp_path: Path) -> None:
    one = PhotoSession(History(tmp_path / "a.journal", SHAPE))
    one.answered(one.snapshot(), halves(), final=True)
    assert one.confidence() is None and one.shares().confident is None
    one.judged(one.state, np.full(SHAPE, 0.5, dtype=np.float32))
    assert one.shares().confident == 0
    one.act(Pin((1,)), one.revision)  # pins make pixels certain
    assert one.shares().pinned == one.shares().confident == 0.5
    one.act(Erase(box(0, 0, 1, 1)), one.revision)
    assert one.confidence() is None


def test_agreement_counts_the_samples_that_have_the_segment() -> None:
    own = np.array([[1, 1, 1, 2, 2, 0]])
    same, other, nothing = np.array([[7, 7, 7, 3, 3, 3]]), np.array([[7, 7, 3, 3, 3, 3]]), np.zeros((1, 6), int)
    found = agreement(own, [same, other, nothing])
    assert np.allclose(found, np.array([[2, 2, 1, 1, 1, 0]]) / 3)
