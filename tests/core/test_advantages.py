"""Returns and baselines: numbers by hand, and the laws between them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.advantages import group_mean, leave_one_out, mean_over_partners, returns_to_go, standardise

value = st.floats(-100, 100)
rows = st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(value, min_size=k, max_size=k), min_size=1, max_size=3))
groups = rows.map(lambda r: torch.tensor(r, dtype=torch.float64))


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


@pytest.mark.parametrize("baseline", [group_mean, leave_one_out])
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
