"""Play: from a point to an episode.

`play` does no I/O: it yields what it wants said or judged and is sent the replies, so that local models, remote ones
and tests by hand fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

from madrigal.rollouts.seeds import derive
from madrigal.rollouts.task import Task, check_step, moves_of
from madrigal.rollouts.task.contract import outlived
from madrigal.rollouts.topology import Topology
from madrigal.settings import Sampling
from madrigal.types import AgentId, Completion, Episode, Messages, Point, Step, TaskError, Turn

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
Listener = Callable[[str], bool]  # told what an agent has said so far, while it speaks; says whether to go on


@dataclass(frozen=True, slots=True)
class SpeakRequest:
    """A request: these agents, these prompts, all at once, after `num_spoken` turns of this round.

    Attributes:
        listeners: who listens to an agent while it speaks; a policy that cannot be overheard says all at once.
    """

    prompts: Mapping[AgentId, Messages]
    round: int
    num_spoken: int
    listeners: Mapping[AgentId, Listener] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepRequest(Generic[S]):
    """A request: what does the task say to this joint action?

    Attributes:
        turns: all that was said in the round, for judges that measure it (`rollouts.rewards`); tasks see actions only.
    """

    state: S
    actions: Mapping[AgentId, str]
    turns: tuple[Turn, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer wanted from one agent, with the seed that its sampling starts from, or its most likely words.

    Attributes:
        sampling: how it is drawn, where not by the settings that all others are drawn by.
        listener: see `SpeakRequest`; called from any thread.
    """

    agent: AgentId
    prompt: Messages
    seed: int
    greedy: bool = False
    round: int = 0
    sampling: Sampling | None = None
    listener: Listener | None = field(default=None, compare=False, repr=False)


Key = tuple[object, ...]
Play = Generator[SpeakRequest | StepRequest[Any], Any, Episode[Any]]
Generate = Callable[[Sequence[GenerationRequest]], Sequence[Completion]]
Judge = Callable[[Sequence[StepRequest[Any]]], Sequence[Step[Any]]]


def play(
    task: Task[S], topology: Topology, start: Point[S], rounds: int | None = None, silent: Collection[AgentId] = ()
) -> Play:
    """Plays one episode from a point, as a generator that does no I/O.

    A task may say itself how its episodes go (`moves_of`); others are played round by round.

    Yields `SpeakRequest` and expects a completion per agent, yields `StepRequest` and expects the task's step.

    Args:
        rounds: stop after so many rounds; None plays to the end.
        silent: agents that are not asked; nobody hears them, and their action is "".

    Raises:
        RewardError, TaskError: if a step breaks the contract (`check_step`), or the episode outlives the horizon.
    """
    return moves(start) if (moves := moves_of(task)) else _rounds(task, topology, start, rounds, silent)


def _rounds(
    task: Task[S], topology: Topology, start: Point[S], rounds: int | None, silent: Collection[AgentId]
) -> Play:
    here, turns, steps = start, list[Turn](), list[Step[S]]()
    while rounds is None or len(steps) < rounds:
        acting = task.acting(here.state)
        speaking = [agent for agent in acting if agent not in silent]
        while speakers := topology.speakers(speaking, here.history):
            spoken = yield from _speak(task, topology, here, speakers)
            here, turns = replace(here, history=here.history + spoken), [*turns, *spoken]
        step = yield from _judge(task, here)
        steps.append(step)
        here = Point(here.example, step.state, round=here.round + 1)
        if step.ending:
            break
    return Episode(start, tuple(turns), tuple(steps))


def play_turn(task: Task[S], topology: Topology, start: Point[S]) -> Play:
    """Plays a single decision: the next agent speaks, and where that closes the joint action the task judges it.

    Agents that speak at the same time decide one after the other, without hearing each other. A generator like `play`,
    from a point whose round is not closed; the stretch has no step where others have still to speak.
    """
    acting = task.acting(start.state)
    spoken = yield from _speak(task, topology, start, topology.speakers(acting, start.history)[:1])
    here = replace(start, history=start.history + spoken)
    if topology.speakers(acting, here.history):
        return Episode(start, spoken, ())
    step = yield from _judge(task, here)
    return Episode(start, spoken, (step,))


def _speak(
    task: Task[S], topology: Topology, here: Point[S], speakers: Sequence[AgentId]
) -> Generator[SpeakRequest, Mapping[AgentId, Completion], tuple[Turn, ...]]:
    heard = {agent: topology.hears(agent, here.history) for agent in speakers}
    prompts = {agent: task.observe(here.state, agent, heard[agent]) for agent in speakers}
    replies = yield SpeakRequest(prompts, here.round, len(here.history))
    index, after = here.round, len(here.history)
    return tuple(Turn(agent, prompts[agent], replies[agent], index, _clock(heard[agent]), after) for agent in speakers)


def _judge(task: Task[S], here: Point[S]) -> Generator[StepRequest[S], Step[S], Step[S]]:
    # Not every topology lets everybody speak; the task still judges one action of each.
    spoken = {turn.agent: turn.completion.text for turn in here.history}
    step = yield StepRequest(here.state, dict.fromkeys(task.acting(here.state), "") | spoken, here.history)
    if not step.ending and here.round + 1 >= task.horizon:
        raise TaskError(outlived(task, here.example))
    return check_step(task, step)


def end_of(stretch: Episode[S]) -> Point[S] | None:
    """The point at which a stretch stopped and from which play goes on; None where the episode is over."""
    start = stretch.start
    if not stretch.steps:
        return replace(start, history=start.history + stretch.turns)
    last = stretch.steps[-1]
    return None if last.ending else Point(start.example, last.state, round=start.round + len(stretch.steps))


def speaking_order(topology: Topology, agents: Sequence[AgentId]) -> tuple[AgentId, ...]:
    """Who decides at each place of one round, if nobody takes any time.

    >>> from madrigal.rollouts.topology import Sequential
    >>> speaking_order(Sequential(("bob", "ann")), ("ann", "bob"))
    ('bob', 'ann')
    """
    history: tuple[Turn, ...] = ()
    while speakers := topology.speakers(agents, history):
        history += tuple(Turn(agent, (), Completion("")) for agent in speakers)
    return tuple(turn.agent for turn in history)


def _clock(heard: Sequence[Turn]) -> float:
    """An agent begins when the last of those it listens to has finished."""
    return max((turn.started + turn.completion.seconds for turn in heard), default=0.0)


@dataclass(frozen=True, slots=True)
class EpisodeRun:
    """A play under way.

    Attributes:
        key: what its seeds derive from.
        first: replies already at hand for its first request (crossed joint actions).
        greedy: everyone takes the most likely words.
        choice: which answers its first ones are, by agent (`Episode.choice`).
        sampling: how its answers are drawn, where not as those of all others.
    """

    moves: Play
    key: Key
    first: Mapping[AgentId, Completion] | None = None
    greedy: bool = False
    choice: tuple[int, ...] = ()
    sampling: Sampling | None = None


class Lockstep:
    """Runs under way that advance together; between two ticks others may join, and any may leave.

    What a play raises ends that play alone. What `speak` or `judge` raise is raised, and leaves all where they were.
    """

    def __init__(self, speak: Generate, judge: Judge) -> None:
        self.speak, self.judge = speak, judge
        self._runs: dict[int, EpisodeRun] = {}
        self._pending: dict[int, SpeakRequest | StepRequest[Any]] = {}
        self._ended: dict[int, Episode[Any] | Exception] = {}
        self._numbers = count()

    def join(self, run: EpisodeRun) -> int:
        """Takes up a run, and returns the number that it is known by."""
        number = next(self._numbers)
        self._runs[number] = run
        self._send(number, None)
        if run.first is not None and number in self._pending:
            self._send(number, run.first)
        return number

    def leave(self, number: int) -> None:
        """Drops a run that is not over."""
        self._pending.pop(number, None)
        self._runs.pop(number).moves.close()

    def tick(self, numbers: Collection[int] | None = None) -> dict[int, Episode[Any] | Exception]:
        """One call to `judge` and one to `speak`, for all runs or these; what has ended since the last tick."""
        here = [n for n in self._pending if numbers is None or n in numbers]
        actions = [(n, request) for n in here if isinstance(request := self._pending[n], StepRequest)]
        if actions:
            for (n, _), step in zip(actions, self.judge([request for _, request in actions]), strict=True):
                self._send(n, step)
        prompts = [(n, asked) for n in here if isinstance(asked := self._pending.get(n), SpeakRequest)]
        wanted = [
            each
            for run, request in ((self._runs[n], request) for n, request in prompts)
            for each in generation_requests(request, run.key, greedy=run.greedy, sampling=run.sampling)
        ]
        replies = iter(self.speak(wanted) if wanted else ())
        for n, request in prompts:
            self._send(n, {agent: next(replies) for agent in request.prompts})
        ended, self._ended = self._ended, {}
        return ended

    def _send(self, number: int, reply: object) -> None:
        try:
            self._pending[number] = self._runs[number].moves.send(reply)
        except StopIteration as stop:
            self._end(number, stop.value)
        except Exception as error:  # noqa: BLE001 (whoever reads what has ended raises it)
            self._end(number, error)

    def _end(self, number: int, result: Episode[Any] | Exception) -> None:
        self._pending.pop(number, None)
        del self._runs[number]
        self._ended[number] = result


def drive(runs: Sequence[EpisodeRun], speak: Generate, judge: Judge) -> list[Episode[Any]]:
    """Advances all runs in lock-step: one call to `speak` and one to `judge` per tick, for all of them together."""
    together = Lockstep(speak, judge)
    numbers = [together.join(run) for run in runs]
    done: dict[int, Episode[Any]] = {}
    while len(done) < len(runs):
        for number, result in together.tick().items():
            if isinstance(result, Exception):
                raise result
            done[number] = result
    return [done[number] for number in numbers]


def heard(
    moves: Play, hear: Callable[[Turn], Completion], overhear: Callable[[AgentId, int, str], bool] | None = None
) -> Play:
    """The same play, of which every turn is heard as soon as it is spoken, and goes on with what `hear` makes of it.

    Args:
        overhear: told of agent and round, with no words yet, when an agent is asked, in the order of turns; then, from
            any thread, with what it has said so far. Says whether it may go on.
    """
    reply: Any = None
    while True:
        try:
            request = moves.send(reply)
        except StopIteration as stop:
            episode: Episode[Any] = stop.value
            return episode
        if overhear and isinstance(request, SpeakRequest):
            listeners = {agent: partial(overhear, agent, request.round) for agent in request.prompts}
            for listener in listeners.values():
                listener("")
            request = replace(request, listeners=listeners)
        reply = yield request
        if isinstance(request, SpeakRequest):
            reply = {
                agent: hear(Turn(agent, prompt, reply[agent], request.round, after=request.num_spoken))
                for agent, prompt in request.prompts.items()
            }


def in_lanes(advance: Callable[[Sequence[R]], Sequence[T]], items: Sequence[R], lanes: int = 1) -> list[T]:
    """Plays shares of what is to be played side by side, each in a thread: while one is judged, another is answered.

    Shares are of neighbors, as equal as can be, and what comes is in the order of the items.

    >>> in_lanes(lambda share: [sum(share)] * len(share), [1, 2, 3, 4, 5], lanes=2)
    [6, 6, 6, 9, 9]
    """
    lanes = min(lanes, len(items))
    if lanes < 2:
        return list(advance(items))
    size, longer = divmod(len(items), lanes)
    ends = [(n + 1) * size + min(n + 1, longer) for n in range(lanes)]
    shares = [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    with ThreadPoolExecutor(lanes) as pool:
        return [each for played in pool.map(advance, shares) for each in played]


def generation_requests(
    request: SpeakRequest, key: Key, *, greedy: bool = False, sampling: Sampling | None = None
) -> list[GenerationRequest]:
    """What is wanted of each agent of a request; every seed derives from the key, the place and the agent."""
    place = (*key, request.round, request.num_spoken)
    return [
        GenerationRequest(
            agent, prompt, derive(*place, agent), greedy, request.round, sampling, request.listeners.get(agent)
        )
        for agent, prompt in request.prompts.items()
    ]


def judge_in_turn(task: Task[Any]) -> Judge:
    """Steps one after the other, here: enough where each takes no time."""
    return lambda requests: [task.step(request.state, request.actions) for request in requests]


def judge_in_threads(task: Task[Any], pool: ThreadPoolExecutor) -> Judge:
    """Steps of one tick run together in a pool, so that slow ones (unit tests, a remote expert) overlap."""

    def judge(requests: Sequence[StepRequest[Any]]) -> list[Step[Any]]:
        return list(pool.map(lambda request: task.step(request.state, request.actions), requests))

    return judge
