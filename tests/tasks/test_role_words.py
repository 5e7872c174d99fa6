"""Roles before prompts: who is shown what, how they are dealt, and what a task does not notice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from madrigal.recipes import recipe
from madrigal.rollouts.task import SingleRound, check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask
from madrigal.rollouts.topology import Coordinated
from madrigal.settings import RolesConfig
from madrigal.tasks.chores.task import Chores, ChoresTask
from madrigal.tasks.coordinating import coordinated
from madrigal.tasks.roles import CAST, ROLES, in_roles, with_roles
from madrigal.tasks.splits import with_validation
from madrigal.training.checks import open_checked_task
from madrigal.types import ConfigError, Example

PLAIN = ChoresTask(Chores())
WORDS = RolesConfig(("red", "blue"))
THREE = ChoresTask(Chores(agents=("ann", "bob", "cat"), jobs=3))


def test_a_role_stands_before_the_prompt_and_in_the_details_and_nothing_else_changes() -> None:
    task = with_roles(PLAIN, WORDS)
    plain, (first, second) = PLAIN.examples("test")[0], task.examples("test")[:2]
    state = task.reset(second)
    shown = {agent: task.observe(state, agent, ())[0].content for agent in task.agents}
    said = PLAIN.observe(plain, "ann", ())[0].content
    assert shown == {"ann": f"blue\n{said}", "bob": f"red\n{said}"}
    assert task.observe(task.reset(first), "ann", ())[0].content == f"red\n{said}"
    actions = {"ann": "house", "bob": "garden"}
    step, own = task.step(state, actions), PLAIN.step(plain, actions)
    assert (step.rewards, step.metrics, step.ending) == (own.rewards, own.metrics, own.ending)
    assert step.details == {**own.details, ROLES: {"ann": "blue", "bob": "red"}}


@pytest.mark.parametrize(
    ("names", "deal", "ways"),
    [
        (("r", "b", "g"), "all", [("r", "b", "g"), ("b", "g", "r"), ("g", "r", "b")]),
        (("r", "b"), "all", [("r", "b", "r"), ("b", "r", "b")]),
        (("r", "b", "g"), "seat", [("r", "b", "g")]),
    ],
)
def test_every_example_is_there_once_for_each_way_to_deal(names: tuple[str, ...], deal: str, ways: list[str]) -> None:
    task = with_roles(THREE, RolesConfig(names, deal))  # type: ignore[arg-type]
    own = THREE.examples("train")
    examples = task.examples("train")
    assert len(examples) == len(ways) * len(own) == len({example.id for example in examples})
    assert [task.reset(example).roles for example in examples[: len(ways)]] == ways
    assert task.reset(examples[-1]).state == own[-1], "the task sees its own example"
    seats = Counter((agent, role) for way in ways for agent, role in zip(task.agents, way, strict=True))
    assert deal == "seat" or len(set(seats.values())) <= 2, "no seat is tied to a role"


def test_demonstrations_say_nothing_of_roles() -> None:
    own, given = demonstrations_of(PLAIN), demonstrations_of(with_roles(PLAIN, WORDS))
    assert len(given) == 2 * len(own)
    assert all(given[f"{way}/{name}"] == answers for name, answers in own.items() for way in (0, 1))


def test_the_contract_validation_and_new_questions() -> None:
    task = with_roles(PLAIN, WORDS)
    check_task(task)
    split = with_validation(task)
    kinds = {name: {e.data["kind"] for e in split.examples(name)} for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert not kinds["train"] & kinds["validation"] and not kinds["train"] & kinds["test"]
    assert ask(task, {"jobs": ["wash the car", "dig the garden"]}).roles == ("red", "blue")


def test_a_coordinator_has_no_role() -> None:
    task = coordinated(with_roles(PLAIN, WORDS), Coordinated())
    state = task.reset(task.examples("test")[0])
    assert task.observe(state, "coordinator", ())[0].content.startswith("You coordinate ann, bob.")
    assert task.observe(state, "bob", ())[0].content.startswith("blue\n")


def test_a_run_opens_its_task_with_roles_and_one_without_as_it_is() -> None:
    run = recipe("chores")
    with open_checked_task(run) as task:
        assert CAST in task.examples("train")[0].data
    with open_checked_task(replace(run, roles=RolesConfig())) as task:
        assert task == PLAIN
    assert in_roles(PLAIN, RolesConfig()) is PLAIN


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("red",), "one role tells nobody apart"),
        (("red", "red"), "expected different words, got red twice"),
        (("red", "dark blue"), "without blanks, got 'dark blue'"),
        (("red", ""), "without blanks, got ''"),
        (("red", "\u200b"), "without blanks"),
    ],
)
def test_roles_that_are_no_words_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^roles\.names: .*{message}"):
        RolesConfig(names)


def test_roles_that_do_not_fit_a_task_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected at most 2, one for each agent of chores \(ann, bob\), got 3"):
        with_roles(PLAIN, RolesConfig(("r", "b", "g")))
    with pytest.raises(ConfigError, match="'garden' stands in the prompts of chores already"):
        with_roles(PLAIN, RolesConfig(("red", "garden")))
    own = SingleRound("own", ("a", "b"), [Example("x", {"cast": 1})], [], lambda e, a: "Go.", lambda e, said: 0.0)
    with pytest.raises(ConfigError, match="own has a field 'cast' of its own"):
        with_roles(own, WORDS)
