"""Intervals and tests against numbers computed by hand, and the laws that they obey."""

from __future__ import annotations

import random
from itertools import product
from math import comb

import numpy as np
import pytest

from madrigal.evaluation.statistics import (
    Comparison,
    Interval,
    bootstrap,
    hierarchical_bootstrap,
    holm,
    paired_bootstrap,
    repeat_width,
    student_t,
)


def normal(count: int, mean: float = 0.0, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(mean, 1.0) for _ in range(count)]


def test_two_values_have_three_means() -> None:
    """The means of two draws from {0, 1} are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert bootstrap([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)
    assert bootstrap([0.0, 1.0], level=0.4) == Interval(0.5, 0.5, 0.5)


def test_the_interval_of_a_normal_sample_is_as_wide_as_theory_says() -> None:
    values = normal(400)
    interval = bootstrap(values, resamples=20_000)
    error = (sum((v - interval.mean) ** 2 for v in values) / 400) ** 0.5 / 20
    # 1.96 standard errors each way; the resampled quantiles themselves vary by some 2 %
    assert interval.high - interval.mean == pytest.approx(1.96 * error, rel=0.05)
    assert interval.mean - interval.low == pytest.approx(1.96 * error, rel=0.05)
    assert interval.mean == pytest.approx(sum(values) / 400, abs=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        interval = bootstrap(normal(40, seed=seed), level=0.8, resamples=300)
        hits += interval.low <= 0 <= interval.high
    # 160 expected; the percentile interval of 40 values is a little narrow, and 200 trials have a deviation of 6
    assert 140 <= hits <= 174


def test_a_seed_gives_the_same_interval_and_another_gives_another() -> None:
    values = normal(30)
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)
    assert bootstrap([2.5]) == Interval(2.5, 2.5, 2.5)


def test_many_values_do_not_need_much_memory_or_change_the_draws() -> None:
    """Blocks of resamples are drawn one after the other from one stream."""
    values = normal(3000)
    interval = bootstrap(values, resamples=1000)
    assert interval.low < interval.mean < interval.high and interval.high - interval.low < 0.1


@pytest.mark.parametrize(
    "call", [lambda: bootstrap([]), lambda: hierarchical_bootstrap([]), lambda: bootstrap([1], 1.0)]
)
def test_nothing_has_no_interval(call: object) -> None:
    with pytest.raises(ValueError):
        call()  # type: ignore[operator]


def test_all_signs_are_tried_for_few_pairs() -> None:
    """d = (3, 1, 2): |sum| of the eight sign flips is 6, 4, 2, 0, 0, 2, 4, 6."""
    assert paired_bootstrap([3.0, 1.0, 2.0], [0.0, 0.0, 0.0]).p == 2 / 8
    assert paired_bootstrap([3.0, 1.0, 0.0], [0.0, 0.0, 2.0]).p == 6 / 8  # d = (3, 1, -2), |2| or more
    assert paired_bootstrap([0.0, 0.0, 0.0], [3.0, 1.0, 2.0]).p == 2 / 8
    assert paired_bootstrap([1.0], [0.0]).p == 1.0


def test_the_difference_is_the_first_minus_the_second() -> None:
    result = paired_bootstrap([3.0, 4.0], [1.0, 2.0])
    assert result == Comparison(Interval(2.0, 2.0, 2.0), 0.5, 2)
    assert paired_bootstrap([1.0, 2.0], [3.0, 4.0]).difference.mean == -2.0


def test_equal_systems_have_p_one_despite_rounding() -> None:
    values = [0.1, 0.2, 0.3, 0.7]
    assert paired_bootstrap(values, values).p == 1.0
    shifted = [v + 0.1 for v in values]
    # rounding makes the four differences differ in their last digits: 2 of 16 flips are as far, not 1
    assert paired_bootstrap(shifted, values).p == 2 / 16


def test_exact_and_drawn_permutations_agree() -> None:
    differences = [1.0, -0.5, 2.0, 0.3, 1.1, -0.2, 0.4, 0.9, -1.0, 0.6, 0.2, 0.1, 0.8, -0.3, 0.5]  # 15 pairs
    bar = abs(sum(differences))
    exact = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= bar - 1e-9
        for signs in product((1, -1), repeat=15)
    )
    drawn = paired_bootstrap(differences, [0.0] * 15, resamples=20_000).p
    assert drawn == pytest.approx(exact / 2**15, abs=0.005)  # a deviation of 0.0015 at 20,000 draws


def test_a_drawn_p_value_is_never_zero() -> None:
    assert paired_bootstrap([1.0] * 50, [0.0] * 50, resamples=99).p == pytest.approx(1 / 100)


def test_pairing_finds_what_the_spread_between_examples_hides() -> None:
    hard = [50 * v for v in normal(12, seed=3)]
    better = [v + 1 + 0.1 * n for v, n in zip(hard, normal(12, seed=4), strict=True)]
    result = paired_bootstrap(better, hard)
    assert result.p == 2 / 2**12 and result.difference.low > 0.8


def test_pairs_are_needed() -> None:
    with pytest.raises(ValueError, match="one value of each per example, got 2 and 1"):
        paired_bootstrap([1.0, 2.0], [1.0])


def test_seeds_widen_an_interval_that_examples_alone_would_narrow() -> None:
    runs = [[s + v for v in normal(100, seed=s)] for s in (0, 1, 2, 3, 4)]
    both, pooled = hierarchical_bootstrap(runs), bootstrap([v for run in runs for v in run])
    assert both.mean == pytest.approx(pooled.mean)
    assert both.high - both.low > 5 * (pooled.high - pooled.low)


def test_runs_count_equally_however_long() -> None:
    assert hierarchical_bootstrap([[0.0], [1.0, 1.0, 1.0]]).mean == 0.5


def test_both_levels_are_resampled() -> None:
    """One run of {0, 1}: only the examples vary. Two constant runs: only the runs do."""
    assert hierarchical_bootstrap([[0.0, 1.0]]) == Interval(0.5, 0.0, 1.0)
    # four runs of which one is 1: the mean is k/4 with probability C(4, k) 3^(4-k) / 4^4; 13 of 256 lie above 1/2
    assert sum(comb(4, k) * 3 ** (4 - k) for k in (3, 4)) == 13
    assert hierarchical_bootstrap([[1.0], [0.0], [0.0], [0.0]], level=0.8) == Interval(0.25, 0.0, 0.5)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == [] and holm([0.2]) == [0.2]


def test_holm_keeps_order_and_lies_between_no_correction_and_bonferroni() -> None:
    rng = random.Random(0)
    for _ in range(50):
        values = [rng.random() ** 3 for _ in range(6)]
        adjusted = holm(values)
        assert all(p <= q <= min(1.0, 6 * p) + 1e-12 for p, q in zip(values, adjusted, strict=True))
        assert [adjusted[i] for i in sorted(range(6), key=values.__getitem__)] == sorted(adjusted)


def test_holm_wants_probabilities() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.2])


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert student_t(freedom) == pytest.approx(t, abs=5e-4)


def test_as_many_further_runs_lie_within_the_width_in_95_of_100_cases() -> None:
    """4,000 pairs of three normal runs; 0.95 has a standard error of 0.0034."""
    pairs = np.random.default_rng(0).normal(size=(4000, 2, 3))
    held = [abs(np.mean(a) - np.mean(b)) <= repeat_width(a.tolist()) for a, b in pairs]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_one_run_does_not_show_how_runs_scatter() -> None:
    with pytest.raises(ValueError, match="one run does not show"):
        repeat_width([1.0])
