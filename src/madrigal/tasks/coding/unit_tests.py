"""The unit tests of a problem, one by one; read off the syntax tree, nothing is executed.

Every assert becomes a test of its own, so that an answer earns the share of them that it passes; the
published reward does the same line by line, which loses loops and values computed beforehand.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from madrigal.tasks.coding.sandbox import CallTest, CheckTest, literals
from madrigal.tasks.coding.score import Fault
from madrigal.tasks.coding.syntax import bound_names, changed_names, foreign_packages, mentioned, parse
from madrigal.types import TaskError

UnitTest = CallTest | CheckTest

_CANDIDATE = "candidate"
_MOST_TEXT = 1 << 24  # characters of all tests of one problem


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
    candidate = check.args.args[0].arg
    # What stands around `check` and may be needed by its tests; not what calls it, nor a docstring.
    set_up = [node for node in tree.body if node is not check and check.name not in mentioned(node)]
    try:
        tests = _Slices([*set_up, *check.body], candidate).tests(len(check.body))
    except (RecursionError, MemoryError, ValueError) as error:  # nested, or a number too long to print
        reason = str(error) or type(error).__name__
        raise TaskError(f"expected tests that can be taken apart, got {test[:80]!r} ({reason})") from error
    if not tests:
        raise TaskError(f"expected at least one assert on {candidate} in check, got {test[:80]!r}")
    sources = [unit_test.source for unit_test in tests if isinstance(unit_test, CheckTest)]
    if foreign := {name for text in sources if "import" in text for name in foreign_packages(ast.parse(text))}:
        raise TaskError(
            f"expected tests that need the standard library alone, got tests that import {', '.join(sorted(foreign))}; "
            "the sandbox has no other package"
        )
    return tests


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


class _Slices:
    """The statements that make a test, and for each the earlier ones that it depends on.

    A slice goes backwards along the names; what each statement reads and changes is looked up once, and only
    statements that change a name that is asked for are visited.
    """

    def __init__(self, statements: Sequence[ast.stmt], candidate: str) -> None:
        self._statements = statements
        self._candidate = candidate
        self._names = [mentioned(statement) for statement in statements]
        self._texts: dict[int, str] = {}
        self._writers = defaultdict[str, list[int]](list)
        self._asserts = defaultdict[str, list[int]](list)
        for place, statement in enumerate(statements):
            for name in _may_change(statement):
                self._writers[name].append(place)
            if isinstance(statement, ast.Assert) and candidate in self._names[place]:
                for name in self._names[place] - {candidate}:
                    self._asserts[name].append(place)

    def tests(self, count: int) -> tuple[UnitTest, ...]:
        """The tests that the last `count` statements make, without doubles."""
        places = range(len(self._statements) - count, len(self._statements))
        tests, size = dict[UnitTest, None](), 0
        for test in map(self._test, places):
            if test is None:
                continue
            size += len(test.source) if isinstance(test, CheckTest) else len(test.arguments)
            if size > _MOST_TEXT:
                raise ValueError(f"more than {_MOST_TEXT} characters of tests")
            tests[test] = None
        return tuple(tests)

    def _test(self, place: int) -> UnitTest | None:
        """Makes one test of a statement, or None where it tests nothing."""
        statement = self._statements[place]
        if isinstance(statement, ast.Return) or bound_names(statement):
            return None
        needed = self._needed(place, self._writers)
        if self._candidate not in self._names[place] and not any(self._candidate in self._names[i] for i in needed):
            # `assert candidate(xs) is None` before `assert xs == [1, 2]`: what is tested is the argument.
            needed = self._needed(place, self._asserts) if isinstance(statement, ast.Assert) else []
            if not needed:
                return None
        if isinstance(statement, ast.Assert):
            if call := _call_test(statement.test, self._candidate):
                return call
        elif not any(
            isinstance(node, ast.Assert | ast.Raise) for i in [place, *needed] for node in ast.walk(self._statements[i])
        ):
            return None
        alias = [] if self._candidate == _CANDIDATE else [f"{self._candidate} = {_CANDIDATE}"]
        return CheckTest("\n".join([*alias, *(self._text(i) for i in [*needed, place])]))

    def _needed(self, place: int, writers: Mapping[str, list[int]]) -> list[int]:
        """The places of the earlier statements that a statement depends on, in order."""
        needed = set(self._earlier(place, writers))
        waiting = list(needed)
        while waiting:
            new = set(self._earlier(waiting.pop(), self._writers)) - needed
            needed |= new
            waiting += new
        return sorted(needed)

    def _earlier(self, place: int, writers: Mapping[str, list[int]]) -> Iterator[int]:
        for name in self._names[place] - {self._candidate}:
            places = writers.get(name, [])
            yield from places[: bisect_left(places, place)]

    def _text(self, place: int) -> str:
        if place not in self._texts:
            self._texts[place] = ast.unparse(self._statements[place])
        return self._texts[place]


def _call_test(test: ast.expr, candidate: str) -> CallTest | None:
    match test:
        case ast.Compare(
            left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
            ops=[ast.Eq()],
            comparators=[expected],
        ) if name == candidate and all(map(_is_literal, [*arguments, expected])):
            return CallTest(ast.unparse(ast.Tuple(arguments, ast.Load())), ast.unparse(expected))
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
        literals.parse(ast.unparse(node))
    except (ValueError, TypeError):
        return False
    return True


def _may_change(statement: ast.stmt) -> set[str]:
    """The names whose values a statement may change: all that a loop or call mentions, else what it binds."""
    match statement:
        case ast.Assert() | ast.Return():
            return set()
        case ast.AugAssign(target=target):
            return mentioned(target)
        case ast.Expr() | ast.For() | ast.While() | ast.If() | ast.With() | ast.Try():
            tests = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
            return set() if tests else mentioned(statement) | changed_names(statement)
    return bound_names(statement)
