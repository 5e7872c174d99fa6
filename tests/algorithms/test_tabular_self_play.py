"""Self-play by tables: role-conditioned advantages lead to the equilibrium of Kuhn poker.

Two players who follow their gradients against each other circle around an equilibrium. What comes near it is the mean
of their strategies over time, as in fictitious play; and a little entropy, added to the gradient, keeps the circles
narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from madrigal.algorithms.self_play import SelfPlay
from madrigal.evaluation.exploitability import INFORMATION_SETS, expected_payoff, exploitability
from madrigal.rollouts.play import GenerationRequest, StepRequest
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.tasks.games.kuhn import Kuhn, information_set
from madrigal.tasks.games.table import Table
from madrigal.types import Completion, Point, Step

STEPS, RATE, ENTROPY, SKIPPED = 500, 8.0, 0.01, 150
Strategy = dict[tuple[str, str], float]


class Learned:
    """One table for both seats, a logit for each of the twelve situations; the gradient of Eq. RAE by hand."""

    def __init__(self, seed: int) -> None:
        self.logits = dict.fromkeys(INFORMATION_SETS, 0.0)
        self.memory = (algorithm := SelfPlay(width=8)).begin()
        self.task, sums = Table(Kuhn()), dict.fromkeys(INFORMATION_SETS, 0.0)
        origins = [Point(e.id, self.task.reset(e)) for e in self.task.examples("train")[:6]]  # each deal once
        for step in range(STEPS):
            groups = rollout_groups(
                self.task, Parallel(), origins, algorithm.branching, self.speak, self.judge, (seed, step)
            )
            (stage,), self.memory = algorithm.credit(groups, self.memory)
            slopes = {known: self.entropy_slope(known) for known in INFORMATION_SETS}
            for sample in stage:
                known, (bet,) = information_set(sample.turn.prompt), sample.turn.completion.token_ids
                slopes[known] += sample.turn.weight * sample.advantage * (bet - self.chance(known)) / (2 * len(groups))
            for known, slope in slopes.items():
                self.logits[known] += RATE * slope
                sums[known] += self.chance(known) if step >= SKIPPED else 0.0
        self.mean: Strategy = {known: total / (STEPS - SKIPPED) for known, total in sums.items()}

    def chance(self, known: tuple[str, str]) -> float:
        return 1 / (1 + math.exp(-self.logits[known]))

    def entropy_slope(self, known: tuple[str, str]) -> float:
        """dH/dz of a coin with logit z is -z p (1 - p)."""
        chance = self.chance(known)
        return -ENTROPY * self.logits[known] * chance * (1 - chance)

    def speak(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        bets = [(one.seed % 10**6) / 10**6 < self.chance(information_set(one.prompt)) for one in wanted]
        return [Completion("12"[bet], (0,), (int(bet),), (0.0,)) for bet in bets]

    def judge(self, requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        return [self.task.step(request.state, request.actions) for request in requests]


@pytest.fixture(scope="module")
def learned() -> Learned:
    return Learned(seed=0)


def test_it_comes_near_the_value_of_the_game(learned: Learned) -> None:
    assert exploitability(dict.fromkeys(INFORMATION_SETS, 0.5)) > 0.45, "where it began"
    assert exploitability(learned.mean) < 0.05
    assert expected_payoff(learned.mean, learned.mean) == pytest.approx(-1 / 18, abs=0.015)


def test_it_plays_as_poker_is_played(learned: Learned) -> None:
    """With a king one calls and with a jack one folds; one bluffs with a jack at times, and never with a queen."""
    chance = learned.mean
    assert min(chance["K", "b"], chance["K", "pb"], chance["K", "p"]) > 0.9
    assert max(chance["J", "b"], chance["J", "pb"]) < 0.1
    assert 0.15 < chance["J", "p"] < 0.5
    assert max(chance["Q", "p"], chance["Q", ""]) < 0.2
    assert 0.2 < chance["Q", "b"] < 0.5


def test_the_baselines_know_who_has_the_worse_seat(learned: Learned) -> None:
    assert set(learned.memory) == {"kuhn/first", "kuhn/second"}
    assert learned.memory["kuhn/first"] == pytest.approx(-learned.memory["kuhn/second"])
