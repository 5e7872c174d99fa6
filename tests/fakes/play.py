"""Play without models: a task that writes down what is said, voices that say their seeds, and turns made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.rollouts.branching import Branching
from madrigal.rollouts.play import GenerationRequest
from madrigal.rollouts.play import judge_in_turn as judge_of
from madrigal.rollouts.topology import Parallel, Topology
from madrigal.rollouts.tree import rollout_groups
from madrigal.types import Completion, Episode, Group, Message, Point, Sample, Step, Turn

AGENTS = ("ann", "bob")
State = tuple[str, ...]
Pay = float | tuple[float, ...]  # what a round pays all agents, or each of them


@dataclass(frozen=True)
class Rounds:
    """What many small tasks have in common: all act in every round, and the state is how many rounds there were."""

    agents: tuple[str, ...] = AGENTS
    horizon: int = 2
    name: str = "rounds"

    def acting(self, state: Any) -> tuple[str, ...]:
        return self.agents

    def observe(self, state: Any, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", f"{agent} {state} {len(heard)}"),)


@dataclass(frozen=True)
class Diary(Rounds):
    """A task whose state is everything said; it ends at the horizon, or when somebody says "stop"."""

    def observe(self, state: State, agent: str, heard: Sequence[Turn]) -> tuple[Message, ...]:
        return (Message("user", f"{agent}:{len(state)}:" + ",".join(turn.completion.text for turn in heard)),)

    def step(self, state: State, actions: Mapping[str, str]) -> Step[State]:
        after = (*state, "+".join(actions.values()))
        over = len(after) == self.horizon or "stop" in actions.values()
        reward = float(sum(map(ord, after[-1])) % 11)
        return Step(after, dict.fromkeys(self.agents, reward), "horizon" if over else "")


class Voice:
    """Says the last digits of its seed, or what a script says of it, and remembers every call."""

    def __init__(self, script: Mapping[str, str] | None = None) -> None:
        self.calls: list[list[GenerationRequest]] = []
        self.script = dict(script or {})

    def __call__(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        self.calls.append(list(wanted))
        return [Completion(self.script.get(one.agent, str(one.seed % 10000))) for one in wanted]


def grow(
    task: Any,
    branching: Branching,
    topology: Topology = Parallel(),  # noqa: B008
    origins: int = 1,
    *,
    start: Any = (),
    speak: Any = None,
    judge: Any = None,
) -> tuple[list[Group[Any]], Any]:
    """Groups from some origins, and the voice that was heard in them."""
    voice, points = speak or Voice(), [Point(f"x{n}", start) for n in range(origins)]
    return rollout_groups(task, topology, points, branching, voice, judge or judge_of(task), (7,)), voice


# By hand


def turn(agent: str, text: str = "x", round: int = 0, *, tokens: int = 1, **more: Any) -> Turn:
    """Tokens of log-prob -0.5."""
    said = Completion(text, (1,), tuple(range(2, 2 + tokens)), (-0.5,) * tokens)
    return Turn(agent, (Message("user", "?"),), said, round, **more)


def stretch(
    name: str,
    *pay: Pay,
    agents: Sequence[str] = AGENTS,
    silent: Sequence[str] = (),
    start: int = 0,
    choice: int | tuple[int, ...] = 0,
    then: Group[str] | None = None,
) -> Episode[str]:
    """Rounds in which each agent says "<agent> <name>.<round>", but for those words in `silent`."""
    words = [(agent, f"{agent} {name}.{index}", index) for index in range(start, start + len(pay)) for agent in agents]
    turns = tuple(turn(agent, text, index) for agent, text, index in words if text not in silent)
    paid = [one if isinstance(one, tuple) else (one,) * len(agents) for one in pay]
    steps = tuple(Step("", dict(zip(agents, each, strict=True))) for each in paid)
    chosen = choice if isinstance(choice, tuple) else (choice,) * len(agents)
    return Episode(Point("x", "", round=start), turns, steps, chosen, then)


def siblings(*episodes: Episode[Any], agents: Sequence[str] = AGENTS, start: int = 0, **more: Any) -> Group[Any]:
    return Group(Point("x", "", round=start), episodes, tuple(agents), **more)


def chains(
    *rows: Sequence[Pay], agents: Sequence[str] = AGENTS, start: int = 0, silent: Sequence[str] = ()
) -> Group[Any]:
    """Siblings "0", "1", ... of some rounds."""
    episodes = [
        stretch(str(k), *row, agents=agents, silent=silent, start=start, choice=k) for k, row in enumerate(rows)
    ]
    return siblings(*episodes, agents=agents, start=start)


def by_text(stages: Sequence[Sequence[Sample]]) -> dict[str, Sample]:
    """What was credited, by what was said; nothing twice."""
    samples = [sample for stage in stages for sample in stage]
    found = {sample.turn.completion.text: sample for sample in samples}
    assert len(found) == len(samples), "an answer was credited twice"
    return found
