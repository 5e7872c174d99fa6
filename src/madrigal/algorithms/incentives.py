"""Pay for how answers change in a discussion: for mending one's own, for following, for helping, for persuading.

Knows: which answers were right, by round and agent. Does not know: scores, text, models.

Shapes: H rounds, A agents (see types).

Everybody else is summed up in one word: they are right where more than half of them are. A tie is no majority for the
right answer, so that every change belongs to exactly one line of this table (who is alone finds and loses by oneself):

    own answer, from the round before        the others, the round before      earns
    wrong -> right                           not right                         + alpha0    found by oneself
    wrong -> right                           right                             + alpha1    persuaded by the right ones
    right -> wrong                           right                             - alpha0    lost by oneself
    right -> wrong                           not right                         - alpha1    persuaded by the wrong ones

    own answer                               the others, to the next round     earns
    wrong                                    not right -> right                + beta0     wrong and yet useful
    right                                    not right -> right                + beta1     persuaded them
    right                                    right -> not right                - beta0     right and yet of no use
    wrong                                    right -> not right                - beta1     persuaded them wrongly

The four names and their meaning are the paper's; its printed table was not found. The lines with a minus mirror those
with a plus as the public code does. Its other habits are not followed (docs/papers.md): there the forward signs are
inverted, the two alphas are swapped, the first round earns nothing, and a tie belongs to no line.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def incentives(
    right: Bool[Tensor, "H A"], alpha: tuple[float, float] = (0.0, 0.0), beta: tuple[float, float] = (0.0, 0.0)
) -> Float[Tensor, "H A"]:
    """The bonus of every answer by the table above; zero where nothing changes.

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
