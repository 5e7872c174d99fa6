"""What an answer in a discussion is worth: its own score, those of the answers that could build on it, and incentives.

Shapes: H rounds, A agents (see types).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
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


def incentives(
    right: Bool[Tensor, "H A"], alpha: tuple[float, float] = (0.0, 0.0), beta: tuple[float, float] = (0.0, 0.0)
) -> Float[Tensor, "H A"]:
    """Pay for how answers change: for mending one's own, for following, for helping, for persuading.

    Everybody else is summed up in one word: they are right where more than half of them are; a tie is no majority for
    the right answer. So every change belongs to one line of this table (who is alone finds and loses by oneself):

        own answer, from the round before    the others, the round before      earns
        wrong -> right                       not right                         + alpha0    found by oneself
        wrong -> right                       right                             + alpha1    persuaded by the right ones
        right -> wrong                       right                             - alpha0    lost by oneself
        right -> wrong                       not right                         - alpha1    persuaded by the wrong ones

        own answer                           the others, to the next round     earns
        wrong                                not right -> right                + beta0     wrong and yet useful
        right                                not right -> right                + beta1     persuaded them
        right                                right -> not right                - beta0     right and yet of no use
        wrong                                right -> not right                - beta1     persuaded them wrongly

    The four names and their meaning are the paper's; its printed table was not found. The lines with a minus mirror
    those with a plus as the public code does. Its other habits are not followed (docs/papers.md): there the forward
    signs are inverted, the two alphas are swapped, the first round earns nothing, and a tie belongs to no line.

        >>> incentives(torch.tensor([[True, False], [True, True]]), alpha=(1.0, 2.0), beta=(4.0, 8.0)).tolist()
        [[8.0, 0.0], [0.0, 2.0]]

    Args:
        right: whether each answer was right by the reference answer.
        alpha: alpha0 and alpha1, for changes of one's own answer. Looks back, so the first round earns none.
        beta: beta0 and beta1, for changes of the others. Looks forward, so the last round earns none.

    References:
        Park et al., 2025, "MAPoRL", section 3.3, arXiv:2502.18439.
    """
    bonus = torch.zeros(right.shape, dtype=torch.float64)
    led = others_right(right)
    before, after = right[:-1], right[1:]
    found, lost = ~before & after, before & ~after
    bonus[1:] += alpha[0] * (found & ~led[:-1]).double() + alpha[1] * (found & led[:-1]).double()
    misled = ~led[:-1] & (right.shape[1] > 1)  # who is alone has nobody to be misled by
    bonus[1:] -= alpha[0] * (lost & ~misled).double() + alpha[1] * (lost & misled).double()
    won, gone = ~led[:-1] & led[1:], led[:-1] & ~led[1:]
    bonus[:-1] += beta[0] * (won & ~before).double() + beta[1] * (won & before).double()
    bonus[:-1] -= beta[0] * (gone & before).double() + beta[1] * (gone & ~before).double()
    return bonus


def others_right(right: Bool[Tensor, "H A"]) -> Bool[Tensor, "H A"]:
    """Whether more than half of all other agents were right; with nobody else, never.

    >>> others_right(torch.tensor([[True, True, False]])).tolist()
    [[False, False, True]]
    """
    others = right.sum(dim=1, keepdim=True) - right.long()
    return 2 * others > right.shape[1] - 1
