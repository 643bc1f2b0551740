"""Segmenters for tests of archives: functions of a module, because other processes make them, and without a network."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.panoptic import PanopticMap


class CheapSegmenter:
    """Four segments a photo, whose borders depend on the photo and on the seed. A partial map's pixels are kept.

    Args:
        log: a line is added for each photo that is asked for, its mean and seed.
        seconds: of each photo.
        die: the process ends as if it was killed, once, when so many photos have been asked for in it; the file says that it has. Where
            the file cannot be made, every process ends so.
    """

    def __init__(self, log: Path | None = None, seconds: float = 0.0, die: tuple[int, str] | None = None) -> None:
        self._log, self._seconds, self._count = log, seconds, 0
        self._die = None if die is None else (die[0], Path(die[1]))

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        found = []
        for index, (image, seed) in enumerate(zip(images, seeds, strict=True)):
            self._note(image, seed)
            height, width = image.shape[:2]
            row, column = seed % height, int(image.sum()) % width
            ids = np.ones((height, width), dtype=np.int32)
            ids[row:] += 1
            ids[:, column:] += 2
            if partials is not None:
                ids = np.where(partials[index].ids > 0, partials[index].ids, ids)
            found.append(PanopticMap(ids))
        return found

    def _note(self, image: NDArray[np.uint8], seed: int) -> None:
        self._count += 1
        if self._die is not None and self._count >= self._die[0] and not self._die[1].exists():
            with suppress(OSError):
                self._die[1].touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._seconds:
            time.sleep(self._seconds)
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{seed}\n")


def cheap(**options: object) -> partial[CheapSegmenter]:
    """What makes a `CheapSegmenter` in another process."""
    return partial(CheapSegmenter, **options)  # type: ignore[arg-type]
