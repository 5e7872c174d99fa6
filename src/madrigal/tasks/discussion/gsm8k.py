"""Word problems that several agents solve, once or in rounds of discussion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madrigal.rollouts.task import joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.data import Source, load_examples
from madrigal.tasks.discussion.answers import extract_answer, majority
from madrigal.tasks.discussion.prompts import question_prompt, quote
from madrigal.tasks.fields import text_among
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, TaskError, Turn

_AGAIN = "Compare the answers, then solve the question again. End with: The answer is N."


@dataclass(frozen=True, slots=True)
class Gsm8k:
    """Grade-school word problems (Cobbe et al., 2021, arXiv:2110.14168), or others with a number as answer.

    Attributes:
        source: where the questions come from; on the hub, "openai/gsm8k:main".
        agents: the seats, one or more.
        rounds: how often everybody answers; from the second round on, all previous answers are shown.
        question: the column of the question.
        answer: the column of the worked reference answer.
    """

    source: Source = field(default_factory=Source)
    agents: tuple[AgentId, ...] = ("first", "second")
    rounds: int = 1
    question: str = "question"
    answer: str = "answer"

    def __post_init__(self) -> None:
        if not self.agents or len(set(self.agents)) != len(self.agents):
            raise ConfigError(f"expected one or more agents with different names, got {self.agents}")
        if self.rounds < 1:
            raise ConfigError(f"expected at least 1 round, got {self.rounds}")


@dataclass(frozen=True, slots=True)
class Dialog:
    """The state: a problem, and what was answered in each round so far, in the order of the agents."""

    example: Example
    answers: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Gsm8kTask:
    """Every agent answers in every round; the joint reward of a round is the share of right answers.

    An example: Example("train-0", {"question": "Ada has 3 eggs and buys 4. How many now?", "answer": "7"}).

    The reward is ours: the mean keeps it joint, as in MAGRPO, and pays for every agent that is won over.
    MAPoRL (Park et al., 2025, arXiv:2502.18439) scores each agent by a learned verifier instead.
    """

    config: Gsm8k = Gsm8k()
    name: str = "gsm8k"
    best_return: float = 1.0

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    @property
    def horizon(self) -> int:
        return self.config.rounds

    def examples(self, split: Split) -> Sequence[Example]:
        columns = {"question": self.config.question, "answer": self.config.answer}
        return load_examples(self.config.source, split, columns, _arithmetic, texts=True)

    def reset(self, example: Example) -> Dialog:
        return Dialog(example)

    def ask(self, data: str | Mapping[str, Any]) -> Dialog:
        return Dialog(Example(ASKED, {"question": text_among(data, self.config.question, "question")}))

    def unjudged(self, state: Dialog, actions: Mapping[AgentId, str]) -> Step[Dialog]:
        after = Dialog(state.example, (*state.answers, tuple(actions[agent] for agent in self.agents)))
        return Step(after, joint(self.agents, 0.0), self._ending(after))

    def acting(self, state: Dialog) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Dialog, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        """The question; then for each earlier round the agent's own answer, and the answers of the others."""
        messages = [Message("user", question_prompt(str(state.example.data["question"])))]
        for answers in state.answers:
            others = dict(zip(self.agents, answers, strict=True))
            messages.append(Message("assistant", others.pop(agent)))
            quotes = [quote(other, text) for other, text in others.items()]
            messages.append(Message("user", "\n\n".join([*quotes, _AGAIN])))
        quotes = [quote("" if turn.agent == agent else turn.agent, turn.completion.text) for turn in heard]
        messages[-1] = Message("user", "\n\n".join([messages[-1].content, *quotes]))
        return tuple(messages)

    def step(self, state: Dialog, actions: Mapping[AgentId, str]) -> Step[Dialog]:
        reference = str(state.example.data["answer"])
        truth = extract_answer(reference)
        if truth is None:
            raise TaskError(f"example {state.example.id}: expected a reference answer with a number, got {reference!r}")
        answers = tuple(actions[agent] for agent in self.agents)
        results = [extract_answer(answer) for answer in answers]
        accuracy = results.count(truth) / len(results)
        after = Dialog(state.example, (*state.answers, answers))
        return Step(
            after,
            joint(self.agents, accuracy),
            ending=self._ending(after),
            metrics={
                "accuracy": 100 * accuracy,
                "majority_accuracy": 100.0 * (majority(results) == truth),
                "return_percent": 100 * accuracy,
            },
            details={"answers": results, "reference": truth},
        )

    def _ending(self, state: Dialog) -> Ending:
        return "horizon" if len(state.answers) >= self.horizon else ""


def gsm8k_task(config: Gsm8k = Gsm8k()) -> Gsm8kTask:
    """The task of answering word problems together."""
    return Gsm8kTask(config)


def _arithmetic(split: Split) -> Sequence[Example]:
    from madrigal.tasks.embedded import arithmetic

    return arithmetic.examples(split)
