"""How experience parts: the shape of the groups that credit is given in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from madrigal.types import AgentId, ConfigError

Follow = Literal["all", "one", "best"]


@dataclass(frozen=True, slots=True)
class Branching:
    """How experience parts.

    Attributes:
        width: K, the answers of each agent at a branching point.
        at: "start" plays K chains to their end (MAGRPO, AAAI text); "round" parts again after every joint action, a
            tree with K ** H leaves (its arXiv v2 and public library); "turn" parts at every single decision: its
            alternatives are given in exactly the same context, the prefix tree of C3.
        crossed: all K ** A combinations of the agents' answers are judged instead of the K aligned ones.
        limit: the most leaves that one example may have.
        stop_above: a branch whose joint reward in a round exceeds this plays no further round; None plays on.
            Put around the judge by `rewards.rewarded`.
        greedy: from each branching point also play one episode in which everyone takes the most likely words.
        follow: which siblings branch again. "all" grows the whole tree. At "round", only the "best" goes on, the first
            with the highest joint reward of that round (AT-GRPO): K * H joint actions. At "turn", only "one"
            does, the first; the others are played to their end, so that D decisions leave 1 + D * (K - 1) leaves
            instead of K ** D.
        fanout: at "turn", how many alternatives the decision at each place of a round's speaking order gets; a place
            beyond the last one gets `width`, so that () is `width` everywhere.
        vary: at "turn", the agents whose decisions get alternatives, the others say one thing; () is every agent.
        solo: at "start", beside each chain also play one in which only the last agent to speak says anything (CCPO).
    """

    width: int = 4
    at: Literal["start", "round", "turn"] = "start"
    crossed: bool = False
    limit: int = 256
    stop_above: float | None = None
    greedy: bool = False
    follow: Follow = "all"
    fanout: tuple[int, ...] = ()
    vary: tuple[AgentId, ...] = ()
    solo: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.fanout, default=1) < 1:
            raise ConfigError(
                f"branching: expected at least 1 answer at every place, got width {self.width} and fanout {self.fanout}"
            )
        misplaced = {
            'follow="best"': (self.follow == "best" and self.at != "round", 'at="round"'),
            'follow="one"': (self.follow == "one" and self.at != "turn", 'at="turn"'),
            "fanout": (self.fanout and self.at != "turn", 'at="turn"'),
            "vary": (self.vary and self.at != "turn", 'at="turn"'),
            "solo": (self.solo and (self.at != "start" or self.crossed), 'at="start" and aligned joint actions'),
            "crossed": (self.crossed and self.at == "turn", 'at="start" or at="round"'),
            "greedy": (self.greedy and self.at == "turn", 'at="start" or at="round"'),
        }
        for name, (wrong, place) in misplaced.items():
            if wrong:
                raise ConfigError(
                    f'branching: {name} works with {place} only, got at="{self.at}", crossed={self.crossed}; change one'
                )

    def alternatives(self, place: int, agent: AgentId) -> int:
        """At "turn": the answers that a decision gets, by its place in the round's speaking order and its agent.

        >>> [Branching(3, "turn", fanout=(2, 4)).alternatives(place, "ann") for place in range(3)]
        [2, 4, 3]
        """
        if self.vary and agent not in self.vary:
            return 1
        return self.fanout[place] if place < len(self.fanout) else self.width

    def leaves(self, order: Sequence[AgentId], horizon: int) -> int:
        """Episodes that one example turns into when none ends early; where the best goes on, its K * H joint actions.

        >>> Branching(width=4, at="round").leaves(("ann", "bob"), horizon=2)
        16
        >>> Branching(at="turn", fanout=(2, 4)).leaves(("ann", "bob"), horizon=1)
        8

        Args:
            order: who speaks at each place of a round.
        """
        each = self._joint_actions(order)
        if self.at == "start":
            return each
        if self.follow == "one":
            return 1 + horizon * self._aside(order)
        return each * horizon if self.follow == "best" else int(each**horizon)

    def answers(self, order: Sequence[AgentId], round: int, place: int) -> int:
        """Answers that one example asks for at one place of one round when no branch ends early.

        >>> Branching(at="turn", fanout=(2, 4)).answers(("ann", "bob"), round=0, place=0)
        2
        """
        if self.follow == "one":
            before = round * self._aside(order) + self._aside(order[:place])
            return before + self.alternatives(place, order[place])
        if self.at == "turn":
            return self._nodes(order, round) * self._joint_actions(order[: place + 1])
        # Crossing makes a chain of its own from every joint action of the first round.
        sampled = self._joint_actions(order) if self.at == "start" and round else self._nodes(order, round) * self.width
        alone = self.width if self.solo and place == len(order) - 1 else 0
        greedy = sum(self._nodes(order, n) for n in range(round + 1)) if self.greedy else 0
        return sampled + alone + greedy

    def _nodes(self, order: Sequence[AgentId], round: int) -> int:
        """Branching points at the beginning of a round."""
        if self.at == "start":
            return int(round == 0)
        return 1 if self.follow == "best" else int(self._joint_actions(order) ** round)

    def _joint_actions(self, order: Sequence[AgentId]) -> int:
        """What one branching point, or at "turn" one round, turns into."""
        if self.at == "turn":
            return prod(self.alternatives(place, agent) for place, agent in enumerate(order))
        return int(self.width ** (len(set(order)) if self.crossed else 1))

    def _aside(self, order: Sequence[AgentId]) -> int:
        """How many siblings there are beside the one that goes on, in one round of branching at every turn."""
        return sum(self.alternatives(place, agent) - 1 for place, agent in enumerate(order))


def check_branching(branching: Branching, order: Sequence[AgentId], horizon: int) -> None:
    """Refuses a tree that would not fit or compares nothing, and names of agents that nobody has.

    Args:
        order: who speaks at each place of a round.

    Raises:
        ConfigError: naming the number of leaves, the limit and the ways out; or the agent.
    """
    if strangers := set(branching.vary) - set(order):
        raise ConfigError(
            f"algorithm.agents: {', '.join(sorted(strangers))} is no agent of this task; expected some of "
            f"{', '.join(dict.fromkeys(order))}"
        )
    leaves = branching.leaves(order, horizon)
    if branching.at == "turn" and leaves == 1:
        raise ConfigError(
            f"algorithm.fanout: {branching.fanout} gives one alternative to every decision of {', '.join(order)}, so "
            "that there is nothing to compare; give 2 or more to one of them"
        )
    if leaves > branching.limit:
        fanout = f", fanout={branching.fanout}" if branching.fanout else ""
        deep = branching.at == "turn" and branching.follow == "all"
        instead = "branch along one episode only (algorithm.tree false)" if deep else "use chains"
        raise ConfigError(
            f"branching: {leaves} episodes per example exceed the limit of {branching.limit} (width {branching.width}, "
            f"{len(set(order))} agents, {horizon} rounds, at={branching.at}, crossed={branching.crossed}{fanout}); "
            f"lower the width or the rounds, {instead}, or raise the limit"
        )
