"""Who speaks next within one round, and who hears what; pure functions of what was said so far.

Speech over several scored rounds is a task's horizon, not a topology.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from madrigal.types import AgentId, ConfigError, Turn


class Topology(Protocol):
    """The order of speech in one round and the reach of each voice.

    Both methods also serve a round in which only some of those who speak at once have spoken so far: they hear nothing
    of each other, so that it does not matter who is asked first. Play may then start again from inside a round.

    The joint action is the last words of each agent; whoever has not spoken when it closes has the action "".
    """

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        """Who speaks now, all at once; () closes the joint action."""
        ...

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns of this round that an agent is shown before it speaks, in order.

        It begins when the last of them has ended.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parallel:
    """All agents speak once, at the same time, and hear nothing of each other: decentralized execution."""

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        spoken = {turn.agent for turn in history}
        return tuple(agent for agent in agents if agent not in spoken)

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Sequential:
    """Agents speak one by one and hear all that was said before them.

    Attributes:
        order: agents in speaking order; empty means the task's own order.
    """

    order: tuple[AgentId, ...] = ()

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        spoken = {turn.agent for turn in history}
        waiting = [agent for agent in self.order or agents if agent in agents and agent not in spoken]
        return tuple(waiting[:1])

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(history)


@dataclass(frozen=True, slots=True)
class Discussion:
    """All agents speak `rounds` times in one round of the task, at once, and hear what was said in earlier passes.

    Only the last pass is the joint action; the others are talk. A debate in which every pass is scored is a task with
    several rounds instead.

    Attributes:
        rounds: passes; 2 is the one-round discussion of arXiv:2508.04652, whose second round is scored.
    """

    rounds: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"topology.rounds: expected at least 1 pass, got {self.rounds}")

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        passes = Counter(turn.agent for turn in history)
        present = min((passes[agent] for agent in agents), default=self.rounds)
        return tuple(agent for agent in agents if passes[agent] == present) if present < self.rounds else ()

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        present = sum(turn.agent == agent for turn in history)
        return tuple(turn for turn, number in _numbered(history) if number < present)


@dataclass(frozen=True, slots=True)
class Asynchronous:
    """Nobody waits: whoever is free first speaks next, and hears what had ended when it began.

    The clock is logical. Every agent is free at second 0, and again when its own last turn has ended; how long a turn
    takes is measured (`Completion.seconds`). Of what happens in one second exactly, turns that come earlier in their
    speakers' own counts come first: agents that have spoken equally often begin together and do not hear each other.
    Where no time is measured, this is `Discussion`.

    Since measured times decide who hears what, a run cannot be repeated word for word as under other topologies.

    Attributes:
        turns: of each agent in a round, at most; 0 sets no limit.
        budget: turns of all agents in a round, at most; a fast agent then has more of them than a slow one. 0 sets no
            limit; otherwise at least one for each agent, since all begin at once.
    """

    turns: int = 2
    budget: int = 0

    def __post_init__(self) -> None:
        if self.turns < 0 or self.budget < 0 or not (self.turns or self.budget):
            raise ConfigError(
                "topology.turns and topology.budget: expected 0 (no limit) or more, and a limit in one of them, got "
                f"{self.turns} and {self.budget}"
            )

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        left = self.budget - len(history) if self.budget else len(agents)
        free = {agent: _free(agent, history) for agent in agents}
        waiting = {agent: at for agent, at in free.items() if not self.turns or at[1] < self.turns}
        first = min(waiting.values(), default=None)
        return tuple(agent for agent, at in waiting.items() if at == first)[: max(0, left)]

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        begins = _free(agent, history)
        return tuple(turn for turn, ended in _ended(history) if ended < begins)


@dataclass(frozen=True, slots=True)
class Coordinated:
    """One agent decides who speaks next: before each turn of another it is asked, and the name that it says is called.

    The coordinator is an agent like any other, with a policy that learns from the reward of the team. Everybody hears
    all that was said. The last name in its words is called, whole and in any case; the word "stop" or "done" after
    that closes the joint action, before all have spoken or even any has. Words without either call who has spoken
    least often so far, the first in the task's order. It cannot call itself. In a round in which it does not act, or
    acts alone, speech is sequential.

    Attributes:
        coordinator: who decides; a task without this agent is given a seat for it (`tasks.coordinating`).
        turns: of all others in a round, at most; the coordinator is not asked again after the last.
    """

    coordinator: AgentId = "coordinator"
    turns: int = 4

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ConfigError(f"topology.turns: expected at least 1 turn to give, got {self.turns}")

    def speakers(self, agents: Sequence[AgentId], history: Sequence[Turn]) -> tuple[AgentId, ...]:
        others = [agent for agent in agents if agent != self.coordinator]
        if len(others) in (0, len(agents)):
            return Sequential().speakers(agents, history)
        spoken = Counter(turn.agent for turn in history if turn.agent != self.coordinator)
        if spoken.total() >= self.turns:
            return ()
        if not history or history[-1].agent != self.coordinator:
            return (self.coordinator,)
        called = last_word(history[-1].completion.text, [*others, *CLOSING])
        if called in others:
            return (called,)
        return () if called else (min(others, key=lambda agent: spoken[agent]),)

    def hears(self, agent: AgentId, history: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(history)


CLOSING = ("stop", "done")


def last_word(text: str, words: Sequence[str]) -> str:
    """The last of some words in a text, whole and in any case; "" where none is in it.

    >>> last_word("Ann was brief, so Bob!", ["ann", "bob"]), last_word("Annabel", ["ann"])
    ('bob', '')
    """
    # Of words that differ in their case only, the first is meant: an agent called Done is called.
    known = {word.casefold(): word for word in reversed(words)}
    found = [word for word in re.findall(r"\w+", text.casefold()) if word in known]
    return known[found[-1]] if found else ""


Moment = tuple[float, int]  # the second, and the speaker's earlier turns, which order what happens in one second


def _free(agent: AgentId, history: Sequence[Turn]) -> Moment:
    """When an agent can begin its next turn."""
    return max(((at, number + 1) for turn, (at, number) in _ended(history) if turn.agent == agent), default=(0.0, 0))


def _ended(history: Sequence[Turn]) -> Iterator[tuple[Turn, Moment]]:
    """Each turn and when it ended: agents do not wait, so that each one's clock is the sum of its own seconds."""
    clock = defaultdict[AgentId, float](float)
    for turn, number in _numbered(history):
        clock[turn.agent] += turn.completion.seconds
        yield turn, (clock[turn.agent], number)


def _numbered(history: Iterable[Turn]) -> Iterator[tuple[Turn, int]]:
    """Each turn of a round with the number of earlier turns of its speaker."""
    earlier = Counter[AgentId]()
    for turn in history:
        yield turn, earlier[turn.agent]
        earlier[turn.agent] += 1


TopologyConfig = Parallel | Sequential | Discussion | Asynchronous | Coordinated

# Each as it comes, and what it is in one line.
TOPOLOGIES: dict[str, tuple[TopologyConfig, str]] = {
    "parallel": (Parallel(), "all agents speak at once and hear nothing of each other"),
    "sequential": (Sequential(), "agents speak one by one and hear what was said before"),
    "discussion": (Discussion(), "all agents speak, hear each other, and speak again; the last answers count"),
    "asynchronous": (Asynchronous(), "nobody waits: whoever is free first speaks, hearing what had ended by then"),
    "coordinated": (Coordinated(), "a coordinator, trained like the others, decides who speaks next and when to stop"),
}
