"""The interface of all segmenters: photos, partial maps and seeds -> maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import PanopticMap

Photo = NDArray[np.uint8]


class Segmenter(Protocol):
    """A method that segments photos, or completes partial maps of them. Evaluation and benchmarks use nothing else of it."""

    def __call__(
        self,
        images: Sequence[Photo],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        """One map per photo.

        Args:
            images: (H, W, 3) each.
            partials: (H, W) each, VOID where unknown; known pixels come back as they are. None segments the photos unaided.
            seeds: of each photo's randomness. A result does not depend on the batch.
            captions: of each photo, for a segmenter that reads them.

        Raises:
            InputError: the segmenter cannot do what is asked for.
        """
        ...


def check_unaided(partials: Sequence[PanopticMap] | None, name: str) -> None:
    """
    Raises:
        InputError: partial maps are given to the segmenter `name`, which completes none.
    """
    if partials is not None:
        raise InputError(f"partials: expected none for {quoted(name)}, which segments whole photos and completes no map")
