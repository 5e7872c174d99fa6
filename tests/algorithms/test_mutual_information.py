"""What words share with what was shown: bounds against mutual information that is known, the buffers' rule by hand."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from madrigal.algorithms.buffers import Buffers, Entry, comparable
from madrigal.algorithms.mutual_information import (
    Dual,
    Pairs,
    club_parts,
    gaussian,
    jsd_parts,
    likelihood,
    log_likelihoods,
    lower_bound,
    lower_network,
    new_dual,
    scores,
    standardized,
    upper_network,
)

LN2 = math.log(2.0)


def fitted(train: Pairs, seen: Pairs) -> tuple[float, float]:
    """Both bounds on pairs that were not learned from, in nats."""
    dual = new_dual(train.s.shape[1], train.u.shape[1], 0.02)
    dual.lower.climb(lower_bound, train, 200, 96)
    dual.upper.climb(likelihood, train, 200, 96)
    lower, upper = dual.parts(seen)
    return float(lower.mean()), float(upper.mean())


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def correlated(rho: float, seed: int, count: int = 400) -> Pairs:
    """Two normal numbers with a correlation: they share -1/2 ln(1 - rho^2) nats."""
    draw = torch.Generator().manual_seed(seed)
    s = normal(draw, count, 1)
    return Pairs(s, rho * s + math.sqrt(1 - rho**2) * normal(draw, count, 1), torch.zeros(count, dtype=torch.long))


def test_bounds_enclose_the_mutual_information_of_gaussians() -> None:
    true = -0.5 * math.log(1 - 0.9**2)
    lower, upper = fitted(correlated(0.9, 1), correlated(0.9, 2))
    assert 0.15 < lower <= true <= upper


def test_bounds_of_what_is_independent_are_near_zero() -> None:
    lower, upper = fitted(correlated(0.0, 1), correlated(0.0, 2))
    assert abs(lower) < 0.03 and abs(upper) < 0.05


def two_tasks(seed: int, within: str) -> Pairs:
    """Task 0 or 1 shifts both s and u by -2 or 2, and that is all that they share: ln 2 nats."""
    draw = torch.Generator().manual_seed(seed)
    task = torch.arange(400) % 2
    shift = 4.0 * task[:, None] - 2
    s, u = (shift + 0.5 * normal(draw, 400, 2) for _ in range(2))
    return Pairs(s / 2, u / 2, task if within == "task" else torch.zeros_like(task))


def test_the_tasks_identity_counts_only_where_tasks_are_compared() -> None:
    lower, upper = fitted(two_tasks(1, "all"), two_tasks(2, "all"))
    # Of ln 2 nats twice the Jensen-Shannon divergence can show ln(4/3) + (ln(2/3) + ln 2) / 2 = 0.4315.
    assert 0.3 < lower < 0.4315 + 0.02 and upper > LN2
    lower, upper = fitted(two_tasks(1, "task"), two_tasks(2, "task"))
    assert abs(lower) < 0.03 and abs(upper) < 0.05


def test_parts_of_the_lower_bound_by_hand() -> None:
    table = torch.tensor([[1.0, -2.0, 5.0], [0.5, 0.0, 5.0], [5.0, 5.0, 3.0]])
    near = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    first = (LN2 - softplus(-1.0)) - (softplus(-2.0) - LN2)
    second = (LN2 - softplus(0.0)) - (softplus(0.5) - LN2)
    assert jsd_parts(table, near).tolist() == pytest.approx([first, second, 0.0], abs=1e-6)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=30), st.lists(st.floats(-8, 8), min_size=2, max_size=30))
def test_no_scores_make_the_lower_bound_more_than_2_ln_2(own: list[float], other: list[float]) -> None:
    count = min(len(own), len(other))
    table = torch.tensor(other[:count]).expand(count, count).clone()
    table[range(count), range(count)] = torch.tensor(own[:count])
    assert float(jsd_parts(table, torch.ones(count, count, dtype=torch.bool)).mean()) <= 2 * LN2 + 1e-6


@torch.no_grad()
def test_scores_are_of_joint_actions_with_states() -> None:
    network, rounds = lower_network(1, 1, seed=4), correlated(0.5, 1, 5)
    table = scores(network, rounds)
    for i in range(5):
        for j in range(5):
            alone = Pairs(rounds.s[j : j + 1], rounds.u[i : i + 1], torch.zeros(1, dtype=torch.long))
            assert float(scores(network, alone)) == pytest.approx(float(table[i, j]))


@torch.no_grad()
def test_parts_of_the_upper_bound_are_differences_of_log_likelihoods() -> None:
    network, rounds = upper_network(1, 2, seed=3), correlated(0.5, 1, 6)
    rounds = Pairs(rounds.s, torch.cat([rounds.u, rounds.s**2], dim=1), torch.arange(6) // 3)
    parts = club_parts(network, rounds)
    for i in range(6):
        u, context = rounds.u[:3] if i < 3 else rounds.u[3:], rounds.contexts[:3]
        mates = log_likelihoods(network, Pairs(rounds.s[i : i + 1].expand(3, 1), u, context))
        assert float(parts[i]) == pytest.approx(float(log_likelihoods(network, rounds)[i] - mates.mean()))


@torch.no_grad()
def test_the_log_likelihood_is_that_of_a_gaussian() -> None:
    network, rounds = upper_network(1, 1, seed=3), correlated(0.5, 1, 4)
    mean, spread = gaussian(network, rounds.s)
    assert float(spread.abs().max()) < 1
    true = torch.distributions.Normal(mean, (spread / 2).exp()).log_prob(rounds.u)[:, 0]
    assert torch.allclose(log_likelihoods(network, rounds) - 0.5 * math.log(2 * math.pi), true)


def test_an_estimator_goes_on_from_json_as_if_it_had_never_stopped() -> None:
    rounds = correlated(0.5, 1, 20)
    whole, cut = new_dual(1, 1, 0.01).upper, new_dual(1, 1, 0.01).upper
    whole.climb(likelihood, rounds, 6, 8)
    for _ in range(6):
        cut.climb(likelihood, rounds, 1, 8)
        state, cut = json.dumps(cut.to_json()), new_dual(1, 1, 0.01).upper
        cut.load(json.loads(state))
    assert cut.steps == 6 and cut.to_json() == whole.to_json()


def entry(value: float, context: str, state: float, *action: float) -> Entry:
    return {"value": value, "context": context, "state": [state], "action": [*action]}


# A return, where it is filed, and the bar that it met: max(lowest positive, mean of all returns before).
FILED = (
    (2.0, "positive", -math.inf),  # nothing is positive yet
    (1.0, "negative", 2.0),  # the lowest positive return is 2
    (2.0, "negative", 2.0),  # more than the bar, not as much
    (3.0, "positive", 2.0),
    (9.0, "positive", 2.0),
    (3.0, "negative", 3.4),  # the mean of 2, 1, 2, 3, 9 is above the lowest, 2
    (4.0, "positive", 20 / 6),
)


def test_the_bar_by_hand() -> None:
    buffers = Buffers()
    for n, (value, where, bar) in enumerate(FILED):
        assert buffers.bar == pytest.approx(bar)
        before = buffers
        buffers = buffers.with_episode([entry(value, f"{n}", 0.0, 0.0)], capacity=10, window=1000)
        assert len(buffers.positive) - len(before.positive) == (where == "positive"), value
        assert len(buffers.negative) - len(before.negative) == (where == "negative"), value
    assert [one["value"] for one in buffers.positive] == [2.0, 3.0, 4.0, 9.0]
    assert [one["context"] for one in buffers.negative] == ["1", "2", "5"]


def test_the_bar_remembers_a_window_of_returns() -> None:
    buffers = Buffers()
    for value in (1.0, 9.0, 9.0, 2.0, 2.0):
        buffers = buffers.with_episode([entry(value, "", 0.0, 0.0)], capacity=10, window=2)
    assert buffers.recent == [2.0, 2.0] and buffers.bar == 2.0


def test_full_buffers_give_up_the_lowest_and_the_oldest() -> None:
    buffers = Buffers()
    for value in (5.0, 6.0, 7.0, 8.0, 1.0, 3.0, 2.0):
        rounds = [entry(value, f"{value}", 0.0, 0.0), entry(value, f"{value}", 1.0, 0.0)]
        buffers = buffers.with_episode(rounds, capacity=3, window=1000)
    assert [one["value"] for one in buffers.positive] == [7.0, 8.0, 8.0]
    assert [one["value"] for one in buffers.negative] == [3.0, 2.0, 2.0]


def test_where_all_were_shown_the_same_there_is_nothing_to_compare() -> None:
    shown = (("a", 1.0), ("b", 0.0), ("a", 1.0), ("b", 2.0), ("c", 3.0))
    entries = [entry(0.0, context, state, float(n)) for n, (context, state) in enumerate(shown)]
    assert comparable(entries, "task") == [1, 3]
    assert comparable(entries, "all") == [0, 1, 2, 3, 4]
    assert comparable(entries[:1] + entries[2:3], "all") == []


def test_what_a_step_draws_keeps_contexts_together_and_depends_on_the_seed() -> None:
    contexts = torch.arange(40) % 10
    rounds = Pairs(torch.arange(40.0)[:, None], torch.arange(40.0)[:, None], contexts)
    one, same, other = rounds.drawn(12, seed=1), rounds.drawn(12, seed=1), rounds.drawn(12, seed=2)
    assert sorted(Counter(one.contexts.tolist()).values()) == [4, 4, 4]
    assert torch.equal(one.s, same.s) and not torch.equal(one.s, other.s)
    assert torch.equal(one.contexts, one.s[:, 0].long() % 10)
    assert rounds.drawn(40, seed=1) is rounds


def test_numbers_are_standardized_over_both_buffers() -> None:
    buffers = Buffers([entry(0.0, "a", 2.0, 7.0)], [entry(0.0, "a", 6.0, 7.0)])
    rounds = standardized([entry(0.0, "a", 8.0, 9.0), entry(0.0, "b", 4.0, 7.0)], buffers, "task")
    assert rounds.s.tolist() == [[2.0], [0.0]]  # mean 4, spread 2
    assert rounds.u.tolist() == [[2.0], [0.0]]  # mean 7, no spread
    assert rounds.contexts.tolist() == [0, 1]


def test_the_lower_bound_learns_from_the_positive_buffer_alone_and_the_upper_from_the_negative() -> None:
    def steps(buffers: Buffers) -> tuple[int, int]:
        dual: Dual = new_dual(1, 2, 0.01)
        dual.fit(buffers, "task", 3, 8)
        return dual.lower.steps, dual.upper.steps

    entries = [entry(0.0, "a", float(n), -float(n), 1.0) for n in range(4)]
    assert steps(Buffers(positive=entries)) == (3, 0) and steps(Buffers(negative=entries)) == (0, 3)
    assert steps(Buffers(positive=[entry(0.0, f"{n}", 0.0, 0.0, 0.0) for n in range(4)])) == (0, 0)
