"""Intervals, paired comparisons, corrections for many of them, and rank correlation; pure functions of numbers.

All of them are deterministic for a seed. One value gives an interval of width 0, which says nothing: state the count
beside it. An interval over examples says nothing of other seeds; `hierarchical_bootstrap` asks both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXACT = 14  # pairs up to which every sign flip is tried: 2 ** 14 of them
BLOCK = 1 << 20  # numbers drawn at once, so that memory does not grow with resamples


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better one system is than another on the same examples.

    Attributes:
        difference: mean of the paired differences, first minus second, and its bootstrap interval.
        p: probability of a mean difference at least as far from 0, either way, if the two systems were exchangeable.
        count: pairs compared.
    """

    difference: Interval
    p: float
    count: int


def bootstrap(values: Sequence[float], level: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """The percentile bootstrap interval of a mean: resample with replacement, take the quantiles of the means.

        >>> bootstrap([1.0, 1.0, 1.0])
        Interval(mean=1.0, low=1.0, high=1.0)

    Raises:
        ValueError: if there are no values, or the level is not between 0 and 1.

    References:
        Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    data = _array(values)
    rng = np.random.default_rng(seed)
    return _interval(float(data.mean()), _resampled(data, resamples, rng), level)


def paired_bootstrap(
    first: Sequence[float], second: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """The mean difference of two systems on the same examples, with its interval and p-value.

    Pairs take away what makes examples hard or easy for both. The interval is the percentile bootstrap of the mean
    difference; the p-value comes from a sign-flip permutation test, which asks how often exchanging the two systems at
    random, example by example, gives a difference as large.

        p = #{s : |mean(s * d)| >= |mean(d)|} / 2^n                          for n <= 14, over every s in {-1, 1}^n
        p = (1 + #{drawn s : ...}) / (1 + resamples)                         beyond

    Without the 1, a Monte Carlo p-value could be 0, which no finite number of draws can show.

        >>> paired_bootstrap([3.0, 2.0, 4.0], [1.0, 1.0, 1.0]).p  # 2 of the 8 sign flips: all up, all down
        0.25

    Raises:
        ValueError: if there are no pairs, or one side is longer.

    References:
        Efron and Tibshirani, 1993, chapters 13 and 15; Phipson and Smyth, 2010, "Permutation P-values should never be
        zero", arXiv:1603.05766; Dror et al., 2018, "The Hitchhiker's Guide to Testing Statistical Significance in NLP".
    """
    if len(first) != len(second):
        raise ValueError(f"a paired comparison needs one value of each per example, got {len(first)} and {len(second)}")
    differences = _array(first) - _array(second)
    interval = bootstrap(differences.tolist(), level, resamples, seed)
    return Comparison(interval, _sign_flip(differences, resamples, seed), len(differences))


def hierarchical_bootstrap(
    runs: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval:
    """The bootstrap interval of a mean over seeds and examples: resample runs, then the examples within each drawn run.

        mean = 1/S * sum_s 1/n_s * sum_i x_si

    Every run counts equally, however many examples it has. Values of different runs are not independent draws; an
    interval that pools them would be too narrow. With S runs there are few ways to draw runs: for S < 5 read the
    interval as a hint. Pass paired differences per run to compare two methods.

        >>> hierarchical_bootstrap([[0.0, 0.0], [1.0, 1.0]]) # the seeds are all that varies
        Interval(mean=0.5, low=0.0, high=1.0)

    Raises:
        ValueError: if there are no runs, or one has no values.

    References:
        Davison and Hinkley, 1997, "Bootstrap Methods and their Application", section 3.8; Agarwal et al., 2021, "Deep
        Reinforcement Learning at the Edge of the Statistical Precipice", arXiv:2108.13264.
    """
    if not runs:
        raise ValueError("a hierarchical interval needs at least one run")
    data = [_array(run) for run in runs]
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(data), size=(resamples, len(data)))
    means = np.empty(chosen.shape)
    for place, run in enumerate(data):
        means[chosen == place] = _resampled(run, int((chosen == place).sum()), rng)
    return _interval(float(np.mean([run.mean() for run in data])), means.mean(axis=1), level)


def repeat_width(means: Sequence[float], level: float = 0.95) -> float:
    """How far the mean of as many further runs of the same kind lies from that of these, at most, by chance alone.

        w = t_{S-1} s sqrt(2 / S)          S runs with the standard deviation s; t: Student's quantile, both sides

    The prediction interval of an A/A pair: exact for normal means, and wide for few runs, because two or three hardly
    show how runs scatter: 12.7 s for two, 3.5 s for three, 1.8 s for five.

        >>> round(repeat_width([0.0, 1.0, 2.0]), 2)
        3.51

    Raises:
        ValueError: if there are fewer than two runs.

    References:
        Hahn and Meeker, 1991, "Statistical Intervals", chapter 4.
    """
    data = _array(means)
    if len(data) < 2:
        raise ValueError("one run does not show how runs scatter")
    return student_t(len(data) - 1, level) * float(data.std(ddof=1)) * math.sqrt(2 / len(data))


def student_t(freedom: int, level: float = 0.95) -> float:
    """The t between whose negative and itself Student's distribution holds a share of `level`.

        >>> round(student_t(2), 3), round(student_t(9), 3)
        (4.303, 2.262)

    References:
        Abramowitz and Stegun, 1964, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4: finite sums in
        theta = atan(t / sqrt(freedom)).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # bisection, to the last digit
        theta = (low + high) / 2
        term, total = (math.cos(theta), 0.0) if freedom % 2 else (1.0, 0.0)
        for k in range(2 + freedom % 2, freedom + 1, 2):
            total += term
            term *= math.cos(theta) ** 2 * (k - 1) / k
        held = math.sin(theta) * total
        held = 2 / math.pi * (theta + held) if freedom % 2 else held
        low, high = (theta, high) if held < level else (low, theta)
    return math.tan(low) * math.sqrt(freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests: the p-values to compare with the level wanted for all of them together.

        p'_(i) = max_{j <= i} min(1, (m - j + 1) * p_(j))          p_(1) <= ... <= p_(m)

    It controls the chance of a single false alarm, whatever the dependence of the tests, and rejects all that
    Bonferroni rejects.

        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Raises:
        ValueError: if a value is not a probability.

    References:
        Holm, 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, got {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _sign_flip(differences: Array, resamples: int, seed: int) -> float:
    count = len(differences)
    # Sums that are equal on paper differ in their last digits, in the order of addition.
    bar = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    if count <= EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float(np.mean(np.abs(signs @ differences) >= bar))
    rng, as_far = np.random.default_rng(seed), 0
    for rows in _rows(resamples, count):
        signs = 1 - 2 * rng.integers(2, size=(rows, count))
        as_far += int(np.sum(np.abs(signs @ differences) >= bar))
    return (1 + as_far) / (1 + resamples)


def _array(values: Sequence[float]) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if not data.size:
        raise ValueError("an interval needs at least one value")
    return data


def _resampled(data: Array, count: int, rng: np.random.Generator) -> Array:
    """Means of so many resamples of the values."""
    blocks = [data[rng.integers(len(data), size=(rows, len(data)))].mean(axis=1) for rows in _rows(count, len(data))]
    return np.concatenate([np.empty(0), *blocks])


def _rows(resamples: int, width: int) -> Iterator[int]:
    """How many resamples to draw at once, until all are drawn."""
    block = max(1, BLOCK // width)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)


def _interval(mean: float, means: Array, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, got {level}")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, from 1; equal values share the mean of their ranks.

    >>> ranks([5.0, 1.0, 5.0])
    [2.5, 1.0, 2.5]
    """
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered, start=1)))}
    last = {value: place for place, value in enumerate(ordered, start=1)}
    return [(first[value] + last[value]) / 2 for value in values]


def centered(values: Sequence[float]) -> list[float]:
    """Each value minus the mean of all."""
    mean = fmean(values)
    return [value - mean for value in values]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The correlation of ranks; equal values share the mean of their ranks, and no spread is no correlation.

        rho = sum_i (a_i - a)(b_i - b) / sqrt( sum_i (a_i - a)^2 * sum_i (b_i - b)^2 )          a, b: ranks

    >>> spearman([1.0, 2.0, 3.0], [10.0, 1000.0, 100.0])
    0.5

    Raises:
        ValueError: if there are not as many values in both.

    References:
        Spearman, 1904, "The proof and measurement of association between two things".
    """
    a, b = centered(ranks(one)), centered(ranks(other))
    spread = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / spread if spread else 0.0
