"""Answers that parted at one point and what each came to: what every baseline over siblings is computed from.

Knows: groups, forests of them, returns. Does not know: which baseline is taken, what is minimised. Where whole episodes
are compared instead, see `episodes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from madrigal.maths.advantages import mean_over_partners, returns_to_go
from madrigal.types import AgentId, Episode, Group, Sample, Step, Turn, joint_reward

Returns = Callable[[Episode[object], AgentId], Sequence[float]]  # one per round of the stretch
Baseline = Callable[[Tensor], Tensor]  # [N K] returns -> [N K] advantages
Updates = Literal["turn", "episode"]


@dataclass(frozen=True, slots=True)
class Siblings:
    """The answers of one agent in one round of one group.

    Attributes:
        group: where they parted.
        agent, round: whose answers they are, and of which round of the episode.
        turns: for each answer what was said: one turn, or several where an agent speaks more than once in a round.
        returns: what each answer came to; where joint actions are crossed, the mean over those that it is in.
    """

    group: Group[object]
    agent: AgentId
    round: int
    turns: tuple[tuple[Turn, ...], ...]
    returns: tuple[float, ...]

    def credited(self, advantages: Sequence[float]) -> Iterator[Sample]:
        """Samples of these answers, given the advantage of each."""
        for turns, value, advantage in zip(self.turns, self.returns, advantages, strict=True):
            for turn in turns:
                yield Sample(turn, advantage, value)


def siblings(groups: Sequence[Group[object]], returns: Returns) -> Iterator[Siblings]:
    """Every set of answers that can be compared with each other, parents before children.

    Siblings that ended earlier took no decision in a round and are not among its answers; neither are agents that did
    not act.
    """
    for group in nodes(groups):
        for seat, agent in enumerate(group.agents):
            values = [returns(episode, agent) for episode in group.episodes]
            for offset in range(max(map(len, values))):
                live = [i for i, row in enumerate(values) if len(row) > offset]
                found = _answers(group, seat, offset, live, [values[i][offset] for i in live])
                if found.turns:
                    yield found


def _answers(group: Group[object], seat: int, offset: int, live: Sequence[int], returns: Sequence[float]) -> Siblings:
    agent, index = group.agents[seat], group.origin.round + offset
    # Only the first round's answers are shared between siblings; later ones belong to one chain each.
    choices = [group.episodes[i].choice if offset == 0 else (i,) * len(group.agents) for i in live]
    answers, values = mean_over_partners(returns, choices, seat)
    episode_of = {choice[seat]: group.episodes[i] for choice, i in zip(choices, live, strict=True)}
    spoken = [
        (tuple(turn for turn in episode_of[answer].turns if turn.agent == agent and turn.round == index), value)
        for answer, value in zip(answers, values, strict=True)
    ]
    spoken = [(turns, value) for turns, value in spoken if turns]
    return Siblings(group, agent, index, tuple(t for t, _ in spoken), tuple(v for _, v in spoken))


def credit_siblings(
    groups: Sequence[Group[object]], returns: Returns, baseline: Baseline, updates: Updates
) -> list[list[Sample]]:
    """Stages of samples in which every answer is compared with its siblings."""
    samples = [
        sample for each in siblings(groups, returns) for sample in each.credited(compared(each.returns, baseline))
    ]
    return in_stages(samples, updates)


def compared(returns: Sequence[float], baseline: Baseline) -> list[float]:
    """The advantage of each return in its group; an only one has nothing to be compared with and gets 0."""
    if len(returns) < 2:
        return [0.0] * len(returns)
    advantages: list[float] = baseline(torch.tensor([returns], dtype=torch.float64))[0].tolist()
    return advantages


def joint_returns(discount: float = 1.0, shift: float = 0.0) -> Returns:
    """Returns to go of the joint reward; at a branching point of a tree the mean over the children goes on.

    A stretch that stops in the middle of its round has earned nothing yet and comes to what its children come to.
    """
    return _returns(lambda step, agent: joint_reward(step), discount, shift)


def own_returns(discount: float = 1.0, shift: float = 0.0) -> Returns:
    """Returns to go of each agent's own reward, likewise."""
    return _returns(lambda step, agent: step.rewards[agent], discount, shift)


def _returns(reward: Callable[[Step[object], AgentId], float], discount: float, shift: float) -> Returns:
    def returns(episode: Episode[object], agent: AgentId) -> Sequence[float]:
        rewards = [reward(step, agent) + shift for step in episode.steps]
        tail = _tail(episode, agent, returns)
        return returns_to_go(rewards, discount, tail) or [tail]

    return returns


def _tail(episode: Episode[object], agent: AgentId, returns: Returns) -> float:
    """The mean return of the children: what a tree bootstraps with."""
    if episode.then is None:
        return 0.0
    children = episode.then.episodes
    return sum(returns(child, agent)[0] for child in children) / len(children)


def in_stages(samples: Sequence[Sample], updates: Updates) -> list[list[Sample]]:
    """One optimiser step per round, last round first (Algorithm 1 of MAGRPO), or one for the whole episode.

    The last minimises the sum over rounds of what the first minimise one after the other.
    """
    stages: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        stages[sample.turn.round].append(sample)
    ordered = [stages[index] for index in sorted(stages, reverse=True)]
    return [[sample for stage in ordered for sample in stage]] if updates == "episode" and ordered else ordered


def nodes(groups: Sequence[Group[object]]) -> Iterator[Group[object]]:
    """Every group of a forest, parents first."""
    for group in groups:
        yield group
        yield from nodes([episode.then for episode in group.episodes if episode.then is not None])
