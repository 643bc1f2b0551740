"""Which data set and which item a training sample is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ldmseg.training.dealing import BLOCK, Dealing
from ldmseg.training.stages.base import shuffled_index


def test_one_data_set_is_dealt_as_ever() -> None:
    dealing = Dealing((7,), (0.3,))
    assert [next(dealing.upcoming(5, number)) for number in range(30)] == [shuffled_index(5, number, 7) for number in range(30)]


def test_shares_come_out_exactly_and_are_spread() -> None:
    dealing = Dealing((5, 40, 300), (1, 3, 6))
    parts = [dealing.part(1, number) for number in range(2 * BLOCK)]
    assert Counter(parts[:BLOCK]) == Counter(parts[BLOCK:]) == {0: 100, 1: 300, 2: 600}
    assert 2 < Counter(parts[:100])[0] < 25
    assert parts[:BLOCK] != parts[BLOCK:]


def test_every_item_of_a_data_set_comes_once_before_any_comes_again() -> None:
    dealing = Dealing((5, 40), (1, 3))
    items = [next(dealing.upcoming(3, number)) for number in range(3 * BLOCK)]
    second = [item - 5 for item in items if item >= 5]
    for epoch in range(len(second) // 40):
        assert sorted(second[40 * epoch : 40 * epoch + 40]) == list(range(40))


def test_a_sample_is_a_function_of_seed_and_number() -> None:
    forwards = [next(Dealing((5, 40), (1, 3)).upcoming(3, number)) for number in range(50)]
    backwards = [next(Dealing((5, 40), (1, 3)).upcoming(3, number)) for number in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [next(Dealing((5, 40), (1, 3)).upcoming(4, number)) for number in range(50)]


def test_what_follows_an_unreadable_item_is_of_its_data_set() -> None:
    dealing = Dealing((5, 40), (1, 3))
    for number in range(20):
        first, last = (0, 5) if dealing.part(3, number) == 0 else (5, 45)
        assert set(dealing.upcoming(3, number)) <= set(range(first, last))


@pytest.mark.parametrize("weights", [(1e-9, 1.0), (1.0, 1.0, 1.0), (0.1, 5000.0, 3.0, 1e-3)])
def test_quotas_fill_a_block_and_leave_nobody_out(weights: tuple[float, ...]) -> None:
    quotas = Dealing((3,) * len(weights), weights).quotas
    assert quotas.sum() == BLOCK and quotas.min() >= 1
    exact = np.array(weights) / sum(weights) * BLOCK
    assert np.abs(quotas - exact).max() <= len(weights)
