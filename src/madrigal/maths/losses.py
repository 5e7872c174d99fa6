"""Per-token terms of an objective, and the only two ways to reduce them to a number.

Shapes: B rows, T tokens. Log-probs and entropies are in nats. Terms are to be *minimized*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHUNK = 1 << 17  # numbers of a table of logits that are worked on at a time, on a processor; they stay in its cache
LARGE_CHUNK = 1 << 28  # elsewhere, where few large steps are faster


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


class TokenLogprobs(torch.autograd.Function):
    """Log-probs of the chosen outcomes and entropies of the distributions, without a table of log-probs.

        log p_c = z_c - lse(z),   H = lse(z) - sum_v p_v z_v,   d log p_c / d z_v = [v = c] - p_v

    A vocabulary is wide: every further table of its size costs more than the sums over it. Rows are worked off in
    pieces that stay in the processor's cache, in the forward pass and in the backward pass. Only the log-probs carry a
    gradient; the entropies are for looking at.
    """

    @staticmethod
    def forward(ctx: Any, logits: Float[Tensor, "R V"], chosen: Int[Tensor, " R"]) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies, both in nats; logits of -inf are outcomes of probability 0."""
        pieces = [_chosen(z, c) for z, c in _pieces(logits, chosen)]
        logprobs, entropies = (torch.cat(column) for column in zip(*pieces, strict=True))
        ctx.save_for_backward(logits, chosen)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " R"], _: Tensor) -> tuple[Tensor, None]:
        logits, chosen = ctx.saved_tensors
        grads = torch.empty_like(logits)
        for z, c, out, s in _pieces(logits, chosen, grads, grad):
            torch.softmax(z, dim=-1, out=out).mul_(-s[:, None])
            out[torch.arange(len(c), device=c.device), c] += s
        return grads, None


def _chosen(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    probs, top = logits.softmax(dim=-1), logits.amax(dim=-1, keepdim=True)
    normalizer = -probs.amax(dim=-1).log()  # of logits below the top; these are small where it counts
    below = (logits - top).clamp_min_(torch.finfo(logits.dtype).min)
    logprobs = below.gather(1, chosen[:, None])[:, 0] - normalizer
    return logprobs, normalizer - probs.mul_(below).sum(dim=-1)


def _pieces(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    size = CHUNK if tables[0].is_cpu else LARGE_CHUNK
    rows = max(1, size // tables[0].shape[-1])
    for start in range(0, len(tables[0]), rows):
        yield tuple(table[start : start + rows] for table in tables)


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
