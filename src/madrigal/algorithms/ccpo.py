"""CCPO: what the thinker adds to the reasoner, who also solves every example alone.

    D  = R_joint - R_solo                                         pair k of an example with pair k
    r1 = tanh(alpha * z(D))                                       thinker: everyone who speaks before the last
    g  = sigmoid(eta * mu_D / (sigma_D + eps))                    does thinking help, so far?
    r2 = g * z(R_joint) + (1 - g) * z(R_solo)                     reasoner: who speaks last
    z(x) = (x - mu_x) / (sigma_x + eps)                           history, see `History`
    A_i = (r_i - mean r_i) / (std r_i + epsilon)                  over the rollouts of an example, GRPO

These are the formulas that the public code executes; a docstring in the same file of it describes Shapley values, which
it does not compute. Until there is history r1 = D and r2 = R_joint. An agent that falls silent is something the others
have not met in training: C3 argues for other words of it instead.

References:
    Li et al., 2026, "Counterfactual Credit Policy Optimization" (CCPO), arXiv:2603.21563, and its public code.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any, Literal

from madrigal.algorithms import Name, Needs
from madrigal.algorithms.answer_groups import advantages_of, whole_return
from madrigal.algorithms.checks import check_least, check_positive, check_share, check_usual
from madrigal.algorithms.objective import Reduction, Updates, objective, optimizer_steps
from madrigal.rollouts.branching import Branching
from madrigal.settings import EPSILON as TRL_EPSILON
from madrigal.types import Group, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

Memory = dict[str, Any]
HISTORIES = ("delta", "joint", "solo")
THINKER, REASONER = range(2)  # the places of their rewards in a pair (r1, r2), and in whose turn they learn
EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class History:
    """A moving average of the mean and of the variance of what each step has brought.

        mu <- decay * mu + (1 - decay) * mean(x)          the first step's own, as it is
        v  <- decay * v  + (1 - decay) * var(x)           var of the population; sigma = sqrt(v), 1 where v <= eps

    >>> History().after([1.0, 3.0], decay=0.99).after([2.0, 2.0], decay=0.5)
    History(mean=2.0, variance=0.5, count=4)
    """

    mean: float = 0.0
    variance: float = 1.0
    count: int = 0

    @property
    def sigma(self) -> float:
        return math.sqrt(self.variance) if self.variance > EPSILON else 1.0

    def z(self, value: float) -> float:
        """How far a value lies from the center, in standard deviations."""
        return (value - self.mean) / (self.sigma + EPSILON)

    def after(self, values: Sequence[float], decay: float) -> History:
        """This history and one more step."""
        mean, variance, count = fmean(values), pvariance(values), self.count + len(values)
        kept = decay if self.count else 0.0
        return History(kept * self.mean + (1 - kept) * mean, kept * self.variance + (1 - kept) * variance, count)


@dataclass(frozen=True, slots=True)
class Ccpo:
    """CCPO with the settings of the public code; who thinks and who reasons is the speaking order.

    Attributes:
        width: joint rollouts of an example, each beside one of the reasoner alone; 4 in the public code.
        alpha: sensitivity of the thinker's reward.
        eta: sharpness of the reasoner's gate.
        decay: of the moving averages.
        history: outcomes that must have been seen before they are normalized.
        alternate: steps after which training passes from thinker to reasoner and back, 10 in the public code; 0 trains
            all that learn in every step, so that beside a frozen thinker the reasoner does, and the other way round.
        ddof: 1 divides the rewards of a role by the sample's deviation, as TRL does; 0 by the population's.
        epsilon: added to that deviation; TRL's.
        discount: of later rounds' rewards; the paper has one round.
        reward_shift: added to every reward.
        clip: PPO's clip range on the ratio to the log-probs at sampling. The public code takes one ratio per turn;
            this is one per token, and the default is PPO's.
        kl: weight of the k3 estimate of KL(policy || reference) in the loss, nats per token; off in the public code.
    """

    name: Name = "ccpo"
    width: int = 4
    alpha: float = 1.0
    eta: float = 1.0
    decay: float = 0.99
    history: int = 10
    alternate: int = 10
    ddof: Literal[0, 1] = 1
    epsilon: float = TRL_EPSILON
    discount: float = 1.0
    reward_shift: float = 0.0
    clip: float | None = 0.2
    kl: float = 0.0
    updates: Updates = "episode"
    reduction: Reduction = "sequence"

    def __post_init__(self) -> None:
        check_usual(self.width, self.discount, self.reward_shift, self.clip, self.kl)
        check_share("decay", self.decay, "the public code has 0.99")
        check_positive("the public code has 1.0", alpha=self.alpha, eta=self.eta)
        check_least(0, "TRL has 1e-4", epsilon=self.epsilon)
        check_least(0, "the public code has 10", history=self.history, alternate=self.alternate)

    @property
    def branching(self) -> Branching:
        return Branching(self.width, solo=True)

    @property
    def needs(self) -> Needs:
        return Needs(reference="loss" if self.kl > 0 else "", agents=2, all_learn=self.alternate > 0)

    def begin(self) -> Memory:
        return {"step": 0, **{name: list(astuple(History())) for name in HISTORIES}}

    def credit(self, groups: Sequence[Group[object]], memory: Memory) -> tuple[list[list[Sample]], Memory]:
        """Rewards thinkers and reasoners apart, by the history before this step; then adds this step to it."""
        known = [History(*memory[name]) for name in HISTORIES]
        pairs = [self._outcomes(group) for group in groups]
        trained = (THINKER, REASONER) if not self.alternate else (memory["step"] // self.alternate % 2,)
        samples = [
            sample
            for group, outcomes in zip(groups, pairs, strict=True)
            for sample in self._samples(group, self._rewards(outcomes, *known), trained)
        ]
        new = zip(*[(together - alone, together, alone) for each in pairs for together, alone in each], strict=True)
        moved = [history.after(values, self.decay) for history, values in zip(known, new, strict=True)]
        rows = {name: list(astuple(history)) for name, history in zip(HISTORIES, moved, strict=True)}
        return optimizer_steps(samples, self.updates), {"step": memory["step"] + 1, **rows}

    def report(self, memory: Memory) -> dict[str, float]:
        """What thinking has brought so far: moving averages in units of reward, and the reasoner's gate, 0 to 1."""
        known = {name: History(*memory[name]) for name in HISTORIES}
        return {**{name: history.mean for name, history in known.items()}, "gate": self._gate(known["delta"])}

    def _outcomes(self, group: Group[object]) -> list[tuple[float, float]]:
        """R_joint and R_solo of each pair: rollout k, and the k-th of the reasoner alone."""
        outcome = whole_return(self.discount, self.reward_shift)
        return [(outcome(together), outcome(alone)) for together, alone in zip(group.episodes, group.solo, strict=True)]

    def _rewards(
        self, pairs: Sequence[tuple[float, float]], delta: History, joint: History, solo: History
    ) -> list[tuple[float, float]]:
        """r1 and r2 of each pair of outcomes, together and alone."""
        if delta.count < self.history:
            return [(together - alone, together) for together, alone in pairs]
        gate = self._gate(delta)
        return [
            (
                math.tanh(self.alpha * delta.z(together - alone)),
                gate * joint.z(together) + (1 - gate) * solo.z(alone),
            )
            for together, alone in pairs
        ]

    def _gate(self, delta: History) -> float:
        """How much the reasoner is paid for what it came to with the thinkers, rather than alone."""
        return sigmoid(self.eta * delta.mean / (delta.sigma + EPSILON))

    def _samples(
        self, group: Group[object], rewards: Sequence[tuple[float, float]], trained: Collection[int]
    ) -> Iterator[Sample]:
        """Samples of the turns of all trained roles, each role compared with its own siblings."""
        from madrigal.maths.advantages import group_zscore

        roles = [list(role) for role in zip(*rewards, strict=True)]
        advantages = [advantages_of(role, lambda row: group_zscore(row, self.ddof, self.epsilon)) for role in roles]
        reasoner = group.solo[0].turns[0].agent  # who spoke alone
        for k, episode in enumerate(group.episodes):
            for turn in episode.turns:
                role = REASONER if turn.agent == reasoner else THINKER
                if role in trained:
                    yield Sample(turn, advantages[role][k], roles[role][k])

    def loss(self, output: PolicyOutput, batch: Batch) -> Tensor:
        return objective(output, batch, clip=self.clip, kl=self.kl, reduction=self.reduction)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), of an x of at most 20 to either side, as in the public code.

    >>> sigmoid(0.0)
    0.5
    """
    return 1 / (1 + math.exp(-min(20.0, max(-20.0, x))))
