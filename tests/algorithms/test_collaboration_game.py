"""Why a team is trained together: the game of MAPoRL's analytical part, learned by tables with MAPoRL's own credit.

Two agents, two rounds; in each both choose whether to collaborate, and in the second they have seen the first. By
itself an agent earns `ind`. Who collaborates pays `cost` and earns `col`, and `syn` more if the other one does too.
Facing somebody who collaborates with probability p, collaborating pays where

    col - cost + p syn > ind          that is p > p* = (ind - col + cost) / syn

Policies are tables, and every step follows the exact gradient over all 16 courses of play, so that nothing here is left
to chance. The paper's own thresholds were not found; p*, the payoffs and the bounds below are ours. Its observations:

1. Who faces a fixed partner that does not collaborate often enough learns not to, so that training one agent alone
   creates no collaboration; and where it does pay, the team still collaborates no more often than the partner.
2. Trained together, with a synergy that is large enough, both collaborate.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from torch.optim import Adam

from madrigal.algorithms.maporl import Maporl
from madrigal.maths.batch import PolicyOutput, make_batch
from madrigal.rollouts.tree import map_turns, numbered
from madrigal.types import Completion, Episode, Group, Point, Sample, Step, Turn, TurnScores

AGENTS = ("ann", "bob")
START = 0.4  # how often anybody collaborates before training
ACTIONS = tuple(product((0, 1), repeat=2))  # of both; 1 collaborates
EXACT = Maporl(kl=0.0, trace=1.0, whiten=False, clip=None, epochs=1, minibatches=1, penalty=None)
Policy = torch.Tensor  # [5, 2] logits: in the first round, and in the second after each of the four first ones


@dataclass(frozen=True)
class Game:
    """What a round earns, as a score in [0, 1]."""

    syn: float
    ind: float = 0.4
    col: float = 0.3
    cost: float = 0.1

    def payoff(self, mine: int, theirs: int) -> float:
        return self.col - self.cost + self.syn * theirs if mine else self.ind

    @property
    def threshold(self) -> float:
        return (self.ind - self.col + self.cost) / self.syn

    def step(self, ann: int, bob: int) -> Step[None]:
        return Step(None, {"ann": self.payoff(ann, bob), "bob": self.payoff(bob, ann)})


def courses(game: Game, policies: dict[str, Policy]) -> list[tuple[Episode[Any], float]]:
    """All ways in which two rounds can go, and the probability of each."""
    found = []
    logprobs = {agent: policy.detach().log_softmax(-1) for agent, policy in policies.items()}
    for first, second in product(ACTIONS, repeat=2):
        rows = (0, 1 + ACTIONS.index(first))
        turns = [
            Turn(agent, (), Completion("", (row,), (pair[n],), (float(logprobs[agent][row, pair[n]]),)), index)
            for index, (row, pair) in enumerate(zip(rows, (first, second), strict=True))
            for n, agent in enumerate(AGENTS)
        ]
        share = torch.tensor([turn.completion.logprobs[0] for turn in turns]).sum().exp()
        steps = (game.step(*first), game.step(*second))
        found.append((Episode(Point("q", None), tuple(turns), steps), float(share)))
    return found


def learn(game: Game, learners: Collection[str], algorithm: Maporl = EXACT, steps: int = 60) -> dict[str, float]:
    """Trains some of the agents; how often each collaborates afterwards, and both of them at once."""
    policies = {agent: torch.tensor([1 - START, START]).log().repeat(5, 1).requires_grad_() for agent in AGENTS}
    optimizers = {agent: Adam([policies[agent]], lr=0.2) for agent in learners}
    for _ in range(steps):
        played = courses(game, policies)
        (group,) = numbered([Group(Point("q", None), tuple(episode for episode, _ in played), AGENTS)])
        shares = zip(group.episodes, (share for _, share in played), strict=True)
        share_of = {turn.number: share for episode, share in shares for turn in episode.turns}
        read = map_turns(lambda turn: replace(turn, scores=TurnScores((0.0,))), [group])
        (stage,), _ = algorithm.credit(read, algorithm.begin())
        for agent in learners:
            mine = [replace(s, weight=share_of[s.turn.number]) for s in stage if s.turn.agent == agent]
            optimizers[agent].zero_grad()
            loss(policies[agent], mine, algorithm).backward()  # type: ignore[no-untyped-call]
            optimizers[agent].step()
    return rates(game, policies)


def loss(policy: Policy, samples: list[Sample], algorithm: Maporl) -> torch.Tensor:
    batch = make_batch(samples, 0, torch.device("cpu"))
    rows = [sample.turn.completion.prompt_ids[0] for sample in samples]
    logprobs = policy[rows].log_softmax(-1).gather(1, batch.actions)
    return algorithm.loss(PolicyOutput(logprobs, torch.zeros_like(logprobs)), batch)


def rates(game: Game, policies: dict[str, Policy]) -> dict[str, float]:
    found = dict.fromkeys((*AGENTS, "both"), 0.0)
    for episode, share in courses(game, policies):
        for index in (0, 1):
            ann, bob = (t.completion.token_ids[0] for t in episode.turns if t.round == index)
            for name, value in (("ann", ann), ("bob", bob), ("both", ann * bob)):
                found[name] += share * value / 2
    return found


WEAK, STRONG = Game(syn=0.4), Game(syn=0.8)


def test_the_synergies_lie_on_both_sides_of_where_it_starts() -> None:
    """p* = 0.5 and 0.25; everybody starts at 0.4."""
    assert WEAK.threshold == pytest.approx(0.5) and STRONG.threshold == pytest.approx(0.25)
    for game in (WEAK, STRONG):
        p = game.threshold
        assert p * game.payoff(1, 1) + (1 - p) * game.payoff(1, 0) == pytest.approx(game.ind)


def test_both_collaborating_is_an_equilibrium_only_with_synergy() -> None:
    for game, stable in ((WEAK, True), (STRONG, True), (Game(syn=0.1), False)):
        assert (game.payoff(1, 1) >= game.payoff(0, 1)) == stable
        assert game.payoff(0, 0) > game.payoff(1, 0)  # nobody begins alone


@pytest.mark.parametrize(("partner", "answer"), [(0.1, 0), (0.4, 0), (0.6, 1), (0.9, 1)])
def test_the_best_answer_to_a_fixed_partner(partner: float, answer: int) -> None:
    worth = [partner * WEAK.payoff(mine, 1) + (1 - partner) * WEAK.payoff(mine, 0) for mine in (0, 1)]
    assert worth.index(max(worth)) == answer


def test_alone_against_a_partner_that_seldom_collaborates_an_agent_stops() -> None:
    """Observation 1: 0.4 is below p* = 0.5."""
    found = learn(WEAK, ("ann",), replace(EXACT, score_discount=0.0))
    assert found["ann"] < 0.05
    assert found["bob"] == pytest.approx(START)


def test_alone_an_agent_creates_no_team() -> None:
    """Where collaborating pays the agent learns it, and the team collaborates as seldom as its frozen partner."""
    found = learn(STRONG, ("ann",))
    assert found["ann"] > 0.95
    assert found["both"] <= START + 1e-6


@pytest.mark.parametrize(("syn", "both"), [(0.45, 0.0), (0.55, 1.0)])
def test_together_they_collaborate_where_the_synergy_is_large_enough(syn: float, both: float) -> None:
    """Observation 2, from the same start; p* is 0.44 and 0.36, on either side of 0.4."""
    assert learn(Game(syn), AGENTS)["both"] == pytest.approx(both, abs=0.01)
