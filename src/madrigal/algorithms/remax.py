"""MA-ReMax: every joint return is compared with that of an episode in which everyone says what is most likely.

Knows: groups of episodes with a joint reward, and the greedy episode of each. Does not know: models, tasks.

    A_t^(g) = R_t^(g) - R_t^greedy          the same for every agent

R_t^greedy is the return to go of the same round of the greedy episode. Where that episode ended earlier it is 0: no
reward is left for it to earn, as none is for a sampled episode that ended. Leaving such rounds out would be a biased
gradient, because answers that are worth something there would never be credited.

Not the MAREMAX of the public code of arXiv:2508.04652, which subtracts the best return of the group.

References:
    Li et al., 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large
    Language Models", arXiv:2310.10505.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Returns, Siblings, Updates, in_stages, joint_returns, siblings
from madrigal.maths.advantages import greedy
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Remax:
    """MA-ReMax.

    Attributes:
        width: sampled episodes of each example, beside the greedy one; they are not compared with each other. The
            paper has 1; the default is ours.
        discount: of later rounds' rewards.
        reward_shift: added to every reward, the greedy episode's too.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimiser step per "turn", last turn first, or one per "episode".
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    discount: float = 1.0
    reward_shift: float = 0.0
    kl: float = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width, least=1)
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(None, self.kl)
        check_finite(reward_shift=self.reward_shift)

    @property
    def branching(self) -> Branching:
        return Branching(self.width, greedy=True)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "")

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares every answer with what greedy play came to from its round on."""
        returns = joint_returns(self.discount, self.reward_shift)
        samples = [sample for each in siblings(groups, returns) for sample in each.credited(_advantages(each, returns))]
        return in_stages(samples, self.updates), memory

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=None, kl=self.kl, reduction=self.reduction)


def _advantages(each: Siblings, returns: Returns) -> list[float]:
    if each.group.greedy is None:
        raise ValueError("ReMax compares with a greedy episode, this group has none; play it with greedy=True")
    greedily = returns(each.group.greedy, each.agent)
    left = dict(enumerate(greedily, start=each.group.origin.round)).get(each.round, 0.0)
    sampled = torch.tensor([each.returns], dtype=torch.float64)
    row: list[float] = greedy(sampled, torch.tensor([left], dtype=torch.float64))[0].tolist()
    return row
