"""Advantages of one update put on one scale, for each agent and round by itself.

Knows: samples credited token by token. Does not know: who credited them, what is minimised.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch

from madrigal.types import AgentId, Sample


def whitened(samples: Sequence[Sample], epsilon: float = 1e-8) -> list[Sample]:
    """Gives the token advantages of each agent and round mean 0 and variance 1 (ddof 1) over the whole update.

        A' = (A - mean) / sqrt(var + epsilon)

    Rounds differ in how well their critic knows them; on one scale, none of them drowns the others. A single token has
    nothing to be compared with and gets 0.

    References:
        PPO as in the public code of arXiv:2502.18439, which whitens per turn and agent.
    """
    tokens: dict[tuple[int, AgentId], list[float]] = defaultdict(list)
    for sample in samples:
        tokens[sample.turn.round, sample.turn.agent] += sample.token_advantages
    scales = {key: _scale(values, epsilon) for key, values in tokens.items()}
    return [_scaled(sample, *scales[sample.turn.round, sample.turn.agent]) for sample in samples]


def _scale(values: Sequence[float], epsilon: float) -> tuple[float, float]:
    row = torch.tensor(values, dtype=torch.float64)
    variance = float(row.var(correction=1)) if len(values) > 1 else 0.0
    return float(row.mean()), (variance + epsilon) ** -0.5


def _scaled(sample: Sample, mean: float, factor: float) -> Sample:
    advantages = tuple((value - mean) * factor for value in sample.token_advantages)
    return replace(sample, advantage=sum(advantages) / len(advantages), token_advantages=advantages)
