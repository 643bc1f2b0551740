"""One photo while it is edited: who may change it from which state, what the model is still to answer, and what it answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ldmseg.annotate.cells import pins_of
from ldmseg.annotate.completion import Edits
from ldmseg.annotate.history import History
from ldmseg.annotate.operations import Operation, State
from ldmseg.errors import InputError

SURE = 0.75
"""A pixel on which at least this share of the samples agree with the map counts as confident."""


class StaleError(Exception):
    """The change was meant for another state than the present one, which another person has made."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A moment that the model answers: the revision, the state, and what was done since its last answer."""

    revision: int
    state: State
    edits: Edits


@dataclass(frozen=True)
class Shares:
    """Of the pixels, in 0..1: pinned ones, and those that are pinned or confident (None: not known yet)."""

    pinned: float
    confident: float | None = None


@dataclass(eq=False)
class PhotoSession:
    """The states of one photo, changed by people and by the model. Every method may be called from any thread.

    A change names the revision that its author saw. If only the model has answered since, the answer is taken back first, so that what a
    person does always acts on what that person saw; if another person has changed the map, the change is refused.

    Args:
        history: of this photo.
        partial: what is given before anything was done (pinned), None for nothing.
    """

    history: History
    partial: State | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._edits = Edits.none(self.history.state.shape)
        self._confidence: tuple[State, NDArray[np.float32]] | None = None
        if self.history.revision == 0:
            self._edits = replace(self._edits, whole=True)
            if self.partial is not None:
                self.history.push(self.partial, "person")
        self._seen = {self.history.revision: (self.history.state, self._edits)}  # since a person last changed the map
        self._base = self.history.revision  # the first of them, before the model answered

    # ------------------------------------------------------------------------------------------------------------------- reading
    @property
    def revision(self) -> int:
        return self.history.revision

    @property
    def state(self) -> State:
        return self.history.state

    @property
    def awaits(self) -> bool:
        """Whether the model has something to answer."""
        with self.lock:
            return bool(self._edits)

    def snapshot(self) -> Snapshot:
        with self.lock:
            return Snapshot(self.history.revision, self.history.state, self._edits)

    def confidence(self) -> NDArray[np.float32] | None:
        """(H, W) in 0..1, None where the map has changed since it was computed, but for pins and names; pinned pixels are certain."""
        with self.lock:
            if self._confidence is None:
                return None
            of, values = self._confidence
            if not np.array_equal(of.cells & 0x7FFF, self.state.cells & 0x7FFF):
                return None
            return np.where(pins_of(self.state.cells), np.float32(1), values)

    def shares(self) -> Shares:
        with self.lock:
            pinned, confidence = float(pins_of(self.state.cells).mean()), self.confidence()
            return Shares(pinned, None if confidence is None else float((confidence >= SURE).mean()))

    # -------------------------------------------------------------------------------------------------------------------- people
    def act(self, operation: Operation, shown: int) -> None:
        """Do something to the map that `shown` is the revision of.

        Raises:
            StaleError: another person has changed it since.
        """

        def change(edits: Edits) -> Edits:
            before = self.history.state
            after = operation(before)
            if not after.same_as(before):
                self.history.push(after, "person")
            return edits.followed_by(operation, before, after)

        self._changed(shown, change)

    def undo(self, shown: int) -> None:
        """As `act`: take the last step back, a person's or the model's. The model is not asked again."""
        self._changed(shown, lambda _: self._without_edits(self.history.undo()))

    def redo(self, shown: int) -> None:
        """As `act`: do again what was undone last."""
        self._changed(shown, lambda _: self._without_edits(self.history.redo()))

    def propose(self, shown: int) -> None:
        """As `act`: have all that is not pinned proposed anew."""
        self._changed(shown, lambda edits: replace(edits, whole=True))

    def _without_edits(self, moved: bool) -> Edits:
        if not moved:
            raise InputError("undo: there is nothing more to undo or redo")
        return Edits.none(self.history.state.shape)

    def _changed(self, shown: int, change: Callable[[Edits], Edits]) -> None:
        with self.lock:
            if shown not in self._seen:
                raise StaleError
            state, edits = self._seen[shown]
            if shown != self.history.revision:
                self.history.drop()  # what the model answered unseen
                if shown != self._base:
                    self.history.push(state, "model")
            self._edits = change(edits)
            self._base = self.history.revision
            self._seen = {self._base: (self.history.state, self._edits)}

    # --------------------------------------------------------------------------------------------------------------------- model
    def wants(self, asked: Snapshot) -> bool:
        """Whether an answer to a snapshot would still be taken: no person has changed the map, and there is no final answer."""
        with self.lock:
            return asked.revision == self._base and asked.edits is self._edits

    def answered(self, asked: Snapshot, state: State, final: bool) -> bool:
        """Take the model's answer to a snapshot over; a final one replaces the first one. False if the map has changed meanwhile."""
        with self.lock:
            if not self.wants(asked):
                return False
            nothing = Edits.none(state.shape)
            if self.history.revision != self._base:
                if state.same_as(self.history.state):
                    self._edits = nothing
                    return True
                self.history.drop()
            if not state.same_as(self.history.state):
                self.history.push(state, "model")
            if final:
                self._edits = nothing
            self._seen = {**self._seen, self.history.revision: (self.history.state, nothing)}
            return True

    def judged(self, state: State, confidence: NDArray[np.float32]) -> None:
        """How sure the model is of a state, (H, W) in 0..1."""
        with self.lock:
            self._confidence = (state, confidence)
