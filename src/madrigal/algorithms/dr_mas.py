"""Dr. MAS: every agent's steps are compared with its own steps only.

Knows: groups of episodes. Does not know: models, tasks, how groups were played.

    A_{i,k} = (R_i - mu_k) / sigma_k          R_i the joint return of episode i

mu_k and sigma_k (ddof 1) are over the steps in which agent k was active, in the rollouts of one example: an agent that
acts twice counts twice, one that is silent not at all. Where all agents act equally often in all episodes this is one
comparison for all; it matters where some are called in some episodes only. See `advantages.active_score` for why.

References:
    Feng, Zheng, He, Zhang, An, 2026, "Dr. MAS", arXiv:2602.08847.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.episodes import whole_return
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, in_stages
from madrigal.maths.advantages import active_score
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class DrMas:
    """Dr. MAS.

    Attributes:
        width: N, the episodes of each example; the paper has 8 for mathematics, 5 for search.
        remove_std: compare with the agent's mean without dividing by its deviation.
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling; the default is GRPO's.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; the paper has 0.
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 8
    remove_std: bool = False
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: float | None = 0.2
    kl: float = 0.0
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(self.clip, self.kl)
        check_finite(reward_shift=self.reward_shift)

    @property
    def updates(self) -> Updates:
        """All steps of an episode have one return, and are learned from at once."""
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
        """Compares the steps of each agent with each other."""
        samples = [sample for group in groups for agent in group.agents for sample in self._steps(group, agent)]
        return in_stages(samples, "episode"), memory

    def _steps(self, group: Group[object], agent: AgentId) -> Iterator[Sample]:
        outcome = whole_return(self.discount, self.reward_shift)
        active = [(turn, outcome(e)) for e in group.episodes for turn in e.turns if turn.agent == agent]
        returns = torch.tensor([value for _, value in active], dtype=torch.float64)
        advantages = active_score(returns, remove_std=self.remove_std).tolist()
        for (turn, value), advantage in zip(active, advantages, strict=True):
            yield Sample(turn, advantage, value)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
