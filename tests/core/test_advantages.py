"""Returns and baselines: numbers by hand, and the laws between them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.maths.advantages import (
    active_score,
    greedy,
    group_mean,
    leave_one_out,
    margin,
    mean_over_partners,
    quality,
    returns_to_go,
    standard_score,
    standardise,
)

value = st.floats(-100, 100)
rows = st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(value, min_size=k, max_size=k), min_size=1, max_size=3))
groups = rows.map(lambda r: torch.tensor(r, dtype=torch.float64))
steps = st.lists(value, min_size=2, max_size=8).map(lambda r: torch.tensor(r, dtype=torch.float64))
share = st.floats(0, 1)


@pytest.mark.parametrize(
    ("rewards", "discount", "tail", "expected"),
    [
        ([1.0, 2.0, 4.0], 1.0, 0.0, [7.0, 6.0, 4.0]),
        ([1.0, 2.0, 4.0], 0.5, 0.0, [3.0, 4.0, 4.0]),
        ([1.0, 2.0], 1.0, 10.0, [13.0, 12.0]),
        ([1.0, 2.0], 0.5, 10.0, [4.5, 7.0]),
        ([1.0, 2.0], 0.0, 10.0, [1.0, 2.0]),
        ([], 1.0, 3.0, []),
    ],
)
def test_returns_to_go(rewards: list[float], discount: float, tail: float, expected: list[float]) -> None:
    assert returns_to_go(rewards, discount, tail) == expected


def test_group_mean_by_hand() -> None:
    assert group_mean(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])).tolist() == [[-2, -1, 3], [-1, -1, 2]]


def test_leave_one_out_by_hand() -> None:
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[-3, -1.5, 4.5]]


def test_standardise_by_hand() -> None:
    spread = math.sqrt(14 / 3)
    torch.testing.assert_close(
        standardise(torch.tensor([[-2.0, -1.0, 3.0]])), torch.tensor([[-2 / spread, -1 / spread, 3 / spread]])
    )


@given(groups)
def test_group_mean_sums_to_zero(returns: Tensor) -> None:
    assert group_mean(returns).sum(dim=-1).abs().max() < 1e-9


@given(groups)
def test_leave_one_out_is_group_mean_stretched(returns: Tensor) -> None:
    k = returns.shape[-1]
    torch.testing.assert_close(leave_one_out(returns), group_mean(returns) * k / (k - 1))


@given(groups, value)
def test_baselines_do_not_see_a_shift(returns: Tensor, shift: float) -> None:
    torch.testing.assert_close(group_mean(returns + shift), group_mean(returns), atol=1e-9, rtol=0)


@given(groups)
def test_standardised_rows_have_unit_population_spread_or_are_zero(returns: Tensor) -> None:
    centred = group_mean(returns)
    for row, before in zip(standardise(centred), centred, strict=True):
        flat = float(before.std(correction=0)) <= 1e-6
        assert bool((row == 0).all()) if flat else float(row.std(correction=0)) == pytest.approx(1, abs=1e-9)


def test_a_constant_group_has_no_advantage() -> None:
    returns = torch.full((1, 4), 0.7)
    assert standardise(group_mean(returns)).tolist() == [[0, 0, 0, 0]]


def test_greedy_by_hand() -> None:
    returns = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert greedy(returns, torch.tensor([2.0, -1.0])).tolist() == [[-1, 0, 4], [1, 1, 4]]


@given(groups)
def test_a_greedy_baseline_at_the_mean_is_the_group_mean(returns: Tensor) -> None:
    torch.testing.assert_close(greedy(returns, returns.mean(dim=-1)), group_mean(returns))


def test_standard_score_by_hand() -> None:
    assert standard_score(torch.tensor([[1.0, 3.0], [5.0, 5.0]])).tolist() == [[-1, 1], [0, 0]]
    root = math.sqrt(8 / 3)
    torch.testing.assert_close(
        standard_score(torch.tensor([[0.0, 2.0, 4.0]])), torch.tensor([[-2 / root, 0.0, 2 / root]])
    )


def test_active_score_by_hand() -> None:
    """Mean 2, squared deviations 1 + 1 + 4 over 3 - 1: a deviation of the square root of 3, not of 2."""
    returns, root = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64), math.sqrt(3)
    expected = torch.tensor([-1 / root, -1 / root, 2 / root], dtype=torch.float64)
    torch.testing.assert_close(active_score(returns, epsilon=0.0), expected)
    torch.testing.assert_close(active_score(returns, epsilon=root), expected / 2)  # added to the deviation
    assert active_score(returns, remove_std=True).tolist() == [-1, -1, 2]


@pytest.mark.parametrize("returns", [[], [3.0], [0.7, 0.7, 0.7]])
def test_steps_that_cannot_be_told_apart_have_no_active_score(returns: list[float]) -> None:
    for remove_std in (False, True):
        scores = active_score(torch.tensor(returns, dtype=torch.float64), remove_std=remove_std).tolist()
        assert scores == pytest.approx([0.0] * len(returns), abs=1e-9)


@given(steps)
def test_active_scores_have_mean_0_and_sample_variance_1(returns: Tensor) -> None:
    scores = active_score(returns, epsilon=0.0) if float(returns.std()) > 1e-3 else None
    if scores is not None:
        assert float(scores.mean()) == pytest.approx(0, abs=1e-9)
        assert float(scores.var(correction=1)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("reward", "earlier", "alpha", "by_margin", "by_quality"),
    [
        (1.0, 1.0, 0.5, 1.0, 1.5),  # quality: Q = R = 1 gives 1 + alpha
        (0.0, 0.0, 0.5, 0.0, -0.5),
        (1.0, 0.0, 0.5, 1.5, 1.0),
        (0.0, 1.0, 0.5, -0.5, 0.0),
        (0.75, 0.25, 0.5, 1.0, 0.75),
        (0.5, 0.25, 2.0, 1.0, 0.0),
        (0.5, 0.25, 0.0, 0.5, 0.5),
    ],
)
def test_shaping_by_hand(reward: float, earlier: float, alpha: float, by_margin: float, by_quality: float) -> None:
    assert margin(reward, earlier, alpha) == by_margin
    assert quality(reward, earlier, alpha) == by_quality


@given(share, share)
def test_quality_pays_for_rising_above_the_complement_of_what_was(reward: float, earlier: float) -> None:
    """Q R - (1 - Q)(1 - R) = R + Q - 1."""
    assert quality(reward, earlier, alpha=1.0) == pytest.approx(2 * reward + earlier - 1)


@pytest.mark.parametrize("baseline", [group_mean, leave_one_out, standard_score])
def test_an_only_child_is_refused(baseline: object) -> None:
    with pytest.raises(ValueError, match="at least 2 siblings, got 1"):
        baseline(torch.zeros(3, 1))  # type: ignore[operator]


def test_mean_over_partners_by_hand() -> None:
    choices = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert mean_over_partners([1.0, 3.0, 5.0, 9.0], choices, seat=0) == ([0, 1], [2.0, 7.0])
    assert mean_over_partners([1.0, 3.0, 5.0, 9.0], choices, seat=1) == ([0, 1], [3.0, 6.0])


@given(st.lists(value, min_size=1, max_size=5), st.integers(0, 2))
def test_aligned_answers_keep_their_return(returns: list[float], seat: int) -> None:
    choices = [(k, k, k) for k in range(len(returns))]
    assert mean_over_partners(returns, choices, seat) == (list(range(len(returns))), returns)
