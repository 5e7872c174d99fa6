"""The table of algorithms: how a run changes to another, and what a task must give before it starts."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from madrigal.algorithms import Needs, Reporting, reported
from madrigal.algorithms.catalog import ALGORITHMS, switch_algorithm
from madrigal.algorithms.group import AT_GRPO, MAGRPO, REINFORCE, GroupRelative
from madrigal.algorithms.maporl import Maporl
from madrigal.algorithms.self_play import SelfPlay
from madrigal.commands.overrides import with_settings
from madrigal.config import from_json, to_json
from madrigal.recipes import RECIPES, recipe
from madrigal.rollouts.task import SingleRound
from madrigal.training.checks import check_needs
from madrigal.types import ConfigError, Example

TASK = SingleRound(
    "greet", ("ann", "bob"), (Example("a", {}),), (Example("b", {}),), lambda e, a: "Hi?", lambda e, said: 1.0
)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_experiment_with_any_algorithm_is_read_back_as_it_was(name: str) -> None:
    start = recipe("tldr")
    run = replace(start, algorithm=switch_algorithm(start.algorithm, name))
    assert from_json(to_json(run)) == run
    assert json.loads(to_json(run))["algorithm"]["name"] == run.algorithm.name == name


def test_the_name_of_an_algorithm_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting --algorithm\.name: ") as refused:
        with_settings(recipe("tldr"), ["--algorithm.name", "rloo"], "madrigal train tldr", ["--algorithm"])
    assert "did you mean --algorithm.name" not in str(refused.value)


def test_a_file_names_the_kind_of_its_algorithm() -> None:
    written = json.loads(to_json(recipe("tldr")))
    assert written["algorithm"].pop("kind") == "GroupRelative"
    with pytest.raises(ConfigError, match=r"algorithm.kind: expected GroupRelative or .*, got None"):
        from_json(json.dumps(written))


def test_what_a_recipe_says_of_the_task_outlasts_a_change_of_algorithm() -> None:
    changed = switch_algorithm(
        GroupRelative(width=6, kl=0.03, discount=0.9, reward_shift=-4.0, scale="group"), "reinforce"
    )
    assert changed == replace(REINFORCE, width=6, kl=0.03, discount=0.9, reward_shift=-4.0)
    assert switch_algorithm(GroupRelative(clip=0.2), "magrpo") == GroupRelative(clip=0.2)


def test_a_width_of_one_stays_with_methods_that_compare_nothing() -> None:
    assert switch_algorithm(Maporl(width=1, kl=0.0), "magrpo") == MAGRPO
    assert switch_algorithm(Maporl(width=3, kl=0.0), "magrpo") == GroupRelative(width=3)
    assert switch_algorithm(replace(REINFORCE, width=1, discount=0.5), "self_play") == SelfPlay()


@pytest.mark.parametrize("start", RECIPES)
def test_any_recipe_can_be_given_any_algorithm(start: str) -> None:
    given = recipe(start).algorithm
    assert {name: switch_algorithm(given, name).name for name in ALGORITHMS} == {name: name for name in ALGORITHMS}


def test_what_an_algorithm_reports_is_logged_under_its_heading_and_most_report_nothing() -> None:
    assert reported(SelfPlay(), {"kuhn/first": 0.25}) == {"algorithm/baseline/kuhn/first": 0.25}
    assert reported(MAGRPO, {}) == {}
    reporting = {name for name, (algorithm, _) in ALGORITHMS.items() if isinstance(algorithm, Reporting)}
    assert {"ccpo", "pmic", "self_play"} <= reporting


def test_a_need_that_a_setting_brought_says_which_one() -> None:
    assert replace(AT_GRPO, own_weight=1.0).needs.otherwise == "leave algorithm.own_weight at 0"
    assert {name for name, (algorithm, _) in ALGORITHMS.items() if algorithm.needs.otherwise} == {"pmic"}


@pytest.mark.parametrize(
    ("needs", "complaint"),
    [
        (Needs(rewards="own"), "needs a reward of its own for every agent, the rewards of greet are joint"),
        (Needs(rewards="zero-sum"), "needs rewards that sum up to zero, the rewards of greet are joint"),
        (Needs(agents=3), "needs at least 3 agents, greet has 2"),
        (Needs(rounds=2), "needs at least 2 rounds, greet has 1"),
    ],
)
def test_a_task_that_cannot_give_what_is_needed_is_refused(needs: Needs, complaint: str) -> None:
    asking: Any = SimpleNamespace(name="asking", needs=needs)
    with pytest.raises(ConfigError, match=complaint):
        check_needs(asking, TASK)
    check_needs(MAGRPO, TASK)
