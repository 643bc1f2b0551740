"""Several samples of one image: the map they agree on, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.panoptic import VOID, PanopticMap, Segment

MATCH = 0.5
"""Segments of two maps are the same segment when their IoU is above this; none of them can then match another one (as in PQ)."""


@dataclass(frozen=True)
class Consensus:
    """What K samples of one image agree on.

    Attributes:
        map: the consensus; each segment's `score` is its confidence, the share of samples that have it.
        confidence: (H, W) float32, the share of samples in which the pixel's segment is the consensus's segment there.
        samples: the K samples; segments that match one of the consensus have its id, the others ids that it does not have.
        agreement: (K,) float32, the share of pixels on which each sample agrees with the consensus.
    """

    map: PanopticMap
    confidence: NDArray[np.float32]
    samples: tuple[PanopticMap, ...]
    agreement: NDArray[np.float32]


@dataclass(frozen=True)
class _Pool:
    """The S segments of all K samples, sample by sample in the order in which they appear, so that ids play no part.

    Attributes:
        segments: the S segments.
        bounds: (K + 1,) where each sample's segments begin and end.
        fixed_ids: ids that mean the same in every sample.
        runs: (K, R) index into the segments, S where void, on each of R runs of pixels over which no sample changes.
        lengths: (R,) pixels of each run.
    """

    segments: tuple[Segment, ...]
    bounds: NDArray[np.intp]
    fixed_ids: frozenset[int]
    runs: NDArray[np.intp]
    lengths: NDArray[np.intp]

    @cached_property
    def fixed(self) -> NDArray[np.bool_]:
        """(S,) whether each segment's id is fixed."""
        return np.array([s.id in self.fixed_ids for s in self.segments], dtype=bool)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(S,) pixels of each segment."""
        size = len(self.segments) + 1
        return np.sum([np.bincount(row, self.lengths, size) for row in self.runs], axis=0)[:-1]


@dataclass(frozen=True)
class _Candidates:
    """C segments that samples may vote for.

    Attributes:
        match: (S,) the candidate that each segment is the same as, -1 for none.
        shared: (S, C) pixels that each segment shares with each candidate.
        fixed: (C,) whether a candidate stays whatever its support.
    """

    match: NDArray[np.intp]
    shared: NDArray[np.float64]
    fixed: NDArray[np.bool_]


def consensus(maps: Sequence[PanopticMap], *, fixed_ids: Iterable[int] = (), min_support: float = 1 / 3) -> Consensus:
    """The map that K samples of one image agree on.

    Segments of different samples that match (IoU above 1/2) form a group: first around the segment whose matches overlap it best, then
    around the best of what is left. In each pixel each sample votes for the group of its segment there. A group found in too few samples
    is no segment: its members vote for the group with which they share most pixels. Then once more, with the winners in the groups' place:
    the samples' segments are matched with them, and vote.

    Time and memory grow with K times the pixels, and with the square of the number of segments in all samples.

    Args:
        maps: K samples of one size. Ids mean nothing across samples, except `fixed_ids`. Void is voted for like a segment but loses ties;
            there is none in the consensus where there is none in any sample.
        fixed_ids: ids that name the same segment in every sample (a partial map gave them); they are kept whatever their support.
        min_support: a segment is one that more than this share of the samples have, 0..1.

    Raises:
        InputError: there is no map, they differ in size, or `min_support` is out of range.
    """
    maps = tuple(maps)
    _check(maps, min_support)
    pool = _pool(maps, frozenset(int(i) for i in fixed_ids))
    leaders, groups = _groups(pool)
    winners = _vote(pool, groups, min_support)  # (R,)
    winners = _vote(pool, _matched(pool, winners, groups), min_support)
    return _measured(pool, maps, leaders, winners, _matched(pool, winners, groups).match)


def _check(maps: tuple[PanopticMap, ...], min_support: float) -> None:
    if not maps:
        raise InputError("maps: expected at least one sample, got none")
    for index, pmap in enumerate(maps):
        if pmap.shape != maps[0].shape:
            raise InputError(f"maps: expected the size of sample 0, {maps[0].shape} (height, width), got {pmap.shape} for sample {index}")
    if not 0 <= min_support <= 1:
        raise InputError(f"min_support: expected 0..1, got {min_support}")


def _pool(maps: tuple[PanopticMap, ...], fixed_ids: frozenset[int]) -> _Pool:
    changes = np.zeros(maps[0].ids.size, dtype=bool)
    for pmap in maps:
        changes[pmap.run_ends] = True
    ends = changes.nonzero()[0]  # (R,)
    runs = np.empty((len(maps), len(ends)), dtype=np.intp)
    segments: list[Segment] = []
    for row, pmap in zip(runs, maps, strict=True):
        present, first = np.unique(pmap.run_index, return_index=True)
        order = present[np.argsort(first)]
        order = order[order >= 0]
        place = np.full(len(pmap) + 1, -1)  # the last entry serves run_index == -1
        place[order] = np.arange(len(segments), len(segments) + len(order))
        row[:] = place[pmap.run_index[np.searchsorted(pmap.run_ends, ends)]]
        segments += [pmap.segments[i] for i in order]
    runs[runs < 0] = len(segments)
    bounds = np.cumsum([0, *(len(m) for m in maps)])
    return _Pool(tuple(segments), bounds, fixed_ids, runs, np.diff(ends, prepend=-1))


def _groups(pool: _Pool) -> tuple[NDArray[np.intp], _Candidates]:
    """(C,) the segment that each group formed around, and the groups; a sample is in a group at most once."""
    total = len(pool.segments)
    shared = np.concatenate([_shared(pool, np.minimum(row - a, b - a), b - a) for row, a, b in _samples(pool)], axis=1)  # (S, S)
    iou = shared / (pool.areas[:, None] + pool.areas - shared)
    free = ~pool.fixed
    matches = np.where((iou > MATCH) & free[:, None] & free, iou, 0)
    group = np.full(total, -1)
    leaders: list[int] = []
    by_id: dict[int, int] = {}
    for index in pool.fixed.nonzero()[0]:
        group[index] = by_id.setdefault(pool.segments[index].id, len(by_id))
        if group[index] == len(leaders):
            leaders.append(int(index))
    overlap = matches.sum(1)
    while free.any():
        best = int(np.where(free, overlap, -1).argmax())
        members = ((matches[best] > 0) & free).nonzero()[0]
        group[members] = len(leaders)
        leaders.append(best)
        free[members] = False
        overlap -= matches[:, members].sum(1)
    if not leaders:
        return np.empty(0, dtype=np.intp), _Candidates(group, np.zeros((0, 0)), np.zeros(0, dtype=bool))
    order = np.argsort(group, kind="stable")
    with_group = np.add.reduceat(shared[:, order], np.searchsorted(group[order], np.arange(len(leaders))), axis=1)  # (S, C)
    return np.array(leaders), _Candidates(group, with_group, pool.fixed[leaders])


def _samples(pool: _Pool) -> Iterable[tuple[NDArray[np.intp], int, int]]:
    """Each sample's runs, and where its segments begin and end."""
    return zip(pool.runs, pool.bounds[:-1].tolist(), pool.bounds[1:].tolist(), strict=True)


def _shared(pool: _Pool, labels: NDArray[np.intp], size: int) -> NDArray[np.float64]:
    """(S, size) pixels that each segment shares with each of the labels 0..size-1 in (R,) labels; a label of `size` counts nowhere."""
    shared = np.zeros((len(pool.segments), size))
    for row, first, last in _samples(pool):
        cells = np.minimum(row - first, last - first) * (size + 1) + labels  # void comes last
        table = np.bincount(cells, pool.lengths, (last - first + 1) * (size + 1))
        shared[first:last] = table.reshape(-1, size + 1)[:-1, :-1]
    return shared


def _vote(pool: _Pool, candidates: _Candidates, min_support: float) -> NDArray[np.intp]:
    """(R,) the candidate with the most votes on each run, C for void; of equals, the earliest sample's."""
    match, shared, void = candidates.match, candidates.shared, len(candidates.fixed)
    kept = candidates.fixed | (np.bincount(match[match >= 0], minlength=void) > min_support * len(pool.runs))
    choice = np.where(match >= 0, match, void)
    if void:
        touched = np.where(kept, shared, 0)
        moved = ~np.append(kept, False)[choice] & touched.any(1)
        choice[moved] = touched.argmax(1)[moved]
        stranded = (choice == void) & shared.any(1)  # it touches nothing that is kept
        choice[stranded] = shared.argmax(1)[stranded]
    choice = np.append(choice, void)  # void's own vote
    ballots = choice[pool.runs]  # (K, R)
    votes = np.zeros(ballots.shape, dtype=np.int32)
    for ballot in ballots:
        votes += 2 * (ballots == ballot)
    votes -= ballots == void
    return np.take_along_axis(ballots, votes.argmax(0)[None], 0)[0]


def _matched(pool: _Pool, winners: NDArray[np.intp], groups: _Candidates) -> _Candidates:
    """The winners of a vote as candidates: a fixed segment is the one of its id, any other the one with an IoU above 1/2."""
    size = len(groups.fixed)
    shared = _shared(pool, winners, size)
    union = pool.areas[:, None] + np.bincount(winners, pool.lengths, size + 1)[:size] - shared
    iou = np.where(groups.fixed, 0, shared / union)
    found = (iou > MATCH).any(1)
    match = np.where(found, iou.argmax(1), -1) if size else np.empty(0, dtype=np.intp)
    return _Candidates(np.where(pool.fixed, groups.match, match), shared, groups.fixed)


def _measured(
    pool: _Pool, maps: tuple[PanopticMap, ...], leaders: NDArray[np.intp], winners: NDArray[np.intp], match: NDArray[np.intp]
) -> Consensus:
    """Names for the winners, and who agrees with them where."""
    shape, void = maps[0].shape, len(leaders)
    names = _names([pool.segments[i].id for i in leaders], pool.fixed_ids)
    agrees = np.append(match, void)[pool.runs] == winners  # (K, R)
    share = agrees.mean(0)  # (R,)
    scores = np.bincount(match[match >= 0], minlength=void) / len(maps)
    won = np.unique(winners[winners < void])
    segments = tuple(replace(pool.segments[leaders[i]], id=names[i], score=round(float(scores[i]), 4)) for i in won)
    ids = np.repeat(np.array([*names, VOID])[winners], pool.lengths).reshape(shape)
    return Consensus(
        PanopticMap(ids, segments),
        np.repeat(share.astype(np.float32), pool.lengths).reshape(shape),
        tuple(_renamed(m, pool, match[a:b], names, a) for m, (_, a, b) in zip(maps, _samples(pool), strict=True)),
        (agrees @ pool.lengths / pool.lengths.sum()).astype(np.float32),
    )


def _names(own: Sequence[int], fixed_ids: frozenset[int]) -> list[int]:
    """An id for each group: that of its leader if no earlier group has it, else the smallest unused one."""
    reserved = fixed_ids.union(own)
    spare = (i for i in count(1) if i not in reserved)
    names: dict[int, None] = {}
    for i in own:
        names[next(spare) if i in names else i] = None
    return list(names)


def _renamed(sample: PanopticMap, pool: _Pool, match: NDArray[np.intp], names: Sequence[int], first: int) -> PanopticMap:
    """A sample with the names of the segments that its own match, and others for the rest."""
    reserved = pool.fixed_ids.union(names)
    spare = (i for i in count(1) if i not in reserved)
    new_ids = {}
    for segment, partner in zip(pool.segments[first : first + len(sample)], match.tolist(), strict=True):
        if segment.id not in pool.fixed_ids:
            new_ids[segment.id] = names[partner] if partner >= 0 else next(spare)
    return sample.relabel(new_ids)
