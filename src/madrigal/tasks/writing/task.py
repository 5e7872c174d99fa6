"""The two writing tasks: two summaries of a post (tldr), two halves of an introduction (arxiv)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from madrigal.rollouts.task import joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.data import Source, load_examples
from madrigal.tasks.fields import text_among
from madrigal.tasks.writing.prompts import ARXIV_AGENTS, TLDR_AGENTS, arxiv_prompt, tldr_prompt
from madrigal.tasks.writing.scores import (
    ARXIV_EARLY,
    ARXIV_LATER,
    BEST,
    TLDR,
    Thresholds,
    length_ratio,
    score,
    unique_ratio,
)
from madrigal.tasks.writing.single import WRITER, split_parts
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, TaskError, Turn

_VARIANTS = {"early": ARXIV_EARLY, "later": ARXIV_LATER}


@dataclass(frozen=True, slots=True)
class Tldr:
    """Summarize a Reddit post twice: agent "concise" in brief, agent "detailed" at length.

    The paper trains on `Source("trl-lib/tldr", train="train[:1000]", test="test[:1000]")`.

    Attributes:
        source: where the posts come from.
        column: the column of a post; the data set's own summaries are not used.
        agents: the two seats, or ("writer",) for the single-model baseline that writes both parts.
    """

    source: Source = field(default_factory=Source)
    column: str = "prompt"
    agents: tuple[AgentId, ...] = TLDR_AGENTS


@dataclass(frozen=True, slots=True)
class Arxiv:
    """Expand an abstract into an introduction: agent "background" and agent "method" write one half each.

    Attributes:
        source: where the abstracts come from.
        column: the column of an abstract.
        variant: thresholds of the authors' early code (length ratio best at 1.0-1.3) or of their later
            (1.3-1.6).
        agents: the two seats, or ("writer",) for the single-model baseline that writes both parts.
    """

    source: Source = field(default_factory=Source)
    column: str = "abstract_text"
    variant: Literal["early", "later"] = "early"
    agents: tuple[AgentId, ...] = ARXIV_AGENTS


@dataclass(frozen=True, slots=True)
class WritingTask:
    """Two texts, one joint reward of at most 3.0, one round; the state is the example itself.

    An example: Example("train-0", {"post": "My dog ate my homework ..."}).

    Attributes:
        entry: the field of Example.data that is shown.
        column: where that field comes from when the source is a file or a hub data set.
        corpus: the embedded examples.
        prompt: what an agent is told about the text.
        thresholds: the numbers of the reward.
        cut: words of the second part over the first, where a single writer forgot the delimiter.
    """

    name: str
    agents: tuple[AgentId, ...]
    source: Source
    entry: str
    column: str
    corpus: Callable[[Split], Sequence[Example]]
    prompt: Callable[[AgentId, str], str]
    thresholds: Thresholds
    cut: float
    horizon: int = 1
    best_return: float = BEST

    def examples(self, split: Split) -> Sequence[Example]:
        return load_examples(self.source, split, {self.entry: self.column}, self.corpus, texts=True)

    def reset(self, example: Example) -> Example:
        return example

    def ask(self, data: str | Mapping[str, Any]) -> Example:
        return Example(ASKED, {self.entry: text_among(data, self.column, self.entry)})

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        shown = self.prompt(agent, str(state.data[self.entry]))
        return (Message("user", shown + "".join(_quote(turn, agent) for turn in heard)),)

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        first, second = self.parts(actions)
        result = score(first, second, self.thresholds)
        words = {f"words/{agent}": float(len(actions[agent].split())) for agent in self.agents}
        return Step(
            state,
            joint(self.agents, result.total),
            ending="horizon",
            metrics=result.percents() | {"level": float(result.passed_level)} | words,
            details={
                "length_ratio": length_ratio(first, second),
                "unique_ratio": unique_ratio(first, second),
                **({"shut_gate": result.shut_gate} if result.shut_gate else {}),
            },
        )

    def parts(self, actions: Mapping[AgentId, str]) -> tuple[str, str]:
        """The two texts that are scored: one of each agent, or both of a single writer."""
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise TaskError(f"task {self.name}: expected an answer of {', '.join(missing)}, got {sorted(actions)}")
        if len(self.agents) == 1:
            return split_parts(actions[self.agents[0]], self.cut)
        first, second = (actions[agent] for agent in self.agents)
        return first, second


def tldr_task(config: Tldr = Tldr()) -> WritingTask:
    """The task of summarizing posts (arXiv:2508.04652, TLDR)."""
    _check_agents(config.agents, TLDR_AGENTS)
    return WritingTask(
        name="tldr",
        agents=config.agents,
        source=config.source,
        entry="post",
        column=config.column,
        corpus=_posts,
        prompt=tldr_prompt,
        thresholds=TLDR,
        cut=2.5,
    )


def arxiv_task(config: Arxiv = Arxiv()) -> WritingTask:
    """The task of expanding abstracts (arXiv:2508.04652, arXiv)."""
    _check_agents(config.agents, ARXIV_AGENTS)
    if config.variant not in _VARIANTS:
        raise ConfigError(f"expected the variant {' or '.join(_VARIANTS)}, got {config.variant!r}")
    return WritingTask(
        name="arxiv",
        agents=config.agents,
        source=config.source,
        entry="abstract",
        column=config.column,
        corpus=_papers,
        prompt=arxiv_prompt,
        thresholds=_VARIANTS[config.variant],
        cut=1.15,
    )


def _quote(turn: Turn, listener: AgentId) -> str:
    speaker = "You" if turn.agent == listener else f"The {turn.agent} writer"
    return f"\n\n{speaker} wrote: {turn.completion.text}"


def _check_agents(agents: tuple[AgentId, ...], pair: tuple[AgentId, ...]) -> None:
    if agents not in (pair, WRITER):
        raise ConfigError(f"expected the agents {pair}, or {WRITER} who writes both parts, got {agents}")


def _posts(split: Split) -> Sequence[Example]:
    from madrigal.tasks.embedded import posts

    return posts.examples(split)


def _papers(split: Split) -> Sequence[Example]:
    from madrigal.tasks.embedded import papers

    return papers.examples(split)
