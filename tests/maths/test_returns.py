"""Temporal differences and generalized advantages, by hand and by their laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madrigal.maths.returns import END, Ahead, gae, returns_to_go, td

NUMBER = st.floats(-10, 10)
SHARE = st.floats(0, 1)
STEPS = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=8)


def test_td_by_hand() -> None:
    """1 + 0.5 * 3 - 5,  2 + 0.5 * 4 - 3,  -1 + 0 - 4."""
    assert td([1.0, 2.0, -1.0], [5.0, 3.0, 4.0], discount=0.5) == [-2.5, 1.0, -5.0]


def test_after_the_end_there_is_nothing_unless_it_is_said() -> None:
    assert td([1.0], [0.25]) == [0.75]
    assert td([1.0], [0.25], discount=0.5, tail=2.0) == [1.75]


def test_gae_by_hand() -> None:
    """Errors -2.5, 1, -5 as above; each adds 0.5 * 0.8 of what follows."""
    found = gae([1.0, 2.0, -1.0], [5.0, 3.0, 4.0], discount=0.5, trace=0.8)
    assert found == pytest.approx([-2.5 + 0.4 * -1.0, 1.0 + 0.4 * -5.0, -5.0]) and found[0] == pytest.approx(-2.9)


def test_what_lies_ahead_enters_by_its_value_and_its_advantage() -> None:
    """1 + 0.5 * 4 - 2 = 1, and 0.5 * 0.8 * 10 of the advantage ahead."""
    assert gae([1.0], [2.0], discount=0.5, trace=0.8, ahead=Ahead(4.0, 10.0)) == [pytest.approx(5.0)]


def test_a_reward_between_is_added_to_the_value_and_discounts_what_is_behind_it() -> None:
    assert Ahead(4.0, 10.0).after(3.0, 0.5) == Ahead(5.0, 5.0)
    assert END.after(3.0, 0.5) == Ahead(3.0, 0.0)


@given(STEPS, SHARE)
def test_without_a_trace_gae_is_td(steps: list[tuple[float, float]], discount: float) -> None:
    rewards, values = map(list, zip(*steps, strict=True))
    assert gae(rewards, values, discount, trace=0.0) == pytest.approx(td(rewards, values, discount))


@given(STEPS, SHARE)
def test_with_a_full_trace_gae_is_the_return_to_go_minus_the_value(
    steps: list[tuple[float, float]], discount: float
) -> None:
    rewards, values = map(list, zip(*steps, strict=True))
    expected = [r - v for r, v in zip(returns_to_go(rewards, discount), values, strict=True)]
    assert gae(rewards, values, discount, trace=1.0) == pytest.approx(expected, abs=1e-9)


@given(st.lists(NUMBER, min_size=1, max_size=8), SHARE)
def test_a_critic_that_says_nothing_leaves_returns_to_go(rewards: list[float], discount: float) -> None:
    blank = [0.0] * len(rewards)
    assert gae(rewards, blank, discount, trace=1.0) == pytest.approx(returns_to_go(rewards, discount), abs=1e-9)


@given(st.lists(NUMBER, min_size=1, max_size=8), SHARE, SHARE)
def test_a_perfect_critic_leaves_nothing_to_say(rewards: list[float], discount: float, trace: float) -> None:
    perfect = returns_to_go(rewards, discount)
    assert td(rewards, perfect, discount) == pytest.approx([0.0] * len(rewards), abs=1e-9)
    assert gae(rewards, perfect, discount, trace) == pytest.approx([0.0] * len(rewards), abs=1e-9)


@given(STEPS, st.integers(0, 8), SHARE, SHARE)
def test_a_chain_may_be_cut_anywhere(steps: list[tuple[float, float]], cut: int, discount: float, trace: float) -> None:
    """The later part first, then the earlier one with what lies ahead of it: the same as the whole."""
    rewards, values = map(list, zip(*steps, strict=True))
    whole, cut = gae(rewards, values, discount, trace), min(cut, len(steps))
    later = gae(rewards[cut:], values[cut:], discount, trace)
    ahead = Ahead(values[cut], later[0]) if later else END
    assert [*gae(rewards[:cut], values[:cut], discount, trace, ahead), *later] == pytest.approx(whole, abs=1e-9)


def test_a_value_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        gae([1.0, 2.0], [0.0])
