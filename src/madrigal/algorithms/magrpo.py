"""MAGRPO: multi-agent group-relative policy optimisation.

Knows: groups of episodes with a joint reward. Does not know: models, tasks, how groups were played.

    Eq. 1   A_t^(g) = R_t^(g) - 1/G * sum_g' R_t^(g')              the same advantage for every agent, no std
    Eq. 2   J(theta_i) = E[ 1/G * sum_g A_t^(g) * log pi_i(a_i,t^(g) | h_i,t^(g)) ]      no ratio, no clip, no KL

With one agent this is GRPO's group baseline without the division by the standard deviation.

References:
    Liu, Chen, Liang, Lyu, Amato, 2025, "LLM Collaboration with Multi-Agent Reinforcement Learning", arXiv:2508.04652:
    Algorithm 1 (chains: AAAI text) and the Eq. 2 of its second version (tree).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_least, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, credit_siblings, joint_returns
from madrigal.maths.advantages import group_mean, standardise
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import Group, Readings, Sample

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class Magrpo:
    """MAGRPO with the paper's choices as defaults; every departure is a visible option.

    Attributes:
        width: G, the answers of each agent that are compared with each other.
        tree: False plays G parallel chains (AAAI text); True parts again after every joint action, G ** H leaves, and
            bootstraps with the mean over the children (arXiv v2).
        crossed: judge all G ** A combinations of answers; an answer's return is the mean over those it is in.
        leaf_limit: the most episodes that one example may turn into.
        discount: of later rounds' rewards; the paper has none.
        reward_shift: added to every reward. With several rounds and positive rewards an early success would earn less
            than a late one; the authors' later configs shift coding rewards by -4, so that the best is 0.
        stop_above: a branch whose reward in a round exceeds this ends there, before the shift; None plays on. The
            later public code ends a branch when the mean over its siblings does.
        standardise: divide advantages by the group's standard deviation (on by default in the later public code).
        clip: PPO's clip range on the ratio to the log-probs at sampling; None is the paper's plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; the paper has 0.
        updates: one optimiser step per "turn", last turn first (Algorithm 1), or one per "episode".
        reduction: "sequence" sums log-probs over an answer (the paper); "token" averages over tokens.
    """

    width: int = 4
    tree: bool = False
    crossed: bool = False
    leaf_limit: int = 256
    discount: float = 1.0
    reward_shift: float = 0.0
    stop_above: float | None = None
    standardise: bool = False
    clip: float | None = None
    kl: float = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_share("discount", self.discount, "the paper has 1.0")
        check_loss(self.clip, self.kl)
        check_finite(reward_shift=self.reward_shift, stop_above=self.stop_above)
        check_least(1, leaf_limit=self.leaf_limit)

    @property
    def branching(self) -> Branching:
        at: Literal["start", "round"] = "round" if self.tree else "start"
        return Branching(self.width, at, self.crossed, self.leaf_limit, self.stop_above)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "")

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Gives every answer its group-relative advantage; returns stages of samples, last round first."""
        returns = joint_returns(self.discount, self.reward_shift)
        return credit_siblings(groups, returns, self._baseline, self.updates), memory

    def _baseline(self, returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        advantages = group_mean(returns)
        return standardise(advantages) if self.standardise else advantages

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
