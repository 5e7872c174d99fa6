"""COMA's baseline over crossed joint actions, number by number, and how it differs from MAGRPO's."""

from __future__ import annotations

from itertools import product
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madrigal.algorithms.coma import Coma, counterfactuals
from madrigal.algorithms.magrpo import Magrpo
from madrigal.maths.advantages import group_mean, leave_one_out
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.task import joint
from madrigal.types import Completion, ConfigError, Episode, Group, Point, Readings, Step, Turn

NAMES = ("ann", "bob", "cat")


def crossed(values: dict[tuple[int, ...], Any], round: int = 0, path: str = "") -> Group[str]:
    """One round in which answer k of each agent meets all others; a value is a reward, or a reward and what follows."""
    agents = NAMES[: len(next(iter(values)))]
    width = 1 + max(max(choice) for choice in values)
    said = {
        (agent, k): Turn(agent, (), Completion(f"{agent}{path}{k}", (1,), (2,), (-0.5,)), round)
        for agent in agents
        for k in range(width)
    }
    episodes = []
    for choice, value in values.items():
        reward, below = value if isinstance(value, tuple) else (value, None)
        turns = tuple(said[agent, k] for agent, k in zip(agents, choice, strict=True))
        then = crossed(below, round + 1, f"{path}{''.join(map(str, choice))}.") if below else None
        step = Step("", joint(agents, reward), "" if below else "horizon")
        episodes.append(Episode(Point("x", "", round=round), turns, (step,), choice, then))
    return Group(Point("x", "", round=round), tuple(episodes), agents)


def credited(algorithm: Any, group: Group[Any]) -> dict[str, float]:
    stages, _ = algorithm.credit([group], {}, Readings())
    found = [sample for stage in stages for sample in stage]
    named = {sample.turn.completion.text: sample.advantage for sample in found}
    assert len(named) == len(found), "an answer was credited twice"
    return named


SQUARE = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 9.0}


def test_two_agents_by_hand() -> None:
    """Ann's 1 beside bob's 0: 5 - 1, beside his 1: 9 - 3; the mean is 5. Bob's 1: 3 - 1 and 9 - 5; the mean is 3."""
    credit = credited(Coma(width=2), crossed(SQUARE))
    assert credit == {"ann0": -5.0, "ann1": 5.0, "bob0": -3.0, "bob1": 3.0}


def test_the_return_of_an_answer_is_the_mean_over_partners() -> None:
    (stage,), _ = Coma(width=2).credit([crossed(SQUARE)], {}, Readings())
    assert {sample.turn.completion.text: sample.ret for sample in stage} == {"ann0": 2, "ann1": 7, "bob0": 3, "bob1": 6}


def table(agents: int, width: int) -> st.SearchStrategy[dict[tuple[int, ...], float]]:
    choices = list(product(range(width), repeat=agents))
    values = st.lists(st.floats(-10, 10), min_size=len(choices), max_size=len(choices))
    return values.map(lambda row: dict(zip(choices, row, strict=True)))


TABLES = st.sampled_from([(2, 2), (2, 3), (3, 2), (3, 3)]).flatmap(lambda shape: table(*shape))


@given(TABLES)
@settings(max_examples=40)
def test_the_formula_with_partners_fixed(values: dict[tuple[int, ...], float]) -> None:
    agents, width = len(next(iter(values))), 1 + max(map(max, values))
    for seat in range(agents):
        expected = []
        for k in range(width):
            beside = [choice for choice in values if choice[seat] == k]
            others = [[(*c[:seat], j, *c[seat + 1 :]) for j in range(width) if j != k] for c in beside]
            credit = [values[c] - fmean(values[o] for o in row) for c, row in zip(beside, others, strict=True)]
            expected.append(fmean(credit))
        found = counterfactuals(list(values.values()), list(values), seat, leave_one_out)
        assert found == pytest.approx(expected, abs=1e-9)


@given(TABLES)
@settings(max_examples=40)
def test_baseline_and_mean_over_partners_change_places(values: dict[tuple[int, ...], float]) -> None:
    """With COMA's own mean as baseline this is MAGRPO over crossed joint actions; left out, K / (K - 1) times that."""
    group, width = crossed(values), 1 + max(map(max, values))
    theirs = credited(Magrpo(width=width, crossed=True), group)
    assert credited(Coma(width=width, baseline="mean"), group) == pytest.approx(theirs, abs=1e-9)
    larger = {name: advantage * width / (width - 1) for name, advantage in theirs.items()}
    assert credited(Coma(width=width), group) == pytest.approx(larger, abs=1e-9)


def test_by_default_it_is_not_magrpo() -> None:
    assert credited(Coma(), crossed(SQUARE)) != credited(Magrpo(crossed=True), crossed(SQUARE))


def test_what_follows_a_joint_action_is_part_of_its_worth() -> None:
    after = {choice: value - 1 for choice, value in SQUARE.items()}  # mean 3.5
    group = crossed({(0, 0): (0.0, after), (0, 1): 1.0, (1, 0): 2.0, (1, 1): 4.0})
    credit = credited(Coma(width=2, discount=0.5), group)
    assert {name: credit[name] for name in ("ann0", "ann1", "bob0", "bob1")} == {
        "ann0": pytest.approx(((1.75 - 2) + (1 - 4)) / 2),
        "ann1": pytest.approx(((2 - 1.75) + (4 - 1)) / 2),
        "bob0": pytest.approx(((1.75 - 1) + (2 - 4)) / 2),
        "bob1": pytest.approx(((1 - 1.75) + (4 - 2)) / 2),
    }
    assert credit["ann00.1"] == 5.0
    late, early = Coma(width=2).credit([group], {}, Readings())[0]
    assert ({s.turn.round for s in late}, {s.turn.round for s in early}) == ({1}, {0})


def test_an_agent_that_makes_no_difference_gets_nothing() -> None:
    credit = credited(Coma(width=2), crossed({(0, 0): 1.0, (0, 1): 1.0, (1, 0): 5.0, (1, 1): 5.0}))
    assert credit == {"ann0": -4.0, "ann1": 4.0, "bob0": 0.0, "bob1": 0.0}


def test_how_play_branches_and_what_is_needed() -> None:
    assert Coma(width=3).branching == Branching(3, at="round", crossed=True)
    assert Coma(width=3).branching.leaves(("ann", "bob"), 1) == 9
    assert (Coma().needs.agents, Coma().needs.reference, Coma(kl=0.1).needs.reference) == (2, "", "loss")


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [({"width": 1}, "at least 2 answers to compare"), ({"leaf_limit": 0}, "expected at least 1")],
)
def test_settings_that_cannot_work_are_refused(chosen: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Coma(**chosen)


def test_the_baselines_are_those_of_the_library() -> None:
    values, choices = list(SQUARE.values()), list(SQUARE)
    assert counterfactuals(values, choices, 0, group_mean) == [-2.5, 2.5]
