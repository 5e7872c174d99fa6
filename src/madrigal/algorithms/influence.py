"""What an answer in a discussion is worth: its own score, and the scores of the answers that could build on it.

Knows: arrays of scores by round and agent. Does not know: text, models, verifiers, where the scores come from.

Shapes: H rounds, A agents (see types).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Horizon = Literal["discounted_sum", "last", "current"]
Share = Literal["all", "individual"]


def influence_aware(
    scores: Float[Tensor, "H A"],
    discount: float = 0.3,
    horizon: Horizon = "discounted_sum",
    share: Share = "all",
) -> Float[Tensor, "H A"]:
    """The influence-aware reward of every answer: a weighted mean of its own score and later ones.

        R(t,a) = [ V(t,a) + sum_{u=t+1..H-1} discount^(u-t) * m(u,a) ] / sum_{u=t..H-1} discount^(u-t)

        m(u,a) = 1/A * sum_j V(u,j)     share "all": everybody's later answers, one's own among them
        m(u,a) = V(u,a)                 share "individual"

    An answer that misleads the others pays for it, one that helps them earns by it, and no value has to be carried
    from round to round. The weights sum to 1: where all scores are v, every reward is v. In the last round R = V. A
    discussion that ended early has fewer rounds, and the last of these is its last.

        >>> influence_aware(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), discount=0.5)
        tensor([[1.0000, 0.3333],
                [1.0000, 1.0000]])

    Args:
        scores: V, what a verifier says of each answer, in [0, 1].
        discount: 0 sees the answer alone, 1 counts every later round as much as the present one; the public code has
            0.3.
        horizon: "last" takes the scores of the last round for every answer before it, "current" those of its own round.
        share: with "last" and "current", "all" takes the mean over agents and "individual" the agent's own.

    References:
        Park et al., 2025, "MAPoRL", section 3.3, arXiv:2502.18439; `score_rule` of its public code.
    """
    shared = scores.mean(dim=1, keepdim=True).expand_as(scores) if share == "all" else scores
    if horizon == "last":
        return shared[-1:].expand_as(scores).clone()
    if horizon == "current":
        return shared.clone()
    rewards, later, weight = list[Tensor](), torch.zeros_like(scores[0]), 0.0
    for own, seen in zip(scores.flip(0), shared.flip(0), strict=True):
        weight = 1 + discount * weight
        rewards.append((own + discount * later) / weight)
        later = seen + discount * later
    return torch.stack(rewards[::-1])
