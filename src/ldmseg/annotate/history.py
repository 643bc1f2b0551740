"""Everything that was done to a photo's map, on disk as it happens: a killed process loses nothing but its last write."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from ldmseg.annotate.cells import apply_difference, encode_difference
from ldmseg.annotate.operations import Label, State
from ldmseg.atomic import write_bytes, writing_errors
from ldmseg.errors import InputError

Actor = Literal["person", "model"]

HEAD = struct.Struct("<4sII")
"""Before each record: a mark, the bytes that follow, and their CRC-32."""
MARK = b"ldm1"
BASE, PUSH, POP, UNDO, REDO = b"B", b"P", b"O", b"U", b"R"
KEPT = 400
"""Steps that can be undone after a photo is opened anew; older ones are folded into the map that the journal begins with."""
LONGEST = 1 << 28
"""Bytes of a record; more is no record."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: who made it, and what leads from the state before it to the one after it and back."""

    actor: Actor
    cells: bytes
    before: Mapping[int, Label]
    after: Mapping[int, Label]

    @classmethod
    def between(cls, actor: Actor, before: State, after: State) -> Self:
        differ = {i for i in {*before.labels, *after.labels} if before.labels.get(i) != after.labels.get(i)}
        olds, news = ({i: s.labels[i] for i in differ if i in s.labels} for s in (before, after))
        return cls(actor, encode_difference(before.cells, after.cells), olds, news)

    def forward(self, state: State) -> State:
        return self._moved(state, self.before, self.after)

    def back(self, state: State) -> State:
        return self._moved(state, self.after, self.before)

    def _moved(self, state: State, gone: Mapping[int, Label], come: Mapping[int, Label]) -> State:
        labels = {i: label for i, label in state.labels.items() if i not in gone}
        return State(apply_difference(state.cells, self.cells), {**labels, **come})

    def to_bytes(self) -> bytes:
        head = json.dumps({"actor": self.actor, "before": _plain(self.before), "after": _plain(self.after)}).encode()
        return struct.pack("<I", len(head)) + head + self.cells

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        (size,) = struct.unpack_from("<I", data)
        head = json.loads(data[4 : 4 + size])
        return cls(head["actor"], data[4 + size :], _labels(head["before"]), _labels(head["after"]))


class History:
    """The states of one photo, of which one is the present.

    Args:
        path: the journal.
        shape: (H, W) of the map while it is edited.

    Attributes:
        state: the present.
        revision: grows with every change, and is never used twice; a journal that is read again goes on where it stopped.

    Raises:
        InputError: the journal is of a photo of another size, or cannot be read or written.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path = path
        self.state = State(np.zeros(shape, dtype=np.uint16))
        self.revision = 0
        self._done: list[Step] = []
        self._undone: list[Step] = []
        if path.is_file():
            self._read()

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    @property
    def last_actor(self) -> Actor | None:
        """Who made the step that `undo` would take back."""
        return self._done[-1].actor if self._done else None

    def push(self, state: State, actor: Actor) -> None:
        """A new present; what was undone is gone."""
        step = Step.between(actor, self.state, state)
        self._write(PUSH + step.to_bytes())
        self._pushed(step, state)

    def drop(self) -> None:
        """Take the last step back for good: it cannot be redone."""
        self._write(POP)
        self._dropped()

    def undo(self) -> bool:
        """Whether there was a step to take back."""
        if not self._done:
            return False
        self._write(UNDO)
        self._undo()
        return True

    def redo(self) -> bool:
        """Whether there was a step to do again."""
        if not self._undone:
            return False
        self._write(REDO)
        self._redo()
        return True

    # ---------------------------------------------------------------------------------------------------------------------- changes
    def _pushed(self, step: Step, state: State) -> None:
        self.state = state
        self._done.append(step)
        self._undone.clear()
        self.revision += 1

    def _dropped(self) -> None:
        self.state = self._done.pop().back(self.state)
        self.revision += 1

    def _undo(self) -> None:
        step = self._done.pop()
        self.state = step.back(self.state)
        self._undone.append(step)
        self.revision += 1

    def _redo(self) -> None:
        step = self._undone.pop()
        self.state = step.forward(self.state)
        self._done.append(step)
        self.revision += 1

    # ---------------------------------------------------------------------------------------------------------------------- journal
    def _write(self, body: bytes) -> None:
        """Append one record; it is on the disk when this returns."""
        with writing_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                write_bytes(self.path, _record(self._base()))
            with self.path.open("ab") as file:
                whole = file.tell()
                try:
                    file.write(_record(body))
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:  # a full disk: half a record would hide those that follow
                    os.truncate(self.path, whole)
                    raise

    def _base(self) -> bytes:
        """The present as a record that a journal begins with."""
        empty = State(np.zeros(self.state.shape, dtype=np.uint16))
        shape = struct.pack("<III", *self.state.shape, self.revision)
        return BASE + shape + Step.between("model", empty, self.state).to_bytes()

    def _read(self) -> None:
        data, end = self.path.read_bytes(), 0
        try:
            for body, end in _records(data):  # noqa: B007  # `end` is where the last whole record ends
                self._apply(body)
        except InputError:
            raise
        except (KeyError, IndexError, ValueError, struct.error, zlib.error) as error:
            raise InputError(f"output: the journal '{self.path}' is damaged; move it away to begin this photo anew") from error
        if end < len(data):  # the process was killed while it wrote this record, before it answered
            with writing_errors(self.path):
                os.truncate(self.path, end)
        if len(self._done) > KEPT:
            self._shorten()

    def _apply(self, body: bytes) -> None:
        kind, rest = body[:1], body[1:]
        if kind == BASE:
            height, width, self.revision = struct.unpack_from("<III", rest)
            if (height, width) != self.state.shape:
                found = "x".join(map(str, self.state.shape[::-1]))
                raise InputError(f"output: the journal '{self.path}' is of a map of {width}x{height}, but the photo is edited at {found}")
            self.state = Step.from_bytes(rest[12:]).forward(self.state)
        elif kind == PUSH:
            step = Step.from_bytes(rest)
            self._pushed(step, step.forward(self.state))
        else:
            {POP: self._dropped, UNDO: self._undo, REDO: self._redo}[kind]()

    def _shorten(self) -> None:
        """Write the journal anew, without the oldest steps."""
        now, kept, undone, revision = self.state, self._done[-KEPT:], self._undone, self.revision
        for step in reversed(kept):
            self.state = step.back(self.state)
        self.revision = revision - len(kept) - 2 * len(undone)
        bodies = [self._base(), *(PUSH + step.to_bytes() for step in (*kept, *reversed(undone))), *(UNDO for _ in undone)]
        write_bytes(self.path, b"".join(map(_record, bodies)))
        self.state, self.revision, self._done = now, revision, kept


def _record(body: bytes) -> bytes:
    return HEAD.pack(MARK, len(body), zlib.crc32(body)) + body


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each whole record, and where it ends; stops at the first that is not whole."""
    start = 0
    while start + HEAD.size <= len(data):
        mark, size, check = HEAD.unpack_from(data, start)
        body = data[start + HEAD.size : start + HEAD.size + size]
        if mark != MARK or size > LONGEST or len(body) != size or zlib.crc32(body) != check:
            return
        start += HEAD.size + size
        yield body, start


def _plain(labels: Mapping[int, Label]) -> dict[str, list[int | None]]:
    return {str(i): [label.category, label.color] for i, label in labels.items()}


def _labels(values: Mapping[str, Any]) -> dict[int, Label]:
    return {int(i): Label(category, color) for i, (category, color) in values.items()}
