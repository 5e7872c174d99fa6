"""Two bounds on mutual information that are learned from pairs: a lower one that scores pairs, and CLUB from above.

Both bounds are means over pairs, and each pair's part of that mean is what a pair is paid for: the functions below
return the parts. Which pairs stand for chance is said by a matrix: `together[i, j]` holds where pair j could have been
pair i's. Comparing within one context (one task, say) measures what is shared given that context:

    together everything         I(s; u)
    together within context     I(s; u | context)

Shapes: B pairs, S numbers of a state, U numbers of a joint action.

References:
    Li et al., 2022, "PMIC: Improving Multi-Agent Reinforcement Learning with Progressive Mutual Information
    Collaboration", arXiv:2203.08553, and its public code. Belghazi et al., 2018, "MINE", arXiv:1801.04062. Hjelm et
    al., 2019, "Learning deep representations by mutual information estimation and maximization", arXiv:1808.06670.
    Cheng et al., 2020, "CLUB: A Contrastive Log-ratio Upper Bound of Mutual Information", arXiv:2006.12013.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from madrigal.algorithms.mutual_information.networks import Weights, layer, linear

EMBEDDED = 32  # numbers that each side of a pair is embedded in before they are multiplied
HIDDEN = 32  # of each of CLUB's two networks; the public code is told 64 and halves it
LN2 = math.log(2.0)


def score_weights(state: int, action: int, seed: int = 0) -> Weights:
    """First weights of `scores`: see `networks.layer`."""
    draw = torch.Generator().manual_seed(seed)
    return {**layer("state", state, EMBEDDED, draw), **layer("action", action, EMBEDDED, draw)}


def gaussian_weights(state: int, action: int, seed: int = 0) -> Weights:
    """First weights of `gaussian`, drawn likewise."""
    draw = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for part in ("mean", "spread"):
        weights |= {**layer(f"{part}_in", state, HIDDEN, draw), **layer(f"{part}_out", HIDDEN, action, draw)}
    return weights


def scores(weights: Weights, s: Float[Tensor, "B S"], u: Float[Tensor, "B U"]) -> Float[Tensor, "B B"]:
    """How well joint action i goes with state j, for all i and j.

    T_ij = leaky_relu(W_u u_i + b_u) . leaky_relu(W_s s_j + b_s)
    """
    actions = functional.leaky_relu(linear(weights, "action", u))
    return actions @ functional.leaky_relu(linear(weights, "state", s)).t()


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


def gaussian(weights: Weights, s: Float[Tensor, "B S"]) -> tuple[Float[Tensor, "B U"], Float[Tensor, "B U"]]:
    """Mean and log-variance of q(u | s), a Gaussian with a diagonal covariance.

    The log-variance ends in a tanh, as in the public code: between -1 and 1, so that no pair can be worth without
    bound. Vectors should have about unit variance, therefore.
    """
    mean = linear(weights, "mean_out", functional.relu(linear(weights, "mean_in", s)))
    spread = linear(weights, "spread_out", functional.relu(linear(weights, "spread_in", s)))
    return mean, torch.tanh(spread)


def log_likelihoods(weights: Weights, s: Float[Tensor, "B S"], u: Float[Tensor, "B U"]) -> Float[Tensor, " B"]:
    """ln q(u_i | s_i) in nats, without the constant -U/2 ln 2 pi."""
    mean, spread = gaussian(weights, s)
    return (-((u - mean) ** 2) / (2 * spread.exp()) - spread / 2).sum(-1)


def club_parts(
    weights: Weights,
    s: Float[Tensor, "B S"],
    u: Float[Tensor, "B U"],
    together: Bool[Tensor, "B B"],
) -> Float[Tensor, " B"]:
    """What each pair adds to CLUB, an upper bound where q(u | s) is close to p(u | s), in nats.

        C_i = ln q(u_i | s_i) - mean_{j together} ln q(u_j | s_i)

    The mean over j includes i itself. A pair that is together with no other one adds 0.
    """
    mean, spread = gaussian(weights, s)
    share = (together | torch.eye(len(s), dtype=torch.bool)).to(s.dtype)
    share = share / share.sum(-1, keepdim=True)
    # The mean over j of (u_j - mean_i)^2 from two moments: no tensor of B x B x U is made.
    apart = share @ u**2 - 2 * mean * (share @ u) + mean**2
    return ((apart - (u - mean) ** 2) / (2 * spread.exp())).sum(-1)
