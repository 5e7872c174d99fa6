"""An office with one post and one problem; its judge knows the answers to the problem by their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from madrigal.tasks.coding.config import ALONE, Coding
from madrigal.tasks.coding.sandbox import Program, Verdict
from madrigal.tasks.coding.task import CodingTask
from madrigal.tasks.office.task import OfficeTask
from madrigal.tasks.writing.single import WRITER
from madrigal.tasks.writing.task import Tldr, tldr_task
from madrigal.types import Example

POST = Example("post", {"post": "My dog ate my homework and then my shoes. What now?"})
PROBLEM = Example(
    "problem",
    {
        "prompt": 'def double(x):\n    """Twice x."""\n',
        "entry_point": "double",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 4\n",
    },
)
HALF = "def double(x):\n    return x * x"
RIGHT = "def double(x):\n    return 2 * x"
SUMMARY = (
    "The dog ate my homework and my shoes today.\n[PARAGRAPH_SPLIT]\n"
    "First the dog ate my homework at noon. Then, however, he also found new leather shoes under our bed and ruined "
    "both of them before dinner."
)


class Judge:
    """The second test of `double` passes for x * x; both pass for 2 * x."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, program: Program) -> Sequence[Verdict]:
        self.runs += 1
        good = [RIGHT in program.source, RIGHT in program.source or HALF in program.source]
        return [Verdict("passed") if one else Verdict("failed", "AssertionError: expected 2, got 1") for one in good]


Make = Callable[..., OfficeTask]


def office(judge: Judge, kinds: str = "both", **settings: Any) -> OfficeTask:
    """An office for "writing", "coding" or both."""
    writing = tldr_task(Tldr(agents=WRITER)) if kinds != "coding" else None
    coding = CodingTask((), (), judge, Coding(agents=ALONE)) if kinds != "writing" else None
    return OfficeTask((POST,), (PROBLEM,), writing, coding, **settings)
