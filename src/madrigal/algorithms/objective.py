"""The objective that most algorithms share: a policy gradient, with or without PPO's clip, and a KL term.

Knows: log-probs, advantages, how terms are reduced. Does not know: where the advantages come from.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from madrigal import losses
from madrigal.batch import Batch, PolicyOutput
from madrigal.types import ConfigError

Reduction = Literal["sequence", "token"]


def objective(output: PolicyOutput, batch: Batch, *, clip: float | None, kl: float, reduction: Reduction) -> Tensor:
    """The scalar to minimise on one micro-batch.

    Args:
        clip: PPO's range on the ratio to the log-probs at sampling; None is the plain policy gradient.
        kl: weight of the k3 estimate of KL(policy || reference), where the batch has a reference.
        reduction: "sequence" sums over an answer's tokens and averages over answers; "token" averages over tokens.
    """
    if clip is None:
        terms = losses.policy_gradient(output.logprobs, batch.advantages)
    else:
        terms = losses.clipped_surrogate(output.logprobs, batch.old_logprobs, batch.advantages, clip)
    if batch.reference_logprobs is not None:
        terms = terms + kl * losses.k3(output.logprobs, batch.reference_logprobs)
    if reduction == "token":
        return losses.mean_per_token(terms, batch.mask, batch.tokens)
    return losses.sum_per_sequence(terms, batch.mask, batch.sequences)


def check_width(width: int, least: int = 2) -> None:
    """Refuses groups that are too small to compare anything.

    Raises:
        ConfigError: saying how many are needed.
    """
    if width < least:
        what = "a group needs at least 2 answers to compare" if least > 1 else "expected at least 1 answer"
        raise ConfigError(f"algorithm.width: {what}, got {width}; 4 is usual")


def check_share(name: str, value: float, usual: str) -> None:
    """Refuses a number that is not from 0 to 1.

    Raises:
        ConfigError: naming the setting and a usual value.
    """
    if not 0 <= value <= 1:
        raise ConfigError(f"algorithm.{name}: expected 0 to 1, got {value}; {usual}")


def check_finite(**values: float | None) -> None:
    """Refuses settings that are neither left out nor finite numbers.

    Raises:
        ConfigError: naming the setting.
    """
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"algorithm.{name}: expected None or a finite number, got {value}")


def check_loss(clip: float | None, kl: float) -> None:
    """Refuses a clip range or KL weight that cannot work.

    Raises:
        ConfigError: naming the setting.
    """
    if clip is not None and not 0 < clip < math.inf:
        raise ConfigError(f"algorithm.clip: expected a positive range such as 0.2, got {clip}")
    if not 0 <= kl < math.inf:
        raise ConfigError(f"algorithm.kl: expected 0 or more, got {kl}")
