"""Whole episodes compared with each other: every turn inherits what its episode came to.

Knows: groups of chains. Does not know: how an episode is measured, which baseline is taken. Where the answers of one
round are compared instead, see `siblings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from madrigal.algorithms.siblings import Baseline, compared
from madrigal.maths.advantages import returns_to_go
from madrigal.types import Episode, Group, Sample, joint_reward

Measure = Callable[[Episode[object]], float]


def whole_return(discount: float = 1.0, shift: float = 0.0) -> Measure:
    """The joint return of an episode from its first round."""

    def measure(episode: Episode[object]) -> float:
        return returns_to_go([joint_reward(step) + shift for step in episode.steps], discount)[0]

    return measure


def final_reward(episode: Episode[object]) -> float:
    """The joint reward of the last round: what the final answer earned."""
    return joint_reward(episode.steps[-1])


def turns_alike(episode: Episode[object]) -> float:
    """Every turn counts 1, and so a long episode as often as it has turns."""
    return 1.0


def turns_averaged(episode: Episode[object]) -> float:
    """Every episode counts 1: a turn of an episode of T rounds counts 1/T."""
    return 1 / len(episode.steps)


def inherited(
    group: Group[object], outcome: Measure, baseline: Baseline, weight: Measure = turns_alike
) -> Iterator[Sample]:
    """Samples of all turns of a group; each has the advantage of its episode among the episodes."""
    outcomes = [outcome(episode) for episode in group.episodes]
    for episode, value, advantage in zip(group.episodes, outcomes, compared(outcomes, baseline), strict=True):
        for turn in episode.turns:
            yield Sample(turn, advantage, value, weight(episode))
