"""Actor-critic: an answer is compared with what a critic expected of it. IPPO, MAPPO, CoLLM-DC and CoLLM-CC.

Four published methods are one, with other settings:

    method     critic sees      is asked     advantage         loss                reward
    ippo       own history      each token   GAE               clipped surrogate   own
    mappo      joint history    each token   GAE               clipped surrogate   joint
    collm_dc   own history      each turn    TD error          policy gradient     own
    collm_cc   joint history    each turn    TD error          policy gradient     joint

    token   delta_i = V(i+1) - V(i) inside an answer; its last token's delta is r_t + discount V(h_{t+1}) - V
            A_i = delta_i + lambda A_{i+1}, on through the agent's later answers to the end of the episode
    turn    A = r_t + discount V(h_{t+1}) - V(h_t) for the whole answer; that is GAE over turns with lambda = 0

A step is a token or a turn; either way the chain runs over the agent's own steps of the whole episode. The reward of a
round comes after the last of them in that round. Tokens of one answer are not discounted against each other: discount
is between rounds. The return that the critic learns is A + V.

References:
    de Witt et al., 2020, "Is Independent Learning All You Need in the StarCraft Multi-Agent Challenge?" (IPPO),
    arXiv:2011.09533; Yu et al., 2021, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games" (MAPPO),
    arXiv:2103.01955; Liu, Chen, Amiri, Amato, 2026, "Learning Decentralized LLM Collaboration with Multi-Agent Actor
    Critic" (CoLLM-CC, CoLLM-DC), arXiv:2601.21972; Schulman et al., 2017, arXiv:1707.06347.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from madrigal.algorithms import CriticNeed, Name, Needs
from madrigal.algorithms.checks import check_least, check_positive, check_share, check_usual
from madrigal.algorithms.objective import Clip, Kl, Reduction, in_minibatches, objective
from madrigal.algorithms.scores import needed
from madrigal.maths.returns import END, Ahead, gae
from madrigal.rollouts.branching import Branching
from madrigal.types import AgentId, ConfigError, Episode, Group, Sample, Step, Turn, joint_reward

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, float]


@dataclass(frozen=True, slots=True)
class ActorCritic:
    """One agent's policy gradient with a critic; as it comes, MAPPO.

    Attributes:
        sees: what the critic reads in training: the "own" prompt of the agent that it judges, or the "joint" history,
            the prompts of all agents of the round. Agents need no critic when they are at work.
        at: whether it is asked before each "token" of an answer, or once per "turn".
        reward: the "joint" reward, or each agent's "own"; they are the same where the task gives a joint one.
        width: episodes of each example; they are not compared with each other, so that one will do, as in CoLLM.
        discount: of the next round against this one.
        reward_shift: added to every reward.
        trace: lambda of GAE. 0 trusts the critic from the next step on, as CoLLM's TD error does; 1 does not bootstrap
            at all, as in the MAPPO that C3 compares with. PPO's usual 0.95 (MAPoRL) forgets a reward within some 50
            tokens: until a new critic knows anything, only the last words of an answer are credited.
        whiten: give the advantages of each agent and round mean 0 and variance 1. On in PPO; in CoLLM's code it is on,
            in its formula there is none.
        value_weight: of the critic's loss, half the squared error; CoLLM's 0.6 of the whole square is 1.2 here. It
            matters only where gradients are clipped, because a critic has an optimizer of its own.
        value_clip: how far from what it said before the update a value is pushed, in units of reward; MAPoRL has 0.2,
            C3 0.5, CoLLM none. None does not clip.
        epochs: how often a step's answers are learned from: MAPoRL 4, C3 1.
        minibatches: optimizer steps per epoch; the episodes of a step are dealt out to them whole. MAPoRL 8, MAPPO 1.
    """

    name: Name = "mappo"
    sees: Literal["own", "joint"] = "joint"
    at: Literal["token", "turn"] = "token"
    reward: Literal["joint", "own"] = "joint"
    width: int = 4
    discount: float = 1.0
    reward_shift: float = 0.0
    trace: float = 1.0
    whiten: bool = True
    clip: Clip = 0.2
    kl: Kl = 0.0
    value_weight: float = 0.5
    value_clip: float | None = 0.2
    epochs: int = 1
    minibatches: int = 1
    reduction: Reduction = "token"

    def __post_init__(self) -> None:
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl, least=1)
        check_share("trace", self.trace, "0.95 and 1 are usual along tokens, 0 along turns")
        check_positive("0.5 is usual", value_weight=self.value_weight, value_clip=self.value_clip)
        check_least(1, epochs=self.epochs, minibatches=self.minibatches)
        if self.epochs > 1 and self.clip is None:
            raise ConfigError(
                f"algorithm.epochs: {self.epochs} passes over the same answers need a clip on the ratio to their "
                "log-probs at sampling; set algorithm.clip, 0.2 say, or leave it at 1"
            )
        if (self.sees, self.at, self.reward) == ("joint", "turn", "own"):
            raise ConfigError(
                "algorithm.reward: one value of the joint history cannot foretell a reward of each agent; take the "
                "joint reward, or a critic that sees own histories or is asked at every token"
            )

    @property
    def branching(self) -> Branching:
        return Branching(self.width)

    @property
    def needs(self) -> Needs:
        critic = CriticNeed(self.sees, self.at, self.value_weight, self.value_clip)
        own = self.reward == "own"
        return Needs("loss" if self.kl > 0 else "", critic, minibatches=self.minibatches, reads_own=own)

    def begin(self) -> Memory:
        return {}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Credits every turn that a critic judges; returns a stage for each mini-batch of each epoch.

        Raises:
            TrainingError: if nobody has asked the critics of a turn.
        """
        samples = [
            [sample for agent in group.agents for sample in self._chain(episode, agent)[0]]
            for group in groups
            for episode in group.episodes
        ]
        stages = in_minibatches(samples, whiten=self.whiten, minibatches=self.minibatches, epochs=self.epochs)
        if self.at == "turn":
            stages = [[replace(s, token_advantages=(), token_returns=()) for s in stage] for stage in stages]
        return stages, memory

    def _chain(self, episode: Episode[object], agent: AgentId) -> tuple[list[Sample], Ahead]:
        """The agent's samples from here to the end, and how this stretch looks from before its first round.

        Where a tree branches, the mean over the children goes on.
        """
        below = [self._chain(child, agent) for child in (episode.then.episodes if episode.then else ())]
        samples = [sample for chain, _ in below for sample in chain]
        ahead = Ahead(*map(fmean, zip(*(begins for _, begins in below), strict=True))) if below else END
        for index in reversed(range(len(episode.steps))):
            ahead = ahead.after(self._reward(episode.steps[index], agent), self.discount)
            for turn in reversed(episode.turns):
                if (turn.agent, turn.round) != (agent, episode.start.round + index):
                    continue
                if values := needed(turn.scores.values, "a critic's values", self.name, turn):
                    advantages = gae([0.0] * len(values), values, trace=self.trace, ahead=ahead)
                    samples.append(_sample(turn, values, advantages))
                    ahead = Ahead(values[0], advantages[0])
        return samples, ahead

    def _reward(self, step: Step[object], agent: AgentId) -> float:
        return (joint_reward(step) if self.reward == "joint" else step.rewards[agent]) + self.reward_shift

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def _sample(turn: Turn, values: Sequence[float], advantages: Sequence[float]) -> Sample:
    returns = tuple(advantage + value for advantage, value in zip(advantages, values, strict=True))
    return Sample(turn, fmean(advantages), returns[0], token_advantages=tuple(advantages), token_returns=returns)


MAPPO = ActorCritic()
"""A critic that sees what all agents were shown and said; GAE over tokens, clipped surrogate, joint reward."""

IPPO = ActorCritic("ippo", sees="own", reward="own")
"""The same with a critic for each agent, which sees that agent's history alone and learns from its own reward."""

COLLM_CC = ActorCritic(
    "collm_cc", at="turn", trace=0.0, whiten=False, clip=None, value_weight=1.2, value_clip=None, reduction="sequence"
)
"""A central critic that is asked once a turn; the advantage is its TD error, the loss the plain policy gradient."""

COLLM_DC = replace(COLLM_CC, name="collm_dc", sees="own", reward="own")
"""The same, decentralized: a critic for each agent, which sees that agent's history and its own reward."""
