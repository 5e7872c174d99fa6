"""Log-probs of sampled tokens and entropies of their distributions, without tables as wide as the vocabulary.

Such a table of a batch is larger than a small model, and every pass over it costs more than the sums that are wanted.
Rows are worked off in pieces that stay in the processor's cache, forward and backward:

    log p_c = z_c - lse(z),   H = lse(z) - sum_v p_v z_v,   d log p_c / d z_v = [v = c] - p_v

Only log-probs carry a gradient; entropies are for looking at. Logits of -inf are outcomes of probability 0.

Shapes: R rows, V outcomes, D numbers in a hidden state. Log-probs and entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from madrigal.maths.sampling import filtered_logits
from madrigal.settings import Sampling

CHUNK = 1 << 17  # numbers of a table of logits that are worked on at a time, on a processor; they stay in its cache
LARGE_CHUNK = 1 << 28  # elsewhere, where few large steps are faster


class TokenLogprobs(torch.autograd.Function):
    """Of the chosen outcomes, from logits."""

    @staticmethod
    def forward(ctx: Any, logits: Float[Tensor, "R V"], chosen: Int[Tensor, " R"]) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies."""
        found = _joined([_chosen(z, c) for z, c in _pieces(logits, chosen)])
        ctx.save_for_backward(logits, chosen)
        ctx.mark_non_differentiable(found[1])
        return found

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " R"], _: Tensor) -> tuple[Tensor, None]:
        logits, chosen = ctx.saved_tensors
        grads = torch.empty_like(logits)
        for z, c, g, slope in _pieces(logits, chosen, grad, grads):
            _slope(z, c, g, slope)
        return grads, None


class OutputLogprobs(torch.autograd.Function):
    """Of the chosen outcomes, from hidden states and the matrix that makes logits of them.

    Logits are made for some rows at a time, and again for the gradient, which is written in their place: neither is
    ever held for the whole batch.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "R D"],
        weight: Float[Tensor, "V D"],
        chosen: Int[Tensor, " R"],
        sampling: Sampling,
        rows: int,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the sampled distribution; `rows` of logits are there at a time."""
        found = [
            _chosen(filtered_logits(z, sampling, keep=c), c)
            for h, tokens in zip(torch.split(hidden, rows), torch.split(chosen, rows), strict=True)
            for z, c in _pieces(h @ weight.t(), tokens)
        ]
        logprobs, entropies = _joined(found)
        ctx.save_for_backward(hidden, weight, chosen)
        ctx.sampling, ctx.rows = sampling, rows
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " R"], _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, chosen = ctx.saved_tensors
        slopes = torch.empty_like(hidden)
        weights = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        parts = (torch.split(table, ctx.rows) for table in (hidden, chosen, grad / ctx.sampling.temperature, slopes))
        for h, tokens, g_all, slope in zip(*parts, strict=True):
            table = h @ weight.t()
            for z, c, g in _pieces(table, tokens, g_all):
                _slope(filtered_logits(z, ctx.sampling, keep=c), c, g, z)
            torch.mm(table, weight, out=slope)
            if weights is not None:
                weights.addmm_(table.t(), h)
        return slopes, weights, None, None, None


def _joined(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    logprobs, entropies = (torch.cat(column) for column in zip(*found, strict=True))
    return logprobs, entropies


def _chosen(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    probs, top = logits.softmax(dim=-1), logits.amax(dim=-1, keepdim=True)
    normalizer = -probs.amax(dim=-1).log()  # of logits below the top; these are small where it counts
    below = (logits - top).clamp_min_(torch.finfo(logits.dtype).min)
    logprobs = below.gather(1, chosen[:, None])[:, 0] - normalizer
    return logprobs, normalizer - probs.mul_(below).sum(dim=-1)


def _slope(logits: Tensor, chosen: Tensor, grad: Tensor, out: Tensor) -> None:
    """Writes the gradient with respect to the logits; `out` may be where these stand."""
    slope = torch.softmax(logits, dim=-1).mul_(-grad[:, None])
    slope[torch.arange(len(chosen), device=chosen.device), chosen] += grad
    out.copy_(slope)


def _pieces(*tables: Tensor) -> Iterator[tuple[Tensor, ...]]:
    size = CHUNK if tables[0].is_cpu else LARGE_CHUNK
    rows = max(1, size // tables[0].shape[-1])
    for start in range(0, len(tables[0]), rows):
        yield tuple(table[start : start + rows] for table in tables)
