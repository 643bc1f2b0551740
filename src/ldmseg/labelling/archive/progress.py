"""How far a run is: photos, failures, rate and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ldmseg.errors import InputError
from ldmseg.labelling.archive.job import ShardDone


class TooManyFailures(InputError):
    """More photos failed than are allowed."""


@dataclass(frozen=True)
class State:
    """Photos that are done of all, failures among them, photos a second of this process, and seconds that are left (None: unknown)."""

    photos: int
    total: int
    failed: int
    rate: float
    left: float | None


class Progress:
    """Counts photos: those of shards that are done, and those of shards that are being labelled.

    Args:
        total: photos of the run.
        before: shards that an earlier process did.
        max_failures: of the run; None allows all.
        on_progress: called with each change.
    """

    def __init__(self, total: int, before: Sequence[ShardDone], max_failures: int | None, on_progress: Callable[[State], None]) -> None:
        self._total, self._max_failures, self._on_progress = total, max_failures, on_progress
        self._photos, self._failed = sum(one.photos for one in before), sum(one.failed for one in before)
        self._before, self._began = self._photos, time.monotonic()
        self._open: dict[int, tuple[int, list[dict[str, str]]]] = {}

    def batch(self, shard: int, photos: int, failures: list[dict[str, str]]) -> None:
        """So many photos of a shard are done, with these failures among them.

        Raises:
            TooManyFailures: there are more in all than are allowed.
        """
        self._open[shard] = photos, failures
        state = self.state
        if self._max_failures is not None and state.failed > self._max_failures:
            last = failures[-1] if failures else {"file": "?", "error": "?"}
            raise TooManyFailures(
                f"{state.failed} of {state.photos} photos failed, and --max-failures allows {self._max_failures}; "
                f"the last was '{last['file']}': {last['error']}"
            )
        self._on_progress(state)

    def done(self, shard: ShardDone) -> None:
        """
        Raises:
            TooManyFailures: there are more in all than are allowed.
        """
        self._open.pop(shard.shard, None)
        self._photos, self._failed = self._photos + shard.photos, self._failed + shard.failed
        state = self.state
        if self._max_failures is not None and state.failed > self._max_failures:
            raise TooManyFailures(f"{state.failed} of {state.photos} photos failed, and --max-failures allows {self._max_failures}")
        self._on_progress(state)

    def forget(self, shard: int) -> None:
        """A process died over a shard, which begins anew."""
        self._open.pop(shard, None)

    def open_failures(self) -> Iterator[dict[str, str]]:
        """The failures of shards that are not done."""
        for _, failures in self._open.values():
            yield from failures

    @property
    def state(self) -> State:
        photos = self._photos + sum(photos for photos, _ in self._open.values())
        failed = self._failed + sum(len(failures) for _, failures in self._open.values())
        rate = (photos - self._before) / max(1e-9, time.monotonic() - self._began)
        return State(photos, self._total, failed, rate, (self._total - photos) / rate if rate > 0 else None)
