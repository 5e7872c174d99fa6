"""Evaluation of a team on held-out examples, each played once or several times: return, metrics, speed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from madrigal.evaluation.statistics import bootstrap
from madrigal.rollouts.play import EpisodeRun, Generate, GenerationRequest, Judge, Play, drive, in_lanes, play
from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Topology
from madrigal.types import Completion, ConfigError, Episode, Example, Point, joint_reward


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one team on held-out examples.

    Attributes:
        return_percent: mean normalized return of the last round, in percent of the best; `low` and `high` are its 95 %
            bootstrap interval over examples.
        components: mean of each metric of the task; `intervals` holds the ends of their 95 % intervals.
        tokens_per_second: tokens of all agents over response time.
        response_seconds: the longest of agents that speak at once, summed over what waits for each other; each agent
            measured alone, as if on a machine of its own.
    """

    return_percent: float
    low: float
    high: float
    examples: int
    components: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    tokens_per_second: float
    response_seconds: float


@dataclass(frozen=True, slots=True)
class EvalSetup:
    """Examples, and who plays them how.

    Attributes:
        speak: answers for every agent.
        judge: asks the task; `rollouts.play.judge_in_threads`, say.
        seed: what all sampling derives from.
        lanes: see `rollouts.play.in_lanes`.
    """

    task: Task[Any]
    topology: Topology
    examples: Sequence[Example]
    speak: Generate
    judge: Judge
    seed: int = 0
    lanes: int = 1


def evaluate(setup: EvalSetup, *, samples: int = 1, timed_examples: int = 8) -> tuple[Evaluation, list[Episode[Any]]]:
    """Plays every example `samples` times, batched, and the first `timed_examples` again one by one for the clock.

    An example counts once: with the mean of its samples. The episodes come example after example.
    """
    episodes = play_examples(setup, samples=samples)
    returns = normalized_returns(setup.task, episodes)
    interval = bootstrap([fmean(returns[n : n + samples]) for n in range(0, len(returns), samples)])
    parts = {name: bootstrap(values) for name, values in _metric_values(episodes, samples).items()}
    alone = replace(setup, speak=one_at_a_time(setup.speak))
    timed = [e for x in setup.examples[:timed_examples] for e in play_examples(replace(alone, examples=[x]))]
    seconds = sum(map(response_seconds, timed))
    tokens = sum(turn.completion.tokens for episode in timed for turn in episode.turns)
    result = Evaluation(
        return_percent=interval.mean,
        low=interval.low,
        high=interval.high,
        examples=len(setup.examples),
        components={name: interval.mean for name, interval in parts.items()},
        intervals={name: (interval.low, interval.high) for name, interval in parts.items()},
        tokens_per_second=tokens / seconds if seconds else 0.0,
        response_seconds=seconds / len(timed) if timed else 0.0,
    )
    return result, episodes


def play_examples(
    setup: EvalSetup, change: Callable[[Play, Example], Play] | None = None, *, samples: int = 1
) -> list[Episode[Any]]:
    """Plays every example `samples` times, all in lock-step; with the same seeds, whatever is changed.

    Raises:
        ConfigError: if there are no examples.
    """
    task = setup.task
    if not setup.examples:
        raise ConfigError(f"task {task.name}: expected at least one example to play, got none")
    runs = []
    for example in setup.examples:
        for n in range(samples):
            moves = play(task, setup.topology, Point(example.id, task.reset(example)))
            # The first sample's key does not name it: more samples leave it as it was.
            key = ("evaluate", setup.seed, example.id, *((n,) if n else ()))
            runs.append(EpisodeRun(change(moves, example) if change else moves, key))
    return in_lanes(lambda share: drive(share, setup.speak, setup.judge), runs, setup.lanes)


def one_at_a_time(speak: Generate) -> Generate:
    """A speaker in which nobody shares the machine with anybody: every answer takes the time that it takes alone."""

    def answer(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [completion for request in wanted for completion in speak([request])]

    return answer


def percent_of_best(task: Task[Any], episode: Episode[Any]) -> float:
    """The normalized return of what the team delivered in the end: the task's own figure, or reward over the best."""
    last = episode.steps[-1]
    if "return_percent" in last.metrics:
        return last.metrics["return_percent"]
    return 100 * joint_reward(last) / task.best_return


def normalized_returns(task: Task[Any], episodes: Sequence[Episode[Any]]) -> list[float]:
    """`percent_of_best` of each episode."""
    return [percent_of_best(task, episode) for episode in episodes]


def mean_metrics(episodes: Sequence[Episode[Any]]) -> dict[str, float]:
    """Mean of each metric over the episodes whose last step reports it."""
    return {name: fmean(values) for name, values in _metric_values(episodes).items()}


def _metric_values(episodes: Sequence[Episode[Any]], samples: int = 1) -> dict[str, list[float]]:
    """Each metric's values: one per example, the mean of the samples that report it."""
    values: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(episodes), samples):
        reported: dict[str, list[float]] = defaultdict(list)
        for episode in episodes[start : start + samples]:
            for name, value in episode.steps[-1].metrics.items():
                reported[name].append(value)
        for name, several in reported.items():
            values[name].append(fmean(several))
    return values


def response_seconds(episode: Episode[Any]) -> float:
    """How long a user waits under decentralized execution: within a round the last voice, over rounds the sum."""
    last: dict[int, float] = defaultdict(float)
    for turn in episode.turns:
        last[turn.round] = max(last[turn.round], turn.started + turn.completion.seconds)
    return sum(last.values())
