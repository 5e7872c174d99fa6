"""A programming problem in HumanEval's schema; read off the syntax tree, nothing is executed.

References:
    Chen et al., 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374 (HumanEval).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from madrigal.tasks.coding.pieces import find_function
from madrigal.tasks.coding.program import AUX
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.types import Example, TaskError

_LONE = re.compile("[\ud800-\udfff]")
_FIELDS = ("prompt", "entry_point", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in HumanEval's schema.

    Attributes:
        prompt: imports, perhaps helper functions, and the head of the entry function with its docstring.
        entry_point: the name of the function to write.
        test: the source of `check(candidate)`.
    """

    prompt: str
    entry_point: str
    test: str


def problem_of(example: Example) -> Problem:
    """Reads a problem from an example.

    Raises:
        TaskError: if a field is missing or is no text, or the entry point is `aux`, the helper's name.
    """
    for field in _FIELDS:
        value = example.data.get(field)
        if not isinstance(value, str) or not value.strip():
            raise TaskError(
                f"example {example.id}: expected text in {', '.join(_FIELDS)}, got {value!r} in {field}; "
                "give examples in HumanEval's schema"
            )
        if lone := _LONE.search(value):
            raise TaskError(
                f"example {example.id}: expected Unicode text in {field}, got half a character ({lone[0]!r}) at "
                f"{lone.start()}; mend the row or leave it out"
            )
    if example.data["entry_point"] == AUX:
        raise TaskError(f"example {example.id}: the entry point is {AUX!r}, the helper's name; rename it")
    return Problem(*(example.data[field] for field in _FIELDS))


def check_problem(example: Example) -> None:
    """Refuses a problem that cannot be told or tested, before anybody answers it.

    Raises:
        TaskError: naming the example.
    """
    problem = problem_of(example)
    with blaming(example):
        try:
            parameters(problem)
            unit_tests(problem.test)
        except RecursionError as error:
            raise TaskError("its prompt is nested too deeply") from error


@contextmanager
def blaming(example: Example) -> Iterator[None]:
    """Names the example in a TaskError that is raised within."""
    try:
        yield
    except TaskError as error:
        raise TaskError(f"example {example.id}: {error}; mend it or leave it out") from error


def parameters(problem: Problem) -> str:
    """The text between the parentheses of the entry function's `def` line.

    >>> parameters(Problem("def scale(xs: list[int], by: int = 2):\\n    'Scales.'", "scale", "..."))
    'xs: list[int], by: int=2'

    Raises:
        TaskError: if the prompt has no such line.
    """
    function = find_function(problem.prompt, problem.entry_point)
    if function and function.node:
        return ast.unparse(function.node.args)
    head = re.search(rf"\bdef\s+{re.escape(problem.entry_point)}\s*\(", problem.prompt)
    text = _until_closed(problem.prompt[head.end() :]) if head else None
    if text is None:
        raise TaskError(
            f"expected a line `def {problem.entry_point}(...)` in the prompt, got {problem.prompt[:80]!r}; "
            "the agents are told its parameters"
        )
    return text


def _until_closed(text: str) -> str | None:
    depth = 1
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return " ".join(text[:index].split())
    return None
