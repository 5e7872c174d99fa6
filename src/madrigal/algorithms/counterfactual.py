"""C3, contextual counterfactual credit: what one message was worth, all that was said before it held fixed.

    R_j = mean return of all that came of alternative j             a_1 .. a_K given in one and the same context h
    A_j = R_j - sum_{k != j} n_k R_k / sum_{k != j} n_k             n_k episodes came of alternative k

Every decision of every agent is a branching point, so that its alternatives differ in nothing but their words and
chance. MAGRPO's chains differ in everything that teammates said and did, and CCPO removes a teammate, which no other
agent has ever been trained to meet; alternatives of C3 stay within what the team does.

The variants of the public code that mix a learned Q(h, a) into returns and baseline (`value_only`, `value_assisted`)
are left out: the paper's own results are those of returns alone.

References:
    Chen et al., 2026, "Contextual Counterfactual Credit Assignment" (C3), arXiv:2603.06859, and its public code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import credit_by_round, joint_returns, whole_return
from madrigal.algorithms.checks import check_least, check_usual
from madrigal.algorithms.objective import Reduction, Updates, objective, optimizer_steps
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, ConfigError, Episode, Group, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, float]
Baseline = Literal["leave_one_out", "full_mean"]


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """C3 with the paper's choices as defaults; every departure is a visible option. Its `reduction` was not found.

    Attributes:
        width: alternatives of a decision whose place `fanout` does not name; 4 as in the paper's second version.
        fanout: alternatives by place in a round's speaking order; (2, 4) is the released setting for a reasoner and an
            actor, 8 episodes an example. () takes `width` everywhere. A decision with one alternative has advantage 0.
        agents: whose messages get alternatives; () is everybody's. Naming one freezes all others: its message is drawn
            again in one context each time, and nothing else is compared.
        tree: False branches along one episode only: at each of its D decisions the other alternatives are played to
            their end without branching, D * (K - 1) + 1 episodes instead of K ** D. The released code grows the tree.
        replay: False is the paper's ablation: as many chains as the fanout makes, and the messages of an agent are
            compared whatever was said before them.
        baseline: "leave_one_out" compares with the other alternatives; "full_mean", the paper's ablation, with all of
            them, which shrinks advantages by (K - 1) / K where counts are equal.
        leaf_limit: the most episodes that one example may turn into.
        discount: of later rounds' rewards; the paper has one round.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling; 0.2 in the paper.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; the paper starts an
            adaptive penalty at 0.01.
    """

    name: Name = "counterfactual"
    width: int = 4
    fanout: tuple[int, ...] = (2, 4)
    agents: tuple[AgentId, ...] = ()
    tree: bool = True
    replay: bool = True
    baseline: Baseline = "leave_one_out"
    leaf_limit: int = 256
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: float | None = 0.2
    kl: float = 0.01
    updates: Updates = "episode"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.fanout, default=1) < 1:
            raise ConfigError(
                "algorithm.fanout and algorithm.width: expected at least 1 alternative at every place, got "
                f"{self.fanout} and {self.width}; the paper has (2, 4) and 4"
            )
        if not self.replay and math.prod(self.fanout or (self.width,)) < 2:
            raise ConfigError(
                "algorithm.fanout: a group needs at least 2 answers to compare, got 1; the paper has (2, 4)"
            )
        if not self.replay and (self.agents or not self.tree):
            raise ConfigError(
                "algorithm.replay: without it play does not branch at decisions, so algorithm.agents must be empty and "
                "algorithm.tree true; take one of these back"
            )
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl, least=1)
        check_least(1, leaf_limit=self.leaf_limit)

    @property
    def branching(self) -> Branching:
        if not self.replay:
            return Branching(math.prod(self.fanout or (self.width,)), limit=self.leaf_limit)
        return Branching(
            self.width,
            at="turn",
            limit=self.leaf_limit,
            follow="all" if self.tree else "one",
            fanout=self.fanout,
            vary=self.agents,
        )

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "")

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Compares the alternatives of every decision."""
        from madrigal.maths.advantages import group_mean, leave_one_out

        if not self.replay:
            returns = joint_returns(self.discount, self.reward_shift)
            baseline = leave_one_out if self.baseline == "leave_one_out" else group_mean
            return credit_by_round(groups, returns, baseline, self.updates), memory
        samples = [sample for group in groups for sample in self._decisions(group)]
        return optimizer_steps(samples, self.updates), memory

    def _decisions(self, group: Group[object]) -> Iterator[Sample]:
        """Samples of one decision and all that follow it."""
        values = list(map(whole_return(self.discount, self.reward_shift), group.episodes))
        compare = against_the_others if self.baseline == "leave_one_out" else against_all
        advantages = compare(values, list(map(leaves, group.episodes)))
        for episode, advantage, value in zip(group.episodes, advantages, values, strict=True):
            yield Sample(episode.turns[0], advantage, value)
            if episode.then is not None:
                yield from self._decisions(episode.then)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def against_the_others(values: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Compares each alternative with the mean of the others, each of which counts as often as it was played on.

        A_j = R_j - sum_{k != j} n_k R_k / sum_{k != j} n_k

    With equal counts this is K / (K - 1) times the distance from the mean of all. An only alternative has nothing to be
    compared with and gets 0.

        >>> against_the_others([0.0, 3.0, 6.0], counts=[2, 1, 1])
        [-4.5, 1.0, 5.0]

    References:
        Chen et al., 2026, arXiv:2603.06859.
    """
    total, weight = sum(n * value for n, value in zip(counts, values, strict=True)), sum(counts)
    return [
        value - (total - n * value) / (weight - n) if weight > n else 0.0
        for n, value in zip(counts, values, strict=True)
    ]


def against_all(values: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Compares each alternative with the mean of all, itself included; the paper's ablation.

    >>> against_all([1.0, 0.0], counts=[3, 1])
    [0.25, -0.75]
    """
    mean = sum(n * value for n, value in zip(counts, values, strict=True)) / sum(counts)
    return [value - mean for value in values]


def leaves(episode: Episode[object]) -> int:
    """How many episodes came of an alternative: its replay count."""
    return 1 if episode.then is None else sum(map(leaves, episode.then.episodes))
