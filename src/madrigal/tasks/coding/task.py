"""Joint programming: a helper writes `aux`, a main agent the function that was asked for, tests judge both.

An example: Example("HumanEval/23", {"prompt": 'def strlen(string: str) -> int: ...',
"entry_point": "strlen", "test": "def check(candidate): ..."}).

Every round earns its own level reward, and MAGRPO sums them; an evaluation quotes that of the last round.

References:
    Liu et al., 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from madrigal.rollouts.task import joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.coding.cleaning import clean
from madrigal.tasks.coding.config import ALONE, CODING_AGENTS, HELPER, MAIN, Coding
from madrigal.tasks.coding.expert import Edits, Expert, open_expert
from madrigal.tasks.coding.feedback import Exchange, FeedbackMode, next_messages
from madrigal.tasks.coding.problem import Problem, blaming, check_problem, problem_of
from madrigal.tasks.coding.prompts import first_prompt
from madrigal.tasks.coding.reward import BEST_ALONE, BEST_PAIR, Judge, metrics, score_alone, score_pair
from madrigal.tasks.coding.sandbox import Limits, Program, Sandbox, Verdict
from madrigal.tasks.coding.score import Findings, Score
from madrigal.tasks.coding.soundness import SOLUTION, check_problems
from madrigal.tasks.data import EMBEDDED, load_examples
from madrigal.tasks.fields import text_among
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, TaskError, Turn

NO_EDITS = Edits()


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round: what everyone said, what it was worth, what an expert advised."""

    answers: Mapping[AgentId, str]
    score: Score
    edits: Edits = NO_EDITS


@dataclass(frozen=True, slots=True)
class CodingState:
    """A problem and the rounds played on it."""

    example: Example
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True)
class CodingTask:
    """Writing one program together, for one round or, with feedback in between, for several.

    An episode ends earlier when every level is passed.

    Attributes:
        train, test: problems in HumanEval's schema (prompt, entry_point, test).
        judge: runs unit tests; the sandbox.
        config: the settings; those of the data and of the services have been used by then.
        expert: who advises in the mode "expert_edits".
    """

    train: Sequence[Example]
    test: Sequence[Example]
    judge: Judge
    config: Coding = field(default_factory=Coding)
    expert: Expert | None = None

    def __post_init__(self) -> None:
        if self.config.feedback == "expert_edits" and self.horizon > 1 and self.expert is None:
            raise ConfigError("feedback expert_edits over several turns needs an expert, got none; hand one over")

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    @property
    def horizon(self) -> int:
        return self.config.turns

    @property
    def best_return(self) -> float:
        return BEST_ALONE if self.agents == ALONE else BEST_PAIR

    def examples(self, split: Split) -> Sequence[Example]:
        if split == "validation":
            return _problems(self.config, split, self.judge)
        return self.train if split == "train" else self.test

    def reset(self, example: Example) -> CodingState:
        check_problem(example)
        return CodingState(example)

    def ask(self, data: str | Mapping[str, Any]) -> CodingState:
        """A function to write, as HumanEval prompts for it: the last `def` of the prompt, unless data name another."""
        prompt = text_among(data, "prompt")
        names = re.findall(r"^(?:async )?def (\w+)\s*\(", prompt, re.MULTILINE)
        if not isinstance(data, str) and data.get("entry_point"):
            names.append(text_among(data, "entry_point"))
        if not names:
            raise ConfigError("a coding team is asked by a prompt with the line `def NAME(...):`, found none")
        return CodingState(
            Example(ASKED, {"prompt": prompt, "entry_point": names[-1], "test": "def check(candidate): ..."})
        )

    def unjudged(self, state: CodingState, actions: Mapping[AgentId, str]) -> Step[CodingState]:
        """Goes on only where agents are told nothing of tests (feedback plain): else there is one round."""
        done = Round({agent: actions[agent] for agent in self.agents}, Score(Findings()))
        after = replace(state, rounds=(*state.rounds, done))
        goes_on = self.config.feedback == "plain" and len(after.rounds) < self.horizon
        return Step(after, joint(self.agents, 0.0), "" if goes_on else "horizon")

    def acting(self, state: CodingState) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: CodingState, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        first = first_prompt(problem_of(state.example), agent, alone=self.agents == ALONE, prompts=self.config.prompts)
        past = [
            Exchange(done.answers[agent], done.score, done.edits.aux if agent == HELPER else done.edits.main)
            for done in state.rounds
        ]
        messages = next_messages(self.config.feedback, first, past, agent, self.config.sandbox_slice)
        shown = "".join(_quote(turn, agent) for turn in heard)
        return (*messages[:-1], Message("user", messages[-1].content + shown))

    def step(self, state: CodingState, actions: Mapping[AgentId, str]) -> Step[CodingState]:
        problem = problem_of(state.example)
        score = self._score(state.example, problem, actions)
        done = Round({agent: actions[agent] for agent in self.agents}, score)
        ending: Ending = "solved" if score.solved else ""
        if not ending and len(state.rounds) + 1 >= self.horizon:
            ending = "horizon"
        numbers, details = metrics(score), _details(score)
        if self.expert and self.config.feedback == "expert_edits":
            # Told with the round that follows the advice: records hold the last round, after which nobody is asked.
            for followed in state.rounds[-1:]:
                numbers |= {
                    "expert_failed": float(not followed.edits.answered),
                    "expert_failed_tries": float(followed.edits.failed),
                }
                details |= {"expert": followed.edits.reason}
            if not ending:
                done = replace(done, edits=self.expert(problem.prompt, score.findings.program))
        after = replace(state, rounds=(*state.rounds, done))
        return Step(after, joint(self.agents, score.reward), ending, numbers, details)

    def _score(self, example: Example, problem: Problem, actions: Mapping[AgentId, str]) -> Score:
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise TaskError(f"task {self.name}: expected an answer of {', '.join(missing)}, got {sorted(actions)}")
        with blaming(example):
            if self.agents == ALONE:
                return score_alone(problem, actions[MAIN], self.judge)
            helper, main = (actions[agent] for agent in CODING_AGENTS)
            return score_pair(problem, helper, main, self.judge, aux_required=self.config.aux_required)


def coding_task(config: Coding, judge: Judge, expert: Expert | None = None) -> CodingTask:
    """The task that a configuration describes, with its services handed over.

    Raises:
        ConfigError, TaskError: if the settings contradict each other or the data cannot be read.
    """
    train, test = _problems(config, "train", judge), _problems(config, "test", judge)
    return CodingTask(train, test, judge, config, expert)


def _problems(config: Coding, split: Split, judge: Judge) -> tuple[Example, ...]:
    """The problems of a split; those of a user are checked, and then known without their solutions."""
    columns = {name: name for name in ("prompt", "entry_point", "test")}
    problems = load_examples(config.source, split, columns, _programs, optional=(SOLUTION,))
    if config.source.data == EMBEDDED:
        return problems
    check_problems(problems, judge, os.cpu_count() or 1)
    return tuple(map(_without_solution, problems))


@contextmanager
def open_coding(config: Coding) -> Iterator[CodingTask]:
    """Opens the sandbox, and the expert where one is asked for; yields the task that they serve, and closes them.

    Raises:
        ConfigError, TaskError, EngineError: if a service cannot be had or the data cannot be read.
    """
    expert = open_expert(config.expert) if config.feedback == "expert_edits" else None
    with sandbox_for(config.program_seconds, config.test_seconds, config.memory_mb, config.unconfined) as sandbox:
        yield coding_task(config, sandbox, expert)


def sandbox_for(program_seconds: float, test_seconds: float, memory_mb: int, unconfined: bool) -> Sandbox:
    """A sandbox with these limits and a worker for each core, for its user to close.

    Raises:
        EngineError: if the machine cannot confine what models write.
    """
    limits = Limits(program_seconds, test_seconds, cpu_seconds=math.ceil(program_seconds) + 1, memory_mb=memory_mb)
    return Sandbox(limits, workers=os.cpu_count() or 1, allow_unconfined=unconfined)


def coding_to_ask(config: Coding) -> CodingTask:
    """The task without data, sandbox and expert: enough to ask its agents, and not to judge them."""
    # Other feedback than none ends with the first round, and advice would need an expert.
    feedback: FeedbackMode = "plain" if config.feedback == "plain" else "passed"
    return CodingTask((), (), _NoTests(), replace(config, feedback=feedback))


class _NoTests:
    def run(self, program: Program, /) -> list[Verdict]:
        raise TaskError("a team that is asked runs no tests; play an example to have it judged")


def _without_solution(example: Example) -> Example:
    return replace(example, data={name: value for name, value in example.data.items() if name != SOLUTION})


def _programs(split: Split) -> Sequence[Example]:
    from madrigal.tasks.embedded import programs

    return programs.examples(split)


def _quote(turn: Turn, listener: AgentId) -> str:
    """A turn of this round as its listener reads it: cleaned code, or a comment that there is none."""
    speaker = "The helper" if turn.agent == HELPER else "The main agent"
    return f"\n\n{'You' if turn.agent == listener else speaker} wrote:\n{clean(turn.completion.text) or '# no code'}"


def _details(score: Score) -> dict[str, Any]:
    found = score.findings
    cooperation = {} if found.solo else {"schemes": sorted(found.schemes)}
    return {
        **cooperation,
        "verdicts": [{"test": t.test, "outcome": t.outcome, "message": t.message} for t in found.tests],
        "program": found.program,
        "syntax": found.fault.message if found.fault else "",
    }
