"""Which item of which data set a training sample is: a function of the seed and the sample's number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ldmseg.training.stages.base import permutation, shuffled_index

BLOCK = 1000
"""Samples in which the shares of a mixture come out exactly, up to rounding."""


@dataclass(frozen=True)
class Dealing:
    """Samples dealt out to data sets by weight, and in each data set to its items, every one once before any comes again.

    Items are numbered through all data sets.

    Args:
        lengths: items of each data set.
        weights: of each, above 0.
    """

    lengths: tuple[int, ...]
    weights: tuple[float, ...]

    def upcoming(self, seed: int, number: int) -> Iterator[int]:
        """The item of sample `number`, then, for when it cannot be read, those that follow it in its data set."""
        chosen, turn = self._turn(seed, number)
        length, start = self.lengths[chosen], sum(self.lengths[:chosen])
        for ahead in range(length):
            yield start + shuffled_index(seed, turn + ahead, length)

    def part(self, seed: int, number: int) -> int:
        """The number of the data set that a sample comes from."""
        return self._turn(seed, number)[0]

    def _turn(self, seed: int, number: int) -> tuple[int, int]:
        """The data set, and how many samples came from it before."""
        if len(self.lengths) == 1:
            return 0, number
        block, position = divmod(number, BLOCK)
        order = self._slots[permutation(seed, block, BLOCK)]
        chosen = int(order[position])
        return chosen, block * int(self.quotas[chosen]) + int((order[:position] == chosen).sum())

    @cached_property
    def quotas(self) -> NDArray[np.int64]:
        """How many of a block's samples come from each data set: largest remainders, and at least one each."""
        exact = np.array(self.weights) / sum(self.weights) * BLOCK
        counts = np.maximum(np.floor(exact), 1).astype(np.int64)
        while counts.sum() != BLOCK:
            missing = exact - counts
            if counts.sum() < BLOCK:
                counts[int(np.argmax(missing))] += 1
            else:
                counts[int(np.argmin(np.where(counts > 1, missing, np.inf)))] -= 1
        return counts

    @cached_property
    def _slots(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.lengths)), self.quotas)
