"""Play: from examples to groups of episodes.

Knows: tasks and topologies, and how experience branches. Does not know: models. `play` does no I/O: it yields what it
wants said or judged and is sent the replies, so that local models, remote ones and tests by hand all fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Generic, TypeVar

from madrigal.branching import Branching, Follow
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
    """A request: what does the task say to this joint action?

    Attributes:
        turns: all that was said in the round, for judgers that measure it (see `tradeoff`); tasks see actions only.
    """

    state: S
    actions: Mapping[AgentId, str]
    turns: tuple[Turn, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One answer wanted from one agent, with the seed that its sampling starts from, or its most likely words."""

    agent: AgentId
    prompt: Messages
    seed: int
    greedy: bool = False
    round: int = 0


_Key = tuple[object, ...]
Play = Generator[Speak | Judge[Any], Any, Episode[Any]]
Speaker = Callable[[Sequence[Utterance]], Sequence[Completion]]
Judger = Callable[[Sequence[Judge[Any]]], Sequence[Step[Any]]]


def play(
    task: Task[S], topology: Topology, start: Point[S], rounds: int | None = None, silent: Collection[AgentId] = ()
) -> Play:
    """Plays one episode from a point, as a generator that does no I/O.

    Yields `Speak` and expects a completion per agent, yields `Judge` and expects the task's step.

    Args:
        rounds: stop after so many rounds; None plays to the end.
        silent: agents that are not asked; nobody hears them, and their action is "".
    """
    here, turns, steps = start, list[Turn](), list[Step[S]]()
    while rounds is None or len(steps) < rounds:
        acting = task.acting(here.state)
        speaking = [agent for agent in acting if agent not in silent]
        while speakers := topology.speakers(speaking, here.said):
            spoken = yield from _speak(task, topology, here, speakers)
            here, turns = replace(here, said=here.said + spoken), [*turns, *spoken]
        step = yield from _judge(task, here)
        steps.append(step)
        here = Point(here.example, step.state, round=here.round + 1)
        if step.ending:
            break
    return Episode(start, tuple(turns), tuple(steps))


def decide(task: Task[S], topology: Topology, start: Point[S]) -> Play:
    """Plays a single decision: the next agent speaks, and where that closes the joint action the task judges it.

    Agents that speak at the same time decide one after the other, without hearing each other. A generator like `play`,
    from a point whose round is not closed; the stretch has no step where others have still to speak.
    """
    acting = task.acting(start.state)
    spoken = yield from _speak(task, topology, start, topology.speakers(acting, start.said)[:1])
    here = replace(start, said=start.said + spoken)
    if topology.speakers(acting, here.said):
        return Episode(start, spoken, ())
    step = yield from _judge(task, here)
    return Episode(start, spoken, (step,))


def _speak(
    task: Task[S], topology: Topology, here: Point[S], speakers: Sequence[AgentId]
) -> Generator[Speak, Mapping[AgentId, Completion], tuple[Turn, ...]]:
    heard = {agent: topology.hears(agent, here.said) for agent in speakers}
    prompts = {agent: task.observe(here.state, agent, heard[agent]) for agent in speakers}
    replies = yield Speak(prompts, here.round, len(here.said))
    index, after = here.round, len(here.said)
    return tuple(Turn(agent, prompts[agent], replies[agent], index, _clock(heard[agent]), after) for agent in speakers)


def _judge(task: Task[S], here: Point[S]) -> Generator[Judge[S], Step[S], Step[S]]:
    # Not every topology lets everybody speak; the task still judges one action of each.
    spoken = {turn.agent: turn.completion.text for turn in here.said}
    step = yield Judge(here.state, dict.fromkeys(task.acting(here.state), "") | spoken, here.said)
    check_step(task, step)
    return step


def end_of(stretch: Episode[S]) -> Point[S] | None:
    """The point at which a stretch stopped and from which play goes on; None where the episode is over."""
    start = stretch.start
    if not stretch.steps:
        return replace(start, said=start.said + stretch.turns)
    last = stretch.steps[-1]
    return None if last.ending else Point(start.example, last.state, round=start.round + len(stretch.steps))


def speaking_order(topology: Topology, agents: Sequence[AgentId]) -> tuple[AgentId, ...]:
    """Who decides at each place of one round, if nobody takes any time.

    >>> from madrigal.topology import Sequential
    >>> speaking_order(Sequential(("bob", "ann")), ("ann", "bob"))
    ('bob', 'ann')
    """
    said: tuple[Turn, ...] = ()
    while speakers := topology.speakers(agents, said):
        said += tuple(Turn(agent, (), Completion("")) for agent in speakers)
    return tuple(turn.agent for turn in said)


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
        choice: which answers its first ones are, by agent (`Episode.choice`).
    """

    moves: Play
    key: _Key
    first: Mapping[AgentId, Completion] | None = None
    greedy: bool = False
    choice: tuple[int, ...] = ()


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


def _utterances(request: Speak, key: _Key, *, greedy: bool = False) -> list[Utterance]:
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
    key: _Key = (),
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


def _branch(world: _World[S], origins: Sequence[Point[S]], keys: Sequence[_Key]) -> list[Group[S]]:
    if world.branching.crossed:
        families = [_crossed(world, *each) for each in zip(origins, keys, _answers(world, origins, keys), strict=True)]
    else:
        families = [_aligned(world, origin, key) for origin, key in zip(origins, keys, strict=True)]
    greedy = [_greedy(world, origin, key) for origin, key in zip(origins, keys, strict=True)]
    solo = [_solo(world, origin, key) for origin, key in zip(origins, keys, strict=True)]
    played = iter(drive([game for each in (*families, *greedy, *solo) for game in each], world.speak, world.judge))

    def those_of(games: Sequence[Sequence[Game]]) -> list[list[Episode[S]]]:
        return [[replace(next(played), choice=game.choice) for game in each] for each in games]

    siblings, likely, alone = those_of(families), those_of(greedy), those_of(solo)
    if world.branching.at != "start":
        siblings = _grow(world, siblings, [[game.key for game in family] for family in families])
    return [
        Group(origin, tuple(siblings[n]), world.task.agents, next(iter(likely[n]), None), tuple(alone[n]))
        for n, origin in enumerate(origins)
    ]


def _aligned(world: _World[S], origin: Point[S], key: _Key) -> list[Game]:
    """The siblings at one origin, each with words of its own."""
    width = world.branching.width
    if world.branching.at == "turn":
        agent = world.topology.speakers(world.task.acting(origin.state), origin.said)[0]
        width = world.branching.alternatives(len(origin.said), agent)
    choices = [(k,) * len(world.task.agents) for k in range(width)]
    return [Game(_stretch(world, origin, k), (*key, *choice), choice=choice) for k, choice in enumerate(choices)]


def _stretch(world: _World[S], origin: Point[S], sibling: int) -> Play:
    """What one sibling plays: to the next branching point, or to the end."""
    branching = world.branching
    if branching.at == "turn" and (branching.follow == "all" or sibling == 0):
        return decide(world.task, world.topology, origin)
    return play(world.task, world.topology, origin, 1 if branching.at == "round" else None)


def _crossed(
    world: _World[S], origin: Point[S], key: _Key, answers: Mapping[AgentId, Sequence[Completion]]
) -> list[Game]:
    """The siblings at one origin: every combination of its agents' answers."""
    games = []
    for choice in product(range(world.branching.width), repeat=len(world.task.agents)):
        first = {agent: answers[agent][k] for agent, k in zip(world.task.agents, choice, strict=True)}
        games.append(Game(_stretch(world, origin, 0), (*key, *choice), first, choice=choice))
    return games


def _greedy(world: _World[S], origin: Point[S], key: _Key) -> list[Game]:
    """Where it is asked for, an episode to the end in which everyone takes the most likely words."""
    moves = play(world.task, world.topology, origin)
    return [Game(moves, (*key, "greedy"), greedy=True)] if world.branching.greedy else []


def _solo(world: _World[S], origin: Point[S], key: _Key) -> list[Game]:
    """Where it is asked for, beside each sibling an episode in which only the last speaker says anything."""
    task, topology = world.task, world.topology
    if not world.branching.solo:
        return []
    reasoner = speaking_order(topology, task.acting(origin.state))[-1]
    silent = [agent for agent in task.agents if agent != reasoner]
    return [Game(play(task, topology, origin, silent=silent), (*key, "solo", k)) for k in range(world.branching.width)]


def _grow(world: _World[S], families: list[list[Episode[S]]], keys: Sequence[Sequence[_Key]]) -> list[list[Episode[S]]]:
    """Hangs a group of children under every stretch that goes on."""
    going = [(n, k) for n, family in enumerate(families) for k in _going(family, world.branching.follow)]
    origins = [point for n, k in going if (point := end_of(families[n][k])) is not None]
    if not going:
        return families
    groups = _branch(world, origins, [keys[n][k] for n, k in going])
    then = dict(zip(going, groups, strict=True))
    return [[replace(one, then=then.get((n, k))) for k, one in enumerate(each)] for n, each in enumerate(families)]


def _going(family: Sequence[Episode[S]], follow: Follow) -> list[int]:
    """Which of the siblings go on: those that are not over, or the best if it is not."""
    chosen: Sequence[int] = range(len(family))
    if follow == "best":
        chosen = [max(chosen, key=lambda k: joint_reward(family[k].steps[-1]))]
    return [k for k in chosen if end_of(family[k]) is not None]


def _answers(
    world: _World[S], origins: Sequence[Point[S]], keys: Sequence[_Key]
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
