"""The records that flow through Madrigal, and its errors.

Shape letters used by every signature of the library:

    N groups   K siblings of a group   B rows   T tokens   A agents   H rounds   V vocabulary
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

AgentId = str
Split = Literal["train", "validation", "test"]
S = TypeVar("S")


class MadrigalError(Exception):
    """The root of every error that a user can cause; its message says what was expected, what came, what to do."""


class ConfigError(MadrigalError):
    """A setting that cannot work, found before anything runs."""


class TaskError(MadrigalError):
    """A task that breaks its contract, or data that it cannot read."""


class RewardError(MadrigalError):
    """A reward that could not be computed; it is never replaced by a number."""


class EngineError(MadrigalError):
    """A model that could not be loaded or could not answer."""


class TrainingError(MadrigalError):
    """An update that must not be made: a loss that is not finite, a sampler with stale weights."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that does not exist, with the nearest that do."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return f"unknown {what} {name!r}: {hint}"


Role = Literal["system", "user", "assistant", "tool", "tools"]
# The names that roles have in OpenAI's interface.
ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a chat: what a model is shown.

    A "tool" has said its content. What "tools" may be called stands in theirs, a JSON list of functions as in OpenAI's
    interface; both are for programs that play sessions, whose agents call by themselves.
    """

    role: Role
    content: str


Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a data set: an instance that a task can start an episode from."""

    id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took, as the endpoint that gave it counts.

    Attributes:
        prompt_tokens, tokens: of what was asked and of what was answered; 0 where it does not say.
        cost: by the prices of the settings; 0 where the answer was kept from before.
        cached: whether it was.
    """

    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What one policy said.

    Attributes:
        text: the words, without the end token.
        prompt_ids: exactly what the model was given; the learner trains on these, never on re-rendered text.
        token_ids: [T] the sampled tokens, the end token included; empty for a policy that shows no tokens.
        logprobs: [T] in nats, under the distribution that was sampled (temperature, top-p, top-k).
        finish: "stop" where an end token closed the answer, or a single token is all of it that is asked for; "length"
            where the limit cut it.
        seconds: how long the answer took, from the request to its last token.
        version: the number of updates the weights had seen when they spoke.
        pieces: [T] what each token added to the text, for readers; joined they are the text. Empty where unknown.
        retries: how often a server was asked for it again.
        usage: what an endpoint says that it took; None of all others.
    """

    text: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Literal["stop", "length"] = "stop"
    seconds: float = 0.0
    version: int = 0
    pieces: tuple[str, ...] = ()
    retries: int = 0
    usage: Usage | None = None

    @property
    def tokens(self) -> int:
        """How many tokens it has: those that are shown, or as many as an endpoint counted; 0 where nobody knows."""
        return len(self.token_ids) or (self.usage.tokens if self.usage else 0)


@dataclass(frozen=True, slots=True)
class ValueRow:
    """What a critic is shown of a turn. Turns that it sees as one share a row.

    Attributes:
        critic: its name.
        place: of the row among those of this critic in the training step.
        prompt_ids: the history that the critic may see.
        token_ids: the answer before whose tokens it is asked; one placeholder where it is asked once per turn.
    """

    critic: str
    place: int
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TurnScores:
    """What critics, the reference policy and an encoder of text say of a turn; None where nobody was asked.

    Attributes:
        values: [T] a critic's estimate of the return before each token; [1] of a critic that reads the prompt only; ()
            for a turn from which no policy learns.
        ref_logprobs: [T] log-probs of the tokens in nats under the reference policy; () as for values.
        prompt_embedding: the prompt as a vector.
        answer_embedding: the answer, read without its prompt, as a vector.
        row: what the critic was shown.
    """

    values: tuple[float, ...] | None = None
    ref_logprobs: tuple[float, ...] | None = None
    prompt_embedding: tuple[float, ...] | None = None
    answer_embedding: tuple[float, ...] | None = None
    row: ValueRow | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One decision of one agent: its observation and its answer.

    Attributes:
        agent: who spoke.
        prompt: what it was shown.
        completion: what it said.
        round: the round of the episode, from 0.
        started: the second, on the round's own clock, at which it began to speak.
        after: how many turns of its round had been taken when it was asked; whoever is asked at the same time has the
            same number.
        weight: what the turn counts in the mean over its siblings: 1/G in any round of one of G chains, ended or not;
            in a tree, the chance of play to come to it.
        number: of its answer among all that were given in a training step, from 0; joint actions that are crossed
            share answers.
        scores: what was read of it for credit.
    """

    agent: AgentId
    prompt: Messages
    completion: Completion
    round: int = 0
    started: float = 0.0
    after: int = 0
    weight: float = field(default=1.0, compare=False)
    number: int = field(default=-1, compare=False)
    scores: TurnScores = field(default=TurnScores(), compare=False)


@dataclass(frozen=True, slots=True)
class Point(Generic[S]):
    """A place from which play can start, again and again, because states are values.

    Attributes:
        example: the id of the example that this episode plays.
        state: the task's state at the beginning of the round.
        history: the turns of the unfinished round, in order.
        round: the index of the round, from 0.
    """

    example: str
    state: S
    history: tuple[Turn, ...] = ()
    round: int = 0


Ending = Literal["", "solved", "agreed", "horizon", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What the task answers to one joint action.

    Attributes:
        state: the next state.
        rewards: one number per agent; the same number for all of them when the reward is joint.
        ending: "" while the episode goes on; else why it ended. "lost" where nobody knows what it came to: such an
            episode is left out of its group.
        metrics: measured parts of the reward, one number each, for logs and tables.
        details: anything else worth recording that JSON can hold (verdicts of single tests, say).
        counterfactual_rewards: by agent, the joint reward had it said nothing, where an algorithm asks for that.
    """

    state: S
    rewards: Mapping[AgentId, float]
    ending: Ending = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    counterfactual_rewards: Mapping[AgentId, float] = field(default_factory=dict)


def joint_reward(step: Step[Any]) -> float:
    """The reward of a joint action as one number: the mean over agents, which all get the same where it is joint."""
    return sum(step.rewards.values()) / len(step.rewards)


@dataclass(frozen=True, slots=True)
class Episode(Generic[S]):
    """A stretch of play: whole, or in a tree the stretch between two branching points.

    Attributes:
        start: the point where this stretch began.
        turns: every decision in it, in order.
        steps: the task's answer to each round that was closed in it, in order; () for a stretch in the middle of a
            round, as in a tree that parts at every decision.
        choice: [A] which of its siblings' answers each agent gave at the start, in the order of task.agents;
            (k, k) for aligned joint actions, any pair for crossed ones.
        then: in a tree, the group of stretches that go on from where this one ended.
    """

    start: Point[S]
    turns: tuple[Turn, ...]
    steps: tuple[Step[S], ...]
    choice: tuple[int, ...] = ()
    then: Group[S] | None = None


@dataclass(frozen=True, slots=True)
class Group(Generic[S]):
    """Episodes that part ways at one point: the unit in which credit is given.

    A group of GRPO parts at the start, a node of a MAGRPO tree at a round, a counterfactual set at one agent's turn
    with the teammates' words fixed.

    Attributes:
        origin: the point at which they part.
        episodes: [K] the siblings; [K ** A] where joint actions are crossed.
        agents: every agent of the task, in its order.
        greedy: one more episode in which everyone took the most likely words, where branching asks for it.
        solo: [K] where branching asks for it, beside each sibling an episode in which only the last speaker spoke.
    """

    origin: Point[S]
    episodes: tuple[Episode[S], ...]
    agents: tuple[AgentId, ...]
    greedy: Episode[S] | None = None
    solo: tuple[Episode[S], ...] = ()


def all_groups(groups: Sequence[Group[S]]) -> Iterator[Group[S]]:
    """Every group of a forest, parents first."""
    for group in groups:
        yield group
        yield from all_groups([episode.then for episode in group.episodes if episode.then is not None])


@dataclass(frozen=True, slots=True)
class Sample:
    """All that a learner needs of one turn.

    Attributes:
        turn: whose prompt_ids, token_ids and logprobs are learned from.
        advantage: what this answer was worth above its baseline, credited to each of its tokens.
        return_: the return that the advantage was computed from.
        weight: what the sample counts beside its turn's own weight.
        token_advantages: [T] where the tokens are credited one by one; `advantage` is their mean then.
        token_returns: [T] what a critic should have said before each token, where it is asked before each.
    """

    turn: Turn
    advantage: float
    return_: float
    weight: float = 1.0
    token_advantages: tuple[float, ...] = ()
    token_returns: tuple[float, ...] = ()

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.turn.completion.prompt_ids

    @property
    def token_ids(self) -> tuple[int, ...]:
        return self.turn.completion.token_ids
