"""Several right answers: do the answers of a method cover what several people drew?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from skimage import segmentation

from ldmseg.errors import InputError
from ldmseg.metrics.covering import covering_matrix, mean_distance, quality_matrix
from ldmseg.panoptic import PanopticMap

COVERED = (0.4, 0.5, 0.6, 0.7, 0.8)
"""Coverings from which on a person's map counts as covered."""

FELZENSZWALB_SCALES = (50, 100, 200, 300, 500, 800, 1200, 2000)
SLIC_SEGMENTS = (4, 8, 12, 18, 25, 40, 60, 100)


@dataclass(frozen=True)
class ImageAnswers:
    """K answers to one image and A people's.

    Attributes:
        covering, pq: (K, A) of each person's map by each answer. Where the answers are the people's own (`own`), K = A and the diagonal
            does not count.
        among: (K, K) the covering of each answer by each other.
        own: whether people are compared with each other.
    """

    covering: NDArray[np.float64]
    pq: NDArray[np.float64]
    among: NDArray[np.float64]
    own: bool = False

    @property
    def spread(self) -> float:
        """How much the answers differ: the mean of 1 - covering over pairs of them."""
        return mean_distance(self.among, same=True)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, with six decimals."""
        matrices = {name: np.round(getattr(self, name), 6).tolist() for name in ("covering", "pq", "among")}
        return {**matrices, "own": self.own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        return cls(*(np.array(values[name], dtype=np.float64) for name in ("covering", "pq", "among")), own=values["own"])


@dataclass(frozen=True)
class AmbiguitySummary:
    """Means over images; within an image, over its people. Fractions in 0..1.

    Attributes:
        images, people: how many.
        answers: per image, the mean.
        covering_one, pq_one: by one answer, whichever it is (the mean over answers).
        covering_fixed, pq_fixed: by the answer number, the same for all images, that is best (a scale); None where numbers differ in count.
        covering_best, pq_best: by the answer that is best for the person.
        covered: share of people whose best covering reaches each of `COVERED`.
        by_count: the expected best covering by 1, 2, .. of the answers.
        people_spread: the standard deviation over an image's people of the best covering: whether some are neglected.
        spread: of the answers among themselves.
    """

    images: int
    people: int
    answers: float
    covering_one: float
    pq_one: float
    covering_fixed: float | None
    pq_fixed: float | None
    covering_best: float
    pq_best: float
    covered: tuple[float, ...]
    by_count: tuple[float, ...]
    people_spread: float
    spread: float

    def to_dict(self) -> dict[str, Any]:
        """One JSON object; `covered` names its thresholds."""
        return {**asdict(self), "covered": {str(t): share for t, share in zip(COVERED, self.covered, strict=True)}}


def compare_answers(answers: Sequence[PanopticMap], people: Sequence[PanopticMap]) -> ImageAnswers:
    """How each answer covers each person's map.

    Raises:
        InputError: there is no answer, there is no person, or sizes differ.
    """
    if not answers or not people:
        raise InputError(f"answers, people: expected at least one of each, got {len(answers)} and {len(people)}")
    return ImageAnswers(covering_matrix(answers, people), quality_matrix(answers, people), covering_matrix(answers, answers))


def compare_people(people: Sequence[PanopticMap]) -> ImageAnswers:
    """The same of people among themselves: the answers for each are those of the others.

    Raises:
        InputError: there are less than two people.
    """
    if len(people) < 2:
        raise InputError(f"people: expected at least two, got {len(people)}")
    covering = covering_matrix(people, people)
    return ImageAnswers(covering, quality_matrix(people, people), covering, own=True)


def summarize(images: Sequence[ImageAnswers]) -> AmbiguitySummary:
    """The means over a data set's images.

    Raises:
        InputError: there is no image.
    """
    if not images:
        raise InputError("images: expected at least one, got none")
    covering, quality = [_columns(i.covering, i.own) for i in images], [_columns(i.pq, i.own) for i in images]
    best = [c.max(0) for c in covering]
    same_count = len({len(c) for c in covering}) == 1 and not images[0].own
    fewest = min(len(c) for c in covering)
    return AmbiguitySummary(
        images=len(images),
        people=sum(c.shape[1] for c in covering),
        answers=float(np.mean([len(c) for c in covering])),
        covering_one=float(np.mean([c.mean() for c in covering])),
        pq_one=float(np.mean([q.mean() for q in quality])),
        covering_fixed=_fixed(covering) if same_count else None,
        pq_fixed=_fixed(quality) if same_count else None,
        covering_best=float(np.mean([b.mean() for b in best])),
        pq_best=float(np.mean([q.max(0).mean() for q in quality])),
        covered=tuple(float(np.mean([(b >= threshold).mean() for b in best])) for threshold in COVERED),
        by_count=tuple(float(np.mean([expected_best(c, count).mean() for c in covering])) for count in range(1, fewest + 1)),
        people_spread=float(np.mean([b.std() for b in best])),
        spread=float(np.mean([i.spread for i in images])),
    )


def expected_best(matrix: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(K, A) -> (A,) the mean over all choices of `count` answers of what the best of them reaches.

    The i-th lowest of K values is the highest of C(i - 1, count - 1) of the C(K, count) choices.

    Raises:
        InputError: `count` is not in 1..K.
    """
    if not 1 <= count <= len(matrix):
        raise InputError(f"count: expected 1..{len(matrix)} answers, got {count}")
    weights = np.array([comb(i, count - 1) for i in range(len(matrix))], dtype=np.float64) / comb(len(matrix), count)
    return weights @ np.sort(matrix, axis=0)


def agreement_of_spreads(answers: Sequence[ImageAnswers], people: Sequence[ImageAnswers]) -> float | None:
    """Spearman's rank correlation over images: do answers differ where people do? None where it has no meaning."""
    ours, theirs = [i.spread for i in answers], [i.spread for i in people]
    if len(ours) < 3 or len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    return float(spearmanr(ours, theirs).statistic)


def felzenszwalb_answers(image: NDArray[np.uint8], scales: Sequence[float] = FELZENSZWALB_SCALES) -> tuple[PanopticMap, ...]:
    """Felzenszwalb and Huttenlocher's graph segmentation (2004) at several scales, the coarser the larger."""
    return tuple(PanopticMap(segmentation.felzenszwalb(image, scale=s, sigma=0.8, min_size=100) + 1) for s in scales)


def slic_answers(image: NDArray[np.uint8], counts: Sequence[int] = SLIC_SEGMENTS) -> tuple[PanopticMap, ...]:
    """SLIC superpixels (Achanta et al., 2012), about as many as asked for."""
    return tuple(PanopticMap(segmentation.slic(image, n_segments=n, compactness=10, start_label=1)) for n in counts)


def _columns(matrix: NDArray[np.float64], own: bool) -> NDArray[np.float64]:
    """(K, A), or of people among themselves (A - 1, A): the others of each."""
    if not own:
        return matrix
    others = ~np.eye(len(matrix), dtype=bool)
    return matrix.T[others].reshape(len(matrix), -1).T


def _fixed(matrices: Sequence[NDArray[np.float64]]) -> float:
    return float(np.mean([m.mean(1) for m in matrices], axis=0).max())
