"""Changed play: what was said, what is heard, who speaks; each change a wrapper, so that play itself knows of none.

| change | wraps | who is affected |
|---|---|---|
| `override_actions`, `reworded_actions` | one play | the task and every teammate get another message of one agent |
| `MessageAblation`, `ablated_judge` | the task and its judge | one agent hears other messages, the task the true ones |
| `by_agent` | speakers | each agent speaks through a speaker of its own |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from madrigal.rollouts.play import Generate, GenerationRequest, Judge, Play, SpeakRequest, StepRequest, judge_in_turn
from madrigal.rollouts.task import Task, Wrapper
from madrigal.types import AgentId, Completion, Example, Messages, Split, Step, Turn

S = TypeVar("S")

Retell = Callable[[str, int, AgentId], str | None]  # example, round, who spoke -> what is heard of it; None is nothing


def override_actions(moves: Play, agent: AgentId, text: Callable[[int], str]) -> Play:
    """A play in which one agent's messages are others, given by round; its own are asked for and dropped."""
    return reworded_actions(moves, agent, lambda round, said: text(round))


def reworded_actions(moves: Play, agent: AgentId, text: Callable[[int, str], str]) -> Play:
    """A play in which one agent's messages are others, made of the round and of what it said."""
    request = next(moves)
    while True:
        replies = yield request
        if isinstance(request, SpeakRequest):  # where the agent was not asked, nobody reads what is put in its place
            said = replies[agent].text if agent in replies else ""
            replies = {**replies, agent: Completion(text(request.round, said))}
        try:
            request = moves.send(replies)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class AblatedState(Generic[S]):
    """A state, and what the state would be if what the listener was told were true."""

    example: str
    state: S
    believed: S
    round: int = 0


@dataclass(frozen=True)
class MessageAblation(Wrapper, Generic[S]):
    """A task in which one agent hears other things than its teammates say, in this round and of earlier ones.

    The task is pure, so the listener can live in a state of its own, in which the others said what it was told; the
    rewards come from the true one. That state may have come to an end before the true one has: it must still be
    observable then, as in all tasks of the library.

    Attributes:
        task: the task itself.
        listener: the agent that is told other things.
        retell: what it is told.
    """

    task: Task[S]
    listener: AgentId
    retell: Retell

    def examples(self, split: Split) -> Sequence[Example]:
        return self.task.examples(split)

    def reset(self, example: Example) -> AblatedState[S]:
        state = self.task.reset(example)
        return AblatedState(example.id, state, state)

    def acting(self, state: AblatedState[S]) -> tuple[AgentId, ...]:
        return self.task.acting(state.state)

    def observe(self, state: AblatedState[S], agent: AgentId, heard: Sequence[Turn]) -> Messages:
        if agent != self.listener:
            return self.task.observe(state.state, agent, heard)
        retold = (self._retold(state, turn) for turn in heard)
        return self.task.observe(state.believed, agent, [turn for turn in retold if turn])

    def step(self, state: AblatedState[S], actions: Mapping[AgentId, str]) -> Step[AblatedState[S]]:
        return ablated_judge(self, judge_in_turn(self.task))([StepRequest(state, actions)])[0]

    def believed_step(self, request: StepRequest[AblatedState[S]]) -> StepRequest[S]:
        """The joint action as the listener was told of it, in the state that it believes in."""
        state = request.state
        texts = {
            agent: text if agent == self.listener else self.retell(state.example, state.round, agent) or ""
            for agent, text in request.actions.items()
        }
        return StepRequest(state.believed, texts)

    def _retold(self, state: AblatedState[S], turn: Turn) -> Turn | None:
        if turn.agent == self.listener:
            return turn
        text = self.retell(state.example, state.round, turn.agent)
        return None if text is None else replace(turn, completion=Completion(text))


def ablated_judge(task: MessageAblation[Any], judge: Judge) -> Judge:
    """The judge of such a task: asks the task's own for the true step, and for the state that the listener is in."""

    def judge_both(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        steps = list(judge([replace(request, state=request.state.state) for request in requests]))
        going = [place for place, step in enumerate(steps) if not step.ending]
        believed_steps = judge([task.believed_step(requests[place]) for place in going]) if going else ()
        believed = {place: step.state for place, step in zip(going, believed_steps, strict=True)}
        return [
            replace(step, state=AblatedState(was.example, step.state, believed.get(place, step.state), was.round + 1))
            for place, (step, was) in enumerate(zip(steps, (request.state for request in requests), strict=True))
        ]

    return judge_both


def by_agent(speakers: Mapping[AgentId, Generate]) -> Generate:
    """A speaker that hands every request to the speaker in that agent's seat, all of one speaker's in one call."""

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        completions: dict[int, Completion] = {}
        for speaker in dict.fromkeys(speakers[request.agent] for request in wanted):
            places = [place for place, request in enumerate(wanted) if speakers[request.agent] is speaker]
            completions |= zip(places, speaker([wanted[place] for place in places]), strict=True)
        return [completions[place] for place in range(len(wanted))]

    return speak
