"""Truncated importance weights: what sampler and learner compute differently is taken out of the gradient.

    w_t = min(pi_learner(token_t) / pi_sampler(token_t), cap),   A_t <- w_t A_t,   log pi_old <- log pi_learner

Both probabilities are of the weights before the update: an engine of other kernels or in bfloat16 draws from a slightly
other distribution than the one that learns. The ratio of the loss, where it has one, then begins at 1 again.

References:
    Yao et al., 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training", who weigh tokens so;
    Ionides, 2008, "Truncated Importance Sampling": the cap bounds the variance at the cost of a small bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from madrigal.types import Sample


def importance_weights(learner: Sequence[float], sampler: Sequence[float], cap: float) -> tuple[float, ...]:
    """[T] weights of tokens, from their log-probs in nats.

    >>> [round(weight, 3) for weight in importance_weights([-1.0, -1.0, 0.0], [-1.0, -0.9, -5.0], cap=2.0)]
    [1.0, 0.905, 2.0]
    """
    most = math.log(cap)
    return tuple(math.exp(min(new - old, most)) for new, old in zip(learner, sampler, strict=True))


def corrected(sample: Sample, logprobs: Sequence[float], cap: float) -> Sample:
    """A sample as if its tokens had been drawn by the learner, which gave them `logprobs`."""
    completion = sample.turn.completion
    weights = importance_weights(logprobs, completion.logprobs, cap)
    advantages = sample.token_advantages or (sample.advantage,) * len(weights)
    return replace(
        sample,
        turn=replace(sample.turn, completion=replace(completion, logprobs=tuple(logprobs))),
        token_advantages=tuple(weight * advantage for weight, advantage in zip(weights, advantages, strict=True)),
    )
