"""Mending a program together: what is shown, what a turn earns, generated programs, and a run of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from madrigal import api
from madrigal.compare.contenders import alone, one_round
from madrigal.rollouts.task import check_task, demonstrations_of
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.topology import Sequential
from madrigal.runs.log import read_lines
from madrigal.tasks.catalog import open_task
from madrigal.tasks.coding.sandbox import CallTest, Program, Verdict
from madrigal.tasks.editing.faults import FAULTS, PAIRS, _needs_both, examples
from madrigal.tasks.editing.task import EDITOR, HELPER, MAIN, Edit, Editing, EditTask
from madrigal.tasks.embedded.grammar import held_out
from madrigal.tasks.splits import with_validation
from madrigal.types import Completion, ConfigError, Example, Step, Turn


class Trusting:
    """Runs programs in this very process: for code that is written here."""

    def __init__(self) -> None:
        self.programs: list[str] = []

    def run(self, program: Program) -> Sequence[Verdict]:
        self.programs.append(program.source)
        return [self._one(program.source, test) for test in program.tests if isinstance(test, CallTest)]

    def _one(self, source: str, test: CallTest) -> Verdict:
        space: dict[str, Any] = {}
        try:
            exec(source, space)
            got = eval(f"_call(*{test.arguments})", space)
        except (NameError, TypeError, ValueError, AttributeError) as error:
            return Verdict("error", f"{type(error).__name__}: {error}")
        right = got == eval(test.expected)
        return Verdict("passed") if right else Verdict("failed", f"AssertionError: expected {test.expected}, got {got}")


def made(**settings: Any) -> EditTask:
    return EditTask(Edit(**settings), Trusting())


# Six lines; of six tests one passes (f of nothing): `sift` should be aux, and f should add.
PROGRAM = """\
def sift(xs):
    return [x for x in xs if x > 0]

def f(xs):
    ys = sift(xs)
    return max(ys, default=0)"""
DATA = {
    "program": PROGRAM,
    "asked": {"aux(xs)": "the positive ones", "f(xs)": "their sum"},
    "tests": [
        ["aux", "([1, -2],)", "[1]"],
        ["aux", "([3, 4],)", "[3, 4]"],
        ["f", "([],)", "0"],
        ["f", "([1, 2],)", "3"],
        ["f", "([2, 3, -1],)", "5"],
        ["f", "([4, 4],)", "8"],
    ],
    "passed": 1,
    "mended": PROGRAM.replace("sift", "aux").replace("max(ys, default=0)", "sum(ys)"),
    "faults": {"helper": "name", "main": "operator"},
}
RENAME, ADD = "rename sift aux", "replace f.return\nreturn sum(ys)"
START = made().reset(Example("x", DATA))


def step(helper: str, main: str, state: Editing = START, task: EditTask | None = None) -> Step[Editing]:
    return (task or made()).step(state, {HELPER: helper, MAIN: main})


def shown(state: Editing, agent: str = HELPER, task: EditTask | None = None) -> str:
    (message,) = (task or made()).observe(state, agent, ())
    return message.content


# Rewards


def test_the_known_mend_earns_everything() -> None:
    found = step(RENAME, ADD)
    assert found.state.program == DATA["mended"] and found.ending == "solved"
    assert found.rewards == {HELPER: 1, MAIN: 1}
    assert found.metrics == {
        "tests": 100,
        "full_test_pass": 1,
        "size": 6,
        "return_percent": 100,
        "applied": 2,
        "refused": 0,
        "conflicts": 0,
        "mended/helper_name": 100,
        "mended/main_operator": 100,
    }


def test_half_a_mend_earns_its_tests_and_the_other_half_the_rest() -> None:
    """Of the 5 tests that fail the name mends 2."""
    first = step(RENAME, "")
    assert first.rewards[HELPER] == pytest.approx(2 / 5) and first.ending == ""
    assert first.metrics["mended/helper_name"] == 100 and first.metrics["mended/main_operator"] == 0
    second = step("", ADD, first.state)
    assert second.rewards[MAIN] == pytest.approx(3 / 5) and second.ending == "solved"


def test_an_untouched_program_earns_nothing_and_a_worse_one_less() -> None:
    task = made()
    first = step("I would rather not.", "", task=task)
    assert first.rewards == {HELPER: 0, MAIN: 0} and first.state.program == PROGRAM
    second = step("", "", first.state, task)
    assert second.ending == "horizon" and second.rewards == {HELPER: 0, MAIN: 0}
    assert len(task.judge.programs) == 1, "what did not change is not tested again"  # type: ignore[attr-defined]
    worse = step("", "replace f.return\nreturn None")
    assert worse.rewards[MAIN] == pytest.approx(-1 / 5) and worse.metrics["return_percent"] == pytest.approx(-20)


def test_a_larger_change_than_needed_costs_by_its_lines() -> None:
    """Three lines of six beyond the mend: half of 0.2."""
    more = "\nafter f.ys\nzs = ys\nys = zs\nzs = ys"
    assert step(RENAME, ADD + more).rewards[MAIN] == pytest.approx(1 - 0.2 * 3 / 6)
    assert step(RENAME, ADD + more, task=made(size=0)).rewards[MAIN] == 1
    much = "\nafter f.ys\n" + "\n".join(["zs = ys"] * 40)
    assert step(RENAME, ADD + much).rewards[MAIN] == pytest.approx(0.8), "not more than the weight"


def test_a_conflict_costs_and_is_told_to_both() -> None:
    found = step(RENAME, f"rename sift pick\n{ADD}")
    assert found.state.program == PROGRAM.replace("max(ys, default=0)", "sum(ys)")
    assert found.rewards[HELPER] == pytest.approx(3 / 5 - 0.1) and found.metrics["conflicts"] == 1
    line = "conflict: rename sift aux (helper), rename sift pick (main)"
    assert all(line in shown(found.state, agent) for agent in (HELPER, MAIN))
    assert found.details["conflicts"] == [line.removeprefix("conflict: ")]
    assert step(RENAME, "rename sift pick", task=made(conflict=0)).rewards[HELPER] == 0
    assert step("", "", found.state).metrics["conflicts"] == 1, "counts are of the episode"


# What is shown


def test_what_an_agent_is_shown_at_first() -> None:
    assert shown(START).splitlines() == [
        "aux(xs): the positive ones",
        "f(xs): their sum",
        "",
        *PROGRAM.splitlines(),
        "",
        "lint: no def aux",
        "You look after aux, main after f.",
        "Edit by lines: replace NAME, before NAME, after NAME (code below), delete NAME, rename OLD NEW, add import X. "
        "NAME may be aux.return.",
    ]
    assert "You look after f, helper after aux." in shown(START, MAIN)
    assert shown(START, task=made(retype=True)).endswith("main after f.\nWrite what is wrong or missing anew.")


def test_what_is_told_between_turns() -> None:
    """A mistake is told to who made it; complaints and tests to all."""
    found = step("Well.\ndelete g", "after f\ndef g(x):\n    return f() + h(x)")
    assert "conflict: delete g (helper), after f (main)" in shown(found.state), (
        "what one brings, the other may not delete"
    )
    found = step("Well.\ndelete k", "after f\ndef g(x):\n    return f() + h(x)")
    told = [
        "lint: no def aux",
        "lint: h is not defined",
        "type: f takes 1 arguments, 0 given",
        "tests: 1 of 6 passed",
        "failed: aux([1, -2]) expected [1] NameError: name 'aux' is not defined",
    ]
    parts = {agent: shown(found.state, agent).split("\n\n")[-1].splitlines() for agent in (HELPER, MAIN)}
    assert parts[HELPER][:-2] == ["not read: Well.", "not applied: delete k (no k)", *told]
    assert parts[MAIN][:-2] == told
    assert "failed: f([1, 2]) expected 3 got 2" in shown(step(RENAME, "").state)


def test_who_speaks_later_hears_the_others() -> None:
    heard = Sequential().hears(MAIN, (Turn(HELPER, (), Completion(RENAME)),))
    (message,) = made().observe(START, MAIN, heard)
    assert f"\nhelper said: {RENAME}\n" in message.content


def test_a_program_cannot_outgrow_the_prompts() -> None:
    """Renames multiply: 300 letters in 3 places. What would be too long is refused, and the prompt stays short."""
    state = START
    for n in range(8):
        lines = f"rename ys {'y' * 300}{n}\nafter f\ndef g{n}(xs):\n    return xs\n" * 9
        state = step(lines, lines, state, made(turns=8)).state
        assert all(len(shown(state, agent)) < 2500 for agent in (HELPER, MAIN))
    assert len(state.program) <= 2 * len(PROGRAM) + 400
    assert f"rename ys {'y' * 90}" in shown(state)


# Generated programs


def every() -> list[Example]:
    return [each for split in ("train", "validation", "test") for each in examples(split)]  # type: ignore[arg-type]


def test_every_pair_of_faults_is_there_and_needs_both_agents() -> None:
    found = Counter(tuple(each.data["faults"].values()) for each in every())
    assert set(found) == set(PAIRS) and len(PAIRS) == 21 and min(found.values()) > 3
    assert {fault for pair in PAIRS for fault in pair} == set(FAULTS)
    assert all(_needs_both(each.data) for each in every()[::7])
    assert all(held_out(each.data["kind"]) for each in examples("test"))
    assert not any(held_out(each.data["kind"]) for each in examples("train"))


@pytest.mark.parametrize("settings", [{}, {"retype": True}, {"alone": True}, {"alone": True, "retype": True}])
def test_demonstrations_mend_every_program_and_earn_everything(settings: Mapping[str, bool]) -> None:
    task = made(**settings)
    given = demonstrations_of(with_validation(task))
    assert given == task.demonstrations() and given.keys() == {each.id for each in task.examples("train")}
    for example in task.examples("train")[::3]:
        said = {agent: texts[0] for agent, texts in given[example.id].items()}
        found = task.step(task.reset(example), said)
        assert found.ending == "solved" and found.rewards[task.agents[0]] == pytest.approx(1), example
        assert not found.metrics["refused"] and not found.metrics["conflicts"]


def test_an_untouched_generated_program_earns_nothing() -> None:
    task = made()
    for example in task.examples("test")[::5]:
        found = task.step(task.reset(example), {HELPER: "", MAIN: ""})
        assert found.rewards == {HELPER: 0, MAIN: 0}, example
        assert sum(found.metrics[name] for name in found.metrics if name.startswith("mended/")) == 0


def test_one_agent_is_not_enough_in_one_turn_of_the_other() -> None:
    for example in every()[::11]:
        task = made()
        for silent in (HELPER, MAIN):
            said = {**example.data["edits"], silent: ""}
            assert task.step(task.reset(example), said).ending == "", example


# Settings and data


def test_the_contract_in_the_sandbox() -> None:
    with open_task(Edit(unconfined=True, program_seconds=0.3)) as task:
        check_task(task)
        example = task.examples("test")[0]
        assert task.step(task.reset(example), example.data["edits"]).ending == "solved"
        endless = {HELPER: "", MAIN: f"replace {list(example.data['asked'])[1].split('(')[0]}.return\nwhile True: pass"}
        found = task.step(task.reset(example), endless)
        assert not found.metrics["full_test_pass"] and "timeout" in {v["outcome"] for v in found.details["verdicts"]}


def test_one_agent_alone_and_one_turn() -> None:
    single = alone(Edit())
    assert single == Edit(alone=True) and one_round(Edit()) == Edit(turns=1)
    task = made(alone=True)
    assert "You look after aux and f." in shown(START, EDITOR, task)
    found = task.step(START, {EDITOR: f"{RENAME}\n{ADD}"})
    assert found.rewards == {EDITOR: 1}


def test_a_program_of_ones_own_may_be_asked_about() -> None:
    task = made()
    state = ask(task, {"program": PROGRAM, "asked": DATA["asked"]})
    after = unjudged(task, state, {HELPER: RENAME, MAIN: "delete g"})
    assert after.state.program == PROGRAM.replace("sift", "aux") and after.rewards == {HELPER: 0, MAIN: 0}
    assert "not applied: delete g (no g)" in shown(after.state, MAIN) and not after.ending


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("program", "", "expected a program of 1 to 10000 characters, got ''"),
        ("program", "def f(:", "expected a program that compiles, got invalid syntax on line 1"),
        ("program", "return 1", "expected a program that compiles, got 'return' outside function"),
        ("asked", {"f(x)": ""}, "expected two functions in asked"),
        ("asked", {"f(x)": "", "aux": ""}, r"expected a function and its parameters, like f\(xs, k\), got 'aux'"),
        ("tests", [["f", "1", "2"]], "expected a test like"),
        ("passed", 6, "expected passed from 0 to 5, got 6"),
    ],
)
def test_data_that_cannot_be(field: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask(made(), {**DATA, field: value})


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"turns": 0}, "task.turns: expected 1 to 8, got 0"),
        ({"operations": 9}, "task.operations: expected 1 to 8, got 9"),
        ({"size": -1}, "task.size: expected 0 or more, got -1"),
        ({"conflict": float("nan")}, "task.conflict: expected 0 or more, got nan"),
        ({"program_seconds": 0}, "task.program_seconds: expected seconds above 0 and finite, got 0"),
        ({"memory_mb": 1}, "task.memory_mb: expected at least 64, got 1"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Edit(**setting)


def test_a_tiny_run(tmp_path: Path) -> None:
    """A warm start on one demonstration, a step, an evaluation; in the folder are the task's own numbers."""
    api.train(
        "edit",
        tmp_path / "run",
        steps=1,
        prompts=1,
        sampling={"max_new_tokens": 40},
        task={"unconfined": True},
        algorithm={"width": 2},
        evaluation={"examples": 1, "timed_examples": 0},
        warm={"examples": 1, "epochs": 1},
    )
    (line,) = read_lines(tmp_path / "run" / "steps.jsonl")
    assert {"component/tests", "component/conflicts", "component/size", "component/refused"} <= line.keys()
