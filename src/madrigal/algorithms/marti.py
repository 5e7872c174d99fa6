"""MARTI's reward shaping: an answer is paid for what it adds to those of earlier rounds.

    margin    R' = R + alpha * (R - Q)
    quality   R' = R + alpha * (Q * R - (1 - Q) * (1 - R))          Q the mean of rewards of earlier rounds
    outcome   R' + beta * (the agent's reward in the last round)    added in every round, the first included
    A^(g)     = R'^(g) - mean_g R'

The first round has no Q and keeps R. Credit is for the round alone, not a return to go. The published shaping leaves
the baseline to its user; ours is MAGRPO's group mean, over the same round of the sibling episodes.

References:
    MARTI's public code, `marti/verifiers/auto_reward_alloc.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import credit_by_round
from madrigal.algorithms.checks import check_finite, check_positive, check_usual
from madrigal.algorithms.objective import Clip, Kl, Reduction, Updates, objective
from madrigal.maths.returns import margin, quality
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, Episode, Group, RewardError, Sample, joint_reward

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, float]
ROUNDING = 1e-9  # a quotient may miss 1 by so much


@dataclass(frozen=True, slots=True)
class Marti:
    """MARTI's shaping before a group baseline.

    Attributes:
        width: G, the episodes of each example. Not found in the notes on the code; the default is ours.
        shaping: "margin" or "quality".
        alpha: weight of the shaping; the code has 0.5.
        with_outcome: add `beta` times the agent's last reward to each of its rounds.
        beta: weight of that outcome; the code has 0.5.
        earlier: whose earlier rewards make up Q: "own" are the agent's, as in the code's class for multi-agent debate;
            "all" are everybody's, as in its main class for debate.
        best_reward: what the best answer earns; rewards are divided by it first, since "quality" reads shares.
    """

    name: Name = "marti"
    width: int = 4
    shaping: Literal["margin", "quality"] = "margin"
    alpha: float = 0.5
    with_outcome: bool = False
    beta: float = 0.5
    earlier: Literal["own", "all"] = "own"
    best_reward: float = 1.0
    clip: Clip = None
    kl: Kl = 0.0
    updates: Updates = "episode"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_usual(self.width, clip=self.clip, kl=self.kl)
        check_finite(alpha=self.alpha, beta=self.beta)
        check_positive(best_reward=self.best_reward)

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", rounds=2, reads_own=True)

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Compares the shaped rewards of each round.

        Raises:
            RewardError: if "quality" meets a reward that is no share of the best.
        """
        from madrigal.maths.advantages import group_mean

        return credit_by_round(groups, self._shaped, group_mean, self.updates), memory

    def _shaped(self, episode: Episode[object], agent: AgentId) -> list[float]:
        """An agent's reward in each round, after shaping."""
        own = [step.rewards[agent] / self.best_reward for step in episode.steps]
        known = own if self.earlier == "own" else [joint_reward(step) / self.best_reward for step in episode.steps]
        if self.shaping == "quality":
            _check_shares([*own, *known])
        shape = margin if self.shaping == "margin" else quality
        outcome = self.beta * own[-1] if self.with_outcome else 0.0
        return [
            (shape(reward, fmean(known[:t]), self.alpha) if t else reward) + outcome for t, reward in enumerate(own)
        ]

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def _check_shares(rewards: Sequence[float]) -> None:
    for reward in rewards:
        if not -ROUNDING <= reward <= 1 + ROUNDING:
            raise RewardError(
                f"algorithm marti: quality shaping reads rewards as shares, expected 0 to 1, got {reward}; set "
                "algorithm.best_reward to what the best answer earns, or take algorithm.shaping margin"
            )
