"""Operations and history against a plain reference: one Python object a pixel, and a list of all states."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ldmseg.annotate.cells import (
    MAX_ID,
    apply_difference,
    checksum,
    encode_difference,
    ids_of,
    mask_of_runs,
    packed,
    pins_of,
    runs_of_mask,
    upscaled,
)
from ldmseg.annotate.history import History
from ldmseg.annotate.operations import Label, State, read_operation
from ldmseg.errors import InputError

HEIGHT, WIDTH = 9, 12


@dataclass(frozen=True)
class Pixel:
    id: int = 0
    pinned: bool = False


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # thousands of steps: the disk would take most of the time


Reference = dict[tuple[int, int], Pixel]


def random_operation(dice: random.Random, ids: list[int]) -> dict[str, Any]:
    """An operation as the browser sends it, in the browser's words."""
    kind = dice.choice(["paint", "paint", "paint", "erase", "merge", "split", "delete", "pin", "classify"])
    known = ids or [1]
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    top, left = dice.randrange(HEIGHT), dice.randrange(WIDTH)
    mask[top : top + dice.randint(1, 5), left : left + dice.randint(1, 6)] = True
    if kind == "split":
        mask[:] = False
        mask[:, left] = True
    values: dict[str, Any] = {"kind": kind, "runs": runs_of_mask(mask), "id": dice.choice([*known, max(known) + 1])}
    values["ids"] = dice.sample(known, min(len(known), dice.randint(1, 3)))
    if kind == "merge":
        values["ids"] = [*values["ids"], max(known) + 1]
    values |= {"pin": dice.random() < 0.7, "over": dice.random() < 0.5, "on": dice.random() < 0.6}
    values |= {"category": dice.choice([None, 2, 3]), "color": dice.randrange(16)}
    if kind == "pin" and dice.random() < 0.3:
        values["ids"] = []
    return values


def plain(reference: Reference, values: dict[str, Any]) -> Reference:
    """What the words mean, pixel by pixel."""
    mask = mask_of_runs(values["runs"], (HEIGHT, WIDTH))
    found = dict(reference)
    for place, pixel in reference.items():
        match values["kind"]:
            case "paint" if mask[place]:
                protected = pixel.pinned and (not values["pin"] or (not values["over"] and pixel.id != values["id"]))
                found[place] = pixel if protected else Pixel(values["id"], values["pin"])
            case "erase" if mask[place]:
                found[place] = Pixel()
            case "merge" if pixel.id in values["ids"]:
                found[place] = Pixel(values["ids"][0], pixel.pinned)
            case "delete" if pixel.id in values["ids"]:
                found[place] = Pixel()
            case "pin" if pixel.id and (pixel.id in values["ids"] or not values["ids"]):
                found[place] = Pixel(pixel.id, values["on"])
    return found


def reference_of(state: State) -> Reference:
    ids, pins = ids_of(state.cells), pins_of(state.cells)
    return {place: Pixel(int(ids[place]), bool(pins[place])) for place in np.ndindex(state.shape)}


@pytest.mark.parametrize("seed", range(8))
def test_random_sessions_agree_with_the_reference_and_every_step_can_be_undone_and_redone(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    history = History(tmp_path / "a.journal", (HEIGHT, WIDTH))
    done, undone = [history.state], list[State]()
    for _ in range(150):
        move = dice.random()
        if move < 0.12:
            assert history.undo() == (len(done) > 1)
            undone += [done.pop()] if len(done) > 1 else []
        elif move < 0.22:
            assert history.redo() == bool(undone)
            done += [undone.pop()] if undone else []
        else:
            values = random_operation(dice, sorted(history.state.labels))
            before, after = history.state, read_operation(values, (HEIGHT, WIDTH))(history.state)
            check(before, after, values)
            history.push(after, "person")
            done.append(after)
            undone.clear()
        assert history.state.same_as(done[-1])
        if dice.random() < 0.05:  # another process goes on
            revision, history = history.revision, History(tmp_path / "a.journal", (HEIGHT, WIDTH))
            assert history.revision == revision and history.state.same_as(done[-1])


def check(before: State, after: State, values: dict[str, Any]) -> None:
    if values["kind"] == "split":
        check_split(before, after, values)
    elif values["kind"] == "classify":
        assert np.array_equal(before.cells, after.cells)
        assert all(after.labels[i].category == values["category"] for i in values["ids"] if i in before.labels)
    else:
        assert reference_of(after) == plain(reference_of(before), values)
    assert sorted(after.labels) == sorted({p.id for p in reference_of(after).values()} - {0})
    assert all(after.labels[i].color == label.color for i, label in before.labels.items() if i in after.labels)


def check_split(before: State, after: State, values: dict[str, Any]) -> None:
    ids, new = ids_of(before.cells), ids_of(after.cells)
    inside = ids == values["id"]
    assert np.array_equal(ids[~inside], new[~inside]) and np.array_equal(pins_of(before.cells), pins_of(after.cells))
    areas = Counter(new[inside].tolist())
    assert not areas or areas[values["id"]] > 0
    assert all(i == values["id"] or i not in before.labels for i in areas)


# -------------------------------------------------------------------------------------------------------------------------- cells
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_runs_give_the_mask_back(mask: np.ndarray) -> None:
    runs = runs_of_mask(mask)
    assert np.array_equal(mask_of_runs(runs, mask.shape), mask)
    assert all(number > 0 for number in runs[1:])


@pytest.mark.parametrize(
    ("runs", "reason"),
    [([1], "pairs"), ([-1, 2], "from 0"), ([0, 7], "from 0 to 6"), ([3, 4], "at most the 6"), ([10**30, 1], "whole numbers")],
)
def test_runs_that_do_not_fit_are_refused(runs: list[int], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        mask_of_runs(runs, (2, 3))


@pytest.mark.slow
@given(st.data())
def test_a_difference_leads_there_and_back(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=9))
    a, b = (data.draw(arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 2**15 + 1]))) for _ in range(2))
    difference = encode_difference(a, b)
    assert np.array_equal(apply_difference(a, difference), b) and np.array_equal(apply_difference(b, difference), a)
    assert (difference == b"") == np.array_equal(a, b)


def test_a_difference_of_another_map_is_refused() -> None:
    difference = encode_difference(np.zeros((9, 9), np.uint16), np.ones((9, 9), np.uint16))
    with pytest.raises(ValueError, match="beyond"):
        apply_difference(np.zeros((4, 4), np.uint16), difference)


def test_void_is_never_pinned() -> None:
    cells = packed(np.array([[0, MAX_ID]]), np.array([[True, True]]))
    assert ids_of(cells).tolist() == [[0, MAX_ID]] and pins_of(cells).tolist() == [[False, True]]


def test_the_checksum_is_that_of_the_bytes() -> None:
    assert checksum(np.array([[0x3231, 0x3433], [0x3635, 0x3837]], dtype=np.uint16)) == zlib.crc32(b"12345678")


def disc(side: int) -> np.ndarray:
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    return np.where(np.hypot(x, y) < 0.35, 7, 3)


def test_a_larger_map_has_the_same_ids_and_smooth_borders() -> None:
    small = disc(40)
    large = upscaled(small, (200, 200))
    assert set(np.unique(large)) == {3, 7}
    wrong = (large != disc(200)).sum()
    assert wrong < 0.75 * (np.kron(small, np.ones((5, 5), int)) != disc(200)).sum()
    assert np.array_equal(upscaled(small, small.shape), small)
    assert np.array_equal(upscaled(np.full((1, 1), 7), (5, 3)), np.full((5, 3), 7))


# ------------------------------------------------------------------------------------------------------------------------ reading
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (7, "operation: expected an object"),
        ({}, "kind: expected one of paint"),
        ({"kind": ["paint"]}, "kind"),
        ({"kind": "paint", "id": 0, "runs": []}, "id: expected a whole number from 1"),
        ({"kind": "paint", "id": True, "runs": []}, "id"),
        ({"kind": "paint", "id": 1, "runs": [0.5, 1]}, "runs: expected a list of whole"),
        ({"kind": "paint", "id": 1, "runs": "0"}, "runs"),
        ({"kind": "paint", "id": 1, "runs": [0, 1], "pin": 1}, "pin: expected true or false"),
        ({"kind": "paint", "id": 1, "runs": [0, 1], "within": [0, 0, 99, 1]}, "within: expected a box inside"),
        ({"kind": "merge", "ids": [1]}, "ids: expected a list of at least 2"),
        ({"kind": "delete", "ids": [2**15]}, "ids"),
        ({"kind": "classify", "ids": [1], "category": -1}, "category"),
    ],
)
def test_operations_that_are_none(values: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_operation(values, (HEIGHT, WIDTH))


# ------------------------------------------------------------------------------------------------------------------------ journal
def state(*ids: int) -> State:
    return State(np.array([ids], dtype=np.uint16), {i: Label(i, i) for i in ids if i})


@pytest.mark.slow
def test_a_journal_that_was_cut_anywhere_goes_on_from_its_last_whole_record(tmp_path: Path) -> None:
    path, sizes, states = tmp_path / "a.journal", [0], [state(0, 0, 0)]
    history = History(path, (1, 3))
    for ids in ((1, 0, 0), (1, 2, 0), (1, 2, 3)):
        history.push(state(*ids), "person")
        states.append(history.state)
        sizes.append(path.stat().st_size)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        history = History(path, (1, 3))
        last = max(n for n, size in enumerate(sizes) if size <= length)
        assert history.state.same_as(states[last])
        history.push(state(9, 9, 9), "model")  # and what follows is read again
        assert History(path, (1, 3)).state.same_as(state(9, 9, 9))


def test_a_long_journal_is_shortened_and_keeps_what_can_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldmseg.annotate.history.KEPT", 5)
    path = tmp_path / "a.journal"
    history = History(path, (1, 3))
    for number in range(1, 12):
        history.push(state(number, 0, 0), "person")
    history.undo()
    revision = history.revision
    again = History(path, (1, 3))
    assert again.revision == revision and again.state.same_as(state(10, 0, 0))
    assert History(path, (1, 3)).revision == revision  # written anew, read once more
    again = History(path, (1, 3))
    assert again.redo() and again.state.same_as(state(11, 0, 0))
    again.undo()
    for number in range(9, 4, -1):
        assert again.undo() and again.state.same_as(state(number, 0, 0))
    assert not again.undo()


def test_a_dropped_step_cannot_be_redone(tmp_path: Path) -> None:
    history = History(tmp_path / "a.journal", (1, 3))
    history.push(state(1, 0, 0), "person")
    history.push(state(1, 1, 1), "model")
    history.drop()
    assert history.state.same_as(state(1, 0, 0)) and not history.redo() and history.last_actor == "person"


def test_a_journal_of_another_photo_is_refused(tmp_path: Path) -> None:
    History(tmp_path / "a.journal", (1, 3)).push(state(1, 0, 0), "person")
    with pytest.raises(InputError, match="is of a map of 3x1, but the photo is edited at 3x2"):
        History(tmp_path / "a.journal", (2, 3))
