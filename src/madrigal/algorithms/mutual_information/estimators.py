"""PMIC's dual estimators: how both bounds learn from the buffers, and what they say of pairs.

    lower bound   learns from the positive buffer, up the bound itself        (bounds.jsd_parts)
    upper bound   learns from the negative buffer, up the likelihood of u     (bounds.log_likelihoods)

References:
    Li et al., 2022, "PMIC", arXiv:2203.08553, and its public code. Comparing within a task, and the scale, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from madrigal.algorithms.mutual_information.bounds import (
    club_parts,
    gaussian_weights,
    jsd_parts,
    log_likelihoods,
    score_weights,
    scores,
)
from madrigal.algorithms.mutual_information.buffers import Buffers, Entry
from madrigal.algorithms.mutual_information.networks import Network, Weights, fresh, network_from_json, stepped
from madrigal.algorithms.mutual_information.pairs import Pair, Standardized, Within, comparable, scale_of


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
class Dual:
    """Both estimators.

    Attributes:
        lower: scores pairs, for the lower bound.
        upper: expects an action of a state, for the upper bound.
    """

    lower: Network
    upper: Network

    def parts(self, rounds: Standardized) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """What each pair adds to the lower and to the upper bound, in nats."""
        scored = scores(self.lower.weights, rounds.s, rounds.u)
        upper = club_parts(self.upper.weights, rounds.s, rounds.u, rounds.together)
        return jsd_parts(scored, rounds.together), upper

    def fitted(self, buffers: Buffers, within: Within, how: Fitting) -> Dual:
        """Both after they have learned from the comparable entries of their own buffer."""
        good, poor = _chosen(buffers.positive, within), _chosen(buffers.negative, within)
        if not good and not poor:
            return self
        scale = scale_of(buffers.pairs)
        return Dual(
            climbed(self.lower, lower_bound, scale(good, within), how),
            climbed(self.upper, likelihood, scale(poor, within), how),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON value from which `dual_from_json` makes the very same numbers."""
        return {"lower": self.lower.to_json(), "upper": self.upper.to_json()}


def new_dual(state: int, action: int) -> Dual:
    """Networks that have not learned yet, of states and actions of so many numbers."""
    return Dual(fresh(score_weights(state, action)), fresh(gaussian_weights(state, action)))


def dual_from_json(value: Mapping[str, Any]) -> Dual:
    """What `Dual.to_json` wrote down."""
    return Dual(network_from_json(value["lower"]), network_from_json(value["upper"]))


def lower_bound(weights: Weights, rounds: Standardized) -> Float[Tensor, ""]:
    """What the lower bound's network maximises: the bound, in nats."""
    return jsd_parts(scores(weights, rounds.s, rounds.u), rounds.together).mean()


def likelihood(weights: Weights, rounds: Standardized) -> Float[Tensor, ""]:
    """What the upper bound's network maximises: the mean log-likelihood of actions, in nats."""
    return log_likelihoods(weights, rounds.s, rounds.u).mean()


def climbed(
    network: Network, objective: Callable[[Weights, Standardized], Tensor], rounds: Standardized, how: Fitting
) -> Network:
    """A network after steps up its objective; what each step draws depends on how many were made before.

    Nothing to learn from leaves it as it is.
    """
    for _ in range(how.steps if len(rounds.contexts) else 0):
        network = stepped(network, _down(objective, rounds.drawn(how.batch, network.count)), how.lr)
    return network


def _down(objective: Callable[[Weights, Standardized], Tensor], rounds: Standardized) -> Callable[[Weights], Tensor]:
    return lambda weights: -objective(weights, rounds)


def _chosen(entries: Sequence[Entry], within: Within) -> list[Pair]:
    pairs = [pair for _, pair in entries]
    return [pairs[n] for n in comparable(pairs, within)]
