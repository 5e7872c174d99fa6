"""Roles that mean nothing yet: a wrapper that puts a word before each agent's prompts, which nobody explains.

Agents of one shared policy that are shown the same text answer alike, as far as their draws let them. A word that
differs between them is all that such a policy needs to behave in several ways; which word comes to stand for what is
left to learning. With `deal` "all" every example is there once for each way to hand the words out, the first seat's
word being each in turn: then it is the word, and no seat, that decides, also where every seat has a policy of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from madrigal.rollouts.task import Task, Wrapper, demonstrations_of, scripted_in
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.settings import RolesConfig
from madrigal.types import AgentId, ConfigError, Example, Messages, Split, Step, Turn

S = TypeVar("S")
CAST = "cast"  # the field of an example's data that says how often roles are moved on by one seat
ROLES = "roles"  # in the details of a step: the role of each agent


@dataclass(frozen=True, slots=True)
class Cast(Generic[S]):
    """A state of the task itself, and the role of each agent, in the order of the agents."""

    state: S
    roles: tuple[str, ...]


@dataclass(frozen=True)
class RoleTokens(Wrapper, Generic[S]):
    """A task whose agents are shown a role before everything else.

    Attributes:
        task: the task itself.
        config: the roles, and how they are dealt.
    """

    task: Task[S]
    config: RolesConfig

    @property
    def ways(self) -> int:
        """In how many ways roles are dealt."""
        return len(self.config.names) if self.config.deal == "all" else 1

    def dealt(self, way: int) -> tuple[str, ...]:
        """The role of each agent, moved on by `way` seats."""
        names = self.config.names
        return tuple(names[(seat + way) % len(names)] for seat in range(len(self.task.agents)))

    def examples(self, split: Split) -> Sequence[Example]:
        own = self.task.examples(split)
        return [Example(_named(e.id, way), {**e.data, CAST: way}) for e in own for way in range(self.ways)]

    def demonstrations(self) -> Demonstrations:
        given = demonstrations_of(self.task)
        return {_named(name, way): answers for name, answers in given.items() for way in range(self.ways)}

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        return scripted_in(self.task, _own(example)[0])

    def reset(self, example: Example) -> Cast[S]:
        own, way = _own(example)
        return Cast(self.task.reset(own), self.dealt(way))

    def ask(self, data: str | Mapping[str, Any]) -> Cast[S]:
        return Cast(ask(self.task, data), self.dealt(0))

    def acting(self, state: Cast[S]) -> tuple[AgentId, ...]:
        return self.task.acting(state.state)

    def observe(self, state: Cast[S], agent: AgentId, heard: Sequence[Turn]) -> Messages:
        first, *others = self.task.observe(state.state, agent, heard)
        role = state.roles[self.agents.index(agent)]
        return (replace(first, content=f"{role}\n{first.content}"), *others)

    def step(self, state: Cast[S], actions: Mapping[AgentId, str]) -> Step[Cast[S]]:
        return self._cast(self.task.step(state.state, actions), state.roles)

    def unjudged(self, state: Cast[S], actions: Mapping[AgentId, str]) -> Step[Cast[S]]:
        return self._cast(unjudged(self.task, state.state, actions), state.roles)

    def _cast(self, step: Step[S], roles: tuple[str, ...]) -> Step[Any]:
        details = {**step.details, ROLES: dict(zip(self.agents, roles, strict=True))}
        cast: Step[Any] = step
        return replace(cast, state=Cast(step.state, roles), details=details)


def _named(name: str, way: int) -> str:
    """The id of an example with roles dealt one way; the way stands first, so that it still ends as the task's own."""
    return f"{way}/{name}"


def _own(example: Example) -> tuple[Example, int]:
    """The task's own example, and how roles are dealt in it; what has no word of that has them in the first way."""
    way = example.data.get(CAST, 0)
    data = {name: value for name, value in example.data.items() if name != CAST}
    return Example(example.id.removeprefix(_named("", way)), data), way


def in_roles(task: Task[S], config: RolesConfig) -> Task[Any]:
    """The task with roles, or as it is where there are none; needs no examples."""
    return RoleTokens(task, config) if config.names else task


def with_roles(task: Task[S], config: RolesConfig) -> Task[Any]:
    """The same, once it has been seen that the roles fit the task.

    Raises:
        ConfigError: if there are more roles than agents, or a role's word means something there.
    """
    if not config.names:
        return task
    agents, names = task.agents, config.names
    if len(names) > len(agents):
        raise ConfigError(
            f"roles.names: expected at most {len(agents)}, one for each agent of {task.name} ({', '.join(agents)}), "
            f"got {len(names)}: {', '.join(names)}"
        )
    for example in task.examples("train")[:1]:
        if CAST in example.data:
            raise ConfigError(f"roles.names: {task.name} has a field {CAST!r} of its own in its examples; rename it")
        state = task.reset(example)
        shown = " ".join(message.content for agent in task.acting(state) for message in task.observe(state, agent, ()))
        if met := [name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", shown)]:
            raise ConfigError(
                f"roles.names: {met[0]!r} stands in the prompts of {task.name} already; take a word that says nothing "
                "there"
            )
    return RoleTokens(task, config)
