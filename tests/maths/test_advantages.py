"""Returns and baselines: numbers by hand, and the laws between them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.maths.advantages import greedy, group_mean, group_zscore, leave_one_out, standardize
from madrigal.maths.returns import margin, mean_over_teammates, quality, returns_to_go

value = st.floats(-100, 100)
rows = st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(value, min_size=k, max_size=k), min_size=1, max_size=3))
groups = rows.map(lambda r: torch.tensor(r, dtype=torch.float64))
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


def test_standardize_by_hand() -> None:
    """Squares sum up to 14, over 3 - 1 or 3; the epsilon is added to the deviation."""
    row = torch.tensor([[-2.0, -1.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(standardize(row), row / (math.sqrt(7) + 1e-4))
    torch.testing.assert_close(standardize(row, ddof=0, epsilon=0.0), row / math.sqrt(14 / 3))
    torch.testing.assert_close(standardize(row, epsilon=math.sqrt(7)), row / (2 * math.sqrt(7)))


def test_the_epsilon_keeps_a_group_of_nearly_equal_returns_small() -> None:
    """0, 0, 0 and 1e-5 have a sample deviation of 5e-6."""
    row = torch.tensor([[0.0, 0.0, 0.0, 1e-5]], dtype=torch.float64)
    assert group_zscore(row)[0].tolist() == pytest.approx([-2.5 / 105] * 3 + [7.5 / 105])


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
def test_standardized_rows_have_unit_sample_spread_or_are_zero(returns: Tensor) -> None:
    centered = group_mean(returns)
    for row, before in zip(standardize(centered, epsilon=0.0), centered, strict=True):
        flat = float(before.std()) <= 1e-9
        assert bool((row == 0).all()) if flat else float(row.std()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("equal", [0.1, 0.7, 5.9])
def test_what_rounding_leaves_of_equal_returns_is_no_spread(equal: float, size: int) -> None:
    row = torch.full((1, size), equal, dtype=torch.float64)
    assert standardize(row - row.mean(), epsilon=0.0).tolist() == [[0] * size]


def test_greedy_by_hand() -> None:
    returns = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert greedy(returns, torch.tensor([2.0, -1.0])).tolist() == [[-1, 0, 4], [1, 1, 4]]


@given(groups)
def test_a_greedy_baseline_at_the_mean_is_the_group_mean(returns: Tensor) -> None:
    torch.testing.assert_close(greedy(returns, returns.mean(dim=-1)), group_mean(returns))


def test_group_zscore_by_hand() -> None:
    returns = torch.tensor([[1.0, 3.0], [5.0, 5.0]], dtype=torch.float64)
    assert group_zscore(returns, epsilon=0.0).tolist() == [
        [pytest.approx(-(0.5**0.5)), pytest.approx(0.5**0.5)],
        [0, 0],
    ]
    assert group_zscore(returns, ddof=0, epsilon=0.0).tolist() == [[-1, 1], [0, 0]]


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


@pytest.mark.parametrize("baseline", [group_mean, leave_one_out, group_zscore])
def test_an_only_child_is_refused(baseline: object) -> None:
    with pytest.raises(ValueError, match="at least 2 siblings, got 1"):
        baseline(torch.zeros(3, 1))  # type: ignore[operator]


def test_mean_over_teammates_by_hand() -> None:
    choices = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert mean_over_teammates([1.0, 3.0, 5.0, 9.0], choices, seat=0) == ([0, 1], [2.0, 7.0])
    assert mean_over_teammates([1.0, 3.0, 5.0, 9.0], choices, seat=1) == ([0, 1], [3.0, 6.0])


@given(st.lists(value, min_size=1, max_size=5), st.integers(0, 2))
def test_aligned_answers_keep_their_return(returns: list[float], seat: int) -> None:
    choices = [(k, k, k) for k in range(len(returns))]
    assert mean_over_teammates(returns, choices, seat) == (list(range(len(returns))), returns)
