"""Pairs of state and joint action, which of them may be compared, and how they become tensors.

Vectors are standardized, number by number, over all pairs that are kept, so that what all texts have in common weighs
nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Vector = tuple[float, ...]
Within = Literal["task", "all"]
FLAT = 1e-6  # a number that varies less than this over all pairs is not divided by its spread


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: what was shown in it and what was done.

    Attributes:
        context: the example and the round; pairs of one context can be compared without comparing tasks.
        state: s, of what was shown.
        action: u, of what all agents said.
    """

    context: str
    state: Vector
    action: Vector


def comparable(pairs: Sequence[Pair], within: Within) -> list[int]:
    """The places of pairs whose context holds more than one state.

    Where all were shown the same, what was done shares nothing with what was shown: there is nothing to estimate, and a
    network could only guess.

    >>> one, other = Pair("a", (0.0,), (1.0,)), Pair("b", (1.0,), (1.0,))
    >>> comparable([one, other], "task"), comparable([one, other], "all")
    ([], [0, 1])
    """
    shown: dict[str, set[tuple[float, ...]]] = defaultdict(set)
    for pair in pairs:
        shown[_context(pair, within)].add(pair.state)
    return [n for n, pair in enumerate(pairs) if len(shown[_context(pair, within)]) > 1]


def _context(pair: Pair, within: Within) -> str:
    return pair.context if within == "task" else ""


@dataclass(frozen=True, slots=True)
class Standardized:
    """Pairs as tensors, standardized.

    Attributes:
        s, u: states and joint actions.
        contexts: a number for each context; pairs of one context may be compared.
    """

    s: Float[Tensor, "B S"]
    u: Float[Tensor, "B U"]
    contexts: Int[Tensor, " B"]

    @property
    def together(self) -> Bool[Tensor, "B B"]:
        """Which pairs may be compared."""
        return self.contexts[:, None] == self.contexts[None]

    def drawn(self, most: int, seed: int) -> Standardized:
        """At most `most` of them, as the seed decides; those of one context stay together as far as they fit."""
        if len(self.contexts) <= most:
            return self
        draw = torch.Generator().manual_seed(seed)
        shuffled = torch.randperm(len(self.contexts), generator=draw)
        rank = torch.rand(int(self.contexts.max()) + 1, generator=draw)[self.contexts[shuffled]]
        chosen = shuffled[rank.argsort(stable=True)][:most]
        return Standardized(self.s[chosen], self.u[chosen], self.contexts[chosen])


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and spread of every number of states and actions.

    Attributes:
        state, action: a row of means and a row of standard deviations.
    """

    state: Float[Tensor, "2 S"]
    action: Float[Tensor, "2 U"]

    def __call__(self, pairs: Sequence[Pair], within: Within) -> Standardized:
        """Pairs as tensors, standardized."""
        s, u = _columns(pairs)
        s, u = s.reshape(len(pairs), self.state.shape[1]), u.reshape(len(pairs), self.action.shape[1])
        numbers = {context: n for n, context in enumerate(dict.fromkeys(_context(pair, within) for pair in pairs))}
        contexts = torch.tensor([numbers[_context(pair, within)] for pair in pairs], dtype=torch.long)
        return Standardized((s - self.state[0]) / self.state[1], (u - self.action[0]) / self.action[1], contexts)


def scale_of(pairs: Sequence[Pair]) -> Scale:
    """The scale of these pairs; there is at least one."""
    s, u = _columns(pairs)
    return Scale(_mean_and_spread(s), _mean_and_spread(u))


def _columns(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    s = torch.tensor([pair.state for pair in pairs], dtype=torch.float64)
    return s, torch.tensor([pair.action for pair in pairs], dtype=torch.float64)


def _mean_and_spread(x: Float[Tensor, "B D"]) -> Float[Tensor, "2 D"]:
    spread = x.std(0, correction=0)
    return torch.stack([x.mean(0), torch.where(spread > FLAT, spread, torch.ones_like(spread))])
