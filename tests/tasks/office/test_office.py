"""The office: words to actions, what can be done to the board, episodes by hand, rewards, endings, the trace."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.play import judge_of
from fakes.premises import HALF, POST, PROBLEM, RIGHT, SUMMARY, Judge, Make, office
from madrigal.compare.contenders import alone, one_round
from madrigal.recipes import recipe
from madrigal.rollouts.play import EpisodeRun, drive, play
from madrigal.rollouts.task import check_task
from madrigal.rollouts.topology import Parallel, Sequential
from madrigal.tasks.catalog import open_task
from madrigal.tasks.office.board import (
    PRIMITIVES,
    ROLES,
    WORKER,
    Action,
    Board,
    OfficeState,
    actions_of,
    perform,
    usual,
)
from madrigal.tasks.office.task import Office, OfficeTask
from madrigal.tasks.office.work import Code, Prose
from madrigal.types import Completion, ConfigError, Point, Step, TaskError


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def make(judge: Judge) -> Make:
    return partial(office, judge)


def go(task: OfficeTask, state: OfficeState, **words: str) -> Step[OfficeState]:
    return task.step(state, {agent: words.get(agent, "") for agent in task.acting(state)})


def done(step: Step[Any]) -> list[tuple[str, str, str]]:
    return [(entry["agent"], entry["action"], entry["outcome"]) for entry in step.details["trace"]]


# Words


@pytest.mark.parametrize(
    ("words", "actions"),
    [
        ("", []),
        ("  \n", []),
        ("A cat sat.", [("", "A cat sat.")]),
        ("draft: A cat.\nIt sat.", [("draft", "A cat.\nIt sat.")]),
        ("Sure!\n  INTEGRATE\nFinalize:", [("integrate", ""), ("finalize", "")]),
        ("unit-test\nhand-off: too hard", [("unit-test", ""), ("hand-off", "too hard")]),
        ("plan\nwriter: be brief\nreviewer: be kind", [("plan", "writer: be brief\nreviewer: be kind")]),
        ("note: he lies\n\nA cat.", [("note", "he lies\n\nA cat.")]),
        ("A cat.\nnote: he lies", [("note", "he lies"), ("", "A cat.")]),
        ("We plan: a cat.\nplanning\ndrafts: two", [("", "We plan: a cat.\nplanning\ndrafts: two")]),
    ],
)
def test_words_become_actions(words: str, actions: list[tuple[str, str]]) -> None:
    assert actions_of(words) == tuple(Action(*action) for action in actions)


# The board


def work(make: Make) -> Code:
    coding = make().coding
    assert coding is not None
    return Code(coding, PROBLEM)


@pytest.mark.parametrize(
    ("name", "board", "outcome"),
    [
        ("plan", Board(), "done"),
        ("plan", Board(accepted="x"), "refused"),
        ("draft", Board(), "done"),
        ("draft", Board(draft=HALF), "refused"),
        ("lint", Board(), "refused"),
        ("lint", Board(draft=HALF), "done"),
        ("lint", Board(draft=HALF, checks=("lint",)), "refused"),
        ("unit-test", Board(), "refused"),
        ("unit-test", Board(draft=HALF, checks=("lint",)), "done"),
        ("unit-test", Board(draft=HALF, checks=("unit-test",)), "refused"),
        ("repair", Board(draft=HALF), "refused"),
        ("repair", Board(draft=HALF, findings=("wrong",)), "done"),
        ("repair", Board(draft=RIGHT, findings=("wrong",)), "failed"),
        ("integrate", Board(), "refused"),
        ("integrate", Board(draft="no code"), "refused"),
        ("integrate", Board(draft=HALF), "done"),
        ("integrate", Board(draft=HALF, accepted=HALF), "refused"),
        ("finalize", Board(draft=HALF), "refused"),
        ("finalize", Board(accepted=HALF), "done"),
        ("hand-off", Board(), "done"),
    ],
)
def test_conditions_before(make: Make, name: str, board: Board, outcome: str) -> None:
    assert perform(name, RIGHT, board, work(make))[1] == outcome


@pytest.mark.parametrize("name", ["plan", "draft"])
def test_an_action_without_its_text_fails_and_changes_nothing(make: Make, name: str) -> None:
    assert perform(name, "", Board(), work(make)) == (Board(), "failed")


def test_what_primitives_do(make: Make) -> None:
    tools = work(make)
    board = perform("plan", "coder: double it", Board(), tools)[0]
    assert board == Board(plan="coder: double it", facts=("the function is double(x)", "2 unit tests"))
    board = perform("draft", HALF, board, tools)[0]
    board = perform("unit-test", "", perform("lint", "", board, tools)[0], tools)[0]
    assert board.checks == ("lint", "unit-test") and board.findings == ("candidate(1) expected 2 got 1",)
    board = perform("integrate", "", board, tools)[0]
    assert board.accepted == HALF and board.findings
    board = perform("repair", RIGHT, board, tools)[0]
    assert (board.draft, board.accepted, board.checks, board.findings) == (RIGHT, HALF, (), ())


@pytest.mark.parametrize(
    ("draft", "findings"),
    [
        ("no code", ("there is no def double",)),
        ("def double(x):\n    return 2 *", ("line 2: invalid syntax",)),
        ("def double(x):\n    print(x)", ("double returns nothing",)),
        (RIGHT, ()),
    ],
)
def test_linting_a_program(make: Make, draft: str, findings: tuple[str, ...]) -> None:
    assert work(make).lint(draft) == findings


def test_linting_a_summary(make: Make) -> None:
    writing = make().writing
    assert writing is not None
    prose = Prose(writing, POST)
    assert prose.lint(SUMMARY) == () == prose.test(SUMMARY)
    assert prose.lint("One word. [PARAGRAPH_SPLIT] " + "ten " * 10) == ("part 1 has 2 words, not 8 to 256",)


def test_what_a_role_does_that_names_nothing(make: Make) -> None:
    """Down an episode: every role, on each board that a program goes through."""
    boards = {
        "empty": Board(),
        "planned": Board(plan="x"),
        "drafted": Board(plan="x", draft=HALF),
        "tested": Board(plan="x", draft=HALF, checks=("unit-test",), findings=("wrong",)),
        "accepted": Board(plan="x", draft=HALF, checks=("unit-test",), findings=("wrong",), accepted=HALF),
        "clean": Board(plan="x", draft=RIGHT, checks=("unit-test", "lint"), accepted=RIGHT),
    }
    tools = work(make)
    assert {role: [usual(role, board, tools) for board in boards.values()] for role in (*ROLES, "worker")} == {
        "planner": ["plan", "", "", "", "", "finalize"],
        "writer": ["draft", "draft", "", "repair", "repair", ""],
        "coder": ["draft", "draft", "", "repair", "repair", ""],
        "tester": ["", "", "unit-test", "lint", "lint", ""],
        "reviewer": ["", "", "integrate", "integrate", "lint", "finalize"],
        "worker": ["draft", "draft", "integrate", "integrate", "repair", "finalize"],
    }


def test_everything_can_be_done_by_somebody_and_by_a_worker_alone() -> None:
    somebody = {name for role, names in ROLES.items() if role != WORKER for name in names}
    assert somebody == set(ROLES[WORKER]) == set(PRIMITIVES)


# Episodes


def test_a_post_by_hand(make: Make) -> None:
    task = make()
    start = task.reset(POST)
    assert task.agents == ("planner", "writer", "coder", "tester", "reviewer")
    assert task.acting(start) == ("planner", "writer", "reviewer")
    first = go(task, start, planner="writer: be brief", writer=SUMMARY, reviewer="Well done.")
    assert done(first) == [("planner", "plan", "done"), ("writer", "draft", "done"), ("reviewer", "integrate", "done")]
    quality = first.metrics["return_percent"] / 100
    assert first.rewards == dict.fromkeys(task.agents, quality) and quality > 0.5 and not first.ending
    assert first.state.board.changes == (
        "round 1: planner, plan",
        "round 1: writer, draft",
        "round 1: reviewer, integrate",
    )
    second = go(task, first.state, planner="finalize", writer="More!")
    assert done(second) == [("planner", "finalize", "done")]
    assert (second.ending, second.rewards["writer"]) == ("solved", 0)
    assert second.metrics["return_percent"] == first.metrics["return_percent"]
    assert (second.metrics["rounds"], second.details["ended_by"]) == (2, "finalize")


def test_a_program_that_is_repaired_earns_the_difference(make: Make, judge: Judge) -> None:
    task = make()
    state = task.reset(PROBLEM)
    assert task.acting(state) == ("planner", "coder", "tester", "reviewer")
    first = go(task, state, coder=HALF, tester="?", reviewer="?")
    assert first.rewards["coder"] == 0.5 and first.metrics["tests"] == 50
    assert first.details["trace"][1] | {"findings": 1} == {
        "agent": "tester",
        "action": "unit-test",
        "named": False,
        "outcome": "done",
        "findings": 1,
    }
    assert judge.runs == 2  # the tester's, and the worth of what was accepted
    second = go(task, first.state, coder=RIGHT, tester="?", reviewer="?")
    assert done(second) == [
        ("coder", "repair", "done"),
        ("tester", "unit-test", "done"),
        ("reviewer", "integrate", "done"),
    ]
    assert second.rewards["coder"] == 0.5 and second.metrics["full_test_pass"] == 1
    idle = go(task, second.state, coder="Nothing left?")
    assert done(idle) == [("coder", "nothing", "idle")] and judge.runs == 4
    assert (idle.ending, idle.rewards["coder"], idle.details["ended_by"]) == ("horizon", 0, "limit")


def test_a_worse_piece_costs_what_it_lost(make: Make) -> None:
    task = make()
    state = replace(task.reset(PROBLEM), board=Board(draft=RIGHT, findings=("a lie",)))
    first = go(task, state, reviewer="integrate")
    second = go(task, first.state, coder=HALF, reviewer="integrate")
    assert [first.rewards["coder"], second.rewards["coder"]] == [1, -0.5]


def test_what_is_handed_over_is_worth_nothing(make: Make) -> None:
    task = make()
    first = go(task, task.reset(PROBLEM), coder=RIGHT, reviewer="integrate")
    second = go(task, first.state, planner="hand-off: I give up", coder="repair: x")
    assert (first.rewards["coder"], second.rewards["coder"], second.ending) == (1, -1, "failed")
    assert second.metrics["return_percent"] == 0 and done(second) == [("planner", "hand-off", "done")]


def test_several_actions_in_one_answer_save_a_round(make: Make) -> None:
    task = make()
    step = go(task, task.reset(PROBLEM), coder=f"draft:\n{RIGHT}", reviewer="lint\nintegrate\nfinalize\nlint")
    assert [action for _, action, _ in done(step)] == ["draft", "lint", "integrate", "finalize"]
    assert (step.ending, step.rewards["coder"]) == ("solved", 1)


def test_actions_take_effect_in_the_order_of_the_roles(make: Make) -> None:
    task = make()
    words = {"reviewer": "integrate", "coder": RIGHT}
    assert task.step(task.reset(PROBLEM), words).state.board.accepted == RIGHT


def test_what_is_not_for_a_role_or_not_yet_possible_is_refused_and_counted(make: Make) -> None:
    task = make()
    step = go(task, task.reset(PROBLEM), coder="finalize\ndraft", tester="unit-test", reviewer="hand-off")
    assert done(step)[:2] == [("coder", "finalize", "refused"), ("coder", "draft", "failed")]
    assert done(step)[2:] == [("tester", "unit-test", "refused"), ("reviewer", "hand-off", "done")]
    assert step.details["trace"][0]["why"] == "not for the coder"
    assert (step.metrics["refused"], step.metrics["actions"]) == (3, 4)


def test_notes_and_things_to_do_are_private(make: Make) -> None:
    task = make()
    step = go(
        task, task.reset(PROBLEM), planner="plan: Coder: use 2 * x\nno role: none\ncoder: hurry", coder="note: why?"
    )
    assert step.state.desks["coder"].todo == ("use 2 * x", "hurry") and step.state.desks["coder"].notes == ("why?",)
    shown = {agent: task.observe(step.state, agent, ())[0].content for agent in task.acting(step.state)}
    assert "Your notes:\nwhy?" in shown["coder"] and "To do:\nuse 2 * x\nhurry" in shown["coder"]
    assert not any("Your notes" in text or "To do" in text for agent, text in shown.items() if agent != "coder")
    assert all("Facts:\nthe function is double(x)" in text for text in shown.values())
    assert done(step) == [("planner", "plan", "done")]


def test_without_an_accepted_piece_nothing_is_earned(make: Make) -> None:
    task = make(horizon=1)
    step = go(task, task.reset(PROBLEM), coder=RIGHT)
    assert (step.rewards["coder"], step.ending, step.metrics["tests"], step.metrics["accepted"]) == (0, "horizon", 0, 0)


def test_one_worker_does_everything(make: Make) -> None:
    task = make(alone=True)
    state = task.reset(PROBLEM)
    assert task.agents == task.acting(state) == ("worker",)
    rewards = []
    for words in (RIGHT, "So?", "So?"):
        step = go(task, state, worker=words)
        state, _ = step.state, rewards.append(step.rewards["worker"])
    assert rewards == [0, 1, 0] and step.ending == "solved"


@pytest.mark.parametrize(
    ("kinds", "agents"),
    [("writing", ("planner", "writer", "reviewer")), ("coding", ("planner", "coder", "tester", "reviewer"))],
)
def test_an_office_for_one_kind_of_work(make: Make, kinds: str, agents: tuple[str, ...]) -> None:
    task = make(kinds)
    assert task.agents == agents
    with pytest.raises(TaskError, match="asks for work that this office does not do"):
        task.acting(task.reset(PROBLEM if kinds == "writing" else POST))


def test_an_office_keeps_the_contract(make: Make) -> None:
    check_task(make())
    check_task(make(alone=True))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_whatever_is_said_the_return_is_the_worth_and_states_are_values(make: Make, seed: int) -> None:
    draw = random.Random(seed)
    task = make(horizon=4)
    words = [*(f"{name}: {RIGHT}" for name in PRIMITIVES), *PRIMITIVES, RIGHT, HALF, SUMMARY, "note: hm", "", "hm"]
    state, total, ending = task.reset(draw.choice((POST, PROBLEM))), 0.0, ""
    while not ending:
        actions = {agent: "\n".join(draw.choices(words, k=2)) for agent in task.acting(state)}
        before = copy.deepcopy(state)
        step = task.step(state, actions)
        assert step == task.step(state, actions) and state == before
        json.dumps(step.details)
        total, state, ending = total + step.rewards["planner"], step.state, step.ending
    assert total == pytest.approx(step.metrics["return_percent"] / 100) and 0 <= total <= 1 + 1e-9
    assert state.round <= 4 and (ending == "failed") == (step.details["ended_by"] == "hand-off")


def test_teams_that_know_no_primitives_come_to_an_end(make: Make) -> None:
    """Under sequential and parallel speech: the reviewer accepts what the writer wrote, the planner ends the work."""
    task = make()
    answers: Mapping[str, str] = {"writer": SUMMARY, "coder": RIGHT}
    speak = lambda wanted: [Completion(answers.get(one.agent, "Well.")) for one in wanted]  # noqa: E731
    judge = judge_of(task)
    for topology in (Sequential(), Parallel()):
        games = [EpisodeRun(play(task, topology, Point(e.id, task.reset(e))), (e.id,)) for e in (POST, PROBLEM)]
        for episode in drive(games, speak, judge):
            assert [step.ending for step in episode.steps] == ["", "solved"]
            assert sum(step.rewards["planner"] for step in episode.steps) > 0.5


# Settings


def test_the_office_of_the_catalog_plays_posts_and_programs_in_turn() -> None:
    with open_task(Office(work="writing")) as task:
        assert [example.id for example in task.examples("test")[:2]] == ["posts/test/0", "posts/test/1"]
        assert task.agents == ("planner", "writer", "reviewer")
    with open_task(Office(unconfined=True)) as task:
        assert [example.id for example in task.examples("train")[:2]] == ["posts/train/0", "programs/train/0"]
        assert len(task.examples("test")) == 400


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"program_seconds": 0}, {"memory_mb": 8}])
def test_settings_that_cannot_work_are_refused(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"task.{next(iter(wrong))}"):
        Office(**wrong)


def test_what_an_office_is_compared_with() -> None:
    task = recipe("office").task
    assert alone(task) == replace(task, alone=True) and one_round(task) == replace(task, rounds=1)  # type: ignore[type-var]
