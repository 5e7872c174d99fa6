"""How experience parts: the shape of the groups that credit is given in.

Knows: widths, places and limits. Does not know: tasks, how anything is played.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from madrigal.types import ConfigError


@dataclass(frozen=True, slots=True)
class Branching:
    """How experience parts.

    Attributes:
        width: K, the answers of each agent at a branching point.
        at: "start" plays K chains to their end (AAAI text); "round" parts again after every joint action, a tree with
            K ** H leaves (arXiv v2 and the public library).
        crossed: all K ** A combinations of the agents' answers are judged instead of the K aligned ones.
        limit: the most leaves that one example may have.
        stop_above: a branch whose joint reward in a round exceeds this plays no further round; None plays on.
        greedy: from each branching point also play one episode in which everyone takes the most likely words.
    """

    width: int = 4
    at: Literal["start", "round"] = "start"
    crossed: bool = False
    limit: int = 256
    stop_above: float | None = None
    greedy: bool = False

    def leaves(self, agents: int, horizon: int) -> int:
        """Episodes that one example turns into when none ends early.

        >>> Branching(width=4, at="round").leaves(agents=2, horizon=2)
        16
        """
        crossed, deep = agents if self.crossed else 1, horizon if self.at == "round" else 1
        return int(self.width ** (crossed * deep))


def check_branching(branching: Branching, agents: int, horizon: int) -> None:
    """Refuses a tree that would not fit.

    Raises:
        ConfigError: naming the number of leaves, the limit and the ways out.
    """
    leaves = branching.leaves(agents, horizon)
    if leaves > branching.limit:
        raise ConfigError(
            f"branching: {leaves} episodes per example exceed the limit of {branching.limit} (width {branching.width}, "
            f"{agents} agents, {horizon} rounds, at={branching.at}, crossed={branching.crossed}); lower the width or "
            "the rounds, use chains, or raise the limit"
        )
