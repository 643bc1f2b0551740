"""The items of a data set as a run reads them: in which order, and what happens when one cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Self, TypeVar

import torch

from ldmseg.data.datasets import Mixture, PanopticDataset, Subset
from ldmseg.errors import InputError
from ldmseg.training.dealing import Dealing

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Items:
    """The numbers of a data set's items, and the rule for those that cannot be read.

    Args:
        dealing: which item a training sample is; a number is the size of a single data set.
        on_error: `stop` raises the error of a broken item; `skip` continues without the item and logs it once.
        key: of the configuration, for messages.
    """

    def __init__(self, dealing: Dealing | int, on_error: Literal["stop", "skip"], key: str) -> None:
        self.dealing = Dealing((dealing,), (1.0,)) if isinstance(dealing, int) else dealing
        self.length, self.on_error, self.key = sum(self.dealing.lengths), on_error, key
        length = self.length
        # In memory that worker processes share, so that a broken file is named once and not once in each.
        self._named = torch.zeros(length if on_error == "skip" else 0, dtype=torch.bool).share_memory_()

    @classmethod
    def of(cls, mixture: Mixture, on_error: Literal["stop", "skip"], key: str) -> Self:
        """Those of a mixture, shared out by its weights."""
        lengths, weights = zip(*((len(part.data), part.weight) for part in mixture.parts), strict=True)
        return cls(Dealing(lengths, weights), on_error, key)

    def sample(self, seed: int, number: int, read: Callable[[int], T]) -> T:
        """`read(item)` for the item that training sample `number` is; if that is skipped, for the next one's of its data set, and so on.

        A sample is a function of (seed, number) and the files, and depends neither on workers nor on interruptions.

        Raises:
            InputError: the item cannot be read; with `skip`, nor can as many further ones as there are.
        """
        for found in self.each(self.dealing.upcoming(seed, number), read):
            return found
        raise InputError(f"{self.key}: expected at least one item that can be read, got none of {self.length}")

    def each(self, items: Iterable[int], read: Callable[[int], T]) -> Iterator[T]:
        """`read(item)` of every item that can be read.

        Raises:
            InputError: with `stop`, that of the first that cannot.
        """
        for item in items:
            try:
                found = read(item)
            except InputError as error:
                if self.on_error == "stop":
                    raise InputError(f"{error}; data.on_error=skip goes on without it") from error
                if not self._named[item]:
                    self._named[item] = True
                    logger.warning("skipped in %s: %s", self.key, error)
                continue
            yield found

    def readable(self, data: PanopticDataset) -> PanopticDataset:
        """`data` without the items whose photo or map cannot be read; with `stop`, `data` itself, and nothing is read.

        Raises:
            InputError: none is left.
        """
        if self.on_error == "stop":
            return data

        def probe(item: int) -> int:
            data.image(item), data.map(item)
            return item

        kept = tuple(self.each(range(self.length), probe))
        if not kept:
            raise InputError(f"{self.key}: expected at least one item that can be read, got none of {self.length}")
        return Subset(data, kept)
