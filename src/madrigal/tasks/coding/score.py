"""What one joint answer was found to be, and what each finding earned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # whoever words a score needs no sandbox
    from madrigal.tasks.coding.sandbox.records import Outcome

Usage = Literal["not called", "misused", "used"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text is not a program.

    Attributes:
        message: the parser's words.
        line, column: counted from 1 in the author's answer, cleaned; 0 where the parser names no place.
        author: the agent whose answer it is in; "" where that is not known.
    """

    message: str
    line: int = 0
    column: int = 0
    author: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One unit test and what came of it.

    Attributes:
        test: the test as an agent reads it, such as `candidate([1, 2]) expected 4`.
        outcome: how it ended.
        message: what the sandbox reported, such as `got 3` or `TypeError: ...`; "" for a test that passed.
    """

    test: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was found about one joint answer, before any number is attached to it.

    Attributes:
        aux_missing: why no usable helper function was found; "" where one was.
        main_missing: why no usable main function was found; "" where one was.
        fault: why the combined program does not parse; None where it does.
        tests: the unit tests in order; () where they were not reached.
        usage: what the main function does with aux.
        misuse: the reason where `usage` is "misused".
        thin: whether the main function does nothing but hand over to aux.
        program: the combined source.
        schemes: the ways in which helper and main cooperate; empty where none is recognized.
        solo: whether a single agent answered, so that nothing about aux applies.
    """

    aux_missing: str = ""
    main_missing: str = ""
    fault: Fault | None = None
    tests: tuple[Judged, ...] = ()
    usage: Usage = "not called"
    misuse: str = ""
    thin: bool = False
    program: str = ""
    schemes: frozenset[str] = frozenset()
    solo: bool = False

    @property
    def passed(self) -> int:
        return sum(test.outcome == "passed" for test in self.tests)


@dataclass(frozen=True, slots=True)
class Score:
    """The level reward of one joint answer, part by part; a level that was not reached earned 0.

    Attributes:
        findings: what the parts were earned, or lost, for.
        aux, main: the two halves of the structure level, at most 1.0 together.
        syntax: 0.5 or 0.
        tests: the share of unit tests that passed, in [0, 1].
        cooperation: the bonus, in [0, 1.5].
        best: the reward of a flawless answer; 4.0 for a pair, 2.5 for a single agent, who earns no bonus.
    """

    findings: Findings
    aux: float = 0.0
    main: float = 0.0
    syntax: float = 0.0
    tests: float = 0.0
    cooperation: float = 0.0
    best: float = 4.0

    @property
    def reward(self) -> float:
        return self.aux + self.main + self.syntax + self.tests + self.cooperation

    @property
    def solved(self) -> bool:
        """Whether every level gave all it can; the margin absorbs rounding in the sum of the parts."""
        return self.reward > self.best - 1e-9
