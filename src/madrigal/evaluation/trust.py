"""Trust between agents: a running estimate of how much a partner's words help, and a gate on whether it is heard.

    h_t   = R_t(heard) - R_t(unheard)              the same example and seeds: the counterfactual credit of its words
    e_t+1 = e_t + rate * (h_t - e_t)
    it is heard in episode t while e_t >= bound

What a partner's words are worth is asked in every episode, heard or not, so that one that has become honest again is
heard again. Both plays need a judge: this is trust of a team in training or under test, not of one that answers users.

References:
    Foerster et al., 2018, "Counterfactual Multi-Agent Policy Gradients", arXiv:1705.08926: credit as a difference to
    what would be without. As a running estimate that opens a gate it is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean

from madrigal.types import ConfigError


@dataclass(frozen=True, slots=True)
class Trust:
    """One agent's trust in another.

    Attributes:
        estimate: what the other's words are thought to be worth, in units of the return.
        rate: how much of the newest episode goes into it, above 0 to 1.
        bound: the least estimate with which it is heard.
    """

    estimate: float = 0.0
    rate: float = 0.1
    bound: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"trust.rate: expected above 0 to 1, got {self.rate}")
        if not (math.isfinite(self.estimate) and math.isfinite(self.bound)):
            raise ConfigError(f"trust: expected finite numbers, got {self.estimate} and {self.bound}")

    @property
    def hears(self) -> bool:
        return self.estimate >= self.bound

    def after(self, helped: float) -> Trust:
        """The trust after an episode in which the other's words helped so much.

        >>> Trust(rate=0.5).after(-1.0).estimate, Trust(rate=0.5).after(-1.0).hears
        (-0.5, False)
        """
        return replace(self, estimate=self.estimate + self.rate * (helped - self.estimate))


def gates(trust: Trust, heard: Sequence[float], unheard: Sequence[float]) -> list[bool]:
    """For each episode in turn whether the partner is heard in it.

    Args:
        heard, unheard: the return of every episode with the partner's words and without.

    >>> gates(Trust(rate=0.5), [1, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0])
    [True, True, False, False, True, True]
    """
    helped = [with_it - without for with_it, without in zip(heard, unheard, strict=True)]
    return [each.hears for each in accumulate(helped, Trust.after, initial=trust)][: len(helped)]


def first(gate: Sequence[bool], start: int, *, open: bool) -> int | None:
    """Episodes from `start` until the gate is first open, or closed; None if it never is.

    >>> first([True, True, False, True], 1, open=False), first([True], 0, open=False)
    (1, None)
    """
    return next((n for n, each in enumerate(gate[start:]) if each == open), None)


def kept(gate: Sequence[bool], heard: Sequence[float], unheard: Sequence[float]) -> float:
    """The mean return where the gate decides."""
    return fmean(one if each else other for each, one, other in zip(gate, heard, unheard, strict=True))
