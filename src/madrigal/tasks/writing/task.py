"""The two writing tasks: two summaries of a post (tldr), two halves of an introduction (arxiv).

    R = r + faithfulness F + rouge1 R1 + rouge2 R2 + rouge_l RL        r: the paper's reward (`scores`), at most 3

The weights are 0 as they come. Content (`content`) is measured whatever they are, and the normalized return is always
r over 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Literal

from madrigal.rollouts.task import joint
from madrigal.rollouts.task.asking import ASKED
from madrigal.tasks.data import EMBEDDED, Source, load_examples
from madrigal.tasks.fields import text_among
from madrigal.tasks.templates import fill
from madrigal.tasks.writing.content import rouge, support
from madrigal.tasks.writing.prompts import ARXIV_AGENTS, TLDR_AGENTS, ArxivPrompts, TldrPrompts
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
from madrigal.tasks.writing.single import DELIMITER, WRITER, split_parts
from madrigal.tasks.writing.transitions import Matching, categories, read_phrases, substring_matching
from madrigal.types import AgentId, ConfigError, Example, Message, Messages, Split, Step, TaskError, Turn

_VARIANTS = {"early": ARXIV_EARLY, "later": ARXIV_LATER}
_REFERENCE = "reference"  # the field of Example.data with a given summary
_MOST_NAMED = 20  # unsupported words that a transcript names


@dataclass(frozen=True, slots=True)
class ContentWeights:
    """What content earns beside the paper's reward, which judges form alone; each from 0 to 1 before its weight.

    Attributes:
        faithfulness: weight of the share of content words that the source supports, mean of both texts.
        rouge1, rouge2, rouge_l: weights of the F1 of ROUGE-1, ROUGE-2 and ROUGE-L against a given summary.
    """

    faithfulness: float = 0.0
    rouge1: float = 0.0
    rouge2: float = 0.0
    rouge_l: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"weights.{name}: expected 0 or more, and finite, got {weight}")

    @property
    def total(self) -> float:
        return math.fsum(asdict(self).values())

    @property
    def reads_reference(self) -> bool:
        return self.total > self.faithfulness

    def earned(self, measured: Mapping[str, float]) -> float:
        """What measures from 0 to 1 earn; one without a weight may be missing."""
        return math.fsum(weight * measured[name] for name, weight in asdict(self).items() if weight)


@dataclass(frozen=True, slots=True)
class Tldr:
    """Summarize a Reddit post twice: agent "concise" in brief, agent "detailed" at length.

    The paper trains on `Source("trl-lib/tldr", train="train[:1000]", test="test[:1000]")`.

    Attributes:
        source: where the posts come from.
        column: the column of a post.
        agents: the two seats, or ("writer",) for the single-model baseline that writes both parts.
        prompts: what each agent is shown.
        reference: the column of a given summary, for ROUGE; "" where there is none.
        weights: what content earns beside the paper's reward.
        transitions: a JSON file of categories and their phrases, which are then found as the authors' code finds
            theirs, within words too; "" for our own lists, of whole words.
    """

    source: Source = field(default_factory=Source)
    column: str = "prompt"
    agents: tuple[AgentId, ...] = TLDR_AGENTS
    prompts: TldrPrompts = field(default_factory=TldrPrompts)
    reference: str = ""
    weights: ContentWeights = ContentWeights()
    transitions: str = ""


@dataclass(frozen=True, slots=True)
class Arxiv:
    """Expand an abstract into an introduction: agent "background" and agent "method" write one half each.

    Attributes:
        source: where the abstracts come from.
        column: the column of an abstract.
        variant: thresholds of the authors' early code (length ratio best at 1.0-1.3) or of their later
            (1.3-1.6).
        agents: the two seats, or ("writer",) for the single-model baseline that writes both parts.
        prompts: what each agent is shown.
        reference: the column of a given introduction, for ROUGE; "" where there is none.
        weights: what content earns beside the paper's reward.
        transitions: a JSON file of categories and their phrases, which are then found as the authors' code finds
            theirs, within words too; "" for our own lists, of whole words.
    """

    source: Source = field(default_factory=Source)
    column: str = "abstract_text"
    variant: Literal["early", "later"] = "early"
    agents: tuple[AgentId, ...] = ARXIV_AGENTS
    prompts: ArxivPrompts = field(default_factory=ArxivPrompts)
    reference: str = ""
    weights: ContentWeights = ContentWeights()
    transitions: str = ""


@dataclass(frozen=True, slots=True)
class WritingTask:
    """Two texts, one joint reward, one round; the state is the example itself.

    An example: Example("train-0", {"post": "My dog ate my homework ..."}).

    Attributes:
        entry: the field of Example.data that is shown.
        column: where that field comes from when the source is a file or a hub data set.
        corpus: the embedded examples.
        prompts: what each agent is shown; `entry` is their placeholder.
        thresholds: the numbers of the reward.
        cut: words of the second part over the first, where a single writer forgot the delimiter.
        reference: the column of a given text; "" where there is none.
        weights: what content earns.
        transitions: finds categories of transitions in a text.
    """

    name: str
    agents: tuple[AgentId, ...]
    source: Source
    entry: str
    column: str
    corpus: Callable[[Split], Sequence[Example]]
    prompts: TldrPrompts | ArxivPrompts
    thresholds: Thresholds
    cut: float
    reference: str
    weights: ContentWeights
    transitions: Matching
    horizon: int = 1

    @property
    def best_return(self) -> float:
        return BEST + self.weights.total

    def examples(self, split: Split) -> Sequence[Example]:
        columns = {self.entry: self.column, **({_REFERENCE: self.reference} if self.reference else {})}
        return load_examples(self.source, split, columns, self.corpus, texts=True)

    def reset(self, example: Example) -> Example:
        return example

    def ask(self, data: str | Mapping[str, Any]) -> Example:
        return Example(ASKED, {self.entry: text_among(data, self.column, self.entry)})

    def acting(self, state: Example) -> tuple[AgentId, ...]:
        return self.agents

    def observe(self, state: Example, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        shown = fill(getattr(self.prompts, agent), **{self.entry: str(state.data[self.entry])})
        return (Message("user", shown + "".join(_quote(turn, agent) for turn in heard)),)

    def step(self, state: Example, actions: Mapping[AgentId, str]) -> Step[Example]:
        first, second = self.parts(actions)
        result = score(first, second, self.thresholds, self.transitions)
        content, unsupported = self._content(state.data, first, second)
        shares = {name: value for name, value in content.items() if "/" not in name}
        words = {f"words/{agent}": float(len(actions[agent].split())) for agent in self.agents}
        percents = result.percents()
        return Step(
            state,
            joint(self.agents, result.total + self.weights.earned(shares)),
            ending="horizon",
            metrics=percents
            | (self._delimited(actions, percents["return_percent"]) if len(self.agents) == 1 else {})
            | {name: 100 * value for name, value in content.items()}
            | {"level": float(result.passed_level)}
            | words,
            details={
                "length_ratio": length_ratio(first, second),
                "unique_ratio": unique_ratio(first, second),
                **({"shut_gate": result.shut_gate} if result.shut_gate else {}),
                **({"unsupported": unsupported[:_MOST_NAMED]} if unsupported else {}),
            },
        )

    def _content(self, data: Mapping[str, Any], first: str, second: str) -> tuple[dict[str, float], list[str]]:
        """Measures of content from 0 to 1, for each agent too where there are two; and the words without support.

        Two summaries are held against the given one each, two halves of a text as one. What is scored by file may have
        no source.
        """
        content, unsupported = dict[str, float](), list[str]()
        if source := _text(data, self.entry, self.column):
            found = [support(text, source) for text in (first, second)]
            content["faithfulness"] = fmean(each.share for each in found)
            if len(self.agents) == len(found):
                content |= {f"faithfulness/{a}": each.share for a, each in zip(self.agents, found, strict=True)}
            unsupported = list(dict.fromkeys(word for each in found for word in each.unsupported))
        if self.reference and (reference := _text(data, _REFERENCE, self.reference)):
            texts = (f"{first}\n{second}",) if self.thresholds.transitions_of_both else (first, second)
            rows = [rouge(text, reference) for text in texts]
            content |= {name: fmean(row[name] for row in rows) for name in rows[0]}
        return content, unsupported

    def _delimited(self, actions: Mapping[AgentId, str], return_percent: float) -> dict[str, float]:
        """Whether a single writer kept the delimiter, and its return where an answer without it is worth nothing."""
        kept = DELIMITER in actions[self.agents[0]]
        return {"delimiter": 100.0 * kept, "delimited_return": return_percent * kept}

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
        prompts=config.prompts,
        thresholds=TLDR,
        cut=2.5,
        **_measures(config),
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
        prompts=config.prompts,
        thresholds=_VARIANTS[config.variant],
        cut=1.15,
        **_measures(config),
    )


def _measures(config: Tldr | Arxiv) -> dict[str, Any]:
    """What both tasks measure by: the column of a given text, weights of content, and transitions."""
    if config.weights.reads_reference and not config.reference:
        raise ConfigError("weights: ROUGE needs a given text in the data; name its column as reference, or leave it 0")
    if config.reference and config.source.data == EMBEDDED:
        raise ConfigError(
            f"reference: the embedded data has no column {config.reference!r}; name a file or a hub name as source.data"
        )
    given = substring_matching(read_phrases(config.transitions)) if config.transitions else categories
    return {"reference": config.reference, "weights": config.weights, "transitions": given}


def _text(data: Mapping[str, Any], *names: str) -> str:
    """The first text of these names; "" where there is none."""
    return next((data[name] for name in names if isinstance(data.get(name), str) and data[name].strip()), "")


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
