"""No two algorithms credit alike: the whole catalog on the same two rounds; and what they report has its place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fakes.play import Rounds, judge_of
from madrigal.algorithms import Algorithm, reported
from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.algorithms.group import MAGRPO
from madrigal.algorithms.pmic import Pmic
from madrigal.algorithms.role_information import RoleInformation
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.rewards import with_counterfactuals
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import map_turns, rollout_groups
from madrigal.types import Completion, Group, Point, Step, Turn, TurnScores

AGENTS = ("ann", "bob")
PAGE = (Path(__file__).parents[2] / "docs/algorithms.md").read_text()


@dataclass(frozen=True)
class Ledger(Rounds):
    """Both write a digit; what each is paid for the pair depends on the round; ann ends an episode by 7 or more."""

    def step(self, state: int, actions: Mapping[str, str]) -> Step[int]:
        ann, bob = (digit(actions.get(agent, "")) for agent in self.agents)
        pay = {"ann": (ann * (state + 1) + bob) / 40, "bob": (bob * bob + 3 * ann * (2 - state) + 1) / 97}
        over = state == 1 or ann >= 7
        return Step(state + 1, pay, "horizon" if over else "", {"correct": float(ann + bob > 8)})


def digit(words: str) -> int:
    """What was written; silence is 0."""
    return int(words[:1] or 0)


@cache
def played(branching: Branching) -> tuple[Group[Any], ...]:
    """Two examples; an answer is its digit and its seed, so that equal branching gives equal words."""

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [
            Completion(f"{5 if one.greedy else one.seed // 7 % 10} {one.seed}", (1,), (2, 3), (-0.5, -1.0))
            for one in wanted
        ]

    judge = judge_of(Ledger())

    origins = [Point(name, 0) for name in ("one", "two")]
    return tuple(rollout_groups(Ledger(), Parallel(), origins, branching, speak, with_counterfactuals(judge), (0,)))  # type: ignore[arg-type]


def scored(algorithm: Algorithm[Any], groups: Sequence[Group[Any]]) -> list[Group[Any]]:
    """Made up: values and embeddings of a turn's digit, a reference that finds every word less likely."""
    need = algorithm.needs.critic

    def read(turn: Turn) -> Turn:
        value = digit(turn.completion.text) / 10
        values = () if need is None else (value, value + 0.05) if need.at == "token" else (value,)
        reference = (-0.7, -1.4) if algorithm.needs.reference == "credit" else ()
        return replace(turn, scores=TurnScores(values, reference, (value**2,), (value, 1.0)))

    return map_turns(read, groups)


@cache
def ledger_of(name: str) -> list[tuple[str, int, tuple[float, ...]]]:
    """What an algorithm as it comes, at width 4, credits on the ledger: agent, round, advantage of each token."""
    algorithm: Algorithm[Any] = switch_algorithm(MAGRPO, name)
    groups, memory = played(algorithm.branching), algorithm.begin()
    if isinstance(algorithm, Pmic):
        algorithm = replace(algorithm, start=2)
    if isinstance(algorithm, Pmic | RoleInformation):  # they begin as MAGRPO, and pay a bonus for what they have seen
        _, memory = algorithm.credit(scored(algorithm, groups), memory)
    stages, _ = algorithm.credit(scored(algorithm, groups), memory)
    return sorted(
        (s.turn.agent, s.turn.round, tuple(round(a, 6) + 0.0 for a in s.token_advantages or (s.advantage,) * 2))
        for stage in stages
        for s in stage
    )


def test_the_ledger_tells_apart_what_estimators_tell_apart() -> None:
    episodes = [one for group in played(Branching(4)) for one in group.episodes]
    assert {len(one.steps) for one in episodes} == {1, 2}
    assert all(step.rewards["ann"] != step.rewards["bob"] for one in episodes for step in one.steps)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_two_algorithms_credit_alike(name: str) -> None:
    mine = ledger_of(name)
    assert any(advantage != 0 for _, _, row in mine for advantage in row)
    assert [other for other in ALGORITHMS if other != name and ledger_of(other) == mine] == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_reported_is_a_number_and_has_its_place_on_the_page(name: str) -> None:
    algorithm: Algorithm[Any] = switch_algorithm(MAGRPO, name)
    groups = played(algorithm.branching)
    _, memory = algorithm.credit(scored(algorithm, groups), algorithm.begin())
    told = reported(algorithm, memory)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    roles = {f"algorithm/baseline/{agent}" for agent in AGENTS}  # of a task that names no game
    assert [key for key in told.keys() - roles if f"`{key}`" not in PAGE] == []
