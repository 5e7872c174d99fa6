"""Whom to ask: specialists that know one subject each, and a coordinator who knows nothing but may learn who does.

In each round the coordinator names a specialist, who answers, or is done (topology `coordinated`, one turn a round).
The last answer counts, every answer costs. Nothing in a specialist's name says what it knows. Specialists are made by
the warm start and then kept as they are (docs/consulting.md), so that what the coordinator learns is who knows what;
its regret is what it loses against one who knows that (benchmarks/coordinator.py).

References:
    Dang et al., 2025, "Multi-Agent Collaboration via Evolving Orchestration", arXiv:2505.19591: one policy, trained by
    reinforcement learning, that names who acts next. The game is ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.consulting.knowledge import ANSWERS, SUBJECTS, examples
from madrigal.tasks.fields import text_among
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, Turn

COORDINATOR, SOLVER, DONE = "coordinator", "solver", "done"
SPECIALISTS = dict(zip(("ann", "ben", "cleo", "dan"), SUBJECTS, strict=True))


@dataclass(frozen=True, slots=True)
class Consult:
    """Four specialists and a coordinator.

    Attributes:
        rounds: the horizon; one specialist can be asked in each.
        cost: of every answer, in right answers.
        alone: one agent knows all subjects, and answers at once.
    """

    rounds: int = 2
    cost: float = 0.1
    alone: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 8:
            raise ConfigError(f"task.rounds: expected 1 to 8, got {self.rounds}")
        if not 0 <= self.cost < 1:
            raise ConfigError(f"task.cost: expected 0 to less than 1, a right answer, got {self.cost}")


@dataclass(frozen=True, slots=True)
class Consultation:
    """The state.

    Attributes:
        example: the question and its answer.
        answers: of specialists so far, as (who, what).
        round: rounds so far.
    """

    example: Example
    answers: tuple[tuple[AgentId, str], ...] = ()
    round: int = 0


@dataclass(frozen=True)
class ConsultTask:
    """The task of such settings; each answer costs at once, a right last answer earns 1 in the end."""

    config: Consult
    name: str = "consult"

    @property
    def best_return(self) -> float:
        return 1 - self.config.cost

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (SOLVER,) if self.config.alone else (COORDINATOR, *SPECIALISTS)

    @property
    def horizon(self) -> int:
        return 1 if self.config.alone else self.config.rounds

    def examples(self, split: Split) -> Sequence[Example]:
        return examples(split)

    def reset(self, example: Example) -> Consultation:
        return Consultation(example)

    def ask(self, data: str | Mapping[str, Any]) -> Consultation:
        """The state of a new question, which needs no answer."""
        return self.reset(Example(ASKED, {"question": text_among(data, "question")}))

    def acting(self, state: Consultation) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Consultation, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        lines = [state.example.data["question"]]
        if agent == COORDINATOR:
            lines += [f"{who} said: {answer}" for who, answer in state.answers]
            lines.append(f"Who is asked next? {', '.join(SPECIALISTS)} or {DONE}.")
        else:
            lines.append("Answer with one word.")
        return (Message("user", "\n".join(lines)),)

    def step(self, state: Consultation, actions: Mapping[AgentId, str]) -> Step[Consultation]:
        given = [(agent, text) for agent in self.agents if agent != COORDINATOR and (text := actions[agent].strip())]
        after = replace(state, answers=(*state.answers, *given), round=state.round + 1)
        ending: Ending = "" if given and after.round < self.horizon else "horizon"
        right = float(bool(ending and after.answers) and says(after.answers[-1][1], state.example.data["answer"]))
        reward = right - self.config.cost * len(given)
        return Step(after, joint(self.agents, reward), ending, self._metrics(after, right) if ending else {})

    def _metrics(self, state: Consultation, right: float) -> dict[str, float]:
        subject, asked = state.example.data.get("subject", ""), [who for who, _ in state.answers]
        expert = sum(SPECIALISTS.get(who) == subject for who in asked) / max(1, len(asked))
        worth = right - self.config.cost * len(asked)
        return {
            "return_percent": 100 * worth / self.best_return,
            "right": 100 * right,
            "calls": float(len(asked)),
            **({} if self.config.alone else {"expert": 100 * expert}),
        }

    def unjudged(self, state: Consultation, actions: Mapping[AgentId, str]) -> Step[Consultation]:
        """What follows where nobody knows the answer."""
        unknown = Example(state.example.id, {**state.example.data, "answer": ""})
        step = self.step(replace(state, example=unknown), actions)
        return replace(step, state=replace(step.state, example=state.example), metrics={})

    def demonstrations(self) -> Demonstrations:
        """Specialists who are right in their own subject and guess in others, called by chance.

        The coordinator shows how to call, and nothing about whom.
        """
        return {example.id: self._said(example) for example in self.examples("train")}

    def _said(self, example: Example) -> dict[AgentId, list[str]]:
        data, rng = example.data, random.Random(derive("consult", example.id))
        if self.config.alone:
            return {SOLVER: [data["answer"]]}
        said: dict[AgentId, list[str]] = {agent: [] for agent in self.agents}
        for _ in range(self.horizon):
            said[COORDINATOR].append(rng.choice((*SPECIALISTS, DONE)))
            for agent, subject in SPECIALISTS.items():
                guess = rng.choice(list(ANSWERS[data["subject"]].values()))
                said[agent].append(data["answer"] if subject == data["subject"] else guess)
        return said


def says(text: str, answer: str) -> bool:
    """Whether a text is an answer, in any case and with any mark after it.

    >>> says("Hive.", "hive"), says("hive or nest", "hive"), says("", "")
    (True, False, False)
    """
    return bool(answer) and text.strip().casefold().rstrip(".!") == answer
