"""Why the reward is shared: the one-round matrix game of appendix A of arXiv:2508.04652v2, learned by tables.

U = [[10, 7], [7, 0]];  split so that leaving (1, 1) pays:  (5,5)  (1,6)  (6,1)  (0,0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.play import judge_of
from madrigal.algorithms.group import GroupRelative
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.types import Completion, Group, Message, Point, Sample, Step

AGENTS = ("row", "column")
UTILITY = ((10.0, 7.0), (7.0, 0.0))
TEMPTING = (((5.0, 5.0), (1.0, 6.0)), ((6.0, 1.0), (0.0, 0.0)))
Logits = dict[str, Tensor]


@dataclass(frozen=True)
class Matrix:
    """Both choose an action, 0 or 1; the payoff says what each of them earns."""

    payoff: Callable[[int, int], tuple[float, float]]
    name: str = "matrix"
    agents: tuple[str, ...] = AGENTS

    def acting(self, state: None) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: None, agent: str, heard: object) -> tuple[Message, ...]:
        return (Message("user", "Choose."),)

    def step(self, state: None, actions: Mapping[str, str]) -> Step[None]:
        row, column = (int(actions[agent]) for agent in AGENTS)
        return Step(None, dict(zip(AGENTS, self.payoff(row, column), strict=True)), "horizon")


def shared(row: int, column: int) -> tuple[float, float]:
    return UTILITY[row][column], UTILITY[row][column]


def tempting(row: int, column: int) -> tuple[float, float]:
    return TEMPTING[row][column]


def together(groups: Sequence[Group[Any]]) -> list[Sample]:
    (stage,), _ = GroupRelative(width=8).credit(groups, {})
    return stage


def each_for_itself(groups: Sequence[Group[Any]]) -> list[Sample]:
    """Every agent is credited as if its own reward were everybody's."""

    def seen_by(agent: str, group: Group[Any]) -> Group[Any]:
        steps = [replace(e.steps[0], rewards={agent: e.steps[0].rewards[agent]}) for e in group.episodes]
        mine = tuple(replace(e, steps=(s,)) for e, s in zip(group.episodes, steps, strict=True))
        return replace(group, episodes=mine)

    return [s for a in AGENTS for s in together([seen_by(a, g) for g in groups]) if s.turn.agent == a]


def learn(task: Matrix, credit: Callable[[Sequence[Group[Any]]], list[Sample]], seed: int, steps: int = 80) -> Logits:
    """Plain gradient ascent of Eq. 2 on two logits per agent, the gradient by hand: A * (one-hot - probabilities)."""
    logits = {agent: torch.zeros(2) for agent in AGENTS}

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        first = {agent: float(table.softmax(0)[0]) for agent, table in logits.items()}
        return [Completion(str(int((u.seed % 10**6) / 10**6 >= first[u.agent]))) for u in wanted]

    for step in range(steps):
        judge = judge_of(task)
        origins = [Point(f"x{n}", None) for n in range(2)]
        groups = rollout_groups(task, Parallel(), origins, GroupRelative(width=8).branching, speak, judge, (seed, step))  # type: ignore[arg-type]
        for sample in (samples := credit(groups)):
            table = logits[sample.turn.agent]
            slope = torch.eye(2)[int(sample.turn.completion.text)] - table.softmax(0)
            logits[sample.turn.agent] = table + 0.8 * len(AGENTS) / len(samples) * sample.advantage * slope
    return logits


def value(logits: Logits) -> float:
    """The expected joint utility."""
    row, column = (logits[agent].softmax(0) for agent in AGENTS)
    return float(row @ torch.tensor(UTILITY) @ column)


@pytest.fixture(scope="module")
def totals() -> dict[str, list[float]]:
    seeds = [derive("matrix", n) for n in range(3)]
    return {
        "joint": [value(learn(Matrix(shared), together, seed)) for seed in seeds],
        "own": [value(learn(Matrix(tempting), each_for_itself, seed)) for seed in seeds],
        "joint of own": [value(learn(Matrix(tempting), together, seed)) for seed in seeds],
    }


def test_a_joint_reward_reaches_the_best_joint_action(totals: dict[str, list[float]]) -> None:
    assert fmean(totals["joint"]) >= 9.5


def test_own_rewards_that_pay_for_leaving_it_do_not(totals: dict[str, list[float]]) -> None:
    """Pure equilibria are worth 7, the mixed one 6; all are nearer to these than to 10."""
    assert max(totals["own"]) < 8
    assert min(totals["own"]) > 5.5


def test_sharing_the_sum_of_the_tempting_split_repairs_it(totals: dict[str, list[float]]) -> None:
    assert fmean(totals["joint of own"]) >= 9.5


def test_the_two_splits_share_one_utility() -> None:
    assert [[sum(cell) for cell in row] for row in TEMPTING] == [list(row) for row in UTILITY]
