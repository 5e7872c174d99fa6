"""The Task protocol: a Dec-POMDP over text. Who acts, what each agent observes, what a joint action is worth."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from madrigal.types import AgentId, Episode, Example, Messages, Point, Split, Step, Turn

S = TypeVar("S")


Rewards = Literal["joint", "own", "zero-sum"]
# Joint answers by the id of their example: of each agent one for each round that is shown.
Demonstrations = Mapping[str, Mapping[AgentId, Sequence[str]]]
Moves = Callable[[Point[Any]], Generator[Any, Any, Episode[Any]]]


class Task(Protocol[S]):
    """A cooperative game over text, as a decentralized POMDP: agents see prompts, answer, and share what follows.

    Every method is pure: the same arguments give the same answer, and nothing is remembered between calls, so that
    any episode can start again from any of its points. Services (a sandbox, an expert model) are given to the task
    when it is made.

    Attributes:
        name: how logs and tables call it.
        agents: the seats, in order.
        horizon: the largest number of rounds H.
        best_return: the highest joint reward that one round can earn; tables show returns in percent of it.
        rewards: may be left out; see `rewards_of`.
    """

    @property
    def name(self) -> str: ...
    @property
    def agents(self) -> tuple[AgentId, ...]: ...
    @property
    def horizon(self) -> int: ...
    @property
    def best_return(self) -> float: ...

    def examples(self, split: Split) -> Sequence[Example]:
        """The data set; no two splits share an example.

        "validation" may be (): where validation is asked for, it is then taken from the end of "train".
        """
        ...

    def reset(self, example: Example) -> S:
        """The initial state of an example."""
        ...

    def acting(self, state: S) -> tuple[AgentId, ...]:
        """Who acts in this state: everyone, or the player to move."""
        ...

    def observe(self, state: S, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        """What an agent is shown: its own history and what it heard from teammates in this round."""
        ...

    def step(self, state: S, actions: Mapping[AgentId, str]) -> Step[S]:
        """Transition and reward of one joint action."""
        ...


class Wrapper:
    """What every wrapper of a task passes on as it is; how the task is played, each wrapper says itself."""

    __slots__ = ()
    task: Task[Any]

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return tuple(self.task.agents)

    @property
    def horizon(self) -> int:
        return self.task.horizon

    @property
    def best_return(self) -> float:
        return self.task.best_return

    @property
    def rewards(self) -> Rewards:
        return rewards_of(self.task)

    def scripted(self, example: Example) -> Mapping[AgentId, str]:
        return scripted_in(self.task, example)

    def demonstrations(self) -> Demonstrations:
        return demonstrations_of(self.task)

    @property
    def answering(self) -> tuple[AgentId, ...]:
        return getattr(self.task, "answering", ())

    @property
    def moves(self) -> Moves | None:
        return moves_of(self.task)


def rewards_of(task: Task[Any]) -> Rewards:
    """What kind of rewards a task gives: the same for all agents, one of its own for each, or summing up to zero.

    A task says so in an attribute `rewards`; without one its reward is taken to be joint.
    """
    kind: Rewards = getattr(task, "rewards", "joint")
    return kind


def scripted_in(task: Task[Any], example: Example) -> Mapping[AgentId, str]:
    """Whom a task plays itself in an example, and how such a player is called: an opponent, say.

    A task says so in a method `scripted`; without one it plays nobody.
    """
    scripted: Callable[[Example], Mapping[AgentId, str]] | None = getattr(task, "scripted", None)
    return scripted(example) if scripted else {}


def demonstrations_of(task: Task[Any]) -> Demonstrations:
    """Joint answers to training examples that a task brings, for a warm start.

    A task gives them in a method `demonstrations`; without one it brings none.
    """
    give: Callable[[], Demonstrations] | None = getattr(task, "demonstrations", None)
    return give() if give else {}


def answering_in(task: Task[Any]) -> tuple[AgentId, ...]:
    """Whose words are what a team answers, in the order of the agents; the others work for them.

    A task says so in an attribute `answering`; without one, or with (), all agents answer.
    """
    given: Sequence[AgentId] = getattr(task, "answering", ())
    return tuple(agent for agent in task.agents if agent in given) or tuple(task.agents)


def moves_of(task: Task[Any]) -> Moves | None:
    """How an episode of a task goes from a point, where that is not round by round; None where it is.

    A task that somebody else plays (`rollouts.sessions`) says so in a method `moves`.
    """
    moves: Moves | None = getattr(task, "moves", None)
    return moves


def joint(agents: Sequence[AgentId], reward: float) -> dict[AgentId, float]:
    """Gives every agent the same reward: the cooperative case."""
    return dict.fromkeys(agents, reward)
