"""COMA's baseline over crossed joint actions, number by number, and how it differs from MAGRPO's."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.play import by_text, turn
from madrigal.algorithms.answer_groups import Baseline, advantages_of
from madrigal.algorithms.group import COMA, RLOO, GroupRelative
from madrigal.maths.advantages import group_mean, leave_one_out
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.task import joint
from madrigal.types import Episode, Group, Point, Step

NAMES = ("ann", "bob", "cat")


def crossed(values: dict[tuple[int, ...], Any], round: int = 0, path: str = "") -> Group[str]:
    """One round in which answer k of each agent meets all others; a value is a reward, or a reward and what follows."""
    agents = NAMES[: len(next(iter(values)))]
    width = 1 + max(max(choice) for choice in values)
    said = {(agent, k): turn(agent, f"{agent}{path}{k}", round) for agent in agents for k in range(width)}
    episodes = []
    for choice, value in values.items():
        reward, below = value if isinstance(value, tuple) else (value, None)
        turns = tuple(said[agent, k] for agent, k in zip(agents, choice, strict=True))
        then = crossed(below, round + 1, f"{path}{''.join(map(str, choice))}.") if below else None
        step = Step("", joint(agents, reward), "" if below else "horizon")
        episodes.append(Episode(Point("x", "", round=round), turns, (step,), choice, then))
    return Group(Point("x", "", round=round), tuple(episodes), agents)


def credited(algorithm: Any, group: Group[Any]) -> dict[str, float]:
    stages, _ = algorithm.credit([group], {})
    return {text: sample.advantage for text, sample in by_text(stages).items()}


def counterfactuals(values: dict[tuple[int, ...], float], seat: int, baseline: Baseline) -> list[float]:
    """COMA's Eq. 4 as written: beside the same partners each answer against the agent's others; then the mean."""
    beside = defaultdict[tuple[int, ...], list[tuple[int, float]]](list)
    for choice, value in values.items():
        beside[choice[:seat] + choice[seat + 1 :]].append((choice[seat], value))
    credit = defaultdict[int, list[float]](list)
    for rows in beside.values():
        answers, returns = zip(*rows, strict=True)
        for answer, advantage in zip(answers, advantages_of(returns, baseline), strict=True):
            credit[answer].append(advantage)
    return [fmean(credit[answer]) for answer in sorted(credit)]


SQUARE = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 9.0}


def test_two_agents_by_hand() -> None:
    """Ann's 1 beside bob's 0: 5 - 1, beside his 1: 9 - 3; the mean is 5. Bob's 1: 3 - 1 and 9 - 5; the mean is 3."""
    credit = credited(replace(COMA, width=2), crossed(SQUARE))
    assert credit == {"ann0": -5.0, "ann1": 5.0, "bob0": -3.0, "bob1": 3.0}


def test_the_return_of_an_answer_is_the_mean_over_teammates() -> None:
    (stage,), _ = replace(COMA, width=2).credit([crossed(SQUARE)], {})
    assert {sample.turn.completion.text: sample.return_ for sample in stage} == {
        "ann0": 2,
        "ann1": 7,
        "bob0": 3,
        "bob1": 6,
    }


def table(agents: int, width: int) -> st.SearchStrategy[dict[tuple[int, ...], float]]:
    choices = list(product(range(width), repeat=agents))
    values = st.lists(st.floats(-10, 10), min_size=len(choices), max_size=len(choices))
    return values.map(lambda row: dict(zip(choices, row, strict=True)))


TABLES = st.sampled_from([(2, 2), (2, 3), (3, 2), (3, 3)]).flatmap(lambda shape: table(*shape))


@given(TABLES)
@settings(max_examples=40)
def test_baseline_and_mean_over_teammates_change_places(values: dict[tuple[int, ...], float]) -> None:
    """Both are linear: leave-one-out on the mean over teammates is COMA's baseline beside fixed teammates."""
    group, agents = crossed(values), NAMES[: len(next(iter(values)))]
    for algorithm, baseline in ((COMA, leave_one_out), (replace(COMA, baseline="mean"), group_mean)):
        found = credited(algorithm, group)
        for seat, agent in enumerate(agents):
            expected = counterfactuals(values, seat, baseline)
            assert [found[f"{agent}{k}"] for k in range(len(expected))] == pytest.approx(expected, abs=1e-9)
    theirs = credited(GroupRelative(crossed=True), group)
    assert credited(replace(COMA, baseline="mean"), group) == pytest.approx(theirs, abs=1e-9)


def test_by_default_it_is_not_magrpo() -> None:
    assert credited(COMA, crossed(SQUARE)) != credited(GroupRelative(crossed=True), crossed(SQUARE))


def test_what_follows_a_joint_action_is_part_of_its_worth() -> None:
    after = {choice: value - 1 for choice, value in SQUARE.items()}  # mean 3.5
    group = crossed({(0, 0): (0.0, after), (0, 1): 1.0, (1, 0): 2.0, (1, 1): 4.0})
    credit = credited(replace(COMA, width=2, discount=0.5), group)
    assert {name: credit[name] for name in ("ann0", "ann1", "bob0", "bob1")} == {
        "ann0": pytest.approx(((1.75 - 2) + (1 - 4)) / 2),
        "ann1": pytest.approx(((2 - 1.75) + (4 - 1)) / 2),
        "bob0": pytest.approx(((1.75 - 1) + (2 - 4)) / 2),
        "bob1": pytest.approx(((1 - 1.75) + (4 - 2)) / 2),
    }
    assert credit["ann00.1"] == 5.0
    late, early = replace(COMA, width=2).credit([group], {})[0]
    assert ({s.turn.round for s in late}, {s.turn.round for s in early}) == ({1}, {0})


def test_an_agent_that_makes_no_difference_gets_nothing() -> None:
    credit = credited(replace(COMA, width=2), crossed({(0, 0): 1.0, (0, 1): 1.0, (1, 0): 5.0, (1, 1): 5.0}))
    assert credit == {"ann0": -4.0, "ann1": 4.0, "bob0": 0.0, "bob1": 0.0}


def test_alone_it_is_rloo() -> None:
    group = crossed({(0,): 1.0, (1,): 2.0, (2,): 6.0})
    assert credited(COMA, group) == credited(RLOO, group) == {"ann0": -3.0, "ann1": -1.5, "ann2": 4.5}


def test_how_play_branches() -> None:
    assert replace(COMA, width=3).branching == Branching(3, at="round", crossed=True)
    assert replace(COMA, width=3).branching.leaves(("ann", "bob"), 1) == 9
