"""What a mixture of data sets holds: how much of each set a training uses, and what its maps are like."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ldmseg.config import Labelling
from ldmseg.data.datasets import Mixture
from ldmseg.errors import InputError
from ldmseg.panoptic import VOID

MAPS = 64
"""Maps of each set that are read, evenly spread."""


@dataclass(frozen=True)
class PartContents:
    """One data set of a mixture.

    Attributes:
        share: of the training samples, 0..1.
        labelling: what its void means.
        segments: per map; mean over the maps that were read, None where none could be.
        labelled: share of the pixels that belong to a segment.
    """

    spec: str
    items: int
    share: float
    labelling: Labelling
    segments: float | None
    labelled: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mixture_contents(mixture: Mixture, maps: int = MAPS) -> tuple[PartContents, ...]:
    """What each set of a mixture holds; maps that cannot be read are left out."""
    total = sum(part.weight for part in mixture.parts)
    found = []
    for part in mixture.parts:
        segments, labelled = [], []
        for item in np.linspace(0, len(part.data) - 1, min(maps, len(part.data))).round().astype(int).tolist():
            try:
                pmap = part.data.map(item)
            except InputError:
                continue
            segments.append(len(pmap))
            labelled.append(float((pmap.ids != VOID).mean()))
        means = (float(np.mean(segments)), float(np.mean(labelled))) if segments else (None, None)
        found.append(PartContents(part.spec, len(part.data), part.weight / total, part.labelling, *means))
    return tuple(found)
