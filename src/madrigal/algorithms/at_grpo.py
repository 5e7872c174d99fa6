"""AT-GRPO: answers are compared with those of the same agent in the same turn, drawn from the same state.

Knows: groups of one round each, of which the best goes on. Does not know: models, tasks, how groups were played.

    r_{t,i}^(k) = alpha * r_team^(k) + r_loc,i^(k)          what this round earned, not a return to go
    A_{t,i}^(k) = (r_{t,i}^(k) - mean_k r_{t,i}) / std_k r_{t,i}

Groups of plain GRPO hold chains whose later prompts differ. Here each round draws K candidates from one state, and play
goes on from the best of them: groups are keyed by (example, agent, turn), at the cost of K H joint actions, not K^H.
Credit ends with the round, so an answer that pays only later is not credited for it.

References:
    "Stronger-MAS" (AT-GRPO), 2025, arXiv:2510.11062.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Updates, credit_siblings
from madrigal.maths.advantages import standard_score
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, ConfigError, Episode, Group, Readings, Sample, joint_reward

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class AtGrpo:
    """AT-GRPO.

    Attributes:
        width: K, the candidates of each agent in each round. Not found in the paper's notes; the default is ours.
        alpha: weight of the team's reward, the mean over agents; the paper has 1.
        local: add each agent's own reward r_loc. The task must give one; where its reward is joint r_loc is 0.
        clip: PPO's clip range on the ratio to the log-probs at sampling; the default is PPO's.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimiser step per "episode", or one per "turn", last turn first.
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    alpha: float = 1.0
    local: bool = False
    clip: float | None = 0.2
    kl: float = 0.0
    updates: Updates = "episode"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_loss(self.clip, self.kl)
        check_finite(alpha=self.alpha)
        if self.alpha < 0:
            raise ConfigError(f"algorithm.alpha: expected a weight of 0 or more, got {self.alpha}; the paper has 1")
        if self.alpha == 0 and not self.local:
            raise ConfigError(
                "algorithm.alpha: 0 leaves no reward to credit, expected a positive weight such as 1.0; or set "
                "algorithm.local to credit each agent's own reward alone"
            )

    @property
    def branching(self) -> Branching:
        return Branching(self.width, at="round", follow="best")

    @property
    def needs(self) -> Needs:
        return Needs(
            reference="loss" if self.kl > 0 else "",
            rewards="own" if self.local else "any",
            otherwise="leave algorithm.local off" if self.local else "",
            reads_own=self.local,
        )

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares the candidates of each agent in each round."""
        return credit_siblings(groups, self._earned, standard_score, self.updates), memory

    def _earned(self, episode: Episode[object], agent: AgentId) -> list[float]:
        return [
            self.alpha * joint_reward(step) + (step.rewards[agent] if self.local else 0.0) for step in episode.steps
        ]

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)
