"""Training a verifier: binary cross-entropy on every token of an answer.

    L = 1/N * sum over answers y, tokens t of y: BCE(sigmoid(w . h_t), right(y))       N tokens of the update

The label of an answer is copied to each of its tokens: the verifier learns to tell early, though only what it says of
the last token is used. N counts the whole update, so that 4 x 2 answers equal 8 x 1.

References:
    Park et al., 2025, "MAPoRL", section 4.1, arXiv:2502.18439; the numbers are those of its public code.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from madrigal.learning.optimizer import Optimizer
from madrigal.maths.losses import mean_per_token
from madrigal.rollouts.seeds import derive
from madrigal.types import ConfigError
from madrigal.verifier.data import Row
from madrigal.verifier.model import LearnedVerifier
from madrigal.verifier.settings import Training

Tell = Callable[[int, int, float], None]


def train_verifier(
    verifier: LearnedVerifier, rows: Sequence[Row], config: Training, tell: Tell = lambda step, steps, loss: None
) -> list[float]:
    """Trains in place; returns the loss of every optimizer step, in nats per token.

    Args:
        tell: is told after each step: its number from 1, of how many, and its loss.

    Raises:
        ConfigError: if there is nothing to learn from.
        TrainingError: if a loss or gradient is not finite.
    """
    if {row.right for row in rows} != {True, False}:
        raise ConfigError(f"verifier training: expected right and wrong answers, got {len(rows)} of at most one kind")
    size = config.batch * config.accumulate
    steps = config.epochs * math.ceil(len(rows) / size)
    optimizer = Optimizer("the verifier", verifier.critic.parameters(), config.optimizer)
    losses: list[float] = []
    for epoch in range(config.epochs):
        order = random.Random(derive(config.seed, "epoch", epoch)).sample(list(rows), len(rows))
        for start in range(0, len(order), size):
            scale = config.optimizer.scale(len(losses), steps)
            losses.append(_step(verifier, optimizer, order[start : start + size], config, scale))
            tell(len(losses), steps, losses[-1])
    return losses


def _step(
    verifier: LearnedVerifier, optimizer: Optimizer, rows: Sequence[Row], config: Training, scale: float
) -> float:
    encoded = [verifier.encode(row.asked, row.answer) for row in rows]
    tokens = len(rows) if config.tokens == "last" else sum(len(answer) for _, answer in encoded)
    optimizer.zero_grad()
    total = 0.0
    for start in range(0, len(rows), config.batch):
        logits, mask = verifier.logits(encoded[start : start + config.batch])
        right = logits.new_tensor([float(row.right) for row in rows[start : start + config.batch]])
        mask = last_tokens(mask) if config.tokens == "last" else mask
        total += optimizer.accumulate(token_loss(logits, mask, right, tokens))
    optimizer.step(total, scale)
    return total


def last_tokens(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True at the last real token of each row.

    >>> import torch
    >>> last_tokens(torch.tensor([[True, True, False], [True, True, True]])).tolist()
    [[False, True, False], [False, False, True]]
    """
    return mask & (mask.cumsum(dim=1) == mask.sum(dim=1, keepdim=True))


def token_loss(
    logits: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], right: Float[Tensor, " B"], tokens: int
) -> Float[Tensor, ""]:
    """Binary cross-entropy of every token of an answer against the answer's label, divided by `tokens`."""
    labels = right[:, None].expand_as(logits)
    return mean_per_token(binary_cross_entropy_with_logits(logits, labels, reduction="none"), mask, tokens)
