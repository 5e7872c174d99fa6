"""Matches: two speakers at one table, every deal from both seats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from madrigal.evaluation.ablations import by_agent
from madrigal.evaluation.statistics import Interval, bootstrap
from madrigal.rollouts.play import EpisodeRun, Generate, GenerationRequest, Judge, drive, play
from madrigal.rollouts.task import Task, rewards_of
from madrigal.rollouts.topology import Parallel
from madrigal.tasks.games.players import Player
from madrigal.types import AgentId, Completion, ConfigError, Example, Point


def scripted(player: Player) -> Generate:
    """A speaker that follows a script; it shows no tokens, so that nothing is learned from its turns."""

    def speak(wanted: Sequence[GenerationRequest]) -> list[Completion]:
        return [Completion(player(request.prompt, request.seed)) for request in wanted]

    return speak


@dataclass(frozen=True, slots=True)
class Match:
    """How one speaker did against another.

    Attributes:
        payoff: its mean return in an episode, with a 95 % bootstrap interval over deals; a deal counts once, with the
            mean over both seats.
        win, draw: shares of episodes.
        win_as: the share of wins in each seat.
        episodes: how many were played.
    """

    payoff: Interval
    win: float
    draw: float
    win_as: Mapping[AgentId, float]
    episodes: int


def match(
    task: Task[Any], one: Generate, other: Generate, examples: Sequence[Example], judge: Judge, *, seed: int = 0
) -> Match:
    """Payoff and win rates of `one` against `other`: every example is played twice, with `one` in each seat.

    Args:
        task: a zero-sum task of two agents whose examples leave both seats free.

    Raises:
        ConfigError: if the task is another one.
    """
    if len(task.agents) != 2 or rewards_of(task) != "zero-sum":
        raise ConfigError(
            f"a match needs a task of two agents and zero-sum rewards; {task.name} has {len(task.agents)} and "
            f"{rewards_of(task)} ones"
        )
    first, second = task.agents
    earned = {
        first: _returns(task, first, by_agent({first: one, second: other}), examples, judge, seed),
        second: _returns(task, second, by_agent({first: other, second: one}), examples, judge, seed),
    }
    every = [*earned[first], *earned[second]]
    return Match(
        payoff=bootstrap([fmean(both) for both in zip(*earned.values(), strict=True)]),
        win=fmean(value > 0 for value in every),
        draw=fmean(value == 0 for value in every),
        win_as={seat: fmean(value > 0 for value in values) for seat, values in earned.items()},
        episodes=len(every),
    )


def _returns(
    task: Task[Any], seat: AgentId, speak: Generate, examples: Sequence[Example], judge: Judge, seed: int
) -> list[float]:
    runs = [
        EpisodeRun(play(task, Parallel(), Point(example.id, task.reset(example))), ("match", seed, seat, example.id))
        for example in examples
    ]
    return [sum(step.rewards[seat] for step in episode.steps) for episode in drive(runs, speak, judge)]
