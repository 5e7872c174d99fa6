"""Per-token terms of an objective, and the only two ways to reduce them to a number.

Knows: log-probs, advantages, masks. Does not know: models, episodes, which algorithm asked.

Shapes: B rows, T tokens. Log-probs and entropies are in nats. Terms are to be *minimised*.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def policy_gradient(logprobs: Float[Tensor, "B T"], advantages: Float[Tensor, " B"]) -> Float[Tensor, "B T"]:
    """The plain policy gradient: every token of an answer carries the answer's advantage.

        l_{b,t} = - A_b * log pi(token_{b,t})

    Eq. 2 of MAGRPO: no importance ratio, hence nothing to clip.

    References:
        Liu et al., 2025, Eq. 2, arXiv:2508.04652; Williams, 1992.
    """
    return -advantages[:, None] * logprobs


def clipped_surrogate(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"],
    clip: float,
) -> Float[Tensor, "B T"]:
    """PPO's pessimistic surrogate, one ratio per token.

        r = exp(log pi - log pi_old),   l = - min(r A, clip(r, 1 - clip, 1 + clip) A)

    At r = 1 its gradient is that of `policy_gradient`.

    References:
        Schulman et al., 2017, "Proximal Policy Optimization", Eq. 7, arXiv:1707.06347.
    """
    ratio = (logprobs - old_logprobs).exp()
    weight = advantages[:, None]
    return -torch.minimum(ratio * weight, ratio.clamp(1 - clip, 1 + clip) * weight)


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


def sum_per_sequence(terms: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], sequences: int) -> Float[Tensor, ""]:
    """Sums over the tokens of an answer and averages over `sequences` answers.

    The paper's reduction: an action is a whole answer, its log-prob is the sum over its tokens. `sequences` counts the
    whole update, not this micro-batch, so that 1 x 8 equals 8 x 1.
    """
    return torch.where(mask, terms, torch.zeros_like(terms)).sum() / sequences


def mean_per_token(terms: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], tokens: int) -> Float[Tensor, ""]:
    """Averages over all tokens of the update, so that long and short answers weigh by their length.

    `tokens` counts the whole update, not this micro-batch.
    """
    return torch.where(mask, terms, torch.zeros_like(terms)).sum() / tokens
