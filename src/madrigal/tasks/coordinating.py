"""A seat for a coordinator in a task that has none: a wrapper, so that no task knows of coordination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from madrigal.rollouts.task import Task, Wrapper
from madrigal.rollouts.topology import Coordinated, Topology
from madrigal.types import AgentId, Example, Message, Messages, Split, Step, Turn, joint_reward

S = TypeVar("S")


@dataclass(frozen=True)
class Coordinating(Wrapper, Generic[S]):
    """A task with one agent more, which decides who speaks and whose words are no part of the joint action.

    The coordinator comes first, is shown the question, the names and what was said, and earns the joint reward (the
    mean where agents earn their own), so that any algorithm trains it. The others do not hear it: what it says is a
    call, and the task quotes only agents that it knows.

    Attributes:
        task: the task itself.
        coordinator: the name of the seat.
    """

    task: Task[S]
    coordinator: AgentId = "coordinator"

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (self.coordinator, *self.task.agents)

    def examples(self, split: Split) -> Sequence[Example]:
        return self.task.examples(split)

    def reset(self, example: Example) -> S:
        return self.task.reset(example)

    def acting(self, state: S) -> tuple[AgentId, ...]:
        return (self.coordinator, *self.task.acting(state))

    def observe(self, state: S, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        if agent == self.coordinator:
            return (Message("user", self._overview(state, heard)),)
        return self.task.observe(state, agent, [turn for turn in heard if turn.agent != self.coordinator])

    def step(self, state: S, actions: Mapping[AgentId, str]) -> Step[S]:
        step = self.task.step(state, {agent: text for agent, text in actions.items() if agent != self.coordinator})
        return replace(step, rewards={self.coordinator: joint_reward(step), **step.rewards})

    def _overview(self, state: S, heard: Sequence[Turn]) -> str:
        team = self.task.acting(state)
        shown = self.task.observe(state, team[0], ())
        lines = [f"You coordinate {', '.join(team)}. This is what {team[0]} sees:"]
        lines += [f"{team[0]} answered: {m.content}" if m.role == "assistant" else m.content for m in shown]
        lines += [f"{_name(turn, self.coordinator)} said: {turn.completion.text}" for turn in heard]
        lines += [f"Who speaks next? Answer with one name, or done: {', '.join(team)}."]
        return "\n\n".join(lines)


def coordinated(task: Task[S], topology: Topology) -> Task[S]:
    """The task, with a seat for the topology's coordinator where it needs one and the task has none."""
    if not isinstance(topology, Coordinated) or topology.coordinator in task.agents:
        return task
    return Coordinating(task, topology.coordinator)


def _name(turn: Turn, coordinator: AgentId) -> str:
    return "You" if turn.agent == coordinator else turn.agent
