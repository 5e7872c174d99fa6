"""A debate: agents answer a question alone, read each other, and answer again; every answer of every round is scored.

An example: Example("arithmetic/test/0", {"question": "Tom has 12 apples. ... How many are there now?",
"answer": "12+5=17. 17*2=34.\\n#### 34"}).

References:
    Park et al., 2025, "MAPoRL", section 3.1, arXiv:2502.18439: T rounds, round one independent, later rounds see the
    question and the answers of all agents in earlier rounds; outcome by majority. Its code plays 2 agents and 3 rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, Literal

from madrigal.rollouts.task import Rewards, joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.data import EMBEDDED, Source, load_examples
from madrigal.tasks.discussion import domains
from madrigal.tasks.discussion.answers import majority, outcome, result_of
from madrigal.tasks.discussion.metrics import discussion_metrics, flaw_of
from madrigal.tasks.discussion.prompts import question_prompt, quote, rebuttal, score_words
from madrigal.tasks.discussion.verifier import Question, Verifier, exact, verified
from madrigal.tasks.discussion.verifier.config import VerifierConfig
from madrigal.tasks.discussion.verifier.service import open_verifier
from madrigal.tasks.fields import text_among
from madrigal.types import AgentId, ConfigError, Ending, Example, Message, Messages, Split, Step, TaskError, Turn


@dataclass(frozen=True, slots=True)
class Debate:
    """Agents who answer a question in rounds, each answer scored for itself.

    Attributes:
        source: where the questions come from; on the hub, "openai/gsm8k:main".
        domain: which embedded questions: "groups" and "amounts" share none, to test one on what was learned on the
            other; "all" of the corpus.
        calculations: how many an embedded question takes, 2 or 3; 0 for both.
        agents: the seats, one or more.
        rounds: T, how often everybody answers.
        shows: what later rounds show of earlier ones. "all" is one message with the question and everybody's answers,
            the reader's own among them (the paper's words); "others" is a chat in which the reader's own answers are
            its turns and the others' are quoted (the public code).
        recall: how many earlier rounds are shown, the latest ones; 0 shows all.
        score_feedback: show each quoted answer with its score, as a figure and in words.
        consensus: a debate ends when more than this share of the agents give the same result, and its mean score
            exceeds `consensus_score`; None plays all rounds, as in the paper's shipped settings.
        consensus_score: see there; the public code has 0.7.
        least_words: a shorter answer has the flaw "short". The code counts 50 tokens; ours is for short answers.
        choices: what an answer may name, where it is not a number; ("entailment", "neutral", "contradiction"), say. A
            reference answer may then be the place of the choice, from 0.
        question, answer: the columns of the question and of the (worked) reference answer.
        context: a column that is put before the question; "" for none.
        verifier: who scores the answers.
    """

    source: Source = field(default_factory=Source)
    domain: domains.Domain = "all"
    calculations: int = 0
    agents: tuple[AgentId, ...] = ("first", "second")
    rounds: int = 3
    shows: Literal["all", "others"] = "all"
    recall: int = 0
    score_feedback: bool = False
    consensus: float | None = None
    consensus_score: float = 0.7
    least_words: int = 4
    choices: tuple[str, ...] = ()
    question: str = "question"
    answer: str = "answer"
    context: str = ""
    verifier: VerifierConfig = field(default_factory=VerifierConfig)

    def __post_init__(self) -> None:
        if not self.agents or len(set(self.agents)) != len(self.agents):
            raise ConfigError(f"task.agents: expected one or more agents with different names, got {self.agents}")
        if self.rounds < 1:
            raise ConfigError(f"task.rounds: expected at least 1 round, got {self.rounds}")
        if self.recall < 0 or self.least_words < 0:
            raise ConfigError("task.recall and task.least_words: expected 0 or more")
        if self.consensus is not None and not 0 <= self.consensus < 1:
            raise ConfigError(
                f"task.consensus: expected None, or a share below 1 that has to be exceeded, got {self.consensus}"
            )
        if self.calculations not in domains.CALCULATIONS:
            raise ConfigError(f"task.calculations: expected 2 or 3, or 0 for both, got {self.calculations}")
        if (self.domain, self.calculations) != ("all", 0) and self.source.data != EMBEDDED:
            raise ConfigError(
                "task.domain and task.calculations choose among the embedded questions; leave them at all and 0 for "
                f"{self.source.data}"
            )


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round: answers, what they came to and their scores, in the order of the agents."""

    answers: tuple[str, ...]
    results: tuple[str | None, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DebateState:
    """A question and the rounds played on it."""

    example: Example
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True)
class DebateTask:
    """Every agent answers in every round; the reward of an answer is its own score.

    The normalized return is the majority's outcome in the last round, a tie counting its share. Details of a step say
    for every agent whether its answer was `right` by the reference, and what `flaws` its form has.

    Attributes:
        verifier: scores answers; by default it compares results with the reference answer's.
    """

    config: Debate = Debate()
    verifier: Verifier = exact
    name: str = "debate"
    best_return: float = 1.0
    rewards: Rewards = "own"

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return self.config.agents

    @property
    def horizon(self) -> int:
        return self.config.rounds

    def examples(self, split: Split) -> Sequence[Example]:
        columns = {"question": self.config.question, "answer": self.config.answer}
        if self.config.context:
            columns["context"] = self.config.context
        embedded = partial(domains.examples, self.config.domain, self.config.calculations)
        return load_examples(self.config.source, split, columns, embedded, texts=True)

    def reset(self, example: Example) -> DebateState:
        return DebateState(example)

    def ask(self, data: str | Mapping[str, Any]) -> DebateState:
        if self.config.context and isinstance(data, str):
            raise ConfigError(
                f"task {self.name}: expected a mapping with {self.config.context} and question, got a text"
            )
        question = text_among(data, self.config.question, "question")
        context = {"context": text_among(data, self.config.context, "context")} if self.config.context else {}
        return DebateState(Example(ASKED, {"question": question, "answer": "", **context}))

    def unjudged(self, state: DebateState, actions: Mapping[AgentId, str]) -> Step[DebateState]:
        if self.config.score_feedback and self.horizon > 1:
            raise ConfigError(
                f"task {self.name}: its agents are shown scores, which need a reference answer; only a debate without "
                "task.score_feedback can be asked anything new"
            )
        answers, results = self._answers(actions)
        after = DebateState(state.example, (*state.rounds, Round(answers, results, (0.0,) * len(answers))))
        return Step(after, joint(self.agents, 0.0), "horizon" if len(after.rounds) >= self.horizon else "")

    def acting(self, state: DebateState) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: DebateState, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        question = question_prompt(question_of(state.example, self.config).text, self.config.choices)
        show = self._chat if self.config.shows == "others" else self._page
        *before, last = show(question, state.rounds[-self.config.recall :], agent)
        quotes = [quote("" if turn.agent == agent else turn.agent, turn.completion.text) for turn in heard]
        return (*before, Message("user", "\n\n".join([last.content, *quotes])))

    def _page(self, question: str, rounds: Sequence[Round], agent: AgentId) -> Messages:
        """One message: the question, and every answer of the rounds shown."""
        if not rounds:
            return (Message("user", question),)
        quotes = [line for finished in rounds for line in self._quotes(finished, agent, own=True)]
        return (Message("user", "\n\n".join([question, rebuttal(quotes, self.config.choices)])),)

    def _chat(self, question: str, rounds: Sequence[Round], agent: AgentId) -> Messages:
        """A chat: the agent's own answers are its turns, those of the others are told to it."""
        messages, seat = [Message("user", question)], self.agents.index(agent)
        for finished in rounds:
            score = [f"({score_words(finished.scores[seat], 'your')})"] if self.config.score_feedback else []
            others = rebuttal([*score, *self._quotes(finished, agent, own=False)], self.config.choices)
            messages += [Message("assistant", finished.answers[seat]), Message("user", others)]
        return tuple(messages)

    def _quotes(self, finished: Round, reader: AgentId, *, own: bool) -> list[str]:
        """The answers of a round as one agent reads them, with its own or without."""
        return [
            quote("" if speaker == reader else speaker, answer, score if self.config.score_feedback else None)
            for speaker, answer, score in zip(self.agents, finished.answers, finished.scores, strict=True)
            if own or speaker != reader
        ]

    def _answers(self, actions: Mapping[AgentId, str]) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
        """Answers and their results, in the order of the agents."""
        answers = tuple(actions[agent] for agent in self.agents)
        return answers, tuple(result_of(answer, self.config.choices) for answer in answers)

    def step(self, state: DebateState, actions: Mapping[AgentId, str]) -> Step[DebateState]:
        question = question_of(state.example, self.config)
        truth = result_of(question.reference, question.choices)
        if truth is None:
            kind = f"one of {', '.join(question.choices)}" if question.choices else "a number"
            raise TaskError(
                f"example {state.example.id}: expected a reference answer with {kind}, got {question.reference!r:.80}"
            )
        answers, results = self._answers(actions)
        scores = verified(self.verifier, question, answers)
        after = DebateState(state.example, (*state.rounds, Round(answers, results, scores)))
        flaws = [flaw_of(a, r, self.config.least_words) for a, r in zip(answers, results, strict=True)]
        right = [result == truth for result in results]
        served = self.config.verifier.kind in ("learned", "http")
        return Step(
            after,
            dict(zip(self.agents, scores, strict=True)),
            ending=self._ending(after),
            metrics={
                "accuracy": 100 * fmean(right),
                "majority_accuracy": 100 * outcome(results, truth),
                "return_percent": 100 * outcome(results, truth),
                "score": 100 * fmean(scores),
                "flawed": 100 * fmean(flaw != "" for flaw in flaws),
                **({"verifier_failed_tries": float(scores.failed_tries)} if served else {}),
                **discussion_metrics([finished.results for finished in after.rounds], truth, self.horizon),
            },
            details={
                "answers": list(results),
                "reference": truth,
                "right": dict(zip(self.agents, right, strict=True)),
                "flaws": dict(zip(self.agents, flaws, strict=True)),
            },
        )

    def _ending(self, state: DebateState) -> Ending:
        if self._agreed(state.rounds[-1]):
            return "agreed"
        return "horizon" if len(state.rounds) >= self.horizon else ""

    def _agreed(self, finished: Round) -> bool:
        """Whether enough agents give one result, and the verifier thinks well of it."""
        if self.config.consensus is None:
            return False
        common = majority(finished.results)
        scores = [score for result, score in zip(finished.results, finished.scores, strict=True) if result == common]
        enough = common is not None and len(scores) > self.config.consensus * len(finished.results)
        return enough and fmean(scores) > self.config.consensus_score


def question_of(example: Example, config: Debate) -> Question:
    """What an example asks, its reference answer in words."""
    reference = str(example.data["answer"])
    if config.choices and reference.isdecimal() and int(reference) < len(config.choices):
        reference = config.choices[int(reference)]
    parts = [str(example.data[name]) for name in ("context", "question") if name in example.data]
    return Question("\n\n".join(parts), reference, config.choices)


@contextmanager
def open_debate(config: Debate) -> Iterator[DebateTask]:
    """Opens the verifier and yields the task that it serves.

    Raises:
        ConfigError, EngineError: if there is no such verifier.
    """
    with open_verifier(config.verifier) as verifier:
        yield DebateTask(config, verifier)
