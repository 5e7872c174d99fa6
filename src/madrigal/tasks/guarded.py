"""A wrapper around a user's own task: whatever it raises becomes one line that says where."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from madrigal.rollouts.task import Task, Wrapper, check_step, explain
from madrigal.rollouts.task.asking import ASKED, ask, unjudged
from madrigal.rollouts.task.contract import answers_given, oddity
from madrigal.types import AgentId, Example, MadrigalError, Message, Messages, Split, Step, TaskError, Turn


@dataclass(frozen=True, slots=True)
class _State:
    """A state of a guarded task, and the example that it belongs to."""

    example: str
    state: Any


@dataclass(frozen=True, slots=True, eq=False)
class Guarded(Wrapper):
    """A user's own task, whose failures come as one line that says where: a wrapper, so that play knows none of it.

    The first step whose rewards contradict what the task declares of them is told by a warning.

    Attributes:
        task: the task that answers.
        warned: what was warned of so far, at most once.
    """

    task: Task[Any]
    warned: list[str] = field(default_factory=list)

    def examples(self, split: Split) -> Sequence[Example]:
        with self._guard(f"examples({split!r})"):
            try:
                return self.task.examples(split)
            except KeyError as error:
                if split == "validation" and error.args == (split,):  # a table of two splits
                    return ()
                raise

    def reset(self, example: Example) -> _State:
        with self._guard("reset", example.id):
            return _State(example.id, self.task.reset(example))

    def ask(self, data: str | Mapping[str, Any]) -> _State:
        with self._guard("ask", ASKED):
            return _State(ASKED, ask(self.task, data))

    def unjudged(self, state: _State, actions: Mapping[AgentId, str]) -> Step[_State]:
        with self._guard("unjudged", state.example, actions):
            step = unjudged(self.task, state.state, actions)
            return replace(step, state=_State(state.example, step.state))

    def acting(self, state: _State) -> tuple[AgentId, ...]:
        with self._guard("acting", state.example):
            return tuple(self.task.acting(state.state))

    def observe(self, state: _State, agent: AgentId, heard: Sequence[Turn]) -> Messages:
        with self._guard(f"observe, for {agent},", state.example):
            messages = tuple(self.task.observe(state.state, agent, heard))
            if not all(isinstance(m, Message) and isinstance(m.content, str) for m in messages):
                raise TypeError(f"expected a tuple of Message with texts, got {messages!r:.80}")
            for message in messages:
                message.content.encode()  # half a character (a lone surrogate) is no text for any tokenizer
            return messages

    def step(self, state: _State, actions: Mapping[AgentId, str]) -> Step[_State]:
        with self._guard("step", state.example, actions):
            step = self.task.step(state.state, actions)
            if not isinstance(step, Step) or not isinstance(step.rewards, Mapping):
                raise TypeError(f"expected a Step with rewards by agent, got {step!r:.80}")
            step = check_step(self, step)
            self._warn(oddity(self, step))
            return replace(step, state=_State(state.example, step.state))

    def _warn(self, complaint: str) -> None:
        if complaint and not self.warned:
            self.warned.append(complaint)
            warnings.warn(complaint, stacklevel=3)

    @contextmanager
    def _guard(self, method: str, example: str = "", actions: Mapping[AgentId, str] | None = None) -> Iterator[None]:
        try:
            yield
        except MadrigalError:
            raise
        except (Exception, SystemExit) as error:  # nobody may end a run without a word
            place = f" on example {example}" if example else ""
            answers = answers_given(actions) if actions else ""
            raise TaskError(f"task {self.name}: {method} raised {explain(error)}{place}{answers}") from error
