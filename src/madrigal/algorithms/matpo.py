"""MATPO: what the final answer earned is credited to every turn of every agent that led to it.

Knows: groups of episodes. Does not know: models, tasks, how groups were played.

    A^(g) = (r_last^(g) - mean_g r_last) / std_g r_last          for all turns of episode g

r_last is the joint reward of the episode's last round, whenever that was; rewards of earlier rounds are not read. A
worker's turns are right whenever the final answer is, so episodes that ended early stay in the comparison.

References:
    "MATPO", 2025, arXiv:2510.04678: one model plays planner and workers; 8 rollouts of a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_loss, check_width
from madrigal.algorithms.episodes import final_reward, inherited
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, in_stages
from madrigal.maths.advantages import standard_score
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Matpo:
    """MATPO.

    Attributes:
        width: G, the episodes of each example; the paper has 8.
        clip: PPO's clip range on the ratio to the log-probs at sampling; the default is GRPO's.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 8
    clip: float | None = 0.2
    kl: float = 0.0
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_loss(self.clip, self.kl)

    @property
    def updates(self) -> Updates:
        """All turns of an episode have one advantage, and are learned from at once."""
        return "episode"

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "")

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares the final rewards of whole episodes."""
        samples = [sample for group in groups for sample in inherited(group, final_reward, standard_score)]
        return in_stages(samples, "episode"), memory

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
