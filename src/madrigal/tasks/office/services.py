"""The office with what it needs from outside: posts, problems, and a sandbox for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from madrigal.tasks.coding.config import ALONE, Coding
from madrigal.tasks.coding.task import open_coding
from madrigal.tasks.data import Source
from madrigal.tasks.office.task import OfficeTask
from madrigal.tasks.office.work import Code, Prose
from madrigal.tasks.writing.single import WRITER
from madrigal.tasks.writing.task import Tldr, tldr_task
from madrigal.types import ConfigError, Example


@dataclass(frozen=True, slots=True)
class Office:
    """Planner, writer, coder, tester and reviewer at a shared board.

    Attributes:
        work: posts to summarise ("writing": planner, writer, reviewer), problems to solve ("coding": planner, coder,
            tester, reviewer), or both in turn, with all five.
        rounds: the safety limit; an episode ends earlier when somebody finalizes or hands over.
        alone: a single worker does everybody's part.
        posts: where the posts come from; `column` is theirs.
        problems: problems in HumanEval's schema.
        program_seconds, memory_mb: what one program may use in the sandbox.
        unconfined: run model-written code even where the machine cannot confine it.
    """

    work: Literal["both", "writing", "coding"] = "both"
    rounds: int = 3
    alone: bool = False
    posts: Source = field(default_factory=Source)
    column: str = "prompt"
    problems: Source = field(default_factory=Source)
    program_seconds: float = 2.0
    memory_mb: int = 512
    unconfined: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"task.rounds: expected at least 1, got {self.rounds}")
        if not 0 < self.program_seconds < math.inf or self.memory_mb < 64:
            raise ConfigError("task.program_seconds must be positive and finite, and task.memory_mb at least 64")


@contextmanager
def open_office(config: Office) -> Iterator[OfficeTask]:
    """Opens the services, yields the task that they serve, and closes them.

    Raises:
        ConfigError, TaskError, EngineError: if a service cannot be had or the data cannot be read.
    """
    prose = Prose(tldr_task(Tldr(config.posts, config.column, WRITER))) if config.work != "coding" else None
    if config.work == "writing":
        yield _office(config, prose, None)
        return
    coding = Coding(
        source=config.problems,
        agents=ALONE,
        program_seconds=config.program_seconds,
        memory_mb=config.memory_mb,
        unconfined=config.unconfined,
    )
    with open_coding(coding) as task:
        yield _office(config, prose, Code(task))


def _office(config: Office, prose: Prose | None, code: Code | None) -> OfficeTask:
    tasks = [work.task for work in (prose, code) if work]
    return OfficeTask(
        train=_in_turn([task.examples("train") for task in tasks]),
        test=_in_turn([task.examples("test") for task in tasks]),
        prose=prose,
        code=code,
        horizon=config.rounds,
        alone=config.alone,
    )


def _in_turn(kinds: Sequence[Sequence[Example]]) -> tuple[Example, ...]:
    """One of each kind after the other, until one is used up."""
    return tuple(chain.from_iterable(zip(*kinds, strict=False)))
