"""The coding task by hand: prompts, rounds, what is heard, how an episode ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from madrigal.rollouts.task import check_task
from madrigal.tasks.coding.config import Coding, ExpertConfig
from madrigal.tasks.coding.expert import Edits
from madrigal.tasks.coding.problem import Problem
from madrigal.tasks.coding.prompts import CodingPrompts
from madrigal.tasks.coding.sandbox import Program, Verdict
from madrigal.tasks.coding.task import CodingTask, coding_task
from madrigal.tasks.data import Source
from madrigal.types import Completion, ConfigError, Example, Message, TaskError, Turn

AUX = "def aux(x):\n    return x * x"
USES = "def square_up(x):\n    y = aux(x)\n    return y + 1"
EXPERT = Coding(turns=2, feedback="expert_edits", expert=ExpertConfig(model="advisor"))
LAZY = "def square_up(x):\n    return aux(x)"


@pytest.fixture
def example(problem: Problem) -> Example:
    return Example("a", {"prompt": problem.prompt, "entry_point": problem.entry_point, "test": problem.test})


@pytest.fixture
def task(example: Example, judge: Any) -> CodingTask:
    return CodingTask((example,), (Example("b", example.data),), judge, Coding(turns=2))


def test_first_prompts(task: CodingTask, example: Example) -> None:
    state = task.reset(example)
    (helper,), (main,) = task.observe(state, "helper", ()), task.observe(state, "main", ())
    assert helper.content.startswith(str(example.data["prompt"]).strip())
    assert helper.content.endswith("\ndef aux(x: int):") and main.content.endswith("\ndef square_up(x: int):")
    assert "aux(x: int)" in main.content and task.acting(state) == ("helper", "main")


def test_prompts_of_ones_own(task: CodingTask, example: Example) -> None:
    prompts = CodingPrompts(main="{prompt}\nAnswer {x: y} with {entry_point}({parameters}).", alone="Alone: {prompt}")
    worded = replace(task, config=replace(task.config, prompts=prompts))
    state = worded.reset(example)
    problem = str(example.data["prompt"]).strip()
    assert worded.observe(state, "main", ())[0].content == (f"{problem}\nAnswer {{x: y}} with square_up(x: int).")
    assert worded.observe(state, "helper", ()) == task.observe(state, "helper", ())
    single = replace(worded, config=replace(worded.config, agents=("main",)))
    assert single.observe(state, "main", ())[0].content == f"Alone: {problem}"


def test_a_solved_episode_ends_at_once(task: CodingTask, example: Example) -> None:
    step = task.step(task.reset(example), {"helper": AUX, "main": USES})
    assert step.ending == "solved" and step.rewards == {"helper": 4.0, "main": 4.0} and task.best_return == 4.0
    assert step.metrics["return_percent"] == 100.0 and step.metrics["cooperation"] == 100.0
    assert step.details["verdicts"][0] == {"test": "candidate(1) expected 2", "outcome": "passed", "message": ""}
    assert step.details["program"] == f"{AUX}\n\n{USES}"


def test_each_round_earns_its_own_reward(task: CodingTask, example: Example) -> None:
    first = task.step(task.reset(example), {"helper": AUX, "main": LAZY})
    assert (first.ending, first.rewards["main"]) == ("", pytest.approx(1.5))
    second = task.step(first.state, {"helper": "", "main": LAZY})
    assert (second.ending, second.rewards["main"]) == ("horizon", pytest.approx(1.1))
    assert [done.answers["helper"] for done in second.state.rounds] == [AUX, ""]


def test_feedback_reaches_each_agent_separately(task: CodingTask, example: Example) -> None:
    state = task.step(task.reset(example), {"helper": AUX, "main": LAZY}).state
    helper, main = task.observe(state, "helper", ()), task.observe(state, "main", ())
    head = "Feedback: aux found. main found. syntax ok. tests 0/4. Failed: candidate(1) expected 2 got 1."
    assert helper[1:] == (Message("assistant", AUX), Message("user", f"{head} Revise. Code only."))
    notes = "aux is used. main only wraps aux, do more in main."
    assert main[1:] == (Message("assistant", LAZY), Message("user", f"{head} {notes} Revise. Code only."))


def test_what_is_heard_follows_the_prompt(task: CodingTask, example: Example) -> None:
    state = task.reset(example)
    said = Turn("helper", (), Completion(f"Sure!\n```\n{AUX}\n```"))
    (alone,), (heard,) = task.observe(state, "main", ()), task.observe(state, "main", (said,))
    assert heard.content == f"{alone.content}\n\nThe helper wrote:\n{AUX}"
    (own,) = task.observe(state, "helper", (said, Turn("main", (), Completion("Hm."))))
    assert own.content.endswith(f"You wrote:\n{AUX}\n\nThe main agent wrote:\n# no code")


def test_the_expert_is_asked_between_rounds_only(example: Example, judge: Any) -> None:
    asked = list[tuple[str, str]]()

    def expert(problem: str, code: str) -> Edits:
        asked.append((problem, code))
        return Edits("for aux", "for main", failed=1)

    task = CodingTask((example,), (example,), judge, EXPERT, expert)
    step = task.step(task.reset(example), {"helper": AUX, "main": LAZY})
    assert asked == [(example.data["prompt"], f"{AUX}\n\n{LAZY}")]
    assert "Expert: for aux" in task.observe(step.state, "helper", ())[0].content
    assert "Expert: for main" in task.observe(step.state, "main", ())[0].content
    last = task.step(step.state, {"helper": AUX, "main": LAZY})
    assert len(asked) == 1 and (last.metrics["expert_failed"], last.metrics["expert_failed_tries"]) == (0.0, 1.0)


def test_an_expert_that_fails_shows_in_the_round_that_had_no_advice(example: Example, judge: Any) -> None:
    gone = Edits(failed=3, answered=False, reason="no answer")
    task = CodingTask((example,), (example,), judge, EXPERT, lambda problem, code: gone)
    step = task.step(task.reset(example), {"helper": AUX, "main": LAZY})
    assert "expert_failed" not in step.metrics
    assert "Expert: no advice." in task.observe(step.state, "main", ())[0].content
    last = task.step(step.state, {"helper": AUX, "main": LAZY})
    assert last.metrics["expert_failed"] == 1.0 and last.details["expert"] == "no answer"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"test": "def check(candidate:"}, "expected tests that parse"),
        ({"test": "x = 1"}, "expected a function `check"),
        ({"entry_point": "cube"}, "expected a line `def cube"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_named_before_anything_is_played(
    harm: dict[str, str], message: str, example: Example, judge: Any, tmp_path: Path
) -> None:
    rows = [{**example.data, "task_id": f"own/{n}", **(harm if n == 7 else {})} for n in range(10)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(TaskError, match=f"example own/7: {message}.*; mend it or leave it out"):
        coding_task(Coding(source=Source(str(tmp_path / "own.jsonl"))), judge)


def test_a_single_agent(example: Example, judge: Any) -> None:
    task = CodingTask((example,), (Example("b", example.data),), judge, Coding(agents=("main",)))
    check_task(task, answer="def square_up(x):\n    return x * x")
    (prompt,) = task.observe(task.reset(example), "main", ())
    assert (
        prompt.content.endswith("Write square_up. Code only.\ndef square_up(x: int):") and "aux" not in prompt.content
    )
    step = task.step(task.reset(example), {"main": "def square_up(x):\n    return x * x + 1"})
    assert (step.rewards, step.ending, task.best_return) == ({"main": 2.5}, "solved", 2.5)


@pytest.mark.parametrize("answer", ["", "An answer.", AUX, "def square_up(x):\n    return (", "\x00", "\ud800"])
def test_the_contract_holds_for_any_answer(task: CodingTask, answer: str) -> None:
    check_task(task, answer=answer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agents": ("main", "helper")}, "expected helper and main"),
        ({"turns": 0}, "at least 1"),
        ({"feedback": "hints"}, "level_feedback, expert_edits"),
        ({"feedback": "expert_edits", "turns": 2}, "name a model"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Coding(**settings)


def test_advice_needs_an_expert(judge: Any) -> None:
    with pytest.raises(ConfigError, match="needs an expert"):
        CodingTask((), (), judge, EXPERT)


def test_a_missing_answer_is_named(task: CodingTask, example: Example) -> None:
    with pytest.raises(TaskError, match="an answer of main"):
        task.step(task.reset(example), {"helper": AUX})


def test_the_embedded_problems_make_a_task() -> None:
    class AllPass:
        def run(self, program: Program) -> tuple[Verdict, ...]:
            return tuple(Verdict("passed") for _ in program.tests)

    task = coding_task(Coding(turns=2, sandbox_slice=-1), AllPass())
    assert (task.horizon, task.config.sandbox_slice, len(task.examples("test"))) == (2, -1, 200)
    check_task(task)
