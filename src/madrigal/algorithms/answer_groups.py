"""Answer groups: answers of one agent that are compared with each other, and what each came to.

Three ways to form them: the answers of one round that parted at one point (`by_round`), all of an agent's turns of
whole episodes (`by_episode`), or those turns one by one (the same, with `each_turn`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from madrigal.algorithms.objective import Updates, optimizer_steps
from madrigal.maths.returns import mean_over_teammates, returns_to_go
from madrigal.types import AgentId, Episode, Group, Sample, Step, Turn, all_groups, joint_reward

if TYPE_CHECKING:
    from torch import Tensor

Returns = Callable[[Episode[object], AgentId], Sequence[float]]  # one per round of the stretch
Baseline = Callable[["Tensor"], "Tensor"]  # [N K] returns -> [N K] advantages


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """Answers of one agent that are compared with each other.

    Attributes:
        group: where they parted.
        agent, round: whose answers they are, and the round of the episode from which their returns count.
        turns: for each answer its turns: one, or several where an agent speaks more than once.
        returns: what each answer came to; where joint actions are crossed, the mean over those that it is in.
        weights: what each counts beside its turns' own weight.
    """

    group: Group[object]
    agent: AgentId
    round: int
    turns: tuple[tuple[Turn, ...], ...]
    returns: tuple[float, ...]
    weights: tuple[float, ...]

    def samples(self, advantages: Sequence[float]) -> Iterator[Sample]:
        """Samples of these answers, given the advantage of each."""
        for turns, value, advantage, weight in zip(self.turns, self.returns, advantages, self.weights, strict=True):
            for turn in turns:
                yield Sample(turn, advantage, value, weight)


def by_round(groups: Sequence[Group[object]], returns: Returns) -> Iterator[AnswerGroup]:
    """The answers of one agent in one round of one group, parents before children.

    Siblings that ended earlier took no decision in a round and are not among its answers; neither are agents that did
    not act.
    """
    for group in all_groups(groups):
        for seat, agent in enumerate(group.agents):
            rows = [(episode, returns(episode, agent)) for episode in group.episodes]
            for offset in range(max(len(row) for _, row in rows)):
                answers = _answers(group, seat, offset, [(one, row[offset]) for one, row in rows if len(row) > offset])
                if answers.turns:
                    yield answers


def _answers(
    group: Group[object], seat: int, offset: int, live: Sequence[tuple[Episode[object], float]]
) -> AnswerGroup:
    """An agent's answers in one round, of the siblings that it was played in, each with its return from there on."""
    agent, index = group.agents[seat], group.origin.round + offset
    # Only the first round's answers are shared between siblings; later ones belong to one chain each.
    choices = [episode.choice if offset == 0 else (n,) * len(group.agents) for n, (episode, _) in enumerate(live)]
    answers, means = mean_over_teammates([value for _, value in live], choices, seat)
    episode_of = {choice[seat]: episode for choice, (episode, _) in zip(choices, live, strict=True)}
    turns = [
        tuple(turn for turn in episode_of[answer].turns if (turn.agent, turn.round) == (agent, index))
        for answer in answers
    ]
    returns = tuple(mean for mean, spoken in zip(means, turns, strict=True) if spoken)
    return AnswerGroup(group, agent, index, tuple(filter(None, turns)), returns, (1.0,) * len(returns))


def by_episode(
    groups: Sequence[Group[object]], returns: Returns, *, each_turn: bool = False, average_turns: bool = False
) -> Iterator[AnswerGroup]:
    """Whole chains compared by what they came to from their first round; every turn of an agent gets the result.

    Args:
        each_turn: each turn is an answer of its own, so that an agent that acts twice in an episode counts twice in the
            comparison, and one that is silent not at all; else every episode counts once, silent or not.
        average_turns: a turn of an episode of T rounds counts 1/T.
    """
    for group in groups:
        for agent in group.agents:
            spoken = [(turns, episode) for episode in group.episodes for turns in _shares(episode, agent, each_turn)]
            values = tuple(returns(episode, agent)[0] for _, episode in spoken)
            weights = tuple(1 / len(episode.steps) if average_turns else 1.0 for _, episode in spoken)
            yield AnswerGroup(group, agent, group.origin.round, tuple(turns for turns, _ in spoken), values, weights)


def _shares(episode: Episode[object], agent: AgentId, each_turn: bool) -> list[tuple[Turn, ...]]:
    turns = tuple(turn for turn in episode.turns if turn.agent == agent)
    return [(turn,) for turn in turns] if each_turn else [turns]


def credit_by_round(
    groups: Sequence[Group[object]], returns: Returns, baseline: Baseline, updates: Updates
) -> list[list[Sample]]:
    """Stages of samples in which every answer is compared with the other answers of its round."""
    samples = [
        sample for each in by_round(groups, returns) for sample in each.samples(advantages_of(each.returns, baseline))
    ]
    return optimizer_steps(samples, updates)


def advantages_of(returns: Sequence[float], baseline: Baseline) -> list[float]:
    """The advantage of each return in its group; an only one has nothing to be compared with and gets 0."""
    if len(returns) < 2:
        return [0.0] * len(returns)
    import torch

    advantages: list[float] = baseline(torch.tensor([returns], dtype=torch.float64))[0].tolist()
    return advantages


def returns_of(reward: Callable[[Step[object], AgentId], float], discount: float = 1.0) -> Returns:
    """Returns to go of a reward; at a branching point of a tree the mean over the children goes on.

    A stretch that stops in the middle of its round has earned nothing yet and comes to what its children come to.
    """

    def returns(episode: Episode[object], agent: AgentId) -> Sequence[float]:
        below = episode.then.episodes if episode.then else ()
        tail = sum(returns(child, agent)[0] for child in below) / len(below) if below else 0.0
        return returns_to_go([reward(step, agent) for step in episode.steps], discount, tail) or [tail]

    return returns


def joint_returns(discount: float = 1.0, shift: float = 0.0) -> Returns:
    """Returns to go of the joint reward."""
    return returns_of(lambda step, agent: joint_reward(step) + shift, discount)


def whole_return(discount: float = 1.0, shift: float = 0.0) -> Callable[[Episode[object]], float]:
    """The joint return of an episode from its first round."""
    returns = joint_returns(discount, shift)
    return lambda episode: returns(episode, "")[0]
