"""Independent GRPO: every agent learns from its own reward, as if its teammates were part of the world.

Knows: groups of episodes with a reward for each agent. Does not know: models, tasks, how groups were played.

    A_{i,t}^(g) = (R_{i,t}^(g) - mean_g R_{i,t}) / std_g R_{i,t}

    R_{i,t} the return to go of agent i's own rewards

What a shared reward is measured against. Each agent may settle where it alone cannot gain, short of what all could
have: in the matrix game of appendix A of arXiv:2508.04652v2 own rewards reach 7 of 10.

References:
    Shao et al., 2024, "DeepSeekMath" (GRPO), arXiv:2402.03300, once per agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, credit_siblings, own_returns
from madrigal.maths.advantages import standard_score
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class IndependentGrpo:
    """GRPO for each agent on its own.

    Attributes:
        width: G, the answers of each agent that are compared with each other.
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling; None is the plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimiser step per "turn", last turn first, or one per "episode".
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: float | None = 0.2
    kl: float = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(self.clip, self.kl)
        check_finite(reward_shift=self.reward_shift)

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", rewards="own", reads_own=True)

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares every answer with its siblings by what its own agent earned."""
        returns = own_returns(self.discount, self.reward_shift)
        return credit_siblings(groups, returns, standard_score, self.updates), memory

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
