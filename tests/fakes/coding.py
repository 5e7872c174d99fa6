"""A judge of trusted code, and one small problem, for the tests of the coding task."""

from __future__ import annotations

from madrigal.tasks.coding.problem import Problem
from madrigal.tasks.coding.sandbox import CallTest, Program, Verdict


class TrustedJudge:
    """Runs code in this very process: for code written in these tests only."""

    def run(self, program: Program) -> tuple[Verdict, ...]:
        return tuple(self._one(program, test) for test in program.tests)

    def _one(self, program: Program, test: object) -> Verdict:
        space: dict[str, object] = {}
        source = test.source if not isinstance(test, CallTest) else f"got = candidate(*{test.arguments})"
        try:
            exec(program.prelude + "\n" + program.source, space)
            exec(f"candidate = {program.entry_point}\n{source}", space)
        except (AssertionError, NameError, TypeError) as error:
            failed = isinstance(error, AssertionError)
            return Verdict("failed" if failed else "error", f"{type(error).__name__}: {error}")
        if isinstance(test, CallTest) and space["got"] != eval(test.expected):
            return Verdict("failed", f"AssertionError: expected {test.expected}, got {space['got']}")
        return Verdict("passed")


# Four tests: on 1, 2, 3 and 4.
PROBLEM = Problem(
    prompt='def square_up(x: int) -> int:\n    """Returns x * x + 1."""\n',
    entry_point="square_up",
    test="def check(candidate):\n" + "".join(f"    assert candidate({x}) == {x * x + 1}\n" for x in (1, 2, 3, 4)),
)
