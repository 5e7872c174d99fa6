"""What is minimized, and in which steps: a policy gradient, PPO's clip, a KL term, mini-batches."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from madrigal.types import AgentId, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from madrigal.maths.batch import Batch, PolicyOutput

# Settings that several algorithms have, each with what the command line says of it.
Clip = Annotated[
    float | None,
    arg(help="PPO's clip range on the ratio to the log-probs at sampling; None is the plain policy gradient."),
]
Kl = Annotated[float, arg(help="weight of the k3 estimate of KL(policy || reference) in the loss, nats per token.")]
Reduction = Annotated[
    Literal["sequence", "token"],
    arg(help='"sequence" sums log-probs over an answer, which is one action; "token" averages over tokens.'),
]
Updates = Annotated[
    Literal["turn", "episode"],
    arg(help='one optimizer step per "turn", last round first (Algorithm 1 of MAGRPO), or one per "episode".'),
]


def objective(output: PolicyOutput, batch: Batch, *, clip: Clip, kl: Kl, reduction: Reduction) -> Tensor:
    """The scalar to minimize on one micro-batch.

    Args:
        kl: read where the batch has a reference.
        reduction: "sequence" takes the weighted mean over answers, "token" the mean over tokens.
    """
    from madrigal.maths import losses

    if clip is None:
        terms = losses.policy_gradient(output.logprobs, batch.advantages)
    else:
        terms = losses.clipped_surrogate(output.logprobs, batch.old_logprobs, batch.advantages, clip)
    if batch.reference_logprobs is not None:
        terms = terms + kl * losses.k3(output.logprobs, batch.reference_logprobs)
    if reduction == "token":
        return losses.mean_per_token(terms * batch.weights[:, None], batch.mask, batch.tokens)
    return losses.sum_per_sequence(terms, batch.mask, batch.weights)


def optimizer_steps(samples: Sequence[Sample], updates: Updates) -> list[list[Sample]]:
    """The samples of each optimizer step: one step per round, last round first (Algorithm 1 of MAGRPO), or one for all.

    With "episode" the one step minimizes the sum over rounds of what "turn" minimizes round after round.
    """
    rounds: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        rounds[sample.turn.round].append(sample)
    ordered = [rounds[index] for index in sorted(rounds, reverse=True)]
    return [[sample for each in ordered for sample in each]] if updates == "episode" and ordered else ordered


def in_minibatches(
    episodes: Sequence[Sequence[Sample]], *, whiten: bool, minibatches: int, epochs: int
) -> list[list[Sample]]:
    """A stage for each mini-batch of each epoch, from the credited samples of each episode.

    Every epoch deals episodes out to its mini-batches whole: teammates learn from a joint action together. The first
    deals them in order, each later one in an order of its own. A mini-batch of m of M episodes estimates the mean over
    all of them, so its samples count M / m.

    Args:
        whiten: first put the advantages of all of them on one scale, for each agent and round by itself.
    """
    rest = iter(whitened(list(chain(*episodes))) if whiten else chain(*episodes))
    whole = [list(islice(rest, len(several))) for several in episodes]
    stages = []
    for epoch in range(epochs):
        order = list(whole)
        if epoch:
            random.Random(epoch).shuffle(order)
        for batch in (order[n::minibatches] for n in range(min(minibatches, len(order)))):
            stages.append([replace(s, weight=s.weight * len(order) / len(batch)) for s in chain(*batch)])
    return stages


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
    import torch

    row = torch.tensor(values, dtype=torch.float64)
    variance = float(row.var(correction=1)) if len(values) > 1 else 0.0
    return float(row.mean()), (variance + epsilon) ** -0.5


def _scaled(sample: Sample, mean: float, factor: float) -> Sample:
    advantages = tuple((value - mean) * factor for value in sample.token_advantages)
    return replace(sample, advantage=sum(advantages) / len(advantages), token_advantages=advantages)
