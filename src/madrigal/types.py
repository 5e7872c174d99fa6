"""The records that flow through Madrigal, and its errors.

Knows: what was said, by whom, from which point of which episode, and what it earned.
Does not know: models, tensors, tasks, how anything was sampled or will be learned from.

Shape letters used by every signature of the library:

    N groups   K siblings of a group   B rows   T tokens   A agents   H rounds   V vocabulary
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

AgentId = str
Split = Literal["train", "test"]
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


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a chat: what a model is shown."""

    role: Literal["system", "user", "assistant"]
    content: str


Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a data set: an instance that a task can start an episode from."""

    id: str
    data: Mapping[str, Any]


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
    """

    text: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Literal["stop", "length"] = "stop"
    seconds: float = 0.0
    version: int = 0
    pieces: tuple[str, ...] = ()


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
    """

    agent: AgentId
    prompt: Messages
    completion: Completion
    round: int = 0
    started: float = 0.0
    after: int = 0
    weight: float = field(default=1.0, compare=False)


@dataclass(frozen=True, slots=True)
class Point(Generic[S]):
    """A place from which play can start, again and again, because states are values.

    Attributes:
        example: the id of the example that this episode plays.
        state: the task's state at the beginning of the round.
        said: the turns of the unfinished round, in order.
        round: the index of the round, from 0.
    """

    example: str
    state: S
    said: tuple[Turn, ...] = ()
    round: int = 0


Ending = Literal["", "solved", "agreed", "horizon", "failed"]


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What the task answers to one joint action.

    Attributes:
        state: the next state.
        rewards: one number per agent; the same number for all of them when the reward is joint.
        ending: "" while the episode goes on; else why it ended.
        metrics: measured parts of the reward, one number each, for logs and tables.
        details: anything else worth recording that JSON can hold (verdicts of single tests, say).
        without: by agent, the joint reward had it said nothing, where an algorithm asks for that (`without`).
    """

    state: S
    rewards: Mapping[AgentId, float]
    ending: Ending = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[AgentId, float] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What critics, the reference policy and an encoder of text say of one turn.

    Attributes:
        values: [T] a critic's estimate of the return before each token; [1] of a critic that reads the prompt only.
        reference: [T] log-probs of the tokens in nats under the reference policy.
        shown: an embedding of the prompt, where credit asks for it.
        said: an embedding of the words, read without the prompt.
    """

    values: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
    shown: tuple[float, ...] = ()
    said: tuple[float, ...] = ()


class Readings:
    """The readings of the turns of one step; a turn that nobody read has an empty one.

    Turns are told apart by what they are, not by what was said: two episodes may hold equal words in other company.
    """

    def __init__(self, read: Iterable[tuple[Turn, Reading]] = ()) -> None:
        # The turn is kept beside its reading, so that no other object can take its identity.
        self._read = {id(turn): (turn, reading) for turn, reading in read}

    def __getitem__(self, turn: Turn) -> Reading:
        return self._read[id(turn)][1] if id(turn) in self._read else Reading()


@dataclass(frozen=True, slots=True)
class Sample:
    """All that a learner needs of one turn.

    Attributes:
        turn: whose prompt_ids, token_ids and logprobs are learned from.
        advantage: what this answer was worth above its baseline, credited to each of its tokens.
        ret: the return that the advantage was computed from.
        weight: what the sample counts beside its turn's own weight.
        token_advantages: [T] where the tokens are credited one by one; `advantage` is their mean then.
        token_returns: [T] what a critic should have said before each token, where it is asked before each.
    """

    turn: Turn
    advantage: float
    ret: float
    weight: float = 1.0
    token_advantages: tuple[float, ...] = ()
    token_returns: tuple[float, ...] = ()
