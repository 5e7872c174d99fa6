"""Leave-one-out team credit: an answer is worth what the round would have lost without it.

Knows: groups of episodes, and what each round would have come to without each agent (`Step.without`). Does not know:
models, tasks, how a round without somebody was judged.

    D_{i,t} = r_t - r_t^{-i}                              the joint reward of the round, minus the same without agent i
    X_{i,t} = (1 - share) * R_t + share * D_{i,t}         R_t the joint return to go
    A_{i,t} = (X_{i,t} - mean X_{i,t}) / sigma            the mean over the group, sigma see `scale`

A teammate's good answer raises R_t of everybody and no D but its own. What an answer moves others to say in later
rounds is in R_t only: D sees the direct effect, which is why the two are mixed.

References:
    Qiu, Xu, Yue, 2025, "Reinforcement Learning-Augmented LLM Agents for Collaborative Decision Making and Performance
    Optimization", arXiv:2512.24609: group-relative advantages, leave-one-out team credit "without the current move",
    batch-scaled rewards. How the move is taken away, how the credits are joined and what is scaled is not published:
    a silent agent (the action ""), the mixture and the deviation over the batch are our reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from madrigal.algorithms import Needs
from madrigal.algorithms.checks import check_finite, check_loss, check_share, check_width
from madrigal.algorithms.objective import Reduction, objective
from madrigal.algorithms.siblings import Returns, Updates, compared, in_stages, joint_returns, siblings
from madrigal.maths.advantages import group_mean, standardise
from madrigal.maths.batch import Batch, PolicyOutput
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, Episode, Group, Readings, Sample, Step, TrainingError, joint_reward

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class LeaveOneOutTeam:
    """Group-relative advantages of what each agent added to its team. No number of the paper is known: all are ours.

    Attributes:
        width: K, the episodes of each example.
        share: of the credit that is the agent's own part, 1 for nothing else, 0 for the joint return alone.
        scale: what advantages are divided by: the deviation of the "batch", one number for all agents and examples of
            the step, which keeps the weight of groups with little spread small; of each "group" of answers, as in
            GRPO; or nothing ("none").
        discount: of later rounds' rewards.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling; the default is GRPO's.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.
        updates: one optimiser step per "turn", last turn first, or one per "episode".
        reduction: "sequence" sums log-probs over an answer; "token" averages over tokens.
    """

    width: int = 4
    share: float = 0.5
    scale: Literal["batch", "group", "none"] = "batch"
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: float | None = 0.2
    kl: float = 0.0
    updates: Updates = "turn"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_width(self.width)
        check_share("share", self.share, "0.5 is half each")
        check_share("discount", self.discount, "1.0 is usual")
        check_loss(self.clip, self.kl)
        check_finite(reward_shift=self.reward_shift)

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", without=self.share > 0)

    def begin(self) -> Memory:
        return {}

    def credit(
        self, groups: Sequence[Group[object]], memory: Memory, readings: Readings
    ) -> tuple[list[list[Sample]], Memory]:
        """Compares what each agent's answers added with what its answers added in the sibling episodes."""
        found = list(siblings(groups, added(self.share, self.discount, self.reward_shift)))
        rows = [compared(each.returns, self._baseline) for each in found]
        if self.scale == "batch":
            rows = on_one_scale(rows)
        samples = [s for each, row in zip(found, rows, strict=True) for s in each.credited(row)]
        return in_stages(samples, self.updates), memory

    def _baseline(self, returns: Tensor) -> Tensor:
        return standardise(group_mean(returns)) if self.scale == "group" else group_mean(returns)

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def on_one_scale(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """All advantages of a step divided by their common deviation; without spread in any group all are 0.

    >>> on_one_scale([[2.0, -2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])[0]
    [2.0, -2.0]
    """
    together = torch.tensor([[advantage for row in rows for advantage in row]], dtype=torch.float64)
    scaled = iter(standardise(together)[0].tolist())
    return [[next(scaled) for _ in row] for row in rows]


def added(share: float, discount: float = 1.0, shift: float = 0.0) -> Returns:
    """X of the module's docstring: the joint return to go, mixed with what an agent itself added to each round."""
    to_go = joint_returns(discount, shift)

    def returns(episode: Episode[object], agent: AgentId) -> Sequence[float]:
        own = [difference(step, agent) if share else 0.0 for step in episode.steps]
        return [(1 - share) * joint + share * part for joint, part in zip(to_go(episode, agent), own, strict=True)]

    return returns


def difference(step: Step[object], agent: AgentId) -> float:
    """D of the module's docstring; 0 for an agent that said nothing in the round.

    Raises:
        TrainingError: if nobody judged the round without its speakers, or the result is no finite number.
    """
    if not step.without:
        raise TrainingError(
            "leave_one_out_team: expected rounds that were also judged without each agent (Step.without), got none; "
            "play them with the judge of madrigal.rollouts.counterfactual_rewards.leaving_one_out"
        )
    found = joint_reward(step) - step.without.get(agent, joint_reward(step))
    if not math.isfinite(found):
        raise TrainingError(
            f"leave_one_out_team: expected a finite reward without {agent}, got {step.without[agent]}; mend the reward"
        )
    return found
