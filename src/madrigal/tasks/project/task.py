"""Making a small project together, as a task: planner, two builders and reviewer change one tree of files.

An example (`corpus`): a brief, and what it is judged by. First the planner says who writes what, then the builders
write at the same time, then the reviewer mends what is left; building and reviewing may be repeated. What is written
takes effect at the end of a round (`tree`); what was not applied is told to its author, conflicts to all. A round earns
what it added to the worth of the tree (`checks`), less its conflicts and its words, so that the return is what the
project is worth in the end, less their price:

    r_t = worth after - worth before - conflict * conflicts - words * hundreds of words

An untouched tree earns 0, a project that passes all checks 1. The episode ends early when the reviewer has acted on
such a project.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from madrigal.rollouts.task import joint, said_lines
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.coding.config import check_limits
from madrigal.tasks.coding.reward import Judge
from madrigal.tasks.coding.task import sandbox_for
from madrigal.tasks.editing.apply import counted
from madrigal.tasks.project.brief import Brief, brief_of
from madrigal.tasks.project.checks import Report, report_of
from madrigal.tasks.project.corpus import PROGRAMS, SITES, examples
from madrigal.tasks.project.pages import check_parser
from madrigal.tasks.project.tree import Applied, Change, Room, Tree, apply, read, written
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, Turn

PLANNER, REVIEWER, MAKER = "planner", "reviewer", "maker"
BUILDERS = ("builder1", "builder2")
TEAM = (PLANNER, *BUILDERS, REVIEWER)
TOLD = 2  # lines of each kind that agents are told, and notes of each of them
CLIP = 80  # characters of such a line
WRITE = "write PATH (text below)"
HOW = f"Say it by lines: {WRITE}, edit PATH (replace, rename ... below), remove PATH, note TEXT."
ROLES = {
    PLANNER: f"You are the planner of {BUILDERS[0]} and {BUILDERS[1]}. Say by lines who writes what: note TEXT.",
    BUILDERS[0]: f"You are {BUILDERS[0]}. {HOW}",
    BUILDERS[1]: f"You are {BUILDERS[1]}. {HOW}",
    REVIEWER: f"You are the reviewer. Mend what is wrong or missing, or say so. {HOW}",
    MAKER: HOW,
}


@dataclass(frozen=True, slots=True)
class Project:
    """Planner, two builders and reviewer make a project of several files.

    Attributes:
        work: briefs of programs, of sites, or of both.
        passes: how often is built and reviewed, after the plan; the horizon is 1 + 2 * passes.
        together: all four act in every round instead, and who hears whom is left to the topology.
        files: that a project may have.
        size: of all files and their paths, in bytes; models with a longer context may have more.
        unfinished: cost of a file with an unfinished part.
        conflict: cost of a conflict.
        words: cost of a hundred words said, of all agents.
        alone: one agent does everybody's part.
        program_seconds, memory_mb: what one program may use in the sandbox.
        unconfined: run model-written code even where the machine cannot confine it.
    """

    work: Literal["both", "programs", "sites"] = "both"
    passes: int = 1
    together: bool = False
    files: int = 8
    size: int = 1000
    unfinished: float = 0.05
    conflict: float = 0.05
    words: float = 0.0
    alone: bool = False
    program_seconds: float = 2.0
    memory_mb: int = 512
    unconfined: bool = False

    def __post_init__(self) -> None:
        for name, number, least, most in (
            ("passes", self.passes, 1, 4),
            ("files", self.files, 4, 32),
            ("size", self.size, 800, 10_000),
        ):
            if not least <= number <= most:
                raise ConfigError(f"task.{name}: expected {least} to {most}, got {number}")
        for name, cost in (("unfinished", self.unfinished), ("conflict", self.conflict), ("words", self.words)):
            if not 0 <= cost < math.inf:
                raise ConfigError(f"task.{name}: expected 0 or more, got {cost}")
        check_limits(self.memory_mb, program_seconds=self.program_seconds)


@dataclass(frozen=True, slots=True)
class Making:
    """The state.

    Attributes:
        files: the tree.
        notes: of each agent the last ones.
        applied: what came of the last round's operations.
        unread: lines of each agent's last answer that were neither operations nor notes.
        report: of the tree as it stands.
        worth: of the tree, in the reward's terms.
        counts: of the episode so far: operations that were applied and refused, conflicts, words.
        round: rounds so far.
    """

    brief: Brief
    files: Tree = field(default_factory=dict)
    notes: Mapping[AgentId, tuple[str, ...]] = field(default_factory=dict)
    applied: Applied = field(default_factory=lambda: Applied({}))
    unread: Mapping[AgentId, tuple[str, ...]] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    worth: float = 0.0
    counts: Mapping[str, float] = field(default_factory=dict)
    round: int = 0


@dataclass(frozen=True)
class ProjectTask:
    """The task of such settings.

    Attributes:
        judge: runs programs; the sandbox.
    """

    config: Project
    judge: Judge
    name: str = "project"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (MAKER,) if self.config.alone else TEAM

    @property
    def horizon(self) -> int:
        return 1 + 2 * self.config.passes

    def examples(self, split: Split) -> Sequence[Example]:
        sorts = {"both": (*PROGRAMS, *SITES), "programs": PROGRAMS, "sites": SITES}[self.config.work]
        return [example for example in examples(split) if example.data["sort"] in sorts]

    def reset(self, example: Example) -> Making:
        brief = brief_of(example)
        return Making(brief, report=report_of(brief, {}, None))

    def acting(self, state: Making) -> tuple[AgentId, ...]:
        if self.config.alone or self.config.together:
            return self.agents
        return (PLANNER,) if state.round == 0 else BUILDERS if state.round % 2 else (REVIEWER,)

    def observe(self, state: Making, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        lines = [state.brief.text]
        lines += [line for path, text in state.files.items() for line in (f"--- {path}", text)]
        lines += [f"{who}: {note}" for who, notes in state.notes.items() for note in notes]
        lines += self._told(state, agent)
        return (Message("user", "\n".join([*lines, *said_lines(heard, agent), ROLES[agent]])),)

    def _told(self, state: Making, agent: AgentId) -> list[str]:
        """The fate of the agent's last operations, and what there is to be said of the tree."""
        lines = [f"not read: {line}" for line in state.unread.get(agent, ())[:TOLD]]
        lines += [f"not applied: {line}" for line in state.applied.refused.get(agent, ())[:TOLD]]
        lines += [f"conflict: {pair}" for pair in state.applied.conflicts[:TOLD]]
        lines += state.report.told[: 2 * TOLD]
        lines += [f"unfinished: {part}" for part in state.report.unfinished[:TOLD]]
        return [clipped(line) for line in lines]

    def step(self, state: Making, actions: Mapping[AgentId, str]) -> Step[Making]:
        """The operations of all agents take effect together, then the tree is judged."""
        return self._step(state, actions, self.judge)

    def unjudged(self, state: Making, actions: Mapping[AgentId, str]) -> Step[Making]:
        """The same without a judge: what is read off the files is told all the same."""
        step = self._step(state, actions, None)
        return replace(step, rewards=joint(self.agents, 0.0), metrics={})

    def _step(self, state: Making, actions: Mapping[AgentId, str], judge: Judge | None) -> Step[Making]:
        acting, config = self.acting(state), self.config
        said = {agent: read(actions.get(agent, "")) for agent in acting}
        room = Room(config.files, config.size)
        applied = apply(state.files, {agent: each.changes for agent, each in said.items()}, room)
        known = applied.files == state.files and state.report.shares
        report = state.report if known else report_of(state.brief, applied.files, judge)
        notes = {agent: tuple(map(clipped, each.notes[:TOLD])) for agent, each in said.items() if each.notes}
        words = sum(len(actions.get(agent, "").split()) for agent in acting)
        unread = {agent: each.unread for agent, each in said.items()}
        counts = counted(state.counts, applied.count, (*applied.refused.values(), *unread.values()), applied.conflicts)
        after = replace(
            state,
            files=applied.files,
            notes={**state.notes, **notes},
            applied=applied,
            unread=unread,
            report=report,
            worth=report.quality - config.unfinished * len(report.unfinished),
            counts={**counts, "words": state.counts.get("words", 0.0) + words},
            round=state.round + 1,
        )
        ending: Ending = "horizon" if after.round >= self.horizon else ""
        if {REVIEWER, MAKER} & set(acting) and after.worth > 1 - 1e-9:
            ending = "solved"
        price = config.conflict * len(applied.conflicts) + config.words * words / 100
        details = {
            "files": dict(after.files),
            "refused": {agent: list(lines) for agent, lines in applied.refused.items()},
            "conflicts": list(applied.conflicts),
            "told": list(report.told),
            "unfinished": list(report.unfinished),
        }
        reward = after.worth - state.worth - price
        return Step(after, joint(self.agents, reward), ending, _metrics(after), details)

    def demonstrations(self) -> Demonstrations:
        """A plan, the files that do what each brief of training asks, and a reviewer who has nothing to add."""
        return {example.id: self._made(example) for example in self.examples("train")}

    def _made(self, example: Example) -> dict[AgentId, list[str]]:
        parts, files = brief_of(example).parts, example.data["files"]
        texts = [written(Change("write", path, files[path]) for path in part) for part in parts]
        if self.config.alone:
            return {MAKER: texts}
        plan = [f"note {builder} writes {' and '.join(part)}" for builder, part in zip(BUILDERS, parts, strict=True)]
        said = {PLANNER: "\n".join(plan), **dict(zip(BUILDERS, texts, strict=True)), REVIEWER: "note done"}
        # One answer for each round; whoever is not asked in a round does not give it.
        return {agent: [text] * (1 if self.config.together else 3) for agent, text in said.items()}


def clipped(line: str) -> str:
    return " ".join(line.split())[:CLIP]


def _metrics(state: Making) -> dict[str, float]:
    return {
        **{f"check/{name}": 100 * share for name, share in state.report.shares.items()},
        "return_percent": 100 * state.worth,
        "unfinished": float(len(state.report.unfinished)),
        "files": float(len(state.files)),
        **state.counts,
    }


@contextmanager
def open_project(config: Project) -> Iterator[ProjectTask]:
    """Opens the sandbox, yields the task that it serves, and closes it.

    Raises:
        ConfigError: if pages are to be judged and their parser is not installed.
        EngineError: if the machine cannot confine what models write.
    """
    if config.work != "programs":
        check_parser()
    seconds = config.program_seconds
    with sandbox_for(seconds, seconds, config.memory_mb, config.unconfined) as sandbox:
        yield ProjectTask(config, sandbox)
