"""What is to be mended, read from an example and checked, and its tests as the sandbox runs them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madrigal.tasks.coding.sandbox import CallTest, Program, Verdict
from madrigal.tasks.coding.score import Judged
from madrigal.tasks.coding.syntax import compile_fault
from madrigal.tasks.editing.apply import LONGEST, num_changed
from madrigal.tasks.editing.diagnose import signature
from madrigal.types import AgentId, Example

CALL = "_call"
# One function for the tests of two: they are called by name.
CALLER = f"""

def {CALL}(name, *arguments):
    if name not in globals():
        raise NameError(f"name {{name!r}} is not defined")
    return globals()[name](*arguments)
"""
Test = tuple[str, str, str]  # a function, a tuple of arguments and what they give, in source text


@dataclass(frozen=True, slots=True)
class Work:
    """A program, and what is asked of it.

    Attributes:
        program: as it stood at first.
        asked: what each function is to do, by its name and parameters; the helper looks after the first of the two.
        tests: of both functions; none where nobody judges.
        passed: tests that the program passed at first.
        needed: lines that the known mend changes.
        faults: what is wrong in each agent's part, where that is known.
    """

    program: str
    asked: Mapping[str, str]
    tests: tuple[Test, ...] = ()
    passed: int = 0
    needed: int = 0
    faults: Mapping[AgentId, str] = field(default_factory=dict)

    @property
    def signatures(self) -> dict[str, ast.arguments]:
        return dict(map(signature, self.asked))


def work_of(example: Example) -> Work:
    """The work of an example; `tests`, `passed`, `mended` and `faults` may be left out.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """
    data = example.data
    program, asked = data["program"], data["asked"]
    if not isinstance(program, str) or not program.strip() or len(program) > LONGEST:
        raise ValueError(f"expected a program of 1 to {LONGEST} characters, got {program!r:.80}; shorten it")
    if fault := compile_fault(program):
        raise ValueError(f"expected a program that compiles, got {fault.message} on line {fault.line}; mend that first")
    if not isinstance(asked, Mapping) or len(asked) != 2 or len(dict(map(signature, asked))) != 2:
        raise ValueError(f"expected two functions in asked, like {{'aux(x)': '...', 'f(x)': '...'}}, got {asked!r:.80}")
    tests, passed = tuple(map(_test, data.get("tests", ()))), data.get("passed", 0)
    if tests and not 0 <= passed < len(tests):
        raise ValueError(f"expected passed from 0 to {len(tests) - 1}, got {passed}; some test has to fail at first")
    tidy = ast.unparse(ast.parse(program))  # as every operation leaves it, so that what is untouched compares equal
    needed = num_changed(tidy, data["mended"]) if "mended" in data else 0
    return Work(tidy, asked, tests, passed, needed, data.get("faults", {}))


def _test(row: Any) -> Test:
    match row:
        case [str(name), str(arguments), str(expected)] if arguments.startswith("("):
            return name, arguments, expected
    raise ValueError(f"expected a test like ['f', '(1, 2)', '3'], got {row!r:.80}; write arguments as a tuple")


def program_of(program: str, tests: Sequence[Test]) -> Program:
    """A program and its tests for the sandbox."""
    calls = tuple(CallTest(f"({name!r}, {arguments[1:]}", expected) for name, arguments, expected in tests)
    return Program(program + CALLER, CALL, calls)


def judged(test: Test, verdict: Verdict) -> Judged:
    """A test with what came of it, in few words.

    >>> judged(("f", "(1,)", "2"), Verdict("failed", "AssertionError: expected 2, got 3"))
    Judged(test='f(1) expected 2', outcome='failed', message='got 3')
    """
    name, arguments, expected = test
    _, wrong, got = verdict.message.partition(", got ")
    message = f"got {got}" if wrong and verdict.outcome == "failed" else verdict.message
    call = arguments.removesuffix(")").removesuffix(",")
    return Judged(f"{name}{call}) expected {expected}", verdict.outcome, message)
