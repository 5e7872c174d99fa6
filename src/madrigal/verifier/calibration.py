"""How far a verifier's scores can be believed: does 0.8 mean right in 80 of 100 cases, does right score above wrong?

Knows: scores and labels. Does not know: models, text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose scores lie from `low` to below `high` (the last bin holds 1 too).

    Attributes:
        score: their mean score; nan where there is none.
        right: the share of them that is right; nan where there is none.
    """

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found on labelled answers.

    Attributes:
        base: the share of answers that is right; what a verifier that knows nothing says of each.
        accuracy: the share of answers on the right side of 0.5.
        auc: the probability that a right answer scores above a wrong one, ties counting half; None without both kinds.
        brier: the mean squared error of the scores; base * (1 - base) for one that always says `base`.
        ece: the expected calibration error, over `bins`.
    """

    answers: int
    base: float
    accuracy: float
    auc: float | None
    brier: float
    ece: float
    bins: tuple[Bin, ...]


def calibration(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> Calibration:
    """Everything about one verifier on one set of answers.

    >>> found = calibration([0.9, 0.8, 0.3, 0.1], [True, False, True, False])
    >>> found.auc, found.accuracy, round(found.brier, 4)
    (0.75, 0.5, 0.2875)

    Raises:
        ValueError: if there are no answers, or not one score for each.
    """
    if not scores or len(scores) != len(right):
        raise ValueError(f"calibration needs one score for each of at least one answer, got {len(scores)}")
    table = reliability(scores, right, bins)
    return Calibration(
        answers=len(scores),
        base=fmean(right),
        accuracy=fmean((score > 0.5) == label for score, label in zip(scores, right, strict=True)),
        auc=area_under_curve(scores, right),
        brier=fmean((score - label) ** 2 for score, label in zip(scores, right, strict=True)),
        ece=expected_calibration_error(table),
        bins=tuple(table),
    )


def reliability(scores: Sequence[float], right: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Answers by score, in bins of equal width.

    References:
        Guo et al., 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for score, label in zip(scores, right, strict=True):
        held[min(int(score * bins), bins - 1)].append((score, label))
    nan = float("nan")
    return [
        Bin(
            n / bins,
            (n + 1) / bins,
            len(some),
            fmean(score for score, _ in some) if some else nan,
            fmean(label for _, label in some) if some else nan,
        )
        for n, some in enumerate(held)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """How far scores are from shares, by bin, weighted by the bins' answers: 1/N * sum_b n_b |right_b - score_b|."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.right - one.score) for one in bins if one.count) / total


def area_under_curve(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """P(score of a right answer > score of a wrong one) + P(equal) / 2, by ranks; None without both kinds.

    >>> area_under_curve([0.1, 0.4, 0.4, 0.8], [False, True, False, True])
    0.875
    """
    num_right = sum(right)
    num_wrong = len(right) - num_right
    if not num_right or not num_wrong:
        return None
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, start = [0.0] * len(scores), 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for n in order[start:end]:
            ranks[n] = (start + 1 + end) / 2  # equal scores share the mean of their ranks
        start = end
    above = sum(rank for rank, label in zip(ranks, right, strict=True) if label) - num_right * (num_right + 1) / 2
    return above / (num_right * num_wrong)
