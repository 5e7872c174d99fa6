"""The two kinds of work that an office does: a summary of a post in two parts, or a function that passes unit tests.

Both are tasks of the library for a single agent, so that prompts, scores and the sandbox are theirs. Each has

    staff, measures    the roles that have a part in it, in the order of `board.ROLES`; the metrics of `worth`
    brief, facts       what is asked; what can be looked up
    lint, test         what is wrong with the form of a draft (such a draft cannot be integrated); what fails in its use
    worth              what a piece is worth
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from madrigal.tasks.coding.cleaning import clean
from madrigal.tasks.coding.config import ALONE
from madrigal.tasks.coding.feedback import failure
from madrigal.tasks.coding.pieces import find_function
from madrigal.tasks.coding.problem import parameters, problem_of
from madrigal.tasks.coding.program import combine, syntax_fault
from madrigal.tasks.coding.score import Judged
from madrigal.tasks.coding.task import CodingTask
from madrigal.tasks.coding.unit_tests import unit_tests
from madrigal.tasks.writing.single import WRITER
from madrigal.tasks.writing.task import WritingTask
from madrigal.types import AgentId, Example, Step


@dataclass(frozen=True, slots=True)
class Worth:
    """What an accepted piece is worth.

    Attributes:
        quality: from 0 to 1.
        metrics, details: how that came about, as steps report it.
    """

    quality: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prose:
    """A concise and a detailed summary of one post, in one text.

    Attributes:
        task: the writing task of a single writer.
    """

    task: WritingTask
    example: Example
    staff: ClassVar[tuple[AgentId, ...]] = ("planner", "writer", "reviewer")
    measures: ClassVar[tuple[str, ...]] = ("structure", "consistency", "coherence", "faithfulness")

    def brief(self) -> str:
        return self.task.observe(self.example, WRITER[0], ())[0].content

    def facts(self) -> tuple[str, ...]:
        form, length = self.task.thresholds, self.task.thresholds.length
        return (
            f"each part has {form.fewest} to {form.most} words",
            f"the second part is {length.best_low:g} to {length.best_high:g} times as long as the first",
        )

    def lint(self, draft: str) -> tuple[str, ...]:
        form = self.task.thresholds
        counts = [len(part.split()) for part in self.task.parts({WRITER[0]: draft})]
        return tuple(
            f"part {number} has {count} words, not {form.fewest} to {form.most}"
            for number, count in enumerate(counts, start=1)
            if not form.allows(count)
        )

    def test(self, draft: str) -> tuple[str, ...]:
        return ()

    def worth(self, piece: str) -> Worth:
        step = self.task.step(self.example, {WRITER[0]: piece})
        return _worth(step.metrics["return_percent"], self.measures, step)


@dataclass(frozen=True)
class Code:
    """A function for one problem, worth the share of unit tests that it passes.

    Attributes:
        task: the coding task of a single agent.
    """

    task: CodingTask
    example: Example
    staff: ClassVar[tuple[AgentId, ...]] = ("planner", "coder", "tester", "reviewer")
    measures: ClassVar[tuple[str, ...]] = ("tests", "syntax_correct", "full_test_pass")

    def brief(self) -> str:
        return self.task.observe(self.task.reset(self.example), ALONE[0], ())[0].content

    def facts(self) -> tuple[str, ...]:
        problem = problem_of(self.example)
        return (
            f"the function is {problem.entry_point}({parameters(problem)})",
            f"{len(unit_tests(problem.test))} unit tests",
        )

    def lint(self, draft: str) -> tuple[str, ...]:
        problem = problem_of(self.example)
        answer = clean(draft, problem.entry_point)
        function = find_function(answer, problem.entry_point)
        fault = syntax_fault(combine(problem.prompt, problem.entry_point, draft), {ALONE[0]: answer})
        if function is None:
            return (f"there is no def {problem.entry_point}",)
        if fault:
            return (f"line {fault.line}: {fault.message}",)
        return () if function.returns else (f"{problem.entry_point} returns nothing",)

    def test(self, draft: str) -> tuple[str, ...]:
        tests = [Judged(**verdict) for verdict in self._run(draft).details["verdicts"]]
        return tuple(failure(test) for test in tests if test.outcome != "passed")

    def worth(self, piece: str) -> Worth:
        step = self._run(piece)
        return _worth(step.metrics["tests"], self.measures, step)

    def _run(self, draft: str) -> Step[Any]:
        return self.task.step(self.task.reset(self.example), {ALONE[0]: draft})


Work = Prose | Code


def _worth(percent: float, measures: tuple[str, ...], step: Step[Any]) -> Worth:
    return Worth(percent / 100, {name: step.metrics[name] for name in measures}, step.details)
