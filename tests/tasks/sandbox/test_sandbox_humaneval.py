"""HumanEval: every canonical solution passes its own tests in the sandbox, and none passes without its body."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from fakes.data import HUMAN_EVAL
from madrigal.tasks.coding.sandbox import CheckTest, Limits, Program, Sandbox, confinement

pytestmark = pytest.mark.skipif(
    not (HUMAN_EVAL.exists() and confinement()["landlock"] and confinement()["seccomp"]),
    reason="HumanEval.jsonl.gz is not here, or this machine cannot confine",
)
# HumanEval/83, 100 and a few others call the candidate thousands of times.
LIMITS = Limits(seconds=20.0, test_seconds=20.0, cpu_seconds=20)


@pytest.fixture(scope="module")
def problems() -> list[dict[str, str]]:
    with gzip.open(HUMAN_EVAL, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS, workers=2) as sandbox:
        yield sandbox


def program(problem: dict[str, str], body: str) -> Program:
    check = CheckTest(problem["test"] + "\ncheck(candidate)")
    prelude = problem["prompt"] + "    raise NotImplementedError\n"
    return Program(problem["prompt"] + body, problem["entry_point"], (check,), prelude)


def test_every_canonical_solution_passes(problems: list[dict[str, str]], sandbox: Sandbox) -> None:
    verdicts = sandbox.run_many([program(problem, problem["canonical_solution"]) for problem in problems])
    wrong = {
        problem["task_id"]: verdict
        for problem, (verdict,) in zip(problems, verdicts, strict=True)
        if verdict.outcome != "passed"
    }
    assert len(problems) == 164
    assert not wrong


def test_no_solution_passes_without_its_body(problems: list[dict[str, str]], sandbox: Sandbox) -> None:
    verdicts = sandbox.run_many([program(problem, "    return None\n") for problem in problems])
    assert [verdict.outcome for (verdict,) in verdicts].count("passed") == 0
