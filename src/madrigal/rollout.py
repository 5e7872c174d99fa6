"""Play: from examples to groups of episodes.

Knows: tasks and topologies, and how experience branches. Does not know: models. `play` does no I/O: it yields what it
wants said or judged and is sent the replies, so that local models, remote ones and tests by hand all fit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Generic, TypeVar

from madrigal.branching import Branching
from madrigal.seeds import derive
from madrigal.task import Task, check_step
from madrigal.topology import Topology
from madrigal.types import (
    AgentId,
    Completion,
    ConfigError,
    Episode,
    Group,
    Messages,
    Point,
    Step,
    Turn,
    joint_reward,
)

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Speak:
    """A request: these agents, these prompts, all at once, after `said` turns of this round."""

    prompts: Mapping[AgentId, Messages]
    round: int
    said: int


@dataclass(frozen=True, slots=True)
class Judge(Generic[S]):
    """A request: what does the task say to this joint action?"""

    state: S
    actions: Mapping[AgentId, str]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One answer wanted from one agent, with the seed that its sampling starts from, or its most likely words."""

    agent: AgentId
    prompt: Messages
    seed: int
    greedy: bool = False
    round: int = 0


Play = Generator[Speak | Judge[Any], Any, Episode[Any]]
Speaker = Callable[[Sequence[Utterance]], Sequence[Completion]]
Judger = Callable[[Sequence[Judge[Any]]], Sequence[Step[Any]]]


def play(task: Task[S], topology: Topology, start: Point[S], rounds: int | None = None) -> Play:
    """Plays one episode from a point, as a generator that does no I/O.

    Yields `Speak` and expects a completion per agent, yields `Judge` and expects the task's step.

    Args:
        rounds: stop after so many rounds; None plays to the end.
    """
    state, said, index = start.state, start.said, start.round
    turns: list[Turn] = []
    steps: list[Step[S]] = []
    while rounds is None or len(steps) < rounds:
        acting = task.acting(state)
        while speakers := topology.speakers(acting, said):
            heard = {agent: topology.hears(agent, said) for agent in speakers}
            prompts = {agent: task.observe(state, agent, heard[agent]) for agent in speakers}
            replies: Mapping[AgentId, Completion] = yield Speak(prompts, index, len(said))
            spoken = tuple(
                Turn(agent, prompts[agent], replies[agent], index, _clock(heard[agent])) for agent in speakers
            )
            said, turns = said + spoken, [*turns, *spoken]
        step: Step[S] = yield Judge(state, {turn.agent: turn.completion.text for turn in said})
        check_step(task, step)
        steps.append(step)
        state, said, index = step.state, (), index + 1
        if step.ending:
            break
    return Episode(start, tuple(turns), tuple(steps))


def _clock(heard: Sequence[Turn]) -> float:
    """An agent begins when the last of those it listens to has finished."""
    return max((turn.started + turn.completion.seconds for turn in heard), default=0.0)


@dataclass(frozen=True, slots=True)
class Game:
    """A play under way.

    Attributes:
        key: what its seeds derive from.
        first: replies already at hand for its first request (crossed joint actions).
        greedy: everyone takes the most likely words.
    """

    moves: Play
    key: tuple[object, ...]
    first: Mapping[AgentId, Completion] | None = None
    greedy: bool = False


def drive(games: Sequence[Game], speak: Speaker, judge: Judger) -> list[Episode[Any]]:
    """Advances all games in lock-step: one call to `speak` and one to `judge` per tick, for all of them together."""
    done: dict[int, Episode[Any]] = {}
    asked: dict[int, Speak | Judge[Any]] = {}

    def send(index: int, reply: object) -> None:
        try:
            asked[index] = games[index].moves.send(reply)
        except StopIteration as stop:
            asked.pop(index, None)
            done[index] = stop.value

    for index, game in enumerate(games):
        send(index, None)
        if game.first is not None:
            send(index, game.first)
    while asked:
        judging = [(i, request) for i, request in asked.items() if isinstance(request, Judge)]
        if judging:
            for (i, _), step in zip(judging, judge([request for _, request in judging]), strict=True):
                send(i, step)
        speaking = [(i, request) for i, request in asked.items() if isinstance(request, Speak)]
        wanted = [u for i, request in speaking for u in _utterances(request, games[i].key, greedy=games[i].greedy)]
        replies = iter(speak(wanted) if wanted else ())
        for i, request in speaking:
            send(i, {agent: next(replies) for agent in request.prompts})
    return [done[index] for index in range(len(games))]


def _utterances(request: Speak, key: tuple[object, ...], *, greedy: bool = False) -> list[Utterance]:
    return [
        Utterance(agent, prompt, derive(*key, request.round, request.said, agent), greedy, request.round)
        for agent, prompt in request.prompts.items()
    ]


@dataclass(frozen=True, slots=True)
class _World(Generic[S]):
    """All that stays the same while a forest grows."""

    task: Task[S]
    topology: Topology
    branching: Branching
    speak: Speaker
    judge: Judger


def branch(
    task: Task[S],
    topology: Topology,
    origins: Sequence[Point[S]],
    branching: Branching,
    speak: Speaker,
    judge: Judger,
    key: tuple[object, ...] = (),
) -> list[Group[S]]:
    """Plays one group of episodes from each origin, all groups in lock-step.

    Args:
        key: what the seeds derive from, besides the origin's place and example and the branch.

    Raises:
        ConfigError: if joint actions are to be crossed where agents do not speak all at once.
    """
    keys = [(*key, place, origin.example) for place, origin in enumerate(origins)]
    if branching.stop_above is not None:
        judge = stopping(judge, branching.stop_above)
    return _branch(_World(task, topology, branching, speak, judge), origins, keys)


def _branch(world: _World[S], origins: Sequence[Point[S]], keys: Sequence[tuple[object, ...]]) -> list[Group[S]]:
    task, branching = world.task, world.branching
    rounds = 1 if branching.at == "round" else None
    seats = len(task.agents)
    if branching.crossed:
        choices = list(product(range(branching.width), repeat=seats))
        answers = _answers(world, origins, keys)
    else:
        choices, answers = [(k,) * seats for k in range(branching.width)], []
    branches = [(n, choice) for n in range(len(origins)) for choice in choices]
    games = [
        Game(
            play(task, world.topology, origins[n], rounds),
            (*keys[n], *choice),
            {a: answers[n][a][k] for a, k in zip(task.agents, choice, strict=True)} if answers else None,
        )
        for n, choice in branches
    ]
    episodes = [
        replace(episode, choice=choice)
        for (_, choice), episode in zip(branches, drive(games, world.speak, world.judge), strict=True)
    ]
    if branching.at == "round":
        episodes = _grow(world, episodes, [game.key for game in games])
    width = len(choices)
    greedy = _greedy(world, origins, keys) if branching.greedy else [None] * len(origins)
    return [
        Group(origin, tuple(episodes[n * width : (n + 1) * width]), task.agents, greedy[n])
        for n, origin in enumerate(origins)
    ]


def _greedy(world: _World[S], origins: Sequence[Point[S]], keys: Sequence[tuple[object, ...]]) -> list[Episode[S]]:
    """From each origin one episode to the end in which everyone takes the most likely words."""
    games = [
        Game(play(world.task, world.topology, origin), (*key, "greedy"), greedy=True)
        for origin, key in zip(origins, keys, strict=True)
    ]
    return drive(games, world.speak, world.judge)


def _grow(world: _World[S], episodes: list[Episode[S]], keys: Sequence[tuple[object, ...]]) -> list[Episode[S]]:
    """Hangs a group of children under every stretch that has not ended."""
    going = [i for i, episode in enumerate(episodes) if not episode.steps[-1].ending]
    if not going:
        return episodes
    origins = [
        Point(episodes[i].start.example, episodes[i].steps[-1].state, round=episodes[i].start.round + 1) for i in going
    ]
    groups = _branch(world, origins, [keys[i] for i in going])
    children = dict(zip(going, groups, strict=True))
    return [replace(episode, then=children.get(i)) for i, episode in enumerate(episodes)]


def _answers(
    world: _World[S], origins: Sequence[Point[S]], keys: Sequence[tuple[object, ...]]
) -> list[dict[AgentId, list[Completion]]]:
    """The K answers of every agent to its first prompt at each origin, before they are crossed."""
    task, width = world.task, world.branching.width
    wanted: list[Utterance] = []
    for origin, key in zip(origins, keys, strict=True):
        request = next(play(task, world.topology, origin))
        if not isinstance(request, Speak) or set(request.prompts) != set(task.agents):
            raise ConfigError(
                "branching: crossed joint actions need all agents to speak at once; use the parallel topology or "
                "aligned joint actions"
            )
        for k in range(width):
            wanted += _utterances(request, (*key, "crossed", k))
    replies = iter(world.speak(wanted))
    answers: list[dict[AgentId, list[Completion]]] = []
    for _ in origins:
        mine: dict[AgentId, list[Completion]] = {agent: [] for agent in task.agents}
        for _ in range(width):
            for agent in task.agents:
                mine[agent].append(next(replies))
        answers.append(mine)
    return answers


def stopping(judge: Judger, threshold: float) -> Judger:
    """A judger that ends an episode as solved once the joint reward of a round exceeds a threshold."""

    def judge_and_stop(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
        return [
            replace(step, ending="solved") if not step.ending and joint_reward(step) > threshold else step
            for step in judge(requests)
        ]

    return judge_and_stop


def judge_in_threads(task: Task[Any], pool: ThreadPoolExecutor) -> Judger:
    """Steps of one tick run together in a pool, so that slow ones (unit tests, a remote expert) overlap."""

    def judge(requests: Sequence[Judge[Any]]) -> list[Step[Any]]:
        return list(pool.map(lambda request: task.step(request.state, request.actions), requests))

    return judge
