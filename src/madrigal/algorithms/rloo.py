"""MA-RLOO: every joint return is compared with the mean of its siblings, itself left out.

Knows: groups of episodes with a joint reward. Does not know: models, tasks, how groups were played.

    A_t^(g) = R_t^(g) - 1/(G-1) * sum_{g' != g} R_t^(g')          the same for every agent

MAGRPO's baseline contains the answer that it judges and shrinks the gradient by (G-1)/G; this one does not. With equal
groups the two differ by that factor only, and where episodes end early by one factor per round.

References:
    Ahmadian et al., 2024, "Back to Basics", arXiv:2402.14740; as MARLOO beside MAGRPO in the public code of
    arXiv:2508.04652.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, credit_siblings, joint_returns
from madrigal.maths.advantages import leave_one_out
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Rloo:
    """MA-RLOO.

    Attributes:
        width: G, the episodes of each example, which are compared with each other.
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
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
        check_width(self.width)
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(None, self.kl)
        check_finite(reward_shift=self.reward_shift)

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
        """Compares every answer with its siblings."""
        returns = joint_returns(self.discount, self.reward_shift)
        return credit_siblings(groups, returns, leave_one_out, self.updates), memory

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=None, kl=self.kl, reduction=self.reduction)
