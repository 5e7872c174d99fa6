"""The influence-aware reward: the formula by hand, and what must hold of any scores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from madrigal.algorithms.influence import Horizon, Share, influence_aware

# Two agents, three rounds.
SCORES = torch.tensor([[0.2, 0.8], [0.6, 0.4], [1.0, 0.0]], dtype=torch.float64)
SHARES = st.floats(0, 1)
TABLES = st.integers(1, 5).flatmap(
    lambda agents: st.lists(st.lists(SHARES, min_size=agents, max_size=agents), min_size=1, max_size=5)
)


def table(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_the_paper_s_mode_by_hand() -> None:
    """discount 0.3; the mean of the second round is 0.5, of the third 0.5; weights 1, 0.3, 0.09."""
    first = [(0.2 + 0.3 * 0.5 + 0.09 * 0.5) / 1.39, (0.8 + 0.3 * 0.5 + 0.09 * 0.5) / 1.39]
    second = [(0.6 + 0.3 * 0.5) / 1.3, (0.4 + 0.3 * 0.5) / 1.3]
    expected = table([first, second, [1.0, 0.0]])
    torch.testing.assert_close(influence_aware(SCORES), expected)


def test_an_agent_s_own_later_answers_alone() -> None:
    expected = table(
        [
            [(0.2 + 0.3 * 0.6 + 0.09 * 1.0) / 1.39, (0.8 + 0.3 * 0.4 + 0.09 * 0.0) / 1.39],
            [(0.6 + 0.3 * 1.0) / 1.3, (0.4 + 0.3 * 0.0) / 1.3],
            [1.0, 0.0],
        ]
    )
    torch.testing.assert_close(influence_aware(SCORES, share="individual"), expected)


@pytest.mark.parametrize(
    ("horizon", "share", "expected"),
    [
        ("last", "all", [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]),
        ("last", "individual", [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        ("current", "all", [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]),
        ("current", "individual", [[0.2, 0.8], [0.6, 0.4], [1.0, 0.0]]),
    ],
)
def test_the_other_modes(horizon: Horizon, share: Share, expected: list[list[float]]) -> None:
    torch.testing.assert_close(influence_aware(SCORES, horizon=horizon, share=share), table(expected))


def test_who_misleads_others_pays_for_it() -> None:
    """Both first answers are right; after one of them everybody is wrong, after the other everybody stays right."""
    misled = influence_aware(table([[1.0, 1.0], [0.0, 0.0]]))
    kept = influence_aware(table([[1.0, 1.0], [1.0, 1.0]]))
    assert misled[0, 0] == pytest.approx(1 / 1.3)
    assert kept[0, 0] == pytest.approx(1.0)


@given(
    TABLES.map(table),
    st.floats(0, 1),
    st.sampled_from(("discounted_sum", "last", "current")),
    st.sampled_from(("all", "individual")),
)
def test_rewards_are_means_of_scores(scores: torch.Tensor, discount: float, horizon: Horizon, share: Share) -> None:
    rewards = influence_aware(scores, discount, horizon, share)
    assert rewards.shape == scores.shape
    assert float(rewards.min()) >= float(scores.min()) - 1e-12
    assert float(rewards.max()) <= float(scores.max()) + 1e-12


@given(SHARES, st.integers(1, 4), st.integers(1, 4), st.floats(0, 1))
def test_equal_scores_are_everybody_s_reward(value: float, rounds: int, agents: int, discount: float) -> None:
    rewards = influence_aware(torch.full((rounds, agents), value, dtype=torch.float64), discount)
    torch.testing.assert_close(rewards, torch.full_like(rewards, value))


@given(TABLES.map(table), st.floats(0, 1))
def test_in_the_last_round_the_score_is_the_reward(scores: torch.Tensor, discount: float) -> None:
    torch.testing.assert_close(influence_aware(scores, discount)[-1], scores[-1])


@given(TABLES.map(table))
def test_without_influence_every_answer_stands_alone(scores: torch.Tensor) -> None:
    torch.testing.assert_close(influence_aware(scores, 0.0), scores)


@given(TABLES.filter(lambda rows: len(rows) > 1).map(table), st.floats(0, 1))
def test_what_came_before_an_answer_does_not_pay_it(scores: torch.Tensor, discount: float) -> None:
    torch.testing.assert_close(influence_aware(scores, discount)[1:], influence_aware(scores[1:], discount))


@given(TABLES.map(table))
def test_with_one_agent_all_and_individual_are_one(scores: torch.Tensor) -> None:
    alone = scores[:, :1]
    torch.testing.assert_close(influence_aware(alone), influence_aware(alone, share="individual"))
