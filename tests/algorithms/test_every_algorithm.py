"""Laws of the whole catalog, for teams of three and of five under every topology, with episodes that end early."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fakes.play import Rounds, judge_of
from madrigal.algorithms import Algorithm
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.rewards import with_counterfactuals
from madrigal.rollouts.topology import Asynchronous, Coordinated, Discussion, Parallel, Sequential, Topology
from madrigal.rollouts.tree import map_turns, rollout_groups
from madrigal.types import Completion, Group, Point, Sample, Step, Turn, TurnScores

NAMES = ("ann", "bob", "cat", "dan", "eve")
KINDS = ("parallel", "sequential", "discussion", "asynchronous", "coordinated")
# What is credited is not, or not only, what siblings came to: a baseline of another kind, none, or a bonus.
ALONE = {"reinforce", "self_play", "maporl", "pmic", "role_information", "ippo", "mappo", "collm_dc", "collm_cc"}


def topology(kind: str, size: int) -> Topology:
    made: dict[str, Topology] = {
        "parallel": Parallel(),
        "sequential": Sequential(),
        "discussion": Discussion(2),
        "asynchronous": Asynchronous(turns=2),
        "coordinated": Coordinated("ann", turns=size - 1),
    }
    return made[kind]


@dataclass(frozen=True)
class Digits(Rounds):
    """Everybody says a digit. Each is paid by its own and by all of them, or all the same; some sums end an episode."""

    rewards: str = "joint"
    alike: float = 0.0

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        said = {agent: int(text or 0) for agent, text in actions.items()}
        total = sum(said.values())
        paid = {agent: self.alike or (digit + total) / 7 for agent, digit in said.items()}
        if self.rewards == "zero-sum":
            paid = {agent: digit - total / len(said) for agent, digit in said.items()}
        over = "solved" if total % 3 == 0 and not self.alike else ""
        return Step(state + 1, paid, "horizon" if state + 1 == self.horizon else over)


def turns_of(groups: Sequence[Group[Any]]) -> Iterator[Turn]:
    for group in groups:
        for episode in (*group.episodes, *group.solo):
            yield from episode.turns
            yield from turns_of([episode.then]) if episode.then else ()


def read(algorithm: Algorithm[Any], groups: Sequence[Group[Any]]) -> list[Group[Any]]:
    """Critics, references and embeddings, made up of the digit."""
    need = algorithm.needs.critic
    tokens = 0 if need is None else 1 if need.at == "turn" else 2

    def made(turn: Turn) -> Turn:
        digit = int(turn.completion.text) / 10
        return replace(turn, scores=TurnScores((digit,) * tokens, (-0.7, -1.4), (digit**2,), (digit, 1.0)))

    return map_turns(made, groups)


def credited(name: str, kind: str, size: int, alike: float = 0.0) -> tuple[list[Sample], set[int]]:
    """Two steps of an algorithm: all that it credited, and the numbers of all answers that were given."""
    algorithm: Any = ALGORITHMS[name][0]
    rounds = algorithm.needs.rounds + 1
    if algorithm.branching.crossed:
        if kind != "parallel":
            pytest.skip("crossed joint actions need agents that speak at once")
        algorithm, rounds = replace(algorithm, width=2), 1  # 2 ** (size * rounds) episodes
    elif name == "counterfactual":
        algorithm = replace(algorithm, tree=False, width=3, fanout=())
    else:
        algorithm = replace(algorithm, width=3)  # a third of equal sums is not exact
    if name == "pmic":
        algorithm = replace(algorithm, start=2, fits=1)
    kinds = {"any": "own", "own": "own", "zero-sum": "zero-sum"}
    task: Any = Digits(NAMES[:size], rounds, rewards=kinds[algorithm.needs.rewards], alike=alike)

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(str(one.seed // 7 % 10), (1,), (2, 3), (-0.5, -1.0)) for one in wanted]

    judge = judge_of(task)

    judging = with_counterfactuals(judge) if algorithm.needs.counterfactual_rewards else judge
    found, played, memory = list[Sample](), list[Turn](), algorithm.begin()
    for step in range(2):
        origins = [Point(f"x{step}", 0), Point(f"y{step}", 0)]
        groups = rollout_groups(task, topology(kind, size), origins, algorithm.branching, speak, judging, (step,))
        stages, memory = algorithm.credit(read(algorithm, groups), memory)
        found += [sample for stage in stages for sample in stage]
        played += turns_of(groups)
    return found, {turn.number for turn in played}


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_whoever_speaks_is_credited_with_a_number(name: str, kind: str, size: int) -> None:
    found, played = credited(name, kind, size)
    assert all(math.isfinite(one.advantage) and math.isfinite(one.weight) and one.weight > 0 for one in found)
    assert any(one.advantage for one in found)
    assert {one.turn.number for one in found} <= played
    learns = {"ccpo": set(NAMES[: size - 1])}.get(name, set(NAMES[:size]))  # its reasoner's time is yet to come
    assert {one.turn.agent for one in found} <= set(NAMES[:size])
    if kind in ("parallel", "sequential", "discussion"):
        assert {one.turn.agent for one in found} == learns


@pytest.mark.parametrize("alike", [0.1, 0.7, 5.9])
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ALONE])
def test_where_all_that_is_compared_is_worth_the_same_there_is_nothing_to_learn(name: str, alike: float) -> None:
    """Up to rounding, which no division may blow up."""
    for size in (3, 5):
        found, _ = credited(name, "parallel", size, alike)
        assert max(abs(one.advantage) for one in found) < 1e-6  # Dr. MAS divides what is left by 1e-6
