"""A programming problem, and its unit tests one by one; read off the syntax tree, nothing is executed.

Knows: HumanEval's schema (prompt, entry_point, test) and how `check(candidate)` is written.
Does not know: agents, answers, how a test is run.

Every assert becomes a test of its own, so that an answer earns the share of them that it passes; the
published reward does the same line by line, which loses loops and values computed beforehand.

References:
    Chen et al., 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374 (HumanEval).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from madrigal.tasks.coding.program import AUX, bound_names, find_function, parse
from madrigal.tasks.coding.sandbox import CallTest, CheckTest
from madrigal.tasks.coding.score import Fault
from madrigal.types import Example, TaskError

UnitTest = CallTest | CheckTest

_CANDIDATE = "candidate"
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
    if example.data["entry_point"] == AUX:
        raise TaskError(f"example {example.id}: the entry point is {AUX!r}, the helper's name; rename it")
    return Problem(*(example.data[field] for field in _FIELDS))


def check_problem(example: Example) -> None:
    """Refuses a problem that cannot be told or tested, before anybody answers it.

    Raises:
        TaskError: naming the example.
    """
    problem = problem_of(example)
    try:
        parameters(problem)
        unit_tests(problem.test)
    except TaskError as error:
        raise TaskError(f"example {example.id}: {error}; mend it or leave it out") from error


def parameters(problem: Problem) -> str:
    """The text between the parentheses of the entry function's `def` line.

    >>> parameters(Problem("def scale(xs: list[int], by: int = 2):\\n    'Scales.'", "scale", "..."))
    'xs: list[int], by: int=2'

    Raises:
        TaskError: if the prompt has no such line.
    """
    found = find_function(problem.prompt, problem.entry_point)
    if found and found.node:
        return ast.unparse(found.node.args)
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


@lru_cache(maxsize=1024)
def unit_tests(test: str) -> tuple[UnitTest, ...]:
    """Takes `check(candidate)` apart: one test per assert, one per loop that holds asserts.

    - `assert candidate(<literals>) == <literal>` becomes a CallTest;
    - any other test becomes a CheckTest: the statement, after the statements before it that it needs;
    - `assert candidate(x)` and `assert not candidate(x)` stay CheckTests, for a truthy answer passes them;
    - what does not involve the candidate (`assert True`) is dropped, and so are duplicates.

    >>> unit_tests("def check(candidate):\\n    assert candidate(2) == 4, 'two'\\n    assert True")
    (CallTest(arguments='(2,)', expected='4'),)

    Raises:
        TaskError: if the source has no `check`, does not parse, or tests nothing.
    """
    tree = parse(test)
    if isinstance(tree, Fault):
        raise TaskError(f"expected tests that parse, got {tree.message} on line {tree.line}: {test[:80]!r}")
    check = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
    if check is None or not check.args.args:
        raise TaskError(f"expected a function `check(candidate)` in the tests, got {test[:80]!r}")
    before = [node for node in tree.body if bound_names(node) and node is not check]
    given = check.args.args[0].arg
    tests = (_test([*before, *check.body[:i]], node, given) for i, node in enumerate(check.body))
    found = tuple(dict.fromkeys(test for test in tests if test is not None))
    if not found:
        raise TaskError(f"expected at least one assert on {given} in check, got {test[:80]!r}")
    return found


def shown(test: UnitTest) -> str:
    """A test as an agent reads it.

    >>> shown(CallTest("([1, 2],)", "3"))
    'candidate([1, 2]) expected 3'
    """
    if isinstance(test, CallTest):
        arguments = re.sub(r",\)$", ")", test.arguments.strip())
        return f"{_CANDIDATE}{arguments} expected {test.expected}"
    last = ast.parse(test.source).body[-1]
    return f"assert {ast.unparse(last.test)}" if isinstance(last, ast.Assert) else ast.unparse(last)


def _test(before: Sequence[ast.stmt], statement: ast.stmt, given: str) -> UnitTest | None:
    """Makes one test of a statement, or None where it tests nothing."""
    if isinstance(statement, ast.Return) or bound_names(statement):
        return None
    needed = _needed(before, statement)
    if isinstance(statement, ast.Assert):
        involved: list[ast.AST] = [*needed, statement.test]
    else:
        involved = [*needed, statement]
        if not any(isinstance(node, ast.Assert | ast.Raise) for tree in involved for node in ast.walk(tree)):
            return None
    if not any(given in _names(tree) for tree in involved):
        return None
    if isinstance(statement, ast.Assert) and (call := _call_test(statement.test, given)):
        return call
    alias = [] if given == _CANDIDATE else [f"{given} = {_CANDIDATE}"]
    return CheckTest("\n".join([*alias, *(ast.unparse(node) for node in [*needed, statement])]))


def _call_test(test: ast.expr, given: str) -> CallTest | None:
    match test:
        case ast.Compare(
            left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
            ops=[ast.Eq()],
            comparators=[expected],
        ) if name == given and all(map(_is_literal, [*arguments, expected])):
            return CallTest(ast.unparse(ast.Tuple(arguments, ast.Load())), ast.unparse(expected))
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _needed(before: Sequence[ast.stmt], statement: ast.stmt) -> list[ast.stmt]:
    """The earlier statements that this one depends on, in order: a slice backwards along the names."""
    names, found = _names(statement), list[ast.stmt]()
    for earlier in reversed(before):
        if names & _touched(earlier):
            found.insert(0, earlier)
            names |= _names(earlier)
    return found


def _touched(statement: ast.stmt) -> set[str]:
    """The names whose values a statement may change: all that a loop or call mentions, else what it binds."""
    match statement:
        case ast.Assert() | ast.Return():
            return set()
        case ast.Assign(targets=targets):
            return {name for target in targets for name in _names(target)}
        case ast.AugAssign(target=target):
            return _names(target)
        case ast.Expr() | ast.For() | ast.While() | ast.If() | ast.With() | ast.Try():
            tests = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
            return set() if tests else _names(statement)
    return bound_names(statement)


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
