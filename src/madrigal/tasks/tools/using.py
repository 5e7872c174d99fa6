"""Tools in a turn: a wrapper that lets an agent call, shows it the result, and asks it again before the task judges.

Each call is a turn of its own, whose reward comes with the answer that follows. What a tool says stands in the next
prompt, so that it is never among the tokens that are learned from: credit, token records and every algorithm are what
they are without tools. Agents that do not call have answered, and wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from madrigal.rollouts.task import Task, Wrapper, demonstrations_of
from madrigal.rollouts.task.asking import ask, unjudged
from madrigal.rollouts.task.protocol import Demonstrations
from madrigal.tasks.tools.calls import Call, Style, call_in, described, results_of, with_words
from madrigal.tasks.tools.tool import Result, Tool, called
from madrigal.types import AgentId, Completion, Example, Message, Messages, Split, Step, Turn

S = TypeVar("S")
LAST = "No call is left: answer now."


@dataclass(frozen=True, slots=True)
class Called:
    """One call: what the agent said, and what the tool said.

    Attributes:
        text: the agent's words.
        tool: the tool's name, "" where none could be made out.
        result: what came of it.
    """

    text: str
    tool: str
    result: Result


@dataclass(frozen=True, slots=True)
class Using(Generic[S]):
    """A state of the task, and what has happened since.

    Attributes:
        state: of the task itself.
        said: the answers of those who have given one in this round, in the order in which they came.
        calls: of this round, by agent.
        before: how many there were in earlier rounds, and how many of these failed.
    """

    state: S
    said: Mapping[AgentId, str] = field(default_factory=dict)
    calls: Mapping[AgentId, tuple[Called, ...]] = field(default_factory=dict)
    before: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ToolUsing(Wrapper, Generic[S]):
    """A task whose agents may call tools before they answer.

    Attributes:
        task: the task itself.
        tools: by name.
        calls: at most, of an agent in one round of the task.
        seconds: that one call may take.
        style: how a call is written.
        callers: who may call; () is everybody.
        order: who answers after whom and has heard it; () lets all answer at the same time.
    """

    task: Task[S]
    tools: Mapping[str, Tool]
    calls: int = 1
    seconds: float = 5.0
    style: Style = "line"
    callers: tuple[AgentId, ...] = ()
    order: tuple[AgentId, ...] = ()

    @property
    def horizon(self) -> int:
        turns = 1 + self.calls
        return self.task.horizon * (sum(turns if self._calls(a) else 1 for a in self.order) if self.order else turns)

    def _calls(self, agent: AgentId) -> bool:
        return not self.callers or agent in self.callers

    def examples(self, split: Split) -> Sequence[Example]:
        return self.task.examples(split)

    def reset(self, example: Example) -> Using[S]:
        return Using(self.task.reset(example))

    def demonstrations(self) -> Demonstrations:
        """Those in which tools are called, where the task has any."""
        give = getattr(self.task, "demonstrations_with_tools", None)
        return give() if give else demonstrations_of(self.task)

    def ask(self, data: str | Mapping[str, Any]) -> Using[S]:
        return Using(ask(self.task, data))

    def acting(self, state: Using[S]) -> tuple[AgentId, ...]:
        acting = self.task.acting(state.state)
        left = [agent for agent in self.order or acting if agent in acting and agent not in state.said]
        return tuple(left[:1] if self.order else left)

    def observe(self, state: Using[S], agent: AgentId, heard: Sequence[Turn]) -> Messages:
        before = [Turn(other, (), Completion(text)) for other, text in state.said.items()] if self.order else []
        shown = self.task.observe(state.state, agent, [*before, *heard])
        if not self._calls(agent):
            return shown
        calls = state.calls.get(agent, ())
        said = tuple(message for call in calls for message in self._exchange(call))
        if len(calls) == self.calls and said:
            said = (*said[:-1], replace(said[-1], content=f"{said[-1].content}\n{LAST}"))
        return (*with_words(shown, described(self.tools, self.style)), *said)

    def _exchange(self, call: Called) -> tuple[Message, Message]:
        words = f"error: {call.result.text}" if call.result.failed else call.result.text
        if self.style == "json":
            return Message("assistant", call.text), results_of([words])
        return Message("assistant", call.text), Message("user", f"{call.tool} says: {words}")

    def step(self, state: Using[S], actions: Mapping[AgentId, str]) -> Step[Using[S]]:
        return self._step(state, actions, self.task.step)

    def unjudged(self, state: Using[S], actions: Mapping[AgentId, str]) -> Step[Using[S]]:
        return self._step(state, actions, lambda inner, said: unjudged(self.task, inner, said))

    def _step(self, state: Using[S], actions: Mapping[AgentId, str], judge: Any) -> Step[Using[S]]:
        said, calls, told = dict(state.said), dict(state.calls), dict[str, Any]()
        for agent in self.acting(state):
            before, text = calls.get(agent, ()), actions[agent]
            call = call_in(text, self.tools, self.style) if self._calls(agent) and len(before) < self.calls else None
            if call is None:
                said[agent] = text
                continue
            result = self._result(call)
            calls[agent] = (*before, Called(text, call.name, result))
            told[agent] = {"tool": call.name, "result": result.text, "failed": result.failed}
        if any(agent not in said for agent in self.task.acting(state.state)):
            after = replace(state, said=said, calls=calls)
            return Step(after, dict.fromkeys(self.agents, 0.0), details={"calls": told})
        step = judge(state.state, said)
        made = [call for each in calls.values() for call in each]
        count = state.before[0] + len(made), state.before[1] + sum(call.result.failed for call in made)
        counts = {"tools/calls": float(count[0]), "tools/failed": float(count[1])}
        return replace(step, state=Using(step.state, before=count), metrics={**step.metrics, **counts})

    def _result(self, call: Call) -> Result:
        if call.mistake:
            return Result(call.mistake, failed=True)
        return called(self.tools[call.name], call.arguments, self.seconds)
