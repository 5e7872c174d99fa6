"""The objective that most algorithms share: a policy gradient, with or without PPO's clip, and a KL term.

Knows: log-probs, advantages, how terms are reduced. Does not know: where the advantages come from.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from madrigal.maths import losses
from madrigal.maths.batch import Batch, PolicyOutput

Reduction = Literal["sequence", "token"]


def objective(output: PolicyOutput, batch: Batch, *, clip: float | None, kl: float, reduction: Reduction) -> Tensor:
    """The scalar to minimise on one micro-batch.

    Args:
        clip: PPO's range on the ratio to the log-probs at sampling; None is the plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference), where the batch has a reference.
        reduction: "sequence" sums over an answer's tokens and takes the weighted mean over answers; "token" averages
            over tokens.
    """
    if clip is None:
        terms = losses.policy_gradient(output.logprobs, batch.advantages)
    else:
        terms = losses.clipped_surrogate(output.logprobs, batch.old_logprobs, batch.advantages, clip)
    if batch.reference_logprobs is not None:
        terms = terms + kl * losses.k3(output.logprobs, batch.reference_logprobs)
    if reduction == "token":
        return losses.mean_per_token(terms * batch.weights[:, None], batch.mask, batch.tokens)
    return losses.sum_per_sequence(terms, batch.mask, batch.weights)
