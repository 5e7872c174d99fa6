"""Who speaks next within one round, and who hears what; pure data, no text.

Knows: the agents of a round and what was said so far in it.
Does not know: tasks, prompts, policies. Speech over several scored rounds is a task's horizon, not a topology.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from madrigal.types import AgentId, ConfigError, Turn


class Topology(Protocol):
    """The order of speech in one round and the reach of each voice."""

    def speakers(self, agents: Sequence[AgentId], said: Sequence[Turn]) -> tuple[AgentId, ...]:
        """Who speaks now, all at once; () closes the joint action."""
        ...

    def hears(self, agent: AgentId, said: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns of this round that an agent is shown before it speaks."""
        ...


@dataclass(frozen=True, slots=True)
class Parallel:
    """All agents speak once, at the same time, and hear nothing of each other: decentralised execution."""

    def speakers(self, agents: Sequence[AgentId], said: Sequence[Turn]) -> tuple[AgentId, ...]:
        return () if said else tuple(agents)

    def hears(self, agent: AgentId, said: Sequence[Turn]) -> tuple[Turn, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Sequential:
    """Agents speak one by one and hear all that was said before them.

    Attributes:
        order: agents in speaking order; empty means the task's own order.
    """

    order: tuple[AgentId, ...] = ()

    def speakers(self, agents: Sequence[AgentId], said: Sequence[Turn]) -> tuple[AgentId, ...]:
        spoken = {turn.agent for turn in said}
        waiting = [agent for agent in self.order or agents if agent in agents and agent not in spoken]
        return tuple(waiting[:1])

    def hears(self, agent: AgentId, said: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(said)


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

    def speakers(self, agents: Sequence[AgentId], said: Sequence[Turn]) -> tuple[AgentId, ...]:
        return tuple(agents) if len(said) < self.rounds * len(agents) else ()

    def hears(self, agent: AgentId, said: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(said)


TopologyConfig = Parallel | Sequential | Discussion

# Each as it comes, and what it is in one line.
TOPOLOGIES: dict[str, tuple[TopologyConfig, str]] = {
    "parallel": (Parallel(), "all agents speak at once and hear nothing of each other"),
    "sequential": (Sequential(), "agents speak one by one and hear what was said before"),
    "discussion": (Discussion(), "all agents speak, hear each other, and speak again; the last answers count"),
}
