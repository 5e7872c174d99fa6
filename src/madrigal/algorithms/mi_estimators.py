"""PMIC's dual estimators: which rounds are compared with which, and how both bounds learn from the buffers.

Knows: pairs with contexts, buffers, networks. Does not know: episodes, rewards, agents.

    lower bound   learns from the positive buffer, up the bound itself        (mi_bounds.jsd_parts)
    upper bound   learns from the negative buffer, up the likelihood of u     (mi_bounds.log_likelihoods)

Vectors are standardised, number by number, over both buffers, so that what all texts have in common weighs nothing.

References:
    Li et al., 2022, "PMIC", arXiv:2203.08553, and its public code. Comparing within a task, and the scale, are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from madrigal.algorithms.mi_bounds import (
    Estimator,
    Weights,
    club_parts,
    estimator_from_json,
    fresh,
    gaussian_weights,
    jsd_parts,
    log_likelihoods,
    score_weights,
    scores,
    stepped,
)
from madrigal.algorithms.progressive_buffers import Buffers, Entry, Pair

Within = Literal["task", "all"]
FLAT = 1e-6  # a number that varies less than this over all entries is not divided by its spread


@dataclass(frozen=True, slots=True)
class Fitting:
    """How an estimator learns.

    Attributes:
        steps: of Adam, each time.
        batch: the most pairs of a step.
        lr: the learning rate.
    """

    steps: int
    batch: int
    lr: float


@dataclass(frozen=True, slots=True)
class Rounds:
    """Pairs as tensors, standardised.

    Attributes:
        s, u: states and joint actions.
        contexts: a number for each context; pairs of one context may be compared.
    """

    s: Float[Tensor, "B S"]
    u: Float[Tensor, "B U"]
    contexts: Int[Tensor, " B"]

    @property
    def together(self) -> Bool[Tensor, "B B"]:
        """Which pairs may be compared."""
        return self.contexts[:, None] == self.contexts[None]

    def drawn(self, most: int, seed: int) -> Rounds:
        """At most `most` of them, as the seed decides; those of one context stay together as far as they fit."""
        if len(self.contexts) <= most:
            return self
        draw = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self.contexts), generator=draw)
        rank = torch.rand(int(self.contexts.max()) + 1, generator=draw)[self.contexts[shuffled]]
        chosen = shuffled[rank.argsort(stable=True)][:most]
        return Rounds(self.s[chosen], self.u[chosen], self.contexts[chosen])


def comparable(pairs: Sequence[Pair], within: Within) -> list[int]:
    """The places of pairs whose context holds more than one state.

    Where all were shown the same, what was done shares nothing with what was shown: there is nothing to estimate, and a
    network could only guess.

    >>> one, other = Pair("a", (0.0,), (1.0,)), Pair("b", (1.0,), (1.0,))
    >>> comparable([one, other], "task"), comparable([one, other], "all")
    ([], [0, 1])
    """
    shown: dict[str, set[tuple[float, ...]]] = defaultdict(set)
    for pair in pairs:
        shown[_context(pair, within)].add(pair.state)
    return [n for n, pair in enumerate(pairs) if len(shown[_context(pair, within)]) > 1]


def _context(pair: Pair, within: Within) -> str:
    return pair.context if within == "task" else ""


def _chosen(entries: Sequence[Entry], within: Within) -> list[Pair]:
    pairs = [pair for _, pair in entries]
    return [pairs[n] for n in comparable(pairs, within)]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread of every number of states and actions.

    Attributes:
        state, action: a row of means and a row of standard deviations.
    """

    state: Float[Tensor, "2 S"]
    action: Float[Tensor, "2 U"]

    def __call__(self, pairs: Sequence[Pair], within: Within) -> Rounds:
        """Pairs as tensors, standardised."""
        s, u = _columns(pairs)
        s, u = s.reshape(len(pairs), self.state.shape[1]), u.reshape(len(pairs), self.action.shape[1])
        numbers = {context: n for n, context in enumerate(dict.fromkeys(_context(pair, within) for pair in pairs))}
        contexts = torch.tensor([numbers[_context(pair, within)] for pair in pairs], dtype=torch.long)
        return Rounds((s - self.state[0]) / self.state[1], (u - self.action[0]) / self.action[1], contexts)


def scale_of(buffers: Buffers) -> Scale:
    """The scale of all that both buffers hold; they hold something."""
    s, u = _columns([pair for _, pair in (*buffers.positive, *buffers.negative)])
    return Scale(_mean_and_spread(s), _mean_and_spread(u))


def _columns(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    s = torch.tensor([pair.state for pair in pairs], dtype=torch.float64)
    return s, torch.tensor([pair.action for pair in pairs], dtype=torch.float64)


def _mean_and_spread(x: Float[Tensor, "B D"]) -> Float[Tensor, "2 D"]:
    spread = x.std(0, correction=0)
    return torch.stack([x.mean(0), torch.where(spread > FLAT, spread, torch.ones_like(spread))])


@dataclass(frozen=True, slots=True)
class Dual:
    """Both estimators.

    Attributes:
        lower: scores pairs, for the lower bound.
        upper: expects an action of a state, for the upper bound.
    """

    lower: Estimator
    upper: Estimator

    def parts(self, rounds: Rounds) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """What each pair adds to the lower and to the upper bound, in nats."""
        scored = scores(self.lower.weights, rounds.s, rounds.u)
        upper = club_parts(self.upper.weights, rounds.s, rounds.u, rounds.together)
        return jsd_parts(scored, rounds.together), upper

    def fitted(self, buffers: Buffers, within: Within, how: Fitting) -> Dual:
        """Both after they have learned from the comparable entries of their own buffer."""
        good, poor = _chosen(buffers.positive, within), _chosen(buffers.negative, within)
        if not good and not poor:
            return self
        scale = scale_of(buffers)
        return Dual(
            climbed(self.lower, lower_bound, scale(good, within), how),
            climbed(self.upper, likelihood, scale(poor, within), how),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value from which `dual_from_json` makes the very same numbers."""
        return {"lower": self.lower.to_json(), "upper": self.upper.to_json()}


def new_dual(state: int, action: int) -> Dual:
    """Estimators that have not learned yet, of states and actions of so many numbers."""
    return Dual(fresh(score_weights(state, action)), fresh(gaussian_weights(state, action)))


def dual_from_json(value: Mapping[str, Any]) -> Dual:
    """What `Dual.to_json` wrote down."""
    return Dual(estimator_from_json(value["lower"]), estimator_from_json(value["upper"]))


def lower_bound(weights: Weights, rounds: Rounds) -> Float[Tensor, ""]:
    """What the lower bound's network maximises: the bound, in nats."""
    return jsd_parts(scores(weights, rounds.s, rounds.u), rounds.together).mean()


def likelihood(weights: Weights, rounds: Rounds) -> Float[Tensor, ""]:
    """What the upper bound's network maximises: the mean log-likelihood of actions, in nats."""
    return log_likelihoods(weights, rounds.s, rounds.u).mean()


def climbed(
    estimator: Estimator, objective: Callable[[Weights, Rounds], Tensor], rounds: Rounds, how: Fitting
) -> Estimator:
    """An estimator after steps up its objective; what each step draws depends on how many were made before.

    Nothing to learn from leaves it as it is.
    """
    for _ in range(how.steps if len(rounds.contexts) else 0):
        estimator = stepped(estimator, _down(objective, rounds.drawn(how.batch, estimator.count)), how.lr)
    return estimator


def _down(objective: Callable[[Weights, Rounds], Tensor], rounds: Rounds) -> Callable[[Weights], Tensor]:
    return lambda weights: -objective(weights, rounds)
