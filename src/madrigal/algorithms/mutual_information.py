"""Two learned bounds on the mutual information of what a team was shown (s) and what it said (u).

    lower bound   the Jensen-Shannon bound; its network learns from the positive buffer, up the bound itself
    upper bound   CLUB; its network q(u | s) learns from the negative buffer, up the likelihood of u

A bound is a mean over pairs, and a pair is paid for its part of the mean, so the functions return the parts. Pairs are
compared with pairs of the same context only: of one context for all, this estimates I(s; u); of one context per task,
I(s; u | task). Vectors are standardized, number by number, over all pairs that are kept.

Shapes: B pairs, S numbers of a state, U numbers of a joint action. All in float64.

References:
    Li et al., 2022, "PMIC: Improving Multi-Agent Reinforcement Learning with Progressive Mutual Information
    Collaboration", arXiv:2203.08553, and its public code. Belghazi et al., 2018, "MINE", arXiv:1801.04062. Hjelm et
    al., 2019, "Learning deep representations by mutual information estimation and maximization", arXiv:1808.06670.
    Cheng et al., 2020, "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information", arXiv:2006.12013. Comparing
    within a task, and the standardization, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from madrigal.algorithms.buffers import Buffers, Entry, Within, comparable, contexts_of

Json = dict[str, Any]
FLAT = 1e-6  # a number that varies less than this over all pairs is not divided by its spread
EMBEDDED = 32  # numbers that each side of a pair is embedded in before they are multiplied
HIDDEN = 32  # of each of CLUB's two networks; the public code halves its setting of 64
LN2 = math.log(2.0)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs as standardized tensors.

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

    def drawn(self, most: int, seed: int) -> Pairs:
        """At most `most` of them, as the seed decides; those of one context stay together as far as they fit."""
        if len(self.contexts) <= most:
            return self
        draw = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self.contexts), generator=draw)
        rank = torch.rand(int(self.contexts.max()) + 1, generator=draw)[self.contexts[shuffled]]
        chosen = shuffled[rank.argsort(stable=True)][:most]
        return Pairs(self.s[chosen], self.u[chosen], self.contexts[chosen])


def standardized(entries: Sequence[Entry], buffers: Buffers, within: Within) -> Pairs:
    """Entries (at least one) as tensors, minus the mean and divided by the spread of all that both buffers hold."""
    kept = [*buffers.positive, *buffers.negative]
    names = contexts_of(entries, within)
    numbers = {name: n for n, name in enumerate(dict.fromkeys(names))}
    contexts = torch.tensor([numbers[name] for name in names])
    s = _scaled([entry["state"] for entry in entries], [entry["state"] for entry in kept])
    u = _scaled([entry["action"] for entry in entries], [entry["action"] for entry in kept])
    return Pairs(s, u, contexts)


def _scaled(vectors: Sequence[Sequence[float]], kept: Sequence[Sequence[float]]) -> Float[Tensor, "B D"]:
    every = torch.tensor(kept, dtype=torch.float64)
    spread = every.std(0, correction=0)
    return (torch.tensor(vectors, dtype=torch.float64) - every.mean(0)) / torch.where(spread > FLAT, spread, 1.0)


def lower_network(state: int, action: int, seed: int = 0) -> nn.ModuleDict:
    """The network of `scores`, before it has learned."""
    draw = torch.Generator().manual_seed(seed)
    return nn.ModuleDict({"state": _linear(state, EMBEDDED, draw), "action": _linear(action, EMBEDDED, draw)})


def upper_network(state: int, action: int, seed: int = 0) -> nn.ModuleDict:
    """The network of `gaussian`, before it has learned.

    The log-variance ends in a tanh, as in the public code: between -1 and 1, so that no pair can be worth without
    bound.
    """
    draw = torch.Generator().manual_seed(seed)
    mean = nn.Sequential(_linear(state, HIDDEN, draw), nn.ReLU(), _linear(HIDDEN, action, draw))
    spread = nn.Sequential(_linear(state, HIDDEN, draw), nn.ReLU(), _linear(HIDDEN, action, draw), nn.Tanh())
    return nn.ModuleDict({"mean": mean, "spread": spread})


def _linear(inputs: int, outputs: int, draw: torch.Generator) -> nn.Linear:
    """Weights as they are usually drawn, uniform within 1/sqrt(inputs), without torch's global random state."""
    layer = nn.Linear(inputs, outputs, dtype=torch.float64, device="meta").to_empty(device="cpu")
    uniform = torch.rand((outputs, inputs + 1), generator=draw, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        layer.weight.copy_(uniform[:, :-1] / math.sqrt(inputs))
        layer.bias.copy_(uniform[:, -1] / math.sqrt(inputs))
    return layer


def scores(network: nn.ModuleDict, pairs: Pairs) -> Float[Tensor, "B B"]:
    """How well joint action i goes with state j: T_ij = leaky_relu(W_u u_i + b_u) . leaky_relu(W_s s_j + b_s)."""
    actions = functional.leaky_relu(network["action"](pairs.u))
    return actions @ functional.leaky_relu(network["state"](pairs.s)).t()


def jsd_parts(scores: Float[Tensor, "B B"], together: Bool[Tensor, "B B"]) -> Float[Tensor, " B"]:
    """What each pair adds to the Jensen-Shannon lower bound, in nats.

        L_i = ln 2 - softplus(-T_ii) - mean_{j != i, together} ( softplus(T_ij) - ln 2 )

    The mean of L is at most 2 JSD(p(s,u) || p(s)p(u)), which is at most the mutual information: 2 JSD is the
    f-divergence of f(t) = t ln t - (t+1) ln((t+1)/2), and f(t) <= t ln t - t + 1 for every t. It reaches 2 ln 2 where
    pairs give each other away. A pair that is together with no other one has nothing to be compared with and adds 0.

    >>> jsd_parts(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))
    tensor([0., 0.])

    Args:
        scores: of every joint action (row) with every state (column); own ones on the diagonal.
        together: which pairs may be compared; the diagonal is not looked at.
    """
    others = (together & ~torch.eye(len(scores), dtype=torch.bool)).to(scores.dtype)
    count = others.sum(-1)
    own = LN2 - functional.softplus(-scores.diagonal())
    other = ((functional.softplus(scores) - LN2) * others).sum(-1) / count.clamp_min(1)
    return torch.where(count > 0, own - other, torch.zeros_like(own))


def gaussian(network: nn.ModuleDict, s: Float[Tensor, "B S"]) -> tuple[Float[Tensor, "B U"], Float[Tensor, "B U"]]:
    """Mean and log-variance of q(u | s), a Gaussian with a diagonal covariance."""
    return network["mean"](s), network["spread"](s)


def log_likelihoods(network: nn.ModuleDict, pairs: Pairs) -> Float[Tensor, " B"]:
    """ln q(u_i | s_i) in nats, without the constant -U/2 ln 2 pi."""
    mean, spread = gaussian(network, pairs.s)
    return (-((pairs.u - mean) ** 2) / (2 * spread.exp()) - spread / 2).sum(-1)


def club_parts(network: nn.ModuleDict, pairs: Pairs) -> Float[Tensor, " B"]:
    """What each pair adds to CLUB, an upper bound where q(u | s) is close to p(u | s), in nats.

        C_i = ln q(u_i | s_i) - mean_{j together} ln q(u_j | s_i)

    The mean over j includes i itself. A pair that is together with no other one adds 0.
    """
    mean, spread = gaussian(network, pairs.s)
    share = pairs.together.to(mean.dtype)
    share = share / share.sum(-1, keepdim=True)
    # The mean over j of (u_j - mean_i)^2 from two moments: no tensor of B x B x U is made.
    apart = share @ pairs.u**2 - 2 * mean * (share @ pairs.u) + mean**2
    return ((apart - (pairs.u - mean) ** 2) / (2 * spread.exp())).sum(-1)


def lower_bound(network: nn.ModuleDict, pairs: Pairs) -> Float[Tensor, ""]:
    """What the lower network maximizes: the bound, in nats."""
    return jsd_parts(scores(network, pairs), pairs.together).mean()


def likelihood(network: nn.ModuleDict, pairs: Pairs) -> Float[Tensor, ""]:
    """What the upper network maximizes: the mean log-likelihood of actions, in nats."""
    return log_likelihoods(network, pairs).mean()


@dataclass(frozen=True, slots=True)
class Estimator:
    """A network, float64 and on the CPU, and the Adam that trains it."""

    network: nn.ModuleDict
    adam: torch.optim.Adam

    @property
    def steps(self) -> int:
        """How many steps Adam has made."""
        return max((int(of["step"]) for of in self.adam.state.values()), default=0)

    def climb(self, objective: Callable[[nn.ModuleDict, Pairs], Tensor], pairs: Pairs, fits: int, batch: int) -> None:
        """Steps up an objective; which pairs a step draws depends on how many steps were made before."""
        for _ in range(fits):
            self.adam.zero_grad()
            objective(self.network, pairs.drawn(batch, self.steps)).backward()  # type: ignore[no-untyped-call]
            self.adam.step()

    def to_json(self) -> Json:
        """A JSON value from which `load` makes the very same numbers."""
        state: Json = _lists({"weights": self.network.state_dict(), "adam": self.adam.state_dict()["state"]})
        return state

    def load(self, state: Json) -> None:
        """Takes over what `to_json` wrote down."""
        self.network.load_state_dict(_tensors(state["weights"]))
        moments = {int(place): _tensors(of) for place, of in state["adam"].items()}
        self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})


def _lists(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return {str(key): _lists(each) for key, each in value.items()}


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}


@dataclass(frozen=True, slots=True)
class Dual:
    """The estimators of both bounds."""

    lower: Estimator
    upper: Estimator

    @torch.no_grad()
    def parts(self, pairs: Pairs) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """What each pair adds to the lower and to the upper bound, in nats."""
        return jsd_parts(scores(self.lower.network, pairs), pairs.together), club_parts(self.upper.network, pairs)

    def fit(self, buffers: Buffers, within: Within, fits: int, batch: int) -> None:
        """Lets each make `fits` steps on at most `batch` comparable entries of its own buffer, where there are any."""
        sides = (buffers.positive, self.lower, lower_bound), (buffers.negative, self.upper, likelihood)
        for entries, estimator, objective in sides:
            chosen = [entries[n] for n in comparable(entries, within)]
            if chosen:
                estimator.climb(objective, standardized(chosen, buffers, within), fits, batch)


def new_dual(state: int, action: int, lr: float) -> Dual:
    """Estimators of states and actions of so many numbers that have not learned yet."""
    networks = lower_network(state, action), upper_network(state, action)
    lower, upper = (Estimator(each, torch.optim.Adam(each.parameters(), lr, maximize=True)) for each in networks)
    return Dual(lower, upper)
