"""Every algorithm climbs, over every topology: the cooperative matrix game of arXiv:2508.04652v2, to 95 % of its best.

Both agents choose 0 or 1 and share U = [[10, 7], [7, 0]], in as many rounds as the algorithm needs. Uniform play is
worth 6; hearing a teammate makes rows of their own, so that talkative topologies need more steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest

from fakes.tabular import climb
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.rollouts.task import joint
from madrigal.rollouts.topology import TOPOLOGIES
from madrigal.types import Example, Message, Messages, Split, Step, Turn

UTILITY = ((10.0, 7.0), (7.0, 0.0))


@dataclass(frozen=True)
class Matrix:
    """Two agents; each is shown the round and what it heard in it."""

    name: str = "matrix"
    agents: tuple[str, ...] = ("row", "column")
    horizon: int = 1
    best_return: float = 10.0
    rewards: str = "own"  # each is paid the same, so that independent learners have a reward of their own

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(split, {})]

    def reset(self, example: Example) -> int:
        return 0

    def acting(self, state: int) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: int, agent: str, heard: Sequence[Turn]) -> Messages:
        said = " ".join(f"{turn.agent}:{turn.completion.text}" for turn in heard)
        return (Message("user", f"round {state} {said}"),)

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        row, column = (int(actions[agent] or 0) for agent in self.agents)
        ending = "horizon" if state + 1 == self.horizon else ""
        return Step(state + 1, joint(self.agents, UTILITY[row][column]), ending)  # type: ignore[arg-type]


STEPS = {"parallel": 80, "sequential": 120, "discussion": 160}
ZERO_SUM = {name for name, (algorithm, _) in ALGORITHMS.items() if algorithm.needs.rewards == "zero-sum"}


@pytest.mark.parametrize("way", TOPOLOGIES)
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ZERO_SUM])
def test_every_algorithm_climbs_over_every_topology(name: str, way: str) -> None:
    algorithm: Any = ALGORITHMS[name][0]
    if algorithm.needs.minibatches > 1:  # several steps at once would have climbed before the start is measured
        algorithm = replace(algorithm, width=4, epochs=1, minibatches=1)
    if name == "pmic":  # its bonus is small beside the reward, so that its estimators need not be good
        algorithm = replace(algorithm, fits=1, batch=16, start=50, capacity=100)
    if algorithm.branching.crossed and way != "parallel":
        pytest.skip("crossed joint actions need agents that speak at once")
    turnwise = algorithm.branching.at == "turn"
    if turnwise:  # a tree over the four decisions of a discussion would have 128 leaves
        algorithm = replace(algorithm, tree=way in ("parallel", "sequential"))
    game, topology = Matrix(horizon=algorithm.needs.rounds), TOPOLOGIES[way][0]
    prompts = 2 if turnwise or name == "pmic" else 4
    rewards = climb(game, topology, algorithm, steps=STEPS.get(way, 160), prompts=prompts, lr=0.2, enough=9.6)
    assert fmean(rewards[:3]) < 7.5
    assert fmean(rewards[-10:]) >= 9.5
