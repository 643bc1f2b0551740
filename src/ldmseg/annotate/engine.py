"""The model at work: one thread that answers the photo that was asked for last, and stops as soon as the answer is not wanted any more."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ldmseg.annotate.agreement import agreement
from ldmseg.annotate.cells import ids_of, pins_of
from ldmseg.annotate.completion import Question, question, taken_over
from ldmseg.annotate.operations import State
from ldmseg.annotate.session import Snapshot
from ldmseg.panoptic import VOID, PanopticMap

if TYPE_CHECKING:
    from ldmseg.annotate.answer import Answers, Seen
    from ldmseg.pipeline import LDMSegPipeline

logger = logging.getLogger(__name__)

Stage = Literal["loading", "working", "first", "final", "confidence", "idle", "failed"]
"""What the engine tells: it loads the model; a photo is worked on; it has its first, or its final answer; how sure it is; nothing to do."""
Listener = Callable[[str, Stage], None]

SAMPLES = 4
"""Samples whose agreement is the confidence."""
PHOTOS = 4
"""Photos that are kept encoded."""
IDLE = 0.8
"""Seconds without work before the confidence is computed."""


class Cancelled(Exception):
    """The answer is not wanted any more."""


class Source(Protocol):
    """What the engine takes from a project."""

    def session(self, key: str) -> Any:
        """The `PhotoSession` of a photo."""

    def photo(self, key: str) -> Any:
        """The `Photo`."""


class Engine:
    """Answers edits in a thread of its own.

    Args:
        load: loads the pipeline; called in the thread, so that the page opens meanwhile.
        source: the project.
        listener: told of every stage, from the thread.
        steps: sampling steps.
        seed: of the noise; each photo's own also depends on its stem.
        threads: of torch. One is fastest for a small network on a machine that does other things, too.
    """

    def __init__(
        self, load: Callable[[], LDMSegPipeline], source: Source, listener: Listener, steps: int = 8, seed: int = 0, threads: int = 1
    ) -> None:
        self._load, self._source, self._listener = load, source, listener
        self._steps, self._seed, self._threads = steps, seed, threads
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._wanted: str | None = None
        self._judge: str | None = None
        self._stop = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ldmseg-engine", daemon=True)
        self.stage: Stage = "loading"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel what is running, and wait for the thread."""
        with self._change:
            self._stop = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def ask(self, key: str) -> None:
        """Answer what was done to a photo; another photo's answer is not waited for."""
        with self._change:
            self._wanted = key
            self._judge = None
            self._change.notify_all()

    # ---------------------------------------------------------------------------------------------------------------------- thread
    def _run(self) -> None:
        try:
            self._tell("", "loading")
            from ldmseg.annotate.answer import Answers  # with torch, which takes seconds: the page opens meanwhile

            answers = Answers.loaded(self._load, self._steps, self._seed, self._threads)
        except Exception:
            logger.exception("the model cannot be loaded")
            self._tell("", "failed")
            return
        self._tell("", "idle")
        while (task := self._next()) is not None:
            key, judging = task
            try:
                (self._confidence if judging else self._answer)(answers, key)
            except Cancelled:
                logger.debug("cancelled: %s", key)
                if self._wanted is None:
                    self._tell(key, "idle")
            except Exception:
                logger.exception("the model failed on a photo")
                self._tell(key, "failed")

    def _next(self) -> tuple[str, bool] | None:
        """The photo to answer, or whose confidence is to be computed; None at the end."""
        with self._change:
            while not self._stop:
                if self._wanted is not None:
                    key, self._wanted = self._wanted, None
                    return key, False
                judged = self._judge
                told = self._change.wait(IDLE if judged is not None else None)
                if not told and judged is not None and self._judge == judged:
                    self._judge = None
                    return judged, True
            return None

    def _tell(self, key: str, stage: Stage) -> None:
        self.stage = stage
        self._listener(key, stage)

    def _answer(self, answers: Answers, key: str) -> None:
        """The first answer after few steps, or as drawn; the final one with its borders where the photo has them."""
        session = self._source.session(key)
        asked: Snapshot = session.snapshot()
        wanted = question(asked.state, asked.edits, answers.most) if asked.edits else None
        if wanted is None:
            session.answered(asked, asked.state, final=True)
            self._tell(key, "final")
            self._judge_later(key)
            return
        self._tell(key, "working")
        check = self._checking(key, lambda: not session.wants(asked))

        def told(answer: PanopticMap, stage: Literal["first", "final"]) -> None:
            state = taken_over(asked.state, asked.edits, wanted, answer)
            if not session.answered(asked, state, final=stage == "final"):
                raise Cancelled
            self._tell(key, stage)

        seen = self._photo(answers, key)
        drawn = answers.drawn(seen, wanted, key, check, lambda answer: told(answer, "first"))
        if not answers.shows_early:
            told(drawn, "first")
        check()
        told(answers.bordered(seen, wanted, drawn), "final")
        self._judge_later(key)

    def _confidence(self, answers: Answers, key: str) -> None:
        """How many of several samples, drawn around the pins, agree with the map."""
        session = self._source.session(key)
        if session.confidence() is not None:
            return
        state: State = session.snapshot().state
        check = self._checking(key, lambda: session.state is not state)
        seen = self._photo(answers, key)
        pinned = np.where(pins_of(state.cells), ids_of(state.cells), VOID).astype(np.int32)
        partial = PanopticMap(pinned).largest(answers.most)
        samples: list[NDArray[np.integer]] = []
        for number in range(SAMPLES):
            drawn = answers.drawn(seen, Question(partial, pinned == VOID), f"{key}:{number}", check)
            samples.append(drawn.ids)
            check()
        session.judged(state, agreement(ids_of(state.cells), samples))
        self._tell(key, "confidence")

    def _photo(self, answers: Answers, key: str) -> Seen:
        if key not in self._seen:
            self._seen[key] = answers.seen(self._source.photo(key).read())
            while len(self._seen) > PHOTOS:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]

    def _checking(self, key: str, changed: Callable[[], bool]) -> Callable[[], None]:
        """Raises `Cancelled` when the photo has changed, or something else is wanted."""

        def check() -> None:
            if self._stop or self._wanted is not None or changed():
                raise Cancelled

        return check

    def _judge_later(self, key: str) -> None:
        with self._change:
            if self._wanted is None:
                self._judge = key
        self._tell(key, "idle")
