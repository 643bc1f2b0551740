"""Kinds and densities of partial maps for measuring completion. The same image always gets the same partial map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from ldmseg.choices import PartialKind
from ldmseg.data.partial import NoisyKind, make_noisy, make_partial
from ldmseg.errors import InputError, quoted
from ldmseg.panoptic import PanopticMap

NOISY: tuple[str, ...] = get_args(NoisyKind)
KINDS: tuple[str, ...] = (*get_args(PartialKind), *NOISY)

DROP_RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the blocks, as in figure 9."""

BLOCK_SIZES = (16,)

SHARES: dict[str, tuple[float, ...]] = {
    "pixels": (0.1, 0.01),
    "points": (1.0, 0.7),
    "strokes": (1.0, 0.7),
    "scanlines": (0.1, 0.01),
    "boxes": (0.5, 0.2),
    "shifted": (0.02, 0.05),
    "eroded": (0.02, 0.05),
    "ragged": (0.02, 0.05),
    "merged": (0.1, 0.3),
}
"""`share` of `make_partial` and `amount` of `make_noisy` at which a kind is measured unless others are asked for."""

_OF_WHAT = {
    "pixels": "pixels",
    "points": "segments",
    "strokes": "segments",
    "scanlines": "rows",
    "boxes": "image",
    "merged": "segments",
}


@dataclass(frozen=True)
class Case:
    """Partial maps of one kind at one density.

    Attributes:
        kind: of `PartialKind`, or of `NoisyKind` for a label to be refined.
        share: what `make_partial` keeps, or the amount by which `make_noisy` is wrong.
        block_size: pixels of a block's side, None for every other kind.

    Raises:
        InputError: an unknown kind, a share that is not in 0..1, a block size below 1, missing or out of place.
    """

    kind: str
    share: float
    block_size: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {quoted(self.kind)}")
        if not 0 <= self.share <= 1:
            raise InputError(f"{'amount' if self.noisy else 'share'}: expected 0..1, got {self.share}")
        if (self.block_size is None) == (self.kind == "blocks"):
            raise InputError(f"block_size: expected for blocks and for nothing else, got {self.block_size} for {self.kind}")
        if self.block_size is not None and self.block_size < 1:
            raise InputError(f"block_size: expected at least 1 pixel, got {self.block_size}")

    @property
    def noisy(self) -> bool:
        """A label that is everywhere and not quite right, where the others are right where they are."""
        return self.kind in NOISY

    @property
    def drop_rate(self) -> float:
        """What `share` leaves out, without the dust of the subtraction."""
        return round(1 - self.share, 9)

    @property
    def what(self) -> str:
        """`blocks of 16 px`, or the kind."""
        return self.kind if self.block_size is None else f"blocks of {self.block_size} px"

    @property
    def density(self) -> str:
        """`90 % dropped`, `1 % of pixels`."""
        if self.kind == "blocks":
            return f"{100 * self.drop_rate:g} % dropped"
        return f"{100 * self.share:g} % of {_OF_WHAT.get(self.kind, 'side')}"

    def make(self, pmap: PanopticMap, seed: int, index: int) -> PanopticMap:
        """The partial map of a data set's image `index`; crowds, which are no segments, are not given.

        For blocks and pixels the numbers drawn do not depend on the share: what a sparse map gives, a denser one gives too.
        """
        rng = np.random.default_rng([seed, index])
        pmap = pmap.keep(s.id for s in pmap.segments if not s.iscrowd)
        if self.noisy:
            return make_noisy(pmap, self.kind, self.share, rng)  # type: ignore[arg-type]  # checked above
        return make_partial(pmap, self.kind, self.share, rng, self.block_size or 1)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """`{"kind"}` with `drop_rate` and `block_size`, `share`, or (noisy) `amount`."""
        if self.block_size is not None:
            return {"kind": self.kind, "drop_rate": self.drop_rate, "block_size": self.block_size}
        return {"kind": self.kind, "amount" if self.noisy else "share": self.share}


def make_cases(
    kinds: Sequence[str] = get_args(PartialKind),
    *,
    drop_rates: Sequence[float] = DROP_RATES,
    block_sizes: Sequence[int] = BLOCK_SIZES,
    shares: Sequence[float] | None = None,
) -> tuple[Case, ...]:
    """Every kind at each of its densities.

    Args:
        drop_rates: shares of the blocks that are dropped; every rate is combined with every block size.
        block_sizes: pixels.
        shares: the densities of every other kind; None takes those of `SHARES`.

    Raises:
        InputError: as `Case`.
    """
    for rate in drop_rates:
        if not 0 <= rate <= 1:
            raise InputError(f"drop_rates: expected 0..1, got {rate}")
    cases: list[Case] = []
    for kind in kinds:
        if kind == "blocks":
            cases += [Case(kind, 1 - rate, size) for size in block_sizes for rate in drop_rates]
        elif shares is None and kind in SHARES:
            cases += [Case(kind, share) for share in SHARES[kind]]
        else:  # Case names an unknown kind
            cases += [Case(kind, share) for share in (shares or (0.0,))]
    return tuple(dict.fromkeys(cases))
