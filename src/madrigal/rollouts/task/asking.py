"""A team that is asked something new: a first state without a reference, and rounds that nobody judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from madrigal.rollouts.task.protocol import Task, Wrapper
from madrigal.types import AgentId, ConfigError, Example, Messages, Split, Step, Turn

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
Data = str | Mapping[str, Any] | Example
ASKED = "asked"  # the id of an example that no data set holds


@runtime_checkable
class Askable(Protocol[S_co]):
    """A task that makes a state of new data by itself; others are asked with the fields of an example."""

    def ask(self, data: str | Mapping[str, Any]) -> S_co:
        """The initial state of new data: a text, or the fields of an example without its reference."""
        ...


@runtime_checkable
class Unjudged(Protocol[S]):
    """A task of several rounds that goes on without judging what was answered; others stop after one round."""

    def unjudged(self, state: S, actions: Mapping[AgentId, str]) -> Step[S]:
        """The step of a joint action without its reward."""
        ...


def ask(task: Task[S], data: Data) -> S:
    """The initial state of new data: a text, the fields of an example, or one whose reference is not read.

    Raises:
        ConfigError: if the task cannot be asked, or not by such data.
    """
    if isinstance(data, Example):
        data = data.data
    if not isinstance(data, str | Mapping):
        raise ConfigError(f"expected a text, a mapping with fields or an Example, got {type(data).__name__}")
    if not data or (isinstance(data, str) and not data.strip()):
        raise ConfigError("expected something to answer, got nothing; give a text or the fields of an example")
    if isinstance(task, Askable):
        state: S = task.ask(data)
        return state
    if isinstance(data, str):
        data = {only_field(task.name, task.examples("train")): data}
    try:
        state = task.reset(Example(ASKED, dict(data)))
        for agent in task.acting(state):  # what is no good is found now, and not in the middle of an episode
            task.observe(state, agent, ())
        return state
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(
            f"task {task.name} cannot be asked by {', '.join(data)} ({type(error).__name__}: {error}); expected the "
            f"fields of an example, {fields_of(task.examples('train'))}"
        ) from error


def unjudged(task: Task[S], state: S, actions: Mapping[AgentId, str]) -> Step[S]:
    """The step of a joint action without its reward; the last one where the task cannot go on without judging."""
    if isinstance(task, Unjudged):
        step: Step[S] = task.unjudged(state, actions)
        return step
    return Step(state, dict.fromkeys(task.agents, 0.0), "horizon")


def only_field(name: str, examples: Sequence[Example]) -> str:
    """The field that a text stands for, where examples have only one.

    Raises:
        ConfigError: naming the fields.
    """
    fields = list(examples[0].data) if examples else []
    if len(fields) != 1:
        raise ConfigError(f"task {name}: expected a mapping with the fields {fields_of(examples)}, got a text")
    return str(fields[0])


def fields_of(examples: Sequence[Example]) -> str:
    """The names of an example's fields, for messages."""
    return ", ".join(examples[0].data) if examples else "of an example"


class PlayedAsItIs(Wrapper):
    """A wrapper that passes on play, too; what it changes, it says itself."""

    __slots__ = ()

    def examples(self, split: Split) -> Sequence[Example]:
        return self.task.examples(split)

    def reset(self, example: Example) -> Any:
        return self.task.reset(example)

    def ask(self, data: str | Mapping[str, Any]) -> Any:
        return ask(self.task, data)

    def unjudged(self, state: Any, actions: Mapping[AgentId, str]) -> Step[Any]:
        return unjudged(self.task, state, actions)

    def acting(self, state: Any) -> tuple[AgentId, ...]:
        return self.task.acting(state)

    def observe(self, state: Any, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        return self.task.observe(state, agent, heard)

    def step(self, state: Any, actions: Mapping[AgentId, str]) -> Step[Any]:
        return self.task.step(state, actions)
