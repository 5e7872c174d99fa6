"""Problems whose tests no answer can pass are refused when the data is read, not paid 0 in silence.

Each problem's tests run once in the sandbox: against the row's own `canonical_solution` where it has one, which must
pass them all; else against a function that returns None, which shows tests that fail by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from madrigal.tasks.coding.cleaning import clean
from madrigal.tasks.coding.pieces import find_function
from madrigal.tasks.coding.problem import Problem, blaming, check_problem, problem_of
from madrigal.tasks.coding.program import combine, preamble
from madrigal.tasks.coding.reward import Judge
from madrigal.tasks.coding.sandbox import Program
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.types import Example, TaskError

SOLUTION = "canonical_solution"


def check_problems(examples: Sequence[Example], judge: Judge, workers: int = 2) -> None:
    """Refuses problems that cannot be told or tested, and those that fail their own solution.

    Raises:
        TaskError: naming the example.
    """
    for example in examples:
        check_problem(example)
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(lambda example: _check_tests(example, judge), examples))


def _check_tests(example: Example, judge: Judge) -> None:
    """Runs the tests of one problem once.

    Raises:
        TaskError: where they fail by themselves, or the row's own solution does not pass them.
    """
    problem, solution = problem_of(example), example.data.get(SOLUTION)
    tests = unit_tests(problem.test)
    prelude = preamble(problem.prompt, problem.entry_point)
    with blaming(example):
        verdicts = judge.run(Program(_source(problem, solution), problem.entry_point, tests, prelude))
    failed = [verdict for verdict in verdicts if verdict.outcome != "passed"]
    if solution and failed:
        raise TaskError(
            f"example {example.id}: expected its {SOLUTION} to pass its {len(tests)} tests, but {len(failed)} failed "
            f"({failed[0].outcome}: {failed[0].message}); mend the row or leave it out"
        )


def _source(problem: Problem, solution: object) -> str:
    """HumanEval's solutions are the body that follows the prompt; elsewhere they are whole functions."""
    if not isinstance(solution, str) or not solution:
        return f"def {problem.entry_point}(*_, **__):\n    return None"
    if find_function(clean(solution, problem.entry_point), problem.entry_point):
        return combine(problem.prompt, problem.entry_point, solution)
    return f"{problem.prompt}{solution}"
