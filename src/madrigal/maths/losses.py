"""Per-token terms of an objective, and the only two ways to reduce them to a number.

Shapes: B rows, T tokens. Log-probs and entropies are in nats. Terms are to be *minimized*.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def policy_gradient(logprobs: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """The plain policy gradient; where an answer is credited as a whole, all its tokens carry the same advantage.

        l_{b,t} = - A_{b,t} * log pi(token_{b,t})

    Eq. 2 of MAGRPO: no importance ratio, hence nothing to clip.

    References:
        Liu et al., 2025, Eq. 2, arXiv:2508.04652; Williams, 1992.
    """
    return -advantages * logprobs


def negative_log_likelihood(logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """The cross entropy of given tokens.

        l_{b,t} = - log pi(token_{b,t})

    Log-probs are of the distribution that is sampled, temperature and cuts included. Fitted to its own samples, a
    policy then stays where it is in expectation, E[grad log pi] = 0: what moves it is the choice among them. Fitted at
    temperature 1 to what was sampled at 0.8, it would become more certain by that alone.
    """
    return -logprobs


def clipped_surrogate(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    clip: float,
) -> Float[Tensor, "B T"]:
    """PPO's pessimistic surrogate, one ratio per token.

        r = exp(log pi - log pi_old),   l = - min(r A, clip(r, 1 - clip, 1 + clip) A)

    At r = 1 its gradient is that of `policy_gradient`.

    References:
        Schulman et al., 2017, "Proximal Policy Optimization", Eq. 7, arXiv:1707.06347.
    """
    ratio = (logprobs - old_logprobs).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_error(
    values: Float[Tensor, "B T"], returns: Float[Tensor, "B T"], old_values: Float[Tensor, "B T"], clip: float | None
) -> Float[Tensor, "B T"]:
    """Half the squared error of a critic, or PPO's pessimistic form of it.

        l = 1/2 (V - R)^2,   with a clip   l = 1/2 max((V - R)^2, (V_c - R)^2)
        V_c = V, kept within `clip` of V_old

    With a clip, a value that has come further than `clip` towards its return gets no further push in this step; one
    that has moved away from it is pushed back. Values and returns are in units of reward, and so is the clip.

    References:
        Schulman et al., 2017, arXiv:1707.06347, whose public code has the clip; Yu et al., 2021, "The Surprising
        Effectiveness of PPO in Cooperative Multi-Agent Games", arXiv:2103.01955.
    """
    error = (values - returns).square()
    if clip is None:
        return error / 2
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return torch.maximum(error, (near - returns).square()) / 2


def k3(logprobs: Float[Tensor, "B T"], reference: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """A low-variance estimate of KL(pi || reference), never negative.

        d = log reference - log pi,   k3 = exp(d) - d - 1

    References:
        Schulman, 2020, "Approximating KL divergence"; Shao et al., 2024, Eq. 4, arXiv:2402.03300.
    """
    delta = reference - logprobs
    return delta.exp() - delta - 1


def entropy(logits: Float[Tensor, "*R V"]) -> Float[Tensor, "*R"]:
    """Entropy of the distribution that the logits define; logits of -inf are outcomes of probability 0."""
    logprobs = logits.log_softmax(dim=-1)
    probs = logprobs.exp()
    return -torch.where(probs > 0, probs * logprobs, torch.zeros_like(probs)).sum(dim=-1)


def sum_per_sequence(
    terms: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], weights: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Sums over the tokens of each answer, and over the answers by their weights.

    The paper's reduction: an action is a whole answer, its log-prob is the sum over its tokens. The weights make the
    mean over the whole update, not over this micro-batch, so that 1 x 8 equals 8 x 1.
    """
    return (torch.where(mask, terms, torch.zeros_like(terms)).sum(-1) * weights).sum()


def mean_per_token(terms: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], tokens: float | int) -> Float[Tensor, ""]:
    """Averages over all tokens of the update, so that long and short answers weigh by their length.

    `tokens` counts the whole update, not this micro-batch.
    """
    return torch.where(mask, terms, torch.zeros_like(terms)).sum() / tokens
