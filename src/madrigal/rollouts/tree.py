"""Forests: groups of episodes that part where experience branches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from typing import Generic, TypeVar

from madrigal.rollouts.branching import Branching, Follow
from madrigal.rollouts.play import (
    EpisodeRun,
    Generate,
    GenerationRequest,
    Judge,
    Key,
    Play,
    SpeakRequest,
    drive,
    end_of,
    generation_requests,
    in_lanes,
    play,
    play_turn,
    speaking_order,
)
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Topology
from madrigal.types import (
    AgentId,
    Completion,
    ConfigError,
    Episode,
    Group,
    Point,
    TaskError,
    Turn,
    TurnScores,
    joint_reward,
)

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class _Rollout(Generic[S]):
    """What is the same in all groups of a forest."""

    task: Task[S]
    topology: Topology
    branching: Branching
    speak: Generate
    judge: Judge


def rollout_groups(
    task: Task[S],
    topology: Topology,
    origins: Sequence[Point[S]],
    branching: Branching,
    speak: Generate,
    judge: Judge,
    key: Key = (),
    lanes: int = 1,
) -> list[Group[S]]:
    """Plays one group of episodes from each origin, all groups of a lane in lock-step.

    Args:
        key: what the seeds derive from, besides the origin's place and example and the branch.
        lanes: see `rollouts.play.in_lanes`.

    Raises:
        ConfigError: if joint actions are to be crossed where agents do not speak all at once.
        TaskError: if every episode was lost.
    """
    rollout = _Rollout(task, topology, branching, speak, judge)

    def branch(starts: Sequence[tuple[Point[S], Key]]) -> list[Group[S]]:
        return _branch(rollout, [origin for origin, _ in starts], [key for _, key in starts])

    keyed = [(origin, (*key, place, origin.example)) for place, origin in enumerate(origins)]
    played = in_lanes(branch, keyed, lanes)
    groups = [kept for group in played if (kept := without_lost(group)).episodes]
    if played and not groups:
        why = played[0].episodes[0].steps[-1].details.get("lost", "nobody knows why")
        raise TaskError(f"task {task.name}: every episode of this step was lost, the first because: {why}")
    return numbered([weigh(group, branching.follow) for group in groups])


def without_lost(group: Group[S]) -> Group[S]:
    """A group without the episodes that were lost; without any where its most likely one was, the baseline of all."""
    kept = tuple(episode for episode in group.episodes if not _is_lost(episode))
    return replace(group, episodes=() if group.greedy and _is_lost(group.greedy) else kept)


def _is_lost(episode: Episode[S]) -> bool:
    return bool(episode.steps) and episode.steps[-1].ending == "lost"


def weigh(group: Group[S], follow: Follow = "all", reach: float = 1.0) -> Group[S]:
    """Gives every turn its weight in the mean over siblings: the chance with which play comes to it.

    The chance `reach` with which play comes to the group is divided among its siblings.
    Siblings that end early keep their share, as zeros of the mean. Where only one sibling goes on, it stands for all.
    """
    answers = len({e.choice[:1] or n for n, e in enumerate(group.episodes)})  # of each agent; fewer where crossed
    share = reach / len(group.episodes)
    below = share if follow == "all" else reach

    def weighted(episode: Episode[S]) -> Episode[S]:
        first = episode.start.round
        turns = tuple(replace(t, weight=reach / answers if t.round == first else share) for t in episode.turns)
        then = None if episode.then is None else weigh(episode.then, follow, below)
        return replace(episode, turns=turns, then=then)

    return replace(group, episodes=tuple(map(weighted, group.episodes)))


def numbered(groups: Sequence[Group[S]]) -> list[Group[S]]:
    """Numbers all answers that were given in a training step, so that records and credit can tell them apart.

    Siblings share the answers of their first request where joint actions are crossed, and then the numbers too.
    """
    fresh = count()

    def of(group: Group[S]) -> Group[S]:
        shared = defaultdict[tuple[AgentId, int], int](lambda: next(fresh))

        def number(turn: Turn, choice: tuple[int, ...]) -> int:
            first = (turn.round, turn.after) == (group.origin.round, len(group.origin.history))
            together = first and bool(choice)
            return shared[turn.agent, choice[group.agents.index(turn.agent)]] if together else next(fresh)

        def within(episode: Episode[S]) -> Episode[S]:
            turns = tuple(replace(turn, number=number(turn, episode.choice)) for turn in episode.turns)
            return replace(episode, turns=turns, then=of(episode.then) if episode.then else None)

        greedy = None if group.greedy is None else within(group.greedy)
        return replace(
            group, episodes=tuple(map(within, group.episodes)), greedy=greedy, solo=tuple(map(within, group.solo))
        )

    return list(map(of, groups))


def walk(groups: Sequence[Group[S]]) -> Iterator[tuple[Group[S], Episode[S], Turn]]:
    """Every turn of the siblings of a forest, with the group and the stretch that it stands in.

    The children of a stretch come after its own turns. Not among them: what was played greedily or alone.
    """
    for group in groups:
        for episode in group.episodes:
            yield from ((group, episode, turn) for turn in episode.turns)
            yield from walk([] if episode.then is None else [episode.then])


def map_turns(change: Callable[[Turn], Turn], groups: Sequence[Group[S]]) -> list[Group[S]]:
    """The same forest with every turn changed, asked for in the order of `walk`."""

    def within(episode: Episode[S]) -> Episode[S]:
        turns = tuple(map(change, episode.turns))
        return replace(episode, turns=turns, then=None if episode.then is None else of(episode.then))

    def of(group: Group[S]) -> Group[S]:
        return replace(group, episodes=tuple(map(within, group.episodes)))

    return list(map(of, groups))


def with_scores(groups: Sequence[Group[S]], scores: Sequence[TurnScores]) -> list[Group[S]]:
    """The same forest with scores for every turn, given in the order of `walk`."""
    scored = zip(walk(groups), scores, strict=True)
    turns = iter([replace(turn, scores=each) for (_, _, turn), each in scored])
    return map_turns(lambda _: next(turns), groups)


def _branch(rollout: _Rollout[S], origins: Sequence[Point[S]], keys: Sequence[Key]) -> list[Group[S]]:
    """A group at each origin, all in lock-step, with the groups below it."""
    starts = list(zip(origins, keys, strict=True))
    if rollout.branching.crossed:
        answers = _answers(rollout, starts)
        siblings = [_crossed(rollout, *start, each) for start, each in zip(starts, answers, strict=True)]
    else:
        siblings = [_aligned(rollout, *start) for start in starts]
    greedy = [_greedy(rollout, *start) for start in starts]
    solo = [_solo(rollout, *start) for start in starts]
    every = [run for runs in (*siblings, *greedy, *solo) for run in runs]
    played = iter(drive(every, rollout.speak, rollout.judge))

    def episodes_of(runs: Sequence[EpisodeRun]) -> list[Episode[S]]:
        return [replace(next(played), choice=run.choice) for run in runs]

    episodes, likely, alone = (list(map(episodes_of, kind)) for kind in (siblings, greedy, solo))
    if rollout.branching.at != "start":
        episodes = _grow(rollout, episodes, [[run.key for run in runs] for runs in siblings])
    return [
        Group(origin, tuple(episodes[n]), rollout.task.agents, next(iter(likely[n]), None), tuple(alone[n]))
        for n, origin in enumerate(origins)
    ]


def _aligned(rollout: _Rollout[S], origin: Point[S], key: Key) -> list[EpisodeRun]:
    """The siblings at one origin, each with answers of its own."""
    width = rollout.branching.width
    if rollout.branching.at == "turn":
        agent = rollout.topology.speakers(rollout.task.acting(origin.state), origin.history)[0]
        width = rollout.branching.alternatives(len(origin.history), agent)
    choices = [(k,) * len(rollout.task.agents) for k in range(width)]
    return [
        EpisodeRun(_stretch(rollout, origin, k), (*key, *choice), choice=choice) for k, choice in enumerate(choices)
    ]


def _stretch(rollout: _Rollout[S], origin: Point[S], sibling: int) -> Play:
    """What one sibling plays: to the next branching point, or to the end."""
    branching = rollout.branching
    if branching.at == "turn" and (branching.follow == "all" or sibling == 0):
        return play_turn(rollout.task, rollout.topology, origin)
    return play(rollout.task, rollout.topology, origin, 1 if branching.at == "round" else None)


def _crossed(
    rollout: _Rollout[S], origin: Point[S], key: Key, answers: Mapping[AgentId, Sequence[Completion]]
) -> list[EpisodeRun]:
    """The siblings at one origin: every combination of its agents' answers."""
    agents = rollout.task.agents
    runs = []
    for choice in product(range(rollout.branching.width), repeat=len(agents)):
        first = {agent: answers[agent][k] for agent, k in zip(agents, choice, strict=True)}
        runs.append(EpisodeRun(_stretch(rollout, origin, 0), (*key, *choice), first, choice=choice))
    return runs


def _greedy(rollout: _Rollout[S], origin: Point[S], key: Key) -> list[EpisodeRun]:
    """Where it is asked for, an episode to the end in which everyone takes the most likely words."""
    if not rollout.branching.greedy:
        return []
    # Only now: a play that a program plays begins when it is made.
    return [EpisodeRun(play(rollout.task, rollout.topology, origin), (*key, "greedy"), greedy=True)]


def _solo(rollout: _Rollout[S], origin: Point[S], key: Key) -> list[EpisodeRun]:
    """Where it is asked for, beside each sibling an episode in which only the last speaker says anything."""
    if not rollout.branching.solo:
        return []
    task, topology = rollout.task, rollout.topology
    last = speaking_order(topology, task.acting(origin.state))[-1]
    silent = [agent for agent in task.agents if agent != last]
    width = rollout.branching.width
    return [EpisodeRun(play(task, topology, origin, silent=silent), (*key, "solo", k)) for k in range(width)]


def _grow(
    rollout: _Rollout[S], groups: list[list[Episode[S]]], keys: Sequence[Sequence[Key]]
) -> list[list[Episode[S]]]:
    """Hangs a group of children under every stretch that goes on."""
    going = [(n, k) for n, siblings in enumerate(groups) for k in _going(siblings, rollout.branching.follow)]
    if not going:
        return groups
    origins = [point for n, k in going if (point := end_of(groups[n][k])) is not None]
    then = dict(zip(going, _branch(rollout, origins, [keys[n][k] for n, k in going]), strict=True))
    return [
        [replace(episode, then=then.get((n, k))) for k, episode in enumerate(siblings)]
        for n, siblings in enumerate(groups)
    ]


def _going(siblings: Sequence[Episode[S]], follow: Follow) -> list[int]:
    """Which siblings go on: those that are not over, or the best if it is not."""
    chosen: Sequence[int] = range(len(siblings))
    if follow == "best":
        chosen = [max(chosen, key=lambda k: joint_reward(siblings[k].steps[-1]))]
    return [k for k in chosen if end_of(siblings[k]) is not None]


def _answers(rollout: _Rollout[S], starts: Sequence[tuple[Point[S], Key]]) -> list[dict[AgentId, list[Completion]]]:
    """The K answers of every agent to its first prompt at each origin, before they are crossed."""
    task, wanted = rollout.task, list[tuple[int, GenerationRequest]]()
    for n, (origin, key) in enumerate(starts):
        request = next(play(task, rollout.topology, origin))
        if not isinstance(request, SpeakRequest) or set(request.prompts) != set(task.agents):
            raise ConfigError(
                "branching: crossed joint actions need all agents to speak at once; use the parallel topology or "
                "aligned joint actions"
            )
        for k in range(rollout.branching.width):
            wanted += [(n, each) for each in generation_requests(request, (*key, "crossed", k))]
    replies = rollout.speak([each for _, each in wanted])
    answers: list[dict[AgentId, list[Completion]]] = [{agent: [] for agent in task.agents} for _ in starts]
    for (n, each), reply in zip(wanted, replies, strict=True):
        answers[n][each.agent].append(reply)
    return answers
