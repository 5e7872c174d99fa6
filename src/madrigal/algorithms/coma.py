"""COMA's counterfactual baseline over crossed joint actions: what if I had answered otherwise, and nobody else?

Knows: groups in which every answer meets every combination of its partners' answers. Does not know: models, tasks, how
groups were played.

    A_i(k | a_-i) = Q(a_i^k, a_-i) - 1/(K-1) * sum_{k' != k} Q(a_i^k', a_-i)        partners' words fixed
    A_i(k)        = mean over a_-i of A_i(k | a_-i)                                   the credit of answer k

COMA's baseline is the mean of Q(., a_-i) under agent i's own policy. A critic is asked for it there; here the K answers
are drawn from that policy and all K ** A joint actions are judged, so that Q is what the task said. COMA's sum over the
policy contains the answer that it judges; of K draws it must be left out, or the baseline moves with it.

Taking the baseline before or after the mean over partners is the same, since both are linear: with baseline="mean" this
is MAGRPO with crossed=True. Left out, each advantage is K / (K - 1) times that, the same for all agents whatever their
number.

References:
    Foerster, Farquhar, Afouras, Nardelli, Whiteson, 2018, "Counterfactual Multi-Agent Policy Gradients", Eq. 4,
    arXiv:1705.08926. Judging all combinations of sampled answers in the critic's place is ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_least, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Baseline, Siblings, Updates, compared, in_stages, joint_returns, siblings
from madrigal.maths.advantages import group_mean, leave_one_out
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Coma:
    """Counterfactual baselines over all joint actions of sampled answers.

    Attributes:
        width: K, the answers of each agent; K ** A joint actions are judged, the default is ours. Over several rounds
            every joint action goes on and is crossed again.
        baseline: "leave_one_out" is the mean over the agent's other answers; "mean" over all of them.
        leaf_limit: the most episodes that one example may turn into.
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimiser step per "turn", last turn first, or one per "episode".
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    baseline: Literal["leave_one_out", "mean"] = "leave_one_out"
    leaf_limit: int = 256
    discount: float = 1.0
    reward_shift: float = 0.0
    kl: float = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(None, self.kl)
        check_finite(reward_shift=self.reward_shift)
        check_least(1, leaf_limit=self.leaf_limit)

    @property
    def branching(self) -> Branching:
        return Branching(self.width, at="round", crossed=True, limit=self.leaf_limit)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", agents=2)

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares every answer with the agent's others beside the same partners."""
        found = siblings(groups, joint_returns(self.discount, self.reward_shift))
        samples = [sample for each in found for sample in each.credited(self._advantages(each))]
        return in_stages(samples, self.updates), memory

    def _advantages(self, mine: Siblings) -> list[float]:
        returns, seat = joint_returns(self.discount, self.reward_shift), mine.group.agents.index(mine.agent)
        values = [returns(episode, mine.agent)[0] for episode in mine.group.episodes]
        choices = [episode.choice for episode in mine.group.episodes]
        return counterfactuals(values, choices, seat, leave_one_out if self.baseline == "leave_one_out" else group_mean)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=None, kl=self.kl, reduction=self.reduction)


def counterfactuals(
    values: Sequence[float], choices: Sequence[tuple[int, ...]], seat: int, baseline: Baseline
) -> list[float]:
    """The advantage of each of one agent's answers, the mean over what its partners may have said.

        >>> counterfactuals([1.0, 3.0, 5.0, 9.0], [(0, 0), (0, 1), (1, 0), (1, 1)], seat=0, baseline=leave_one_out)
        [-5.0, 5.0]

    Args:
        values: of each joint action.
        choices: for each joint action, which of its answers each agent contributed.
        seat: the agent's position in a choice.
        baseline: between answers given beside the same partners.
    """
    beside = defaultdict[tuple[int, ...], list[tuple[int, float]]](list)
    for value, choice in zip(values, choices, strict=True):
        beside[choice[:seat] + choice[seat + 1 :]].append((choice[seat], value))
    credit = defaultdict[int, list[float]](list)
    for rows in beside.values():
        answers, returns = zip(*rows, strict=True)
        for answer, advantage in zip(answers, compared(returns, baseline), strict=True):
            credit[answer].append(advantage)
    return [fmean(credit[answer]) for answer in sorted(credit)]
