"""Evaluation of a team: plays held-out examples once each and says what the answers were worth.

Knows: tasks, how to play. Does not know: training, checkpoints, the format of run folders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from madrigal.evaluation.statistics import bootstrap
from madrigal.rollout import Game, Judger, Speaker, drive, play
from madrigal.task import Task
from madrigal.topology import Topology
from madrigal.types import ConfigError, Episode, Example, Point, joint_reward


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How a team is evaluated.

    Attributes:
        examples: held-out examples played once each; the first so many of the test split.
        every: also evaluate after so many steps; 0 evaluates before and after training only.
        timed: examples played one at a time to measure response time; batched play would hide it.
    """

    examples: int = 100
    every: int = 0
    timed: int = 4

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise ConfigError(f"evaluation.examples: expected at least 1, got {self.examples}")
        if self.every < 0 or self.timed < 0:
            raise ConfigError("evaluation.every and evaluation.timed: expected 0 or more")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        return_percent: mean normalised return of the last round, in percent of the best; `low` and `high` are its 95 %
            bootstrap interval over examples.
        components: mean of each metric of the task; `intervals` holds the ends of their 95 % intervals.
        tokens_per_second: tokens of all agents over response time, one example at a time.
        response_seconds: the longest of agents that speak at once, summed over what waits for each other.
    """

    return_percent: float
    low: float
    high: float
    examples: int
    components: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    tokens_per_second: float
    response_seconds: float


def evaluate(
    task: Task[Any],
    topology: Topology,
    examples: Sequence[Example],
    speak: Speaker,
    judge: Judger,
    *,
    timed: int = 4,
    seed: int = 0,
) -> tuple[Evaluation, list[Episode[Any]]]:
    """Plays every example once, batched, and the first `timed` ones again one at a time for the clock."""
    episodes = _play(task, topology, examples, speak, judge, seed)
    returns = [percent_of_best(task, episode) for episode in episodes]
    interval = bootstrap(returns)
    parts = {name: bootstrap(values) for name, values in _metric_values(episodes).items()}
    alone = [e for x in examples[:timed] for e in _play(task, topology, [x], speak, judge, seed)]
    seconds = sum(map(response_seconds, alone))
    tokens = sum(len(turn.completion.token_ids) for episode in alone for turn in episode.turns)
    result = Evaluation(
        return_percent=interval.mean,
        low=interval.low,
        high=interval.high,
        examples=len(episodes),
        components={name: interval.mean for name, interval in parts.items()},
        intervals={name: (interval.low, interval.high) for name, interval in parts.items()},
        tokens_per_second=tokens / seconds if seconds else 0.0,
        response_seconds=seconds / len(alone) if alone else 0.0,
    )
    return result, episodes


def _play(
    task: Task[Any],
    topology: Topology,
    examples: Sequence[Example],
    speak: Speaker,
    judge: Judger,
    seed: int,
) -> list[Episode[Any]]:
    games = [
        Game(play(task, topology, Point(example.id, task.reset(example))), ("evaluate", seed, example.id))
        for example in examples
    ]
    return drive(games, speak, judge)


def percent_of_best(task: Task[Any], episode: Episode[Any]) -> float:
    """The normalised return of what the team delivered in the end: the task's own figure, or reward over the best."""
    last = episode.steps[-1]
    if "return_percent" in last.metrics:
        return last.metrics["return_percent"]
    return 100 * joint_reward(last) / task.best_return


def mean_metrics(episodes: Sequence[Episode[Any]]) -> dict[str, float]:
    """Mean of each metric over the episodes whose last step reports it."""
    return {name: fmean(values) for name, values in _metric_values(episodes).items()}


def _metric_values(episodes: Sequence[Episode[Any]]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        for name, value in episode.steps[-1].metrics.items():
            values[name].append(value)
    return values


def response_seconds(episode: Episode[Any]) -> float:
    """How long a user waits under decentralised execution: within a round the last voice, over rounds the sum."""
    last: dict[int, float] = defaultdict(float)
    for turn in episode.turns:
        last[turn.round] = max(last[turn.round], turn.started + turn.completion.seconds)
    return sum(last.values())
