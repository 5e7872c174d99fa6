"""PMIC's dual progressive buffers: what was seen and done in good episodes, and in poor ones.

    an episode is superior (positive) if   R > max( lowest return in the positive buffer,
                                                    mean of the last 1,000 returns before it )
    otherwise inferior (negative)

While the team gets better the bar rises with it. As in the public code: the entries are single rounds, each with the
return of its episode; the positive buffer is kept sorted and gives up its lowest entries when it is full, the negative
one its oldest; while nothing is positive yet, every return is above the bar.

References:
    Li et al., 2022, "PMIC", arXiv:2203.08553, and its public code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from madrigal.algorithms.mutual_information.pairs import Pair

Json = dict[str, Any]


Entry = tuple[float, Pair]  # the return of the whole episode, and one of its rounds


@dataclass(frozen=True, slots=True)
class Buffers:
    """Both buffers, and the returns that the bar is made of.

    Attributes:
        positive: lowest return first.
        negative: oldest first.
        recent: the last returns, oldest first.
    """

    positive: tuple[Entry, ...] = ()
    negative: tuple[Entry, ...] = ()
    recent: tuple[float, ...] = ()

    @property
    def bar(self) -> float:
        """What a return must exceed to be superior; minus infinity while nothing is."""
        return max(self.positive[0][0], fmean(self.recent)) if self.positive else -math.inf

    @property
    def pairs(self) -> list[Pair]:
        """All that is kept, the superior ones first."""
        return [pair for _, pair in (*self.positive, *self.negative)]

    def with_episode(self, value: float, rounds: Sequence[Pair], capacity: int, window: int) -> Buffers:
        """The buffers after one more episode.

        Args:
            value: its return.
            capacity: the most entries of either buffer.
            window: the most returns whose mean makes the bar.
        """
        entries = tuple((value, pair) for pair in rounds)
        positive, negative = self.positive, self.negative
        if value > self.bar:
            positive = tuple(sorted((*positive, *entries), key=lambda entry: entry[0]))[-capacity:]
        else:
            negative = (*negative, *entries)[-capacity:]
        return Buffers(positive, negative, (*self.recent, value)[-window:])

    def to_json(self) -> Json:
        """A JSON value from which `buffers_from_json` makes the very same buffers."""
        sides = {"positive": self.positive, "negative": self.negative}
        rows = {side: [(r, pair.context, pair.state, pair.action) for r, pair in sides[side]] for side in sides}
        return {**rows, "recent": list(self.recent)}


def buffers_from_json(state: Json) -> Buffers:
    """The buffers that `Buffers.to_json` wrote down; empty ones of an empty state."""
    sides = [
        tuple((value, Pair(context, tuple(s), tuple(u))) for value, context, s, u in state.get(side, ()))
        for side in ("positive", "negative")
    ]
    return Buffers(sides[0], sides[1], tuple(state.get("recent", ())))
