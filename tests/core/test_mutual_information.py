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

from madrigal.algorithms.mutual_information.bounds import (
    club_parts,
    gaussian,
    gaussian_weights,
    jsd_parts,
    log_likelihoods,
    score_weights,
    scores,
)
from madrigal.algorithms.mutual_information.buffers import Buffers, buffers_from_json
from madrigal.algorithms.mutual_information.estimators import Dual, Fitting, climbed, likelihood, lower_bound, new_dual
from madrigal.algorithms.mutual_information.networks import fresh, network_from_json, stepped
from madrigal.algorithms.mutual_information.pairs import Pair, Standardized, comparable, scale_of

LN2 = math.log(2.0)


def fitted(train: Standardized, seen: Standardized) -> tuple[float, float]:
    """Both bounds on pairs that were not learned from, in nats."""
    dual, how = new_dual(train.s.shape[1], train.u.shape[1]), Fitting(200, 96, 0.02)
    dual = Dual(climbed(dual.lower, lower_bound, train, how), climbed(dual.upper, likelihood, train, how))
    lower, upper = dual.parts(seen)
    return float(lower.mean()), float(upper.mean())


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def correlated(rho: float, seed: int, count: int = 400) -> Standardized:
    """Two normal numbers with a correlation: they share -1/2 ln(1 - rho^2) nats."""
    draw = torch.Generator().manual_seed(seed)
    s = normal(draw, count, 1)
    return Standardized(
        s, rho * s + math.sqrt(1 - rho**2) * normal(draw, count, 1), torch.zeros(count, dtype=torch.long)
    )


def test_bounds_enclose_the_mutual_information_of_gaussians() -> None:
    true = -0.5 * math.log(1 - 0.9**2)
    lower, upper = fitted(correlated(0.9, 1), correlated(0.9, 2))
    assert 0.15 < lower <= true <= upper


def test_bounds_of_what_is_independent_are_near_zero() -> None:
    lower, upper = fitted(correlated(0.0, 1), correlated(0.0, 2))
    assert abs(lower) < 0.03 and abs(upper) < 0.05


def two_tasks(seed: int, within: str) -> Standardized:
    """Task 0 or 1 shifts both s and u by -2 or 2, and that is all that they share: ln 2 nats."""
    draw = torch.Generator().manual_seed(seed)
    task = torch.arange(400) % 2
    shift = 4.0 * task[:, None] - 2
    s, u = (shift + 0.5 * normal(draw, 400, 2) for _ in range(2))
    return Standardized(s / 2, u / 2, task if within == "task" else torch.zeros_like(task))


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


def test_scores_are_of_joint_actions_with_states() -> None:
    weights = score_weights(2, 3, seed=4)
    s, u = correlated(0.0, 1, 5).s.expand(5, 2), correlated(0.0, 2, 5).s.expand(5, 3)
    table = scores(weights, s, u)
    for i in range(5):
        for j in range(5):
            assert float(scores(weights, s[j : j + 1], u[i : i + 1])) == pytest.approx(float(table[i, j]))


def test_parts_of_the_upper_bound_are_differences_of_log_likelihoods() -> None:
    weights, rounds = gaussian_weights(1, 2, seed=3), correlated(0.5, 1, 6)
    u = torch.cat([rounds.u, rounds.s**2], dim=1)
    near = torch.arange(6)[:, None] // 3 == torch.arange(6)[None] // 3
    parts = club_parts(weights, rounds.s, u, near)
    for i in range(6):
        alone = rounds.s[i : i + 1].expand(3, 1)
        mates = u[:3] if i < 3 else u[3:]
        own = log_likelihoods(weights, rounds.s[i : i + 1], u[i : i + 1])
        assert float(parts[i]) == pytest.approx(float(own - log_likelihoods(weights, alone, mates).mean()))


def test_the_log_likelihood_is_that_of_a_gaussian() -> None:
    weights, rounds = gaussian_weights(1, 1, seed=3), correlated(0.5, 1, 4)
    mean, spread = gaussian(weights, rounds.s)
    assert float(spread.abs().max()) < 1
    true = torch.distributions.Normal(mean, (spread / 2).exp()).log_prob(rounds.u)[:, 0]
    assert torch.allclose(log_likelihoods(weights, rounds.s, rounds.u) - 0.5 * math.log(2 * math.pi), true)


def test_a_network_steps_like_adam_and_survives_json() -> None:
    rounds, start = correlated(0.5, 1, 20), gaussian_weights(1, 1)
    mine = fresh(start)
    theirs = {name: value.clone().requires_grad_() for name, value in start.items()}
    adam = torch.optim.Adam(theirs.values(), lr=0.01)
    for _ in range(6):
        mine = stepped(mine, lambda weights: -likelihood(weights, rounds), 0.01)
        mine = network_from_json(json.loads(json.dumps(mine.to_json())))
        adam.zero_grad()
        (-likelihood(theirs, rounds)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert mine.count == 6
    for name, value in theirs.items():
        assert torch.allclose(mine.weights[name], value, rtol=0, atol=1e-12), name


def pair(context: str, state: float, *action: float) -> Pair:
    return Pair(context, (state,), action)


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
        buffers = buffers.with_episode(value, [pair(f"{n}", 0.0, 0.0)], capacity=10, window=1000)
        assert len(buffers.positive) - len(before.positive) == (where == "positive"), value
        assert len(buffers.negative) - len(before.negative) == (where == "negative"), value
    assert [value for value, _ in buffers.positive] == [2.0, 3.0, 4.0, 9.0]
    assert [p.context for _, p in buffers.negative] == ["1", "2", "5"]


def test_the_bar_remembers_a_window_of_returns() -> None:
    buffers = Buffers()
    for value in (1.0, 9.0, 9.0, 2.0, 2.0):
        buffers = buffers.with_episode(value, [pair("", 0.0, 0.0)], capacity=10, window=2)
    assert buffers.recent == (2.0, 2.0) and buffers.bar == 2.0


def test_full_buffers_give_up_the_lowest_and_the_oldest() -> None:
    buffers = Buffers()
    for value in (5.0, 6.0, 7.0, 8.0, 1.0, 3.0, 2.0):
        rounds = [pair(f"{value}", 0.0, 0.0), pair(f"{value}", 1.0, 0.0)]
        buffers = buffers.with_episode(value, rounds, capacity=3, window=1000)
    assert [value for value, _ in buffers.positive] == [7.0, 8.0, 8.0]
    assert [value for value, _ in buffers.negative] == [3.0, 2.0, 2.0]
    assert buffers_from_json(json.loads(json.dumps(buffers.to_json()))) == buffers
    assert buffers_from_json({}) == Buffers()


def test_where_all_were_shown_the_same_there_is_nothing_to_compare() -> None:
    pairs = [pair("a", 1.0, 0.0), pair("b", 0.0, 0.0), pair("a", 1.0, 5.0), pair("b", 2.0, 0.0), pair("c", 3.0, 0.0)]
    assert comparable(pairs, "task") == [1, 3]
    assert comparable(pairs, "all") == [0, 1, 2, 3, 4]
    assert comparable(pairs[:1] + pairs[2:3], "all") == []


def test_what_a_step_draws_keeps_contexts_together_and_depends_on_the_seed() -> None:
    contexts = torch.arange(40) % 10
    rounds = Standardized(torch.arange(40.0)[:, None], torch.arange(40.0)[:, None], contexts)
    one, same, other = rounds.drawn(12, seed=1), rounds.drawn(12, seed=1), rounds.drawn(12, seed=2)
    assert sorted(Counter(one.contexts.tolist()).values()) == [4, 4, 4]
    assert torch.equal(one.s, same.s) and not torch.equal(one.s, other.s)
    assert torch.equal(one.contexts, one.s[:, 0].long() % 10)
    assert rounds.drawn(40, seed=1) is rounds


def test_numbers_are_standardized_over_both_buffers() -> None:
    buffers = Buffers(((0.0, pair("a", 2.0, 7.0)),), ((0.0, pair("a", 6.0, 7.0)),))
    rounds = scale_of(buffers.pairs)([pair("a", 8.0, 9.0), pair("b", 4.0, 7.0)], "task")
    assert rounds.s.tolist() == [[2.0], [0.0]]  # mean 4, spread 2
    assert rounds.u.tolist() == [[2.0], [0.0]]  # mean 7, no spread
    assert rounds.contexts.tolist() == [0, 1]


def test_the_lower_bound_learns_from_the_positive_buffer_alone_and_the_upper_from_the_negative() -> None:
    entries = tuple((0.0, pair("a", float(n), -float(n), 1.0)) for n in range(4))
    dual, how = new_dual(1, 2), Fitting(3, 8, 0.01)
    good = dual.fitted(Buffers(positive=entries), "task", how)
    poor = dual.fitted(Buffers(negative=entries), "task", how)
    assert (good.lower.count, good.upper.count) == (3, 0) and (poor.lower.count, poor.upper.count) == (0, 3)
    alike = tuple((0.0, pair(f"{n}", 0.0, 0.0, 0.0)) for n in range(4))
    assert dual.fitted(Buffers(positive=alike), "task", how) is dual
