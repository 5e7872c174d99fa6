"""Baselines: from returns to advantages, as pure functions on tensors.

Shapes: N groups, K siblings of a group.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from madrigal.settings import EPSILON

ROUNDING = 1e-9  # a deviation up to this is what rounding leaves of equal returns


def group_mean(returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Compares each return with the mean of its whole group, itself included.

        A_k = R_k - 1/K * sum_j R_j

    Eq. 1 of MAGRPO: no division by the standard deviation, so that a group of nearly equal returns gives a small
    gradient instead of an amplified one. A row sums to 0.

    Raises:
        ValueError: if K < 2; an only child has nothing to be compared with.

    References:
        Liu et al., 2025, Eq. 1, arXiv:2508.04652; Liu et al., 2025, "Dr. GRPO", arXiv:2503.20783.
    """
    _needs_siblings(returns)
    return returns - returns.mean(dim=-1, keepdim=True)


def leave_one_out(returns: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """Compares each return with the mean of its K - 1 siblings.

        A_k = R_k - 1/(K-1) * sum_{j != k} R_j

    The baseline does not contain the sample that it judges, so the gradient is unbiased; `group_mean` is this, shrunk
    by (K-1)/K.

    Raises:
        ValueError: if K < 2.

    References:
        Ahmadian et al., 2024, "Back to Basics", arXiv:2402.14740.
    """
    _needs_siblings(returns)
    k = returns.shape[-1]
    return (returns - returns.mean(dim=-1, keepdim=True)) * (k / (k - 1))


def greedy(returns: Float[Tensor, "N K"], most_likely: Float[Tensor, " N"]) -> Float[Tensor, "N K"]:
    """Compares each return with that of the most likely answer to the same prompt.

        A_k = R_k - R_greedy

    The baseline depends on the weights and the prompt, never on the answer that it judges: the gradient is unbiased,
    and one sampled answer is enough.

        >>> greedy(torch.tensor([[1.0, 4.0]]), torch.tensor([3.0]))
        tensor([[-2.,  1.]])

    References:
        Li et al., 2023, "ReMax", arXiv:2310.10505.
    """
    return returns - most_likely[:, None]


def standardize(advantages: Float[Tensor, "N K"], ddof: int = 1, epsilon: float = EPSILON) -> Float[Tensor, "N K"]:
    """Divides each row by its standard deviation; rows without spread become 0.

        A_k / (std(A) + epsilon)

    As in TRL: the sample deviation (ddof 1), and an epsilon that leaves a group of nearly equal returns a small
    gradient. Kept apart from the baselines on purpose: after it, most choices of baseline look alike. Off in MAGRPO's
    paper, on by default in its later public code.

        >>> standardize(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]).double(), epsilon=0.0)[:, 1].tolist()
        [0.7071067811865475, 0.0]

    Args:
        ddof: K - ddof is what squared deviations are divided by: 1 for the sample's, 0 for the population's.

    References:
        Shao et al., 2024, "DeepSeekMath" (GRPO), arXiv:2402.03300; `scale_rewards` of TRL's `GRPOTrainer`.
    """
    if advantages.shape[-1] <= ddof:
        return torch.zeros_like(advantages)
    spread = advantages.std(dim=-1, keepdim=True, correction=ddof)
    return torch.where(spread > ROUNDING, advantages / (spread + epsilon), torch.zeros_like(advantages))


def group_zscore(returns: Float[Tensor, "N K"], ddof: int = 1, epsilon: float = EPSILON) -> Float[Tensor, "N K"]:
    """GRPO's advantage: deviations from the group's mean in units of its standard deviation.

        A_k = (R_k - mean(R)) / (std(R) + epsilon)

    A row without spread is 0. Any two groups give gradients of about the same size, however small their spread.

    Raises:
        ValueError: if K < 2.

    References:
        Shao et al., 2024, "DeepSeekMath", arXiv:2402.03300.
    """
    return standardize(group_mean(returns), ddof, epsilon)


def _needs_siblings(returns: Tensor) -> None:
    if returns.shape[-1] < 2:
        raise ValueError(f"a group baseline needs at least 2 siblings, got {returns.shape[-1]}; raise the width")
