"""Multi-turn GRPO: whole episodes are compared, and every turn inherits the result.

Knows: groups of episodes. Does not know: models, tasks, how groups were played.

    A_i = (R_i - mean_i R) / std_i R                         R_i the joint return of episode i
    J   = E[ 1/G sum_i  w_i  sum_t  A_i log pi(a_{i,t}) ]    as PPO's clipped surrogate
    w_i = 1          or, with `average_turns`, 1 / T_i       T_i the number of rounds of episode i

The 1/T_i is ReMA's. It makes agents lazy: of two equally good episodes the shorter one has the larger gradient in each
of its turns, so answers that skip the work and end the talk early are reinforced first. It is off here for that reason.
Dr. MAMR, which found this, adds a causal influence and a restart reward; their weights are not published and they are
not built.

References:
    ReMA, 2025, arXiv:2503.09501; "Dr. MAMR", 2025, arXiv:2511.02303.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.episodes import inherited, turns_alike, turns_averaged, whole_return
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, in_stages
from madrigal.maths.advantages import standard_score
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class MultiTurnGrpo:
    """GRPO over multi-turn episodes.

    Attributes:
        width: G, the episodes of each example. Not found in the papers' notes; the default is ours.
        average_turns: count every turn 1/T of its episode of T rounds, as ReMA does; breeds lazy agents.
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling, token by token; ReMA takes one ratio per turn.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    average_turns: bool = False
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
        """Compares the returns of whole episodes."""
        outcome = whole_return(self.discount, self.reward_shift)
        weight = turns_averaged if self.average_turns else turns_alike
        samples = [sample for group in groups for sample in inherited(group, outcome, standard_score, weight)]
        return in_stages(samples, "episode"), memory

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
