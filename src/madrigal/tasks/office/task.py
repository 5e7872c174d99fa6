"""Working in an office, as a task: a board that a team of roles changes round by round, until somebody ends it.

An example: Example("posts/train/0", {"post": "My aunt Julia and I live in a rented cabin. ..."}), or a problem in
HumanEval's schema.

A round earns what it added to the worth of the accepted piece, so that the return is what that piece is worth in the
end, and every round is paid for its own part:

    r_t = worth(accepted after the round) - worth(accepted before)           hand-off: 0 - worth(accepted before)

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: the five roles, shared and private state, the primitives with their conditions,
    tools as effects of the environment with a trace, and the three endings. All the rest is ours: data, prompts, who
    may do what, and what is earned when.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

from madrigal.rollouts.task import joint
from madrigal.tasks.coding.config import ALONE as LONE_CODER
from madrigal.tasks.coding.config import Coding
from madrigal.tasks.coding.task import CodingTask, open_coding
from madrigal.tasks.data import Source
from madrigal.tasks.office.board import PRIMITIVES, ROLES, WORKER, Board, Desk, OfficeState, act, actions_of
from madrigal.tasks.office.work import Code, Prose, Work, Worth
from madrigal.tasks.writing.single import WRITER
from madrigal.tasks.writing.task import Tldr, WritingTask, tldr_task
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, TaskError, Turn

RECENT = 4  # changes shown: what a maker, a checker and an integrator do in one round, and one more
Trace = list[dict[str, Any]]
ENDINGS: dict[str, Ending] = {"finalize": "solved", "hand-off": "failed", "limit": "horizon", "": ""}


@dataclass(frozen=True)
class OfficeTask:
    """Roles at a shared board make one piece for each example.

    Attributes:
        train, test: posts and problems; an example with an `entry_point` is a problem.
        writing, coding: what a single agent would be asked; None where no example asks for it.
        horizon: the safety limit on rounds.
        alone: a single worker does everybody's part.
    """

    train: Sequence[Example]
    test: Sequence[Example]
    writing: WritingTask | None = None
    coding: CodingTask | None = None
    horizon: int = 3
    alone: bool = False
    name: str = "office"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        """All who have a part in some example, in the order in which their actions take effect."""
        staff = {*(Prose.staff if self.writing else ()), *(Code.staff if self.coding else ())}
        return (WORKER,) if self.alone else tuple(role for role in ROLES if role in staff)

    def examples(self, split: Split) -> Sequence[Example]:
        if split == "validation":
            return _in_turn(self.writing, self.coding, split)
        return self.train if split == "train" else self.test

    def ask(self, data: object) -> OfficeState:
        raise ConfigError(
            f"task {self.name} cannot be asked: what its roles see depends on checks against a reference; it is "
            "played (madrigal play)"
        )

    def reset(self, example: Example) -> OfficeState:
        return OfficeState(example)

    def acting(self, state: OfficeState) -> tuple[AgentId, ...]:
        return (WORKER,) if self.alone else self._work(state).staff

    def observe(self, state: OfficeState, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        shown = office_prompt(agent, state.board, state.desk(agent), self._work(state).brief(), heard)
        return (Message("user", shown),)

    def step(self, state: OfficeState, actions: Mapping[AgentId, str]) -> Step[OfficeState]:
        """The actions of all take effect one after the other, in the order of the roles; after an end none does."""
        after, ended, trace = self._acted(state, actions)
        after = replace(after, round=state.round + 1)
        if not ended and after.round >= self.horizon:
            ended = "limit"
        after = replace(after, worth=self._worth(after, ended))
        earned = after.worth.quality - state.worth.quality
        details = {**after.worth.details, "facts": list(after.board.facts), "trace": trace, "ended_by": ended}
        return Step(after, joint(self.agents, earned), ENDINGS[ended], self._metrics(after, trace), details)

    def _acted(self, state: OfficeState, actions: Mapping[AgentId, str]) -> tuple[OfficeState, str, Trace]:
        """The office after all actions, by which of them the episode ended, and the trace."""
        work, trace = self._work(state), Trace()
        for agent in self.acting(state):
            for action in actions_of(actions.get(agent, "")):
                state, entry = act(state, agent, action, work)
                trace += [entry] if entry else []
                if entry.get("outcome") == "done" and PRIMITIVES[entry["action"]].ends:
                    return state, entry["action"], trace
        return state, "", trace

    def _worth(self, state: OfficeState, ended: str) -> Worth:
        """What the accepted piece is worth, judged once; nothing where the work was handed over."""
        piece = state.board.accepted
        if ended == "hand-off" or not piece:
            return Worth()
        if state.worth.details.get("piece") == piece:
            return state.worth
        worth = self._work(state).worth(piece)
        return replace(worth, details={**worth.details, "piece": piece})

    def _metrics(self, state: OfficeState, trace: Trace) -> dict[str, float]:
        outcomes = [entry["outcome"] for entry in trace]
        return {
            **dict.fromkeys(self._work(state).measures, 0.0),
            **state.worth.metrics,
            "return_percent": 100 * state.worth.quality,
            "accepted": float(bool(state.board.accepted)),
            "rounds": float(state.round),
            "actions": float(len(outcomes)),
            "refused": float(outcomes.count("refused") + outcomes.count("failed")),
        }

    def _work(self, state: OfficeState) -> Work:
        is_problem = "entry_point" in state.example.data
        if is_problem and self.coding:
            return Code(self.coding, state.example)
        if not is_problem and self.writing:
            return Prose(self.writing, state.example)
        raise TaskError(f"task {self.name}: example {state.example.id} asks for work that this office does not do")


def office_prompt(agent: AgentId, board: Board, desk: Desk, brief: str, heard: Sequence[Turn]) -> str:
    """What one agent is shown: what it may do, the board, its own desk, and the brief.

    Kept short, and with the brief at the end in the words of the single-agent tasks, so that small models can follow
    it. The wording is ours.
    """
    # All that the role may ever do: teammates who speak earlier in the round may make it possible by then.
    lines = [f"You are the {agent}. Begin with what you do and a colon: {', '.join(ROLES[agent])}."]
    lines += _section("Plan", board.plan.splitlines())
    lines += _section("Facts", board.facts)
    lines += _section("Changes", board.changes[-RECENT:])
    lines += _section("Findings", board.findings)
    lines += _section("Accepted" if board.draft == board.accepted else "Draft", board.draft.splitlines())
    lines += _section("To do", desk.todo)
    lines += _section("Your notes", desk.notes)
    lines += [f"{'You' if turn.agent == agent else f'The {turn.agent}'} said: {turn.completion.text}" for turn in heard]
    return "\n".join([*lines, "", brief])


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *lines] if lines else []


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
    writing = tldr_task(Tldr(config.posts, config.column, WRITER)) if config.work != "coding" else None
    if config.work == "writing":
        yield _office(config, writing, None)
        return
    problems = Coding(
        source=config.problems,
        agents=LONE_CODER,
        program_seconds=config.program_seconds,
        memory_mb=config.memory_mb,
        unconfined=config.unconfined,
    )
    with open_coding(problems) as coding:
        yield _office(config, writing, coding)


def _office(config: Office, writing: WritingTask | None, coding: CodingTask | None) -> OfficeTask:
    train, test = _in_turn(writing, coding, "train"), _in_turn(writing, coding, "test")
    return OfficeTask(train, test, writing, coding, config.rounds, config.alone)


def _in_turn(writing: WritingTask | None, coding: CodingTask | None, split: Split) -> tuple[Example, ...]:
    """One example of each kind of work after the other, until one is used up."""
    tasks = [task for task in (writing, coding) if task]
    return tuple(chain.from_iterable(zip(*(task.examples(split) for task in tasks), strict=False)))
